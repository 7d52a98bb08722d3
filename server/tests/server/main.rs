//! The server in process: real TLS, real SQLite in a temporary folder, a clock that the tests move.

mod common;
mod joining;
mod log;
mod passages;
mod registry;
mod reviews;
