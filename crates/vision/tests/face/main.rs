//! The face pipeline on the fixture pictures: golden values of each stage, quality, attacks, bad input.
//!
//! One test program, because each that links OpenCV takes long to link.

mod attacks;
mod bad_models;
mod bad_pictures;
mod common;
mod golden;
mod quality;
mod tracking;
mod video;
