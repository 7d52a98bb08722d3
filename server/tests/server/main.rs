//! The server in process: real TLS, real SQLite in a temporary folder, a clock that the tests move.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails here"
)]

use sallyport_server::store::Engine;

/// `tests/server_postgres` compiles the same files with the other one.
pub(crate) const ENGINE: Engine = Engine::Sqlite;

mod approvals;
mod backup;
mod break_glass;
mod browser;
mod common;
mod console;
mod consultations;
mod coverage;
mod custody;
mod durability;
mod enrolments;
mod erasure;
mod exports;
mod factors;
mod gate_events;
mod hunt;
mod irises;
mod joining;
mod keys;
mod log;
mod log_codes;
mod merging;
mod model_change;
mod monitor;
mod officers;
#[cfg(feature = "oidc")]
mod oidc;
mod outside;
mod passages;
mod people;
mod policies;
mod profile_word;
mod promises;
mod records;
mod registry;
mod release;
mod reports;
mod retention;
mod reviews;
mod rights;
mod sample;
mod slip;
mod streams;
mod templates;
mod witness;
