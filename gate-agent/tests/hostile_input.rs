//! Fuzz targets for what an operator or an exchange hands to a gate: its configuration, iris records, and the files of its spool.
//! See `fuzz/harness.rs`.
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

use std::sync::Arc;

use harness::fuzz;
use sallyport_domain::{Direction, Eye, GateId, Timestamp, TransactionId};
use sallyport_gate::config::Config;
use sallyport_gate::spool::{FileDisk, Spool, SpoolLimits};
use sallyport_protocol::{
    DoorOutcome, DoorReport, FailedAcquisition, PROTOCOL_VERSION, SignedGateEvent,
};
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

/// A spool of files that nobody wrote so: whatever they hold, the agent starts or says why, and hands on only JSON.
#[test]
fn spool_files() {
    let gate: GateId = "front-in".parse().unwrap();
    let transaction = TransactionId::new(Timestamp::from_micros(1_700_000_000_000_000), [7; 10]);
    let door = DoorReport {
        version: PROTOCOL_VERSION,
        transaction,
        gate: gate.clone(),
        outcome: DoorOutcome::Released,
        at: Timestamp::from_micros(5),
        sequence: 1,
    };
    let failed = FailedAcquisition {
        version: PROTOCOL_VERSION,
        transaction,
        gate: gate.clone(),
        direction: Direction::Exit,
        began_at: Timestamp::from_micros(5),
        ended_at: Timestamp::from_micros(6),
        defects: vec![],
        attachment: None,
    };
    let event = SignedGateEvent {
        version: PROTOCOL_VERSION,
        gate,
        key: "k".to_owned(),
        note: "text\n\n— k AAAA\n".to_owned(),
    };
    let samples = [
        serde_json::to_vec(&door).unwrap(),
        serde_json::to_vec(&failed).unwrap(),
        serde_json::to_vec(&event).unwrap(),
        b"00000000000000000007\n".to_vec(),
    ];
    let folder = tempfile::tempdir().unwrap();
    let kinds = ["intent", "door", "failed", "event"];
    fuzz("spool_record", &samples, 1_500, |bytes| {
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (number, kind) in (1..).zip(kinds) {
            let name = format!("{number:020}.{kind}");
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        std::fs::write(folder.path().join("sequence"), bytes).unwrap();
        let open = || Spool::open(folder.path(), SpoolLimits::default(), Arc::new(FileDisk));
        let Ok(spool) = open() else {
            return false;
        };
        let (mut waiting, mut at) = (0, 0);
        while let Some(pending) = spool.next_after(at).unwrap() {
            serde_json::from_slice::<serde_json::Value>(&pending.json).unwrap();
            at = pending.number;
            waiting += 1;
        }
        assert_eq!(waiting, spool.waiting());
        drop(spool);
        assert_eq!(open().unwrap().waiting(), waiting, "after another start");
        true
    });
}
