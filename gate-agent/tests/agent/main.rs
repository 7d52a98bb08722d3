//! Whole agents before a tiny server in this process.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking, and pick out the variants they are about"
)]

mod cameras;
mod eyes;
mod faces;
mod gate;
mod joining;
mod life_safety;
mod passages;
mod profiles;
mod renewals;
mod support;
