//! Fuzz targets for every parser: valid samples, mutated thousands of times, must never panic, never take much memory, and whatever is
//! accepted must be written back to the same bytes or to a form that is read as the same value.
//!
//! The way of it is in `fuzz/harness.rs`; `make fuzz SECONDS=60` runs each target for a time.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops when something is wrong; the length of a run is asked of the environment"
)]

#[path = "../../../fuzz/harness.rs"]
mod harness;
mod support;

use harness::fuzz;
use sallyport_transparency::{
    AddCheckpoint, Checkpoint, Cosigner, CosignerKey, DetailLine, Entry, Evidence, Hash,
    MeasuredPairs, MeasuredPoint, Measurement, Note, Policy, ProofFile, Receipt, SealedDetail,
    Selected, TilePath, VerifierKey, add_cosignature, decode_bundle, detail_commitment,
    encode_bundle, verify_inclusion,
};
use support::{Log, ORIGIN, entry, golden_signer};

/// Mutations of each target.
const MUTATIONS: u64 = 20_000;

fn witness() -> Cosigner {
    Cosigner::new("witness.example/w1", &[9; 32]).unwrap()
}

fn notes() -> Vec<Vec<u8>> {
    let log = Log::golden(9);
    (1..=9)
        .map(|size| {
            let note = log.checkpoint(size, &golden_signer());
            let text = note.split("\n\n").next().unwrap().to_owned() + "\n";
            (note + &witness().cosign(&text, size)).into_bytes()
        })
        .collect()
}

#[test]
fn notes_and_checkpoints() {
    let signer = golden_signer();
    let samples = notes();
    fuzz("note", &samples, MUTATIONS, |bytes| {
        let parsed = Note::parse(bytes).is_ok();
        let Ok(checkpoint) = Checkpoint::open(bytes, signer.verifier()) else {
            return false;
        };
        assert!(parsed);
        // What the log signed is one of the samples, whatever stands in the other lines.
        let text = checkpoint.to_text();
        // The golden note of the corpus is signed by the same key.
        let golden = checkpoint.size == 257
            && checkpoint.root.to_base64() == "C5wVnDWgLRWaqMnZZbbCKVb2btFYLO/7nI9T4bCqVOc=";
        assert!(
            golden
                || samples
                    .iter()
                    .any(|sample| sample.starts_with(text.as_bytes()))
        );
        if let Ok(Some(time)) = witness().verifier().verify(&Note::parse(bytes).unwrap()) {
            assert_eq!(time, checkpoint.size);
        }
        true
    });
}

#[test]
fn checkpoint_texts() {
    let samples: Vec<Vec<u8>> = notes()
        .iter()
        .map(|note| {
            let text = String::from_utf8_lossy(note);
            (text.split("\n\n").next().unwrap().to_owned() + "\n").into_bytes()
        })
        .collect();
    fuzz("checkpoint", &samples, MUTATIONS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        let Ok(checkpoint) = Checkpoint::from_text(text) else {
            return false;
        };
        assert_eq!(checkpoint.to_text(), text, "one spelling only");
        true
    });
}

#[test]
fn verifier_keys() {
    let samples = vec![
        golden_signer().verifier().to_string().into_bytes(),
        witness().verifier().to_string().into_bytes(),
    ];
    fuzz("vkey", &samples, MUTATIONS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        let cosigner = CosignerKey::parse(text).is_ok();
        let Ok(key) = VerifierKey::parse(text) else {
            assert!(!cosigner);
            return false;
        };
        assert_eq!(key.to_string(), text.trim_end_matches('\n'));
        assert_ne!(cosigner, key.is_log_key());
        true
    });
}

#[test]
fn tile_paths() {
    let samples: Vec<Vec<u8>> = [
        TilePath::tile(0, 0, 256),
        TilePath::tile(7, 999, 1),
        TilePath::entries(1_234_067, 255),
        TilePath::entries(u64::MAX, 256),
        TilePath::tile(1, 1_000, 17),
    ]
    .iter()
    .map(|path| path.as_str().as_bytes().to_vec())
    .collect();
    fuzz("tile_path", &samples, MUTATIONS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        match TilePath::parse(text) {
            Some(path) => {
                assert_eq!(path.as_str(), text);
                // A path never leaves its folder.
                assert!(!text.contains("..") && text.starts_with("tile/"));
                true
            }
            None => false,
        }
    });
}

