//! Measures the accuracy of the iris pipeline on labelled pictures that somebody is permitted to use.

pub mod attacks;
pub mod labels;
pub mod report;
pub mod run;
pub mod scores;
pub mod signed;
