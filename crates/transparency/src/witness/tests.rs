use proptest::prelude::*;

use super::*;
use crate::{NodeMap, NoteSigner, append, consistency_proof, leaf_hash, root, sign_checkpoint};

const ORIGIN: &str = "sallyport.example/audit-test";

fn signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, &[1; 32]).unwrap()
}

fn cosigner() -> Cosigner {
    Cosigner::new("w.example/test", &[2; 32]).unwrap()
}

/// A log that differs from others of its kind from entry `fork` on.
struct Log {
    nodes: NodeMap,
}

impl Log {
    fn new(size: u64, fork: u64) -> Self {
        let mut nodes = NodeMap::new();
        for index in 0..size {
            let text = if index < fork { "true" } else { "forked" };
            let leaf = leaf_hash(format!("{text} {index}").as_bytes());
            let stored = append(index, leaf, &nodes).unwrap();
            nodes.extend(stored);
        }
        Self { nodes }
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.into(),
            size,
            root: root(size, &self.nodes).unwrap(),
        }
    }

    fn note(&self, size: u64) -> String {
        sign_checkpoint(&self.checkpoint(size), &signer()).unwrap()
    }

    fn proof(&self, old: u64, new: u64) -> Vec<Hash> {
        consistency_proof(old, new, &self.nodes).unwrap()
    }

    fn request(&self, old: u64, new: u64) -> AddCheckpoint {
        AddCheckpoint {
            old,
            proof: self.proof(old, new),
            note: self.note(new),
        }
    }
}

fn judge(request: AddCheckpoint, latest: Option<&Checkpoint>) -> Result<Accepted, Refusal> {
    request
        .open(std::slice::from_ref(signer().verifier()))?
        .check(latest)
}

#[test]
fn every_continuation_is_cosigned_and_the_log_can_add_the_line() {
    let log = Log::new(40, 40);
    let mut latest: Option<Checkpoint> = None;
    for new in [0, 1, 1, 5, 5, 39, 40] {
        let old = latest.as_ref().map_or(0, |latest| latest.size);
        let request = log.request(old, new);
        assert_eq!(
            AddCheckpoint::parse(request.to_text().as_bytes()),
            Ok(request.clone())
        );
        let note = request.note.clone();
        let accepted = judge(request, latest.as_ref()).unwrap();
        let line = accepted.cosign(&cosigner(), 1_700_000_000);
        let answer = read_answer(&note, cosigner().verifier(), 200, line.as_bytes()).unwrap();
        let WitnessAnswer::Cosigned { note: full, time } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((full, time), (format!("{note}{line}"), 1_700_000_000));
        latest = Some(accepted.checkpoint().clone());
    }
}

#[test]
fn refusals_carry_the_status_that_the_specification_names() {
    let log = Log::new(20, 20);
    let latest = log.checkpoint(10);
    let unsigned = |note: &str| note.replacen("\n20\n", "\n19\n", 1);
    let other = NoteSigner::new("other.example/test", &[5; 32]).unwrap();
    let foreign = Checkpoint {
        origin: "other.example/test".into(),
        ..log.checkpoint(20)
    };
    let good = log.request(10, 20);
    let with = |edit: &dyn Fn(&mut AddCheckpoint)| {
        let mut request = good.clone();
        edit(&mut request);
        judge(request, Some(&latest)).map(drop)
    };
    assert_eq!(with(&|_| {}), Ok(()));
    let cases: [(Result<(), Refusal>, u16); 9] = [
        (
            with(&|r| r.note = sign_checkpoint(&foreign, &other).unwrap()),
            404,
        ),
        (with(&|r| r.note = unsigned(&r.note)), 403),
        (
            with(&|r| {
                let stranger = NoteSigner::new(ORIGIN, &[9; 32]).unwrap();
                r.note = sign_checkpoint(&log.checkpoint(20), &stranger).unwrap();
            }),
            403,
        ),
        (with(&|r| r.old = 21), 400),
        (with(&|r| r.old = 9), 409),
        (with(&|r| r.proof.clear()), 422),
        (with(&|r| r.proof.push(Hash::default())), 422),
        (with(&|r| r.note = Log::new(20, 3).note(20)), 422),
        (with(&|r| r.note = "no note\n".into()), 400),
    ];
    for (at, (verdict, status)) in cases.into_iter().enumerate() {
        assert_eq!(verdict.unwrap_err().status(), status, "case {at}");
    }
    assert_eq!(
        Refusal::Conflict(10).body(),
        (SIZE_CONTENT_TYPE, "10\n".to_owned())
    );
    // The same size with another root, and with the same one but a needless proof.
    let mut same = log.request(10, 10);
    assert!(judge(same.clone(), Some(&latest)).is_ok());
    same.proof.push(Hash::default());
    assert_eq!(judge(same, Some(&latest)).unwrap_err().status(), 422);
    let forked = Log::new(10, 2).request(10, 10);
    assert_eq!(judge(forked, Some(&latest)).unwrap_err().status(), 422);
    // An empty log with another root than the empty one.
    let empty = Checkpoint {
        size: 0,
        root: Hash([1; 32]),
        ..log.checkpoint(1)
    };
    let request = AddCheckpoint {
        old: 0,
        proof: vec![],
        note: sign_checkpoint(&empty, &signer()).unwrap(),
    };
    assert_eq!(judge(request, None).unwrap_err().status(), 422);
    // A proof from nothing must be empty.
    let mut first = log.request(0, 5);
    first.proof.push(Hash::default());
    assert_eq!(judge(first, None).unwrap_err().status(), 422);
}

