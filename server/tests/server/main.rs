//! The server in process: real TLS, real SQLite in a temporary folder, a clock that the tests move.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails here"
)]

mod common;
mod joining;
mod log;
mod passages;
mod registry;
mod reviews;