#[test]
fn bundles() {
    let bundle = |count: u64| {
        let entries: Vec<Vec<u8>> = (0..count).map(entry).collect();
        encode_bundle(entries.iter().map(Vec::as_slice)).unwrap()
    };
    let samples = vec![bundle(0), bundle(1), bundle(3), bundle(256)];
    fuzz("bundle", &samples, MUTATIONS, |bytes| {
        match decode_bundle(bytes) {
            Some(entries) => {
                assert_eq!(encode_bundle(entries).unwrap(), bytes);
                true
            }
            None => false,
        }
    });
}

#[test]
fn proof_files() {
    let log = Log::golden(9);
    let signer = golden_signer();
    let samples: Vec<Vec<u8>> = (0..9)
        .map(|index| {
            let file = ProofFile {
                index,
                hashes: log.inclusion(index, 9),
                checkpoint: log.checkpoint(9, &signer),
            };
            file.to_text().into_bytes()
        })
        .chain(std::iter::once({
            let file = ProofFile {
                index: 2,
                hashes: log.inclusion(2, 9),
                checkpoint: log.checkpoint(9, &signer),
            };
            file.to_text()
                .replacen("index", "extra AAAA\nindex", 1)
                .into_bytes()
        }))
        .collect();
    fuzz("proof", &samples, MUTATIONS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        let Ok(file) = ProofFile::parse(text) else {
            return false;
        };
        assert_eq!(ProofFile::parse(&file.to_text()), Ok(file.clone()));
        // It may prove one of the nine entries, and no other.
        for index in 0..9 {
            if file.verify(&entry(index), signer.verifier()).is_ok() {
                assert_eq!(file.index, index);
            }
        }
        assert!(file.verify(b"forged", signer.verifier()).is_err());
        true
    });
}

#[test]
fn policies() {
    let key = |n: u8| {
        Cosigner::new(&format!("w{n}.example/test"), &[n; 32])
            .unwrap()
            .verifier()
            .to_string()
    };
    let samples: Vec<Vec<u8>> = [
        format!("log {}\nquorum none\n", golden_signer().verifier()),
        format!(
            "# comment\nlog {} https://log.example/\nwitness A {}\nwitness B {} https://b\n\ngroup g 1 A B\nquorum g\n",
            golden_signer().verifier(),
            key(1),
            key(2)
        ),
        format!(
            "witness A {}\nwitness B {}\nwitness C {}\ngroup one any A B\ngroup two all one C\nquorum two\n",
            key(1),
            key(2),
            key(3)
        ),
    ]
    .map(String::into_bytes)
    .to_vec();
    let unwitnessed = Log::golden(9).checkpoint(9, &golden_signer());
    fuzz("policy", &samples, MUTATIONS, |bytes| {
        let Ok(policy) = Policy::parse(bytes) else {
            return false;
        };
        if let Ok(text) = std::str::from_utf8(bytes) {
            let again = Policy::parse(policy.to_text().as_bytes());
            assert_eq!(again, Ok(policy.clone()), "{text}");
        }
        // However it was mutated: no witness, no quorum, unless it asks for none.
        if policy.open(unwitnessed.as_bytes()).is_ok() {
            assert!(!policy.asks_for_witnesses());
        }
        true
    });
}