#[test]
fn malformed_requests_are_bad_requests() {
    let good = Log::new(20, 20).request(10, 20).to_text();
    let long = format!(
        "old 1\n{}\n\nx",
        vec![Hash::default().to_base64(); 64].join("\n")
    );
    for text in [
        "",
        "old 1\n",
        "old 01\n\nx\n",
        "old -1\n\nx\n",
        "old 1\n\n",
        "old 99999999999999999999\n\nx\n",
        "new 1\n\nx\n",
        "old 1\nAAAA\n\nx\n",
        &long,
        &good.replacen("old 10", "old  10", 1),
        &good.replacen('\n', "\r\n", 1),
    ] {
        assert_eq!(
            AddCheckpoint::parse(text.as_bytes()),
            Err(Refusal::BadRequest),
            "{text:?}"
        );
    }
    assert!(AddCheckpoint::parse(&vec![b'o'; MAX_WITNESS_REQUEST_BYTES + 1]).is_err());
    assert!(AddCheckpoint::parse(&[0xff, 0xfe]).is_err());
}

#[test]
fn answers_of_other_kinds_are_understood_or_refused() {
    let key = cosigner();
    let key = key.verifier();
    let note = Log::new(3, 3).note(3);
    let read = |status, body: &[u8]| read_answer(&note, key, status, body);
    assert_eq!(read(409, b"17\n"), Ok(WitnessAnswer::Conflict(17)));
    assert_eq!(read(409, b"017\n"), Err(NoteError::Malformed));
    assert_eq!(read(409, b"17"), Err(NoteError::Malformed));
    assert_eq!(read(503, b"?"), Ok(WitnessAnswer::Refused(503)));
    assert_eq!(read(200, b"hello\n"), Err(NoteError::Malformed));
    // Another witness's line only.
    let other = Cosigner::new("v.example/test", &[3; 32]).unwrap();
    let line = other.cosign(&Log::new(3, 3).checkpoint(3).to_text(), 1);
    assert_eq!(read(200, line.as_bytes()), Err(NoteError::NoKnownSignature));
    // Ours, over another checkpoint.
    let line = cosigner().cosign(&Log::new(3, 3).checkpoint(2).to_text(), 1);
    assert_eq!(read(200, line.as_bytes()), Err(NoteError::BadSignature));
    // A second text smuggled in before the lines.
    let line = cosigner().cosign(&Log::new(3, 3).checkpoint(3).to_text(), 1);
    assert!(read(200, format!("more text\n\n{line}").as_bytes()).is_ok_and(
        |answer| matches!(answer, WitnessAnswer::Cosigned { note: full, .. } if full == format!("{note}{line}"))
    ));
    // The same line again is not added twice.
    let (once, _) = add_cosignature(&note, &line, key).unwrap();
    assert_eq!(add_cosignature(&once, &line, key).unwrap().0, once);
}

#[test]
fn a_watcher_names_the_fault() {
    let log = Log::new(30, 30);
    let key = signer();
    let key = key.verifier();
    let see = |log: &Log, before: u64, now: u64| {
        let kept = Log::new(30, 30).checkpoint(before);
        let proof = if now >= before {
            log.proof(before, now)
        } else {
            vec![]
        };
        watch(key, Some(&kept), Some(&log.note(now)), &proof)
            .map(|seen| seen.map(|accepted| accepted.checkpoint().size))
    };
    assert_eq!(see(&log, 10, 20), Ok(Some(20)));
    assert_eq!(see(&log, 10, 10), Ok(None));
    assert_eq!(
        see(&log, 20, 10),
        Err(LogFault::Shrunk {
            before: 20,
            now: 10
        })
    );
    assert_eq!(
        see(&Log::new(30, 5), 10, 20),
        Err(LogFault::Forked {
            before: 10,
            now: 20
        })
    );
    assert_eq!(
        see(&Log::new(30, 5), 10, 10),
        Err(LogFault::Forked {
            before: 10,
            now: 10
        })
    );
    let kept = log.checkpoint(10);
    assert_eq!(
        watch(key, Some(&kept), None, &[]),
        Err(LogFault::Vanished(10))
    );
    assert_eq!(watch(key, None, None, &[]), Ok(None));
    let stranger = NoteSigner::new(ORIGIN, &[9; 32]).unwrap();
    let note = sign_checkpoint(&log.checkpoint(20), &stranger).unwrap();
    assert!(matches!(
        watch(key, Some(&kept), Some(&note), &log.proof(10, 20)),
        Err(LogFault::NotTheLog(_))
    ));
    // No proof at all is a fork: a log that cannot prove is not believed.
    assert!(watch(key, Some(&kept), Some(&log.note(20)), &[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// A log that differs anywhere before what the witness saw is never cosigned.
    #[test]
    fn no_fork_is_ever_cosigned(fork in 0_u64..40, seen in 1_u64..40, more in 0_u64..20) {
        let (honest, other) = (Log::new(60, 60), Log::new(60, fork));
        let latest = honest.checkpoint(seen);
        let new = seen + more;
        let verdict = judge(other.request(seen, new), Some(&latest));
        prop_assert_eq!(verdict.is_ok(), fork >= seen);
        // Nor with the honest proof under the forked checkpoint.
        let mut mixed = other.request(seen, new);
        mixed.proof = honest.proof(seen, new);
        prop_assert_eq!(judge(mixed, Some(&latest)).is_ok(), fork >= new);
    }
}
