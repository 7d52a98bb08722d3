//! Helpers of the whole-system tests and of the demo: a site made of the real programs.

pub mod browser;
pub mod enrolling;
pub mod eyes;
pub mod installation;
pub mod scenes;
pub mod site;
