//! The gate agent: cameras, capture, uplink, door and spool of one gate or enrolment station.
//!
//! The agent holds no gallery and takes no access decision. It turns camera frames into one sealed
//! request per person, shows the server's answer, and releases the door only for an order that the
//! server signed for this very request. Every error, time-out or doubt leaves the door shut.

pub mod agent;
pub mod camera;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deps;
pub mod door;
pub mod event;
pub mod eyes;
pub mod import;
pub mod join;
pub mod journal;
pub mod life_safety;
pub mod observe;
pub mod release_order;
pub mod renewal;
pub mod rules;
pub mod seal;
pub mod spool;
pub mod state;
pub mod tls;
pub mod uplink;
pub mod witness;

mod durable;
mod inbox;
