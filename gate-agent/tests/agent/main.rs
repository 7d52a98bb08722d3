//! Whole agents before a tiny server in this process.

mod faces;
mod joining;
mod passages;
mod support;
