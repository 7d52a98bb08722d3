use super::*;
use sallyport_domain::{Direction, QualityDefect};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

const NOW: Timestamp = Timestamp::from_micros(1_795_428_420_000_000);

fn gate() -> GateId {
    "front-in".parse().unwrap()
}

fn transaction(n: u8) -> TransactionId {
    TransactionId::new(NOW, [n; 10])
}

fn open(folder: &Path) -> Spool {
    Spool::open(folder, SpoolLimits::default(), Arc::new(FileDisk)).unwrap()
}

fn failed(n: u8) -> FailedAcquisition {
    FailedAcquisition {
        version: PROTOCOL_VERSION,
        transaction: transaction(n),
        gate: gate(),
        direction: Direction::Entry,
        began_at: NOW,
        ended_at: NOW.plus_millis(8_000),
        defects: vec![QualityDefect::Blurred],
        attachment: None,
    }
}

fn doors(spool: &Spool) -> Vec<DoorReport> {
    let mut after = 0;
    let mut found = Vec::new();
    while let Some(pending) = spool.next_after(after).unwrap() {
        after = pending.number;
        if pending.path == paths::DOOR_REPORT {
            found.push(serde_json::from_slice(&pending.json).unwrap());
        }
    }
    found
}

#[test]
fn records_survive_restarts_and_sequences_have_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let spool = open(folder.path());
        let intent = spool
            .intend_release(&gate(), transaction(round), NOW)
            .unwrap();
        spool.settle(intent, DoorOutcome::Released).unwrap();
        spool
            .reject_order(&gate(), transaction(round), NOW)
            .unwrap();
    }
    let spool = open(folder.path());
    let sequences: Vec<u64> = doors(&spool).iter().map(|report| report.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);
    // Delivered ones are gone for good, and the numbering goes on.
    while let Some(pending) = spool.next_after(0).unwrap() {
        spool.delivered(pending.number).unwrap();
    }
    drop(spool);
    let spool = open(folder.path());
    assert_eq!(spool.waiting(), 0);
    spool.reject_order(&gate(), transaction(9), NOW).unwrap();
    assert_eq!(doors(&spool)[0].sequence, 7);
}

#[test]
fn a_crash_between_intent_and_outcome_is_reported_as_released() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let intent = spool.intend_release(&gate(), transaction(1), NOW).unwrap();
    assert_eq!(spool.waiting(), 0, "an unsettled intent is not delivered");
    assert!(spool.next_after(0).unwrap().is_none());
    drop(intent);
    drop(spool);
    let reports = doors(&open(folder.path()));
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].outcome, DoorOutcome::Released);
    assert_eq!(reports[0].transaction, transaction(1));
}

#[test]
fn a_crash_before_the_counter_was_written_repeats_no_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.reject_order(&gate(), transaction(1), NOW).unwrap();
    drop(spool);
    fs::write(folder.path().join("sequence"), "00000000000000000001\n").unwrap();
    let spool = open(folder.path());
    spool.reject_order(&gate(), transaction(2), NOW).unwrap();
    let sequences: Vec<u64> = doors(&spool).iter().map(|report| report.sequence).collect();
    assert_eq!(sequences, [1, 2]);
}

#[test]
fn a_torn_record_is_set_aside_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.reject_order(&gate(), transaction(1), NOW).unwrap();
    spool.failed_acquisition(&failed(2)).unwrap();
    drop(spool);
    let torn = folder.path().join("00000000000000000002.failed");
    let bytes = fs::read(&torn).unwrap();
    fs::write(&torn, &bytes[..40]).unwrap();
    fs::write(folder.path().join("00000000000000000003.door.tmp"), "{").unwrap();
    let spool = open(folder.path());
    assert_eq!((spool.waiting(), spool.losses().0), (1, 1));
    assert!(
        folder
            .path()
            .join("00000000000000000002.failed.torn")
            .exists()
    );
    assert!(!folder.path().join("00000000000000000003.door.tmp").exists());
    // The number of the torn record is not used again.
    spool.failed_acquisition(&failed(3)).unwrap();
    assert!(folder.path().join("00000000000000000003.failed").exists());
}

/// A disk that runs full: what needs new space fails.
#[derive(Default)]
struct SmallDisk {
    full: AtomicBool,
}

impl SmallDisk {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Ok(())
        }
    }
}

impl SpoolDisk for SmallDisk {
    fn prepare(&self, folder: &Path) -> io::Result<Vec<String>> {
        FileDisk.prepare(folder)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        FileDisk.list(folder)
    }
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        FileDisk.create(path, bytes)
    }
    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let held = fs::metadata(path).map_or(0, |metadata| metadata.len());
        if held < bytes.len() as u64 {
            self.check()?;
        }
        FileDisk.overwrite(path, bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        FileDisk.remove(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        FileDisk.read(path)
    }
}

#[test]
fn on_a_full_disk_no_door_may_open_but_an_intent_can_still_be_settled() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(SmallDisk::default());
    let spool = Spool::open(folder.path(), SpoolLimits::default(), disk.clone()).unwrap();
    let intent = spool.intend_release(&gate(), transaction(1), NOW).unwrap();
    disk.full.store(true, Ordering::SeqCst);
    spool.settle(intent, DoorOutcome::Fault).unwrap();
    assert_eq!(doors(&spool)[0].outcome, DoorOutcome::Fault);
    let error = spool
        .intend_release(&gate(), transaction(2), NOW)
        .unwrap_err();
    assert!(error.to_string().contains("free space"), "{error}");
    assert!(spool.failed_acquisition(&failed(3)).is_err());
    // It recovers by itself when space returns, with no gap.
    disk.full.store(false, Ordering::SeqCst);
    let intent = spool.intend_release(&gate(), transaction(4), NOW).unwrap();
    spool.settle(intent, DoorOutcome::Released).unwrap();
    assert_eq!(doors(&spool)[1].sequence, 2);
}

#[test]
fn room_is_made_from_failed_acquisitions_and_never_from_door_reports() {
    let folder = tempfile::tempdir().unwrap();
    let limits = SpoolLimits { records: 4 };
    let spool = Spool::open(folder.path(), limits, Arc::new(FileDisk)).unwrap();
    for n in 0..5 {
        spool.failed_acquisition(&failed(n)).unwrap();
    }
    assert_eq!((spool.waiting(), spool.losses().1), (3, 2));
    spool.reject_order(&gate(), transaction(7), NOW).unwrap();
    assert!(matches!(
        spool.intend_release(&gate(), transaction(8), NOW),
        Err(SpoolError::Full)
    ));
    assert_eq!(doors(&spool).len(), 1);
}
