//! Fuzz targets for every parser: valid samples, mutated thousands of times, must never panic, never take much memory, and whatever is
//! accepted must be written back to the same bytes or to a form that is read as the same value.
//!
//! `SALLYPORT_FUZZ_SECONDS=60 cargo test -p sallyport-transparency --test hostile_input` runs each target that long instead of its
//! fixed number of mutations.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops when something is wrong; the length of a run is asked of the environment"
)]

mod support;

use std::time::{Duration, Instant};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sallyport_transparency::{
    AddCheckpoint, Checkpoint, Cosigner, CosignerKey, Entry, Hash, Note, Policy, ProofFile,
    TilePath, VerifierKey, add_cosignature, decode_bundle, encode_bundle, verify_inclusion,
};
use support::{Log, ORIGIN, entry, golden_signer};

const MUTATIONS: u64 = 20_000;
/// The bar of `security.md` 1.1.
const PEAK_MEMORY_KIB: u64 = 64 * 1024;

fn random(random: &mut TestRng, below: usize) -> usize {
    random.next_u64() as usize % below.max(1)
}

/// One to four edits of one sample, with material of the others.
fn mutate(rng: &mut TestRng, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = samples[random(rng, samples.len())].clone();
    for _ in 0..=random(rng, 4) {
        let at = random(rng, bytes.len());
        match random(rng, 9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random(rng, 8),
            1 if !bytes.is_empty() => bytes[at] = b"\n +0129./=x\0\x7f\xff\xe2"[random(rng, 15)],
            2 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            3 => bytes.insert(at, b"\n +0129./=x\0\x7f\xff\xe2"[random(rng, 15)]),
            4 => bytes.truncate(at),
            5 => {
                let end = (at + random(rng, 40)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                for _ in 0..=random(rng, 8) {
                    bytes.splice(at..at, part.iter().copied());
                }
            }
            6 => {
                let other = &samples[random(rng, samples.len())];
                let from = random(rng, other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            7 => {
                // A line moved to another place.
                let mut lines: Vec<Vec<u8>> = bytes
                    .split(|byte| *byte == b'\n')
                    .map(<[u8]>::to_vec)
                    .collect();
                let (a, b) = (random(rng, lines.len()), random(rng, lines.len()));
                lines.swap(a, b);
                bytes = lines.join(&b'\n');
            }
            _ => {
                // A number at its limits.
                let number = [
                    "0",
                    "00",
                    "18446744073709551615",
                    "18446744073709551616",
                    "9223372036854775808",
                    "-1",
                    "256",
                ][random(rng, 7)];
                bytes.splice(at..at, number.bytes());
            }
        }
        if bytes.len() > 200_000 {
            bytes.truncate(200_000);
        }
    }
    bytes
}

/// Runs `target` on every sample (all of which it must accept) and on mutations of them; returns how many of those were accepted.
fn fuzz(samples: &[Vec<u8>], mut target: impl FnMut(&[u8]) -> bool) -> u64 {
    for sample in samples {
        assert!(target(sample), "{}", String::from_utf8_lossy(sample));
    }
    let seconds = std::env::var("SALLYPORT_FUZZ_SECONDS").ok();
    let limit = seconds.map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
    let begun = Instant::now();
    let mut rng = match limit {
        // Long runs start elsewhere each time.
        Some(_) => TestRng::from_seed(RngAlgorithm::ChaCha, &{
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&std::process::id().to_be_bytes());
            seed
        }),
        None => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    };
    let (mut runs, mut accepted) = (0, 0);
    while limit.map_or(runs < MUTATIONS, |limit| begun.elapsed() < limit) {
        let bytes = mutate(&mut rng, samples);
        accepted += u64::from(target(&bytes));
        runs += 1;
    }
    assert!(
        peak_memory_kib() < PEAK_MEMORY_KIB,
        "{} KiB",
        peak_memory_kib()
    );
    accepted
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

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
    let accepted = fuzz(&samples, |bytes| {
        let parsed = Note::parse(bytes).is_ok();
        let Ok(checkpoint) = Checkpoint::open(bytes, signer.verifier()) else {
            return false;
        };
        assert!(parsed);
        // What the log signed is one of the samples, whatever stands in the other lines.
        let text = checkpoint.to_text();
        assert!(
            samples
                .iter()
                .any(|sample| sample.starts_with(text.as_bytes()))
        );
        if let Ok(Some(time)) = witness().verifier().verify(&Note::parse(bytes).unwrap()) {
            assert_eq!(time, checkpoint.size);
        }
        true
    });
    assert!(accepted < MUTATIONS || std::env::var("SALLYPORT_FUZZ_SECONDS").is_ok());
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
    fuzz(&samples, |bytes| {
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
    fuzz(&samples, |bytes| {
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
    fuzz(&samples, |bytes| {
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
    fuzz(&samples, |bytes| match decode_bundle(bytes) {
        Some(entries) => {
            assert_eq!(encode_bundle(entries).unwrap(), bytes);
            true
        }
        None => false,
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
    fuzz(&samples, |bytes| {
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
    fuzz(&samples, |bytes| {
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
    fuzz(&samples, |bytes| {
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
    fuzz(&[line.into_bytes()], |bytes| {
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
    fuzz(&samples, |bytes| {
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
    fuzz(&samples, |bytes| {
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
