//! The tests of `tests/server`, on a real PostgreSQL that this binary starts itself, and what only PostgreSQL has.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails here"
)]

use sallyport_server::store::Engine;

pub(crate) const ENGINE: Engine = Engine::Postgres;

#[path = "../server/approvals.rs"]
mod approvals;
#[path = "../server/backup.rs"]
mod backup;
#[path = "../server/break_glass.rs"]
mod break_glass;
#[path = "../server/browser.rs"]
mod browser;
#[path = "../server/common.rs"]
mod common;
#[path = "../server/console.rs"]
mod console;
#[path = "../server/consultations.rs"]
mod consultations;
#[path = "../server/coverage.rs"]
mod coverage;
#[path = "../server/durability.rs"]
mod durability;
#[path = "../server/enrolments.rs"]
mod enrolments;
#[path = "../server/erasure.rs"]
mod erasure;
#[path = "../server/exports.rs"]
mod exports;
#[path = "../server/factors.rs"]
mod factors;
#[path = "../server/gate_events.rs"]
mod gate_events;
#[path = "../server/hunt.rs"]
mod hunt;
#[path = "../server/irises.rs"]
mod irises;
#[path = "../server/joining.rs"]
mod joining;
#[path = "../server/keys.rs"]
mod keys;
#[path = "../server/log.rs"]
mod log;
#[path = "../server/log_codes.rs"]
mod log_codes;
#[path = "../server/merging.rs"]
mod merging;
#[path = "../server/model_change.rs"]
mod model_change;
#[path = "../server/monitor.rs"]
mod monitor;
mod moving;
#[path = "../server/officers.rs"]
mod officers;
#[cfg(feature = "oidc")]
#[path = "../server/oidc/mod.rs"]
mod oidc;
#[path = "../server/outside.rs"]
mod outside;
#[path = "../server/passages.rs"]
mod passages;
#[path = "../server/people.rs"]
mod people;
#[path = "../server/policies.rs"]
mod policies;
#[path = "../server/profile_word.rs"]
mod profile_word;
#[path = "../server/promises.rs"]
mod promises;
#[path = "../server/records.rs"]
mod records;
#[path = "../server/registry.rs"]
mod registry;
#[path = "../server/release.rs"]
mod release;
mod replicas;
#[path = "../server/reports.rs"]
mod reports;
#[path = "../server/retention.rs"]
mod retention;
#[path = "../server/reviews.rs"]
mod reviews;
#[path = "../server/rights.rs"]
mod rights;
mod roles;
#[path = "../server/sample.rs"]
mod sample;
mod schema;
#[path = "../server/slip.rs"]
mod slip;
#[path = "../server/streams.rs"]
mod streams;
#[path = "../server/templates.rs"]
mod templates;
#[path = "../server/witness.rs"]
mod witness;
