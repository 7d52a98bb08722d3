//! Helpers of the whole-system tests: an installation made of the real programs.
