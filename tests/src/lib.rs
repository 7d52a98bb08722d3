//! Helpers of the whole-system tests and of the demo: an installation made of the real programs.

pub mod installation;