#[test]
fn witness_requests_and_answers() {
    let log = Log::golden(9);
    let signer = golden_signer();
    let samples: Vec<Vec<u8>> = (0..9)
        .map(|old| {
            let request = AddCheckpoint {
                old,
                proof: log.consistency(old, 9),
                note: log.checkpoint(9, &signer),
            };
            request.to_text().into_bytes()
        })
        .collect();
    let latest = Checkpoint {
        origin: ORIGIN.into(),
        size: 5,
        root: log.root(5),
    };
    fuzz("add_checkpoint", &samples, MUTATIONS, |bytes| {
        let Ok(request) = AddCheckpoint::parse(bytes) else {
            return false;
        };
        assert_eq!(
            AddCheckpoint::parse(request.to_text().as_bytes()),
            Ok(request.clone())
        );
        let verdict = request
            .open(std::slice::from_ref(signer.verifier()))
            .and_then(|opened| opened.check(Some(&latest)));
        if let Ok(accepted) = verdict {
            assert_eq!(
                (accepted.checkpoint().size, accepted.checkpoint().root),
                (9, log.root(9))
            );
        }
        true
    });
    let note = log.checkpoint(9, &signer);
    let text = note.split("\n\n").next().unwrap().to_owned() + "\n";
    let line = witness().cosign(&text, 77);
    fuzz("cosignature", &[line.into_bytes()], MUTATIONS, |bytes| {
        let Ok(lines) = std::str::from_utf8(bytes) else {
            return false;
        };
        match add_cosignature(&note, lines, witness().verifier()) {
            Ok((full, time)) => {
                assert_eq!(time, 77);
                assert!(full.starts_with(&note));
                true
            }
            Err(_) => false,
        }
    });
}

#[test]
fn entries() {
    let full = Entry {
        gate: Some("front-in".into()),
        epoch: Some(3),
        seq: Some(u64::MAX),
        actor: Some("officer".into()),
        subject: Some("s-1".into()),
        decision: Some("refer".into()),
        reason: Some("wrong_direction".into()),
        models: vec!["a".into(), "b".into()],
        detail_hash: Some("00".into()),
        ..Entry::new("id".into(), "passage", i64::MIN)
    };
    let samples = vec![
        full.to_bytes().unwrap(),
        Entry::new("i".into(), "k", 0).to_bytes().unwrap(),
    ];
    fuzz("entry", &samples, MUTATIONS, |bytes| {
        let Ok(entry) = Entry::from_bytes(bytes) else {
            return false;
        };
        let written = entry.to_bytes().unwrap();
        assert_eq!(Entry::from_bytes(&written), Ok(entry));
        assert!(!written.contains(&b'\n'));
        true
    });
}

#[test]
fn hashes() {
    let samples = vec![Hash([7; 32]).to_base64().into_bytes()];
    fuzz("hash", &samples, MUTATIONS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        match Hash::from_base64(text) {
            Some(hash) => {
                assert_eq!(hash.to_base64(), text, "one spelling only");
                let _ = verify_inclusion(u64::MAX - 1, u64::MAX, hash, &[hash; 63], hash);
                true
            }
            None => false,
        }
    });
}

#[test]
fn receipts() {
    let signer = golden_signer();
    let samples: Vec<Vec<u8>> = (0..3)
        .map(|index| {
            let receipt = Receipt::new(ORIGIN, index, &entry(index));
            receipt.sign(&signer).unwrap().into_bytes()
        })
        .collect();
    fuzz("receipt", &samples, MUTATIONS, |bytes| {
        match Receipt::open(bytes, signer.verifier()) {
            Ok(receipt) => {
                // Nothing but what was signed.
                assert!(receipt.is_for(receipt.index, &entry(receipt.index)));
                assert!(receipt.index < 3);
                true
            }
            Err(_) => false,
        }
    });
}

