use sallyport_transparency::{
    CosignerKey, NodeMap, Note, NoteSigner, append, consistency_proof, leaf_hash, root,
    sign_checkpoint,
};

use super::*;
use crate::deps::OsRandom;

const ORIGIN: &str = "sallyport/site-test/audit1";

/// A server's log; entries from `fork` on are other ones.
struct Log(NodeMap);

impl Log {
    fn new(size: u64, fork: u64) -> Self {
        let mut nodes = NodeMap::new();
        for index in 0..size {
            let leaf = leaf_hash(format!("{} {index}", index >= fork).as_bytes());
            let stored = append(index, leaf, &nodes).unwrap();
            nodes.extend(stored);
        }
        Self(nodes)
    }

    fn signer() -> NoteSigner {
        NoteSigner::new(ORIGIN, &[5; 32]).unwrap()
    }

    fn answer(&self, old: u64, new: u64) -> HeartbeatAnswer {
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            size: new,
            root: root(new, &self.0).unwrap(),
        };
        let proof = if old <= new {
            consistency_proof(old, new, &self.0).unwrap()
        } else {
            vec![]
        };
        HeartbeatAnswer {
            now: Timestamp::from_micros(0),
            checkpoint: Some(sign_checkpoint(&checkpoint, &Self::signer()).unwrap()),
            proof: proof.into_iter().map(Hash::to_base64).collect(),
            log_fault: None,
            release: None,
        }
    }
}

fn open(folder: &Path) -> GateWitness {
    GateWitness::open(
        folder,
        &"front-in".parse().unwrap(),
        &Log::signer().verifier().to_string(),
        &OsRandom,
    )
    .unwrap()
}

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

#[test]
fn a_growing_log_is_kept_and_cosigned_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::new(30, 30);
    let key = open(folder.path()).seen().witness;
    for (old, new) in [(0, 3), (3, 3), (3, 20), (20, 30)] {
        let witness = open(folder.path());
        assert_eq!(witness.seen().size, old);
        let answer = log.answer(old, new);
        assert_eq!(witness.take(&answer, NOW).unwrap(), None);
        let seen = witness.seen();
        assert_eq!((seen.size, &seen.witness), (new, &key));
        let note = answer.checkpoint.unwrap() + &seen.cosignature.unwrap();
        let time = CosignerKey::parse(&key)
            .unwrap()
            .verify(&Note::parse(note.as_bytes()).unwrap());
        assert_eq!(time, Ok(Some(1_700_000_000)));
    }
}

#[test]
fn every_betrayal_raises_a_lasting_alarm_with_both_checkpoints() {
    let stranger = NoteSigner::new(ORIGIN, &[6; 32]).unwrap();
    let honest = Log::new(30, 30);
    let forked = Log::new(30, 4);
    let mut unsigned = honest.answer(10, 20);
    let text = unsigned.checkpoint.unwrap();
    let text = format!("{}\n", text.split("\n\n").next().unwrap());
    unsigned.checkpoint = Some(stranger.sign(&text).unwrap());
    let mut unproved = honest.answer(10, 20);
    unproved.proof.clear();
    let mut garbled = honest.answer(10, 20);
    garbled.proof = vec!["?".to_owned()];
    let mut vanished = honest.answer(10, 20);
    vanished.checkpoint = None;
    let mut confessed = honest.answer(10, 20);
    confessed.log_fault = Some("entry 3 was changed".to_owned());
    for (answer, words) in [
        (honest.answer(10, 9), "rolled back"),
        (forked.answer(10, 20), "forked"),
        (forked.answer(10, 10), "forked"),
        (unsigned, "not acceptable"),
        (unproved, "forked"),
        (garbled, "forked"),
        (vanished, "no checkpoint"),
        (confessed, "the server reports: entry 3"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let witness = open(folder.path());
        assert_eq!(witness.take(&honest.answer(0, 10), NOW).unwrap(), None);
        let alarm = witness.take(&answer, NOW).unwrap().expect(words);
        assert!(alarm.what.contains(words), "{}", alarm.what);
        assert_eq!(alarm.kept, honest.answer(0, 10).checkpoint);
        assert_eq!(alarm.shown, answer.checkpoint);
        // It stands, even when the log looks right again, and after a restart.
        assert_eq!(witness.take(&honest.answer(10, 20), NOW).unwrap(), None);
        assert_eq!(witness.seen().size, 10, "nothing is cosigned any more");
        let again = open(folder.path());
        assert_eq!(again.alarm(), Some(alarm.clone()));
        assert_eq!(again.seen().alarm, Some(alarm.clone()));
        assert_eq!(standing_alarm(folder.path()), Some(alarm.what));
        // A person moves the evidence away: the gate watches on from where it was.
        fs::rename(folder.path().join("alarm"), folder.path().join("taken")).unwrap();
        let after = open(folder.path());
        assert_eq!(after.alarm(), None);
        assert_eq!(after.take(&honest.answer(10, 20), NOW).unwrap(), None);
        assert_eq!(after.seen().size, 20);
    }
}

#[test]
fn a_damaged_memory_stops_the_gate_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let witness = open(folder.path());
    witness.take(&Log::new(9, 9).answer(0, 9), NOW).unwrap();
    let gate: GateId = "front-in".parse().unwrap();
    let vkey = Log::signer().verifier().to_string();
    let again = || {
        GateWitness::open(folder.path(), &gate, &vkey, &OsRandom)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for name in ["checkpoint", "witness.key"] {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[1..]).unwrap();
        let error = again().unwrap_err();
        assert!(error.contains(name) && error.contains("damaged"), "{error}");
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(again(), Ok(()));
    let bad = GateWitness::open(folder.path(), &gate, "test", &OsRandom).map(drop);
    assert!(bad.unwrap_err().to_string().contains("join the gate again"));
}

#[test]
fn nothing_is_cosigned_that_could_not_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let witness = open(folder.path());
    // A folder where the file should be written: the write fails.
    fs::create_dir(folder.path().join("checkpoint.tmp")).unwrap();
    assert!(witness.take(&Log::new(9, 9).answer(0, 9), NOW).is_err());
    assert_eq!((witness.seen().size, witness.seen().cosignature), (0, None));
    fs::remove_dir(folder.path().join("checkpoint.tmp")).unwrap();
    assert_eq!(
        witness.take(&Log::new(9, 9).answer(0, 9), NOW).unwrap(),
        None
    );
    assert_eq!(witness.seen().size, 9);
}
