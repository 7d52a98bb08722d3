//! The central server: registry, search, decisions, audit log, officers' console.
//!
//! It never sees pixels: pictures are sealed by the agents and opened only for an officer's browser, undecoded.
//! No SQL outside `store`, no HTML outside `console`.

pub mod approvals;
pub mod audit;
pub mod authority;
pub mod backup;
pub mod break_glass;
pub mod clock;
pub mod config;
pub mod console;
pub mod consultations;
pub mod demographics;
pub mod door_reports;
pub mod duplicates;
mod enrolment;
pub mod enrolments;
pub mod erasure;
pub mod error_rates;
pub mod evidence;
pub mod export;
pub mod fsck;
pub mod gate_api;
pub mod gate_events;
pub mod gates;
pub mod hardening;
pub mod installation;
pub mod keys;
mod log_codes;
pub mod merging;
pub mod model_change;
pub mod monitor;
pub mod moving;
pub mod officers;
#[cfg(feature = "oidc")]
pub mod oidc;
pub mod outside;
pub mod passages;
pub mod policies;
pub mod post;
pub mod presence;
pub mod profile_word;
pub mod profiles;
pub mod promises;
pub mod proposals;
pub mod records;
pub mod refusals;
pub mod registry;
pub mod release_orders;
pub mod replicas;
pub mod reports;
pub mod retention;
pub mod reviews;
pub mod rights;
pub mod sealing;
pub mod serve;
pub mod state;
pub mod store;
pub mod streams;
pub mod templates;
pub mod tls;
pub mod witness;