#[test]
fn selections_and_evidence() {
    let log = Log::golden(9);
    let selected = |index: u64| {
        let bytes = Entry::new(format!("id-{index}"), "passage", 1)
            .to_bytes()
            .unwrap();
        Selected::new(index, bytes, &log.inclusion(index, 9)).unwrap()
    };
    let lines: Vec<Vec<u8>> = (0..3)
        .map(|index| selected(index).to_line().into_bytes())
        .collect();
    fuzz("selection", &lines, MUTATIONS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        let Ok(selected) = Selected::parse(text) else {
            return false;
        };
        assert_eq!(Selected::parse(&selected.to_line()), Ok(selected));
        true
    });
    let mut evidence = Evidence::new("transaction");
    evidence.checkpoint = log.checkpoint(9, &golden_signer());
    evidence.entries = vec![selected(0), selected(4)];
    evidence.stated.insert("camera".into(), "ok".into());
    let opened = Checkpoint::open(evidence.checkpoint.as_bytes(), golden_signer().verifier());
    let opened = opened.unwrap();
    let samples = [
        Evidence::new("empty").to_text().into_bytes(),
        evidence.to_text().into_bytes(),
    ];
    fuzz("evidence", &samples, MUTATIONS, |bytes| {
        let Ok(evidence) = Evidence::parse(bytes) else {
            return false;
        };
        assert_eq!(
            Evidence::parse(evidence.to_text().as_bytes()),
            Ok(evidence.clone())
        );
        // The log of these tests holds other bytes: whatever it is made into, no entry is proved by it.
        assert!(evidence.entries.is_empty() || evidence.verify(&opened).is_err());
        true
    });
}

#[test]
fn measurements() {
    let signer = golden_signer();
    let pairs = |name: &str| MeasuredPairs {
        name: name.into(),
        identities: 2,
        mated_pairs: 10,
        non_mated_pairs: 100,
        points: vec![MeasuredPoint {
            threshold: 0.35,
            false_matches: 1,
            false_non_matches: 2,
        }],
    };
    let measurement = Measurement {
        format: Measurement::format(),
        modality: "iris".into(),
        models: [("encoder".to_owned(), "07".repeat(32))].into(),
        program: "p".into(),
        data_set: "d".into(),
        conditions: "c".into(),
        measured: "2026-11-24".into(),
        samples: 10,
        failures_to_acquire: 1,
        pairs: vec![pairs("every picture")],
        groups: vec![pairs("a")],
    };
    let note = measurement.sign(&signer).unwrap();
    let text = note.split("\n\n").next().unwrap().as_bytes().to_vec();
    // Texts are signed here, so that mutations reach beyond the signature.
    fuzz(
        "measurement",
        &[note.into_bytes(), text],
        MUTATIONS,
        |bytes| {
            let trusted = [signer.verifier().clone()];
            let as_it_is = Measurement::open(bytes, &trusted);
            let signed = std::str::from_utf8(bytes).ok().and_then(|text| {
                signer
                    .sign(&format!("{}\n", text.trim_end_matches('\n')))
                    .ok()
            });
            let read = signed.map(|note| Measurement::open(note.as_bytes(), &trusted));
            let mut accepted = false;
            for (read, _) in [Some(as_it_is), read].into_iter().flatten().flatten() {
                let again = read.sign(&signer).unwrap();
                let (again, _) = Measurement::open(again.as_bytes(), &trusted).unwrap();
                // Thresholds may lose their last digit in text.
                assert_eq!((again.data_set, again.models), (read.data_set, read.models));
                accepted = true;
            }
            accepted
        },
    );
}

#[test]
fn details() {
    let lines = [
        DetailLine::Given {
            index: 7,
            salt: [1; 32],
            sealed: vec![2; 70],
            key: [3; 32],
        },
        DetailLine::Withheld {
            index: u64::MAX,
            why: "erased".to_owned(),
        },
    ];
    let samples = lines.map(|line| line.to_line().into_bytes());
    fuzz("detail_line", &samples, MUTATIONS, |bytes| {
        let Some(line) = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| DetailLine::parse(text).ok())
        else {
            return false;
        };
        assert_eq!(DetailLine::parse(&line.to_line()), Ok(line));
        true
    });
    let sealed = SealedDetail {
        nonce: &[5; 12],
        commitment: &detail_commitment(&[4; 32]),
        ciphertext: &[6; 40],
    };
    fuzz(
        "sealed_detail",
        &[sealed.to_bytes()],
        MUTATIONS,
        |bytes| match SealedDetail::parse(bytes) {
            Ok(parts) => {
                assert!(parts.to_bytes() == bytes);
                true
            }
            Err(_) => false,
        },
    );
}
