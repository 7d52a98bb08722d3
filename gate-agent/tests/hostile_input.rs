//! Fuzz targets for what an operator or an exchange hands to a gate: its configuration, and iris records. See `fuzz/harness.rs`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops when something is wrong; the length of a run is asked of the environment"
)]

#[path = "../../fuzz/harness.rs"]
mod harness;

use harness::fuzz;
use sallyport_domain::{Eye, Timestamp};
use sallyport_gate::config::Config;
use sallyport_vision::{Frame, IrisRecordImage, read_iris_record, write_iris_record};

#[test]
fn configurations() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gate.example.toml");
    let example = std::fs::read(example).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.toml");
    fuzz("gate_config", &[example], 3_000, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        match Config::load(&path) {
            Ok(config) => {
                assert!(!config.cameras.is_empty());
                assert!((0.05..=5.0).contains(&config.heartbeat_s));
                true
            }
            Err(error) => {
                assert!(error.to_string().contains("gate.toml"), "{error}");
                false
            }
        }
    });
}

#[test]
fn iris_records() {
    let picture = |width: u32, height: u32, eye| {
        let bgr: Vec<u8> = (0..width * height)
            .flat_map(|at| [u8::try_from(at % 251).unwrap(); 3])
            .collect();
        let frame = Frame::from_bgr("record", Timestamp::from_micros(0), width, height, &bgr);
        IrisRecordImage {
            eye,
            frame: frame.unwrap(),
        }
    };
    let record = |images: &[IrisRecordImage]| write_iris_record(images).unwrap();
    let samples = [
        record(&[picture(64, 48, Some(Eye::Left))]),
        record(&[picture(32, 32, Some(Eye::Right)), picture(20, 10, None)]),
    ];
    fuzz(
        "iris_record",
        &samples,
        5_000,
        |bytes| match read_iris_record("record", Timestamp::from_micros(0), bytes) {
            Ok(images) => {
                assert!(!images.is_empty());
                true
            }
            Err(_) => false,
        },
    );
}
