//! Fuzz targets for everything that gates and servers send each other, and for templates. See `fuzz/harness.rs`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops when something is wrong; the length of a run is asked of the environment"
)]

#[path = "../../../fuzz/harness.rs"]
mod harness;

use std::fmt::Debug;

use harness::fuzz;
use sallyport_domain::{
    Direction, EnrolmentId, Eye, FaceTemplate, GateId, IrisTemplate, ModelDigest, PadAssessment,
    QualityDefect, ReasonCode, ReferenceId, SubjectCategory, SubjectId, Timestamp, TransactionId,
    Verdict,
};
use sallyport_protocol::{
    DegradedCause, DoorOrder, DoorOutcome, DoorReport, EnrolmentOutcome, EnrolmentRefusal,
    EnrolmentSample, EnrolmentSubmission, FailedAcquisition, GateEvent, GateEventBody, Heartbeat,
    HeartbeatAnswer, JoinAnswer, JoinRequest, JoinToken, LifeSafetySource, LogSeen,
    PROTOCOL_VERSION, PassageDecision, PassageRequest, Probe, ProfileEntry, ProfileWord, Reencoded,
    ReencodingResult, ReencodingTask, RenewRequest, Sealed, SignedDoorOrder, SignedDoorReport,
    SignedGateEvent, SignedReleaseOrder, SuccessorProbes,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn gate() -> GateId {
    "front-in".parse().unwrap()
}

fn transaction() -> TransactionId {
    TransactionId::new(at(), [7; 10])
}

fn at() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000)
}

/// What is accepted is written and read again as the same value.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, samples: &[T]) {
    let samples: Vec<Vec<u8>> = samples
        .iter()
        .map(|sample| serde_json::to_vec(sample).unwrap())
        .collect();
    let large = samples.iter().any(|sample| sample.len() > 2_000);
    fuzz(
        name,
        &samples,
        if large { 4_000 } else { 10_000 },
        |bytes| {
            let Ok(value) = serde_json::from_slice::<T>(bytes) else {
                return false;
            };
            let again = serde_json::to_vec(&value).unwrap();
            assert_eq!(serde_json::from_slice::<T>(&again).unwrap(), value);
            true
        },
    );
}

fn face() -> Probe {
    let values = (0..512).map(|index| (index % 17) as f32 - 8.0).collect();
    let template = FaceTemplate::normalise(values).unwrap();
    Probe::new(ModelDigest::from_bytes([1; 32]), template, 50.0, 3).unwrap()
}

fn iris(eye: Eye) -> IrisTemplate {
    let encoder = ModelDigest::from_bytes([2; 32]);
    IrisTemplate::new(encoder, eye, 70, 400, [5; 64], [u128::MAX; 64]).unwrap()
}

fn sealed() -> Sealed {
    Sealed {
        media_type: "image/jpeg".to_owned(),
        enc: "AAAA".to_owned(),
        ciphertext: "BBBB".to_owned(),
    }
}

#[test]
fn passages() {
    let request = PassageRequest {
        version: PROTOCOL_VERSION,
        transaction: transaction(),
        gate: gate(),
        direction: Direction::Entry,
        captured_at: at(),
        claim: None,
        probes: vec![face()],
        pad: PadAssessment::default(),
        people_in_view: 1,
        defects: vec![QualityDefect::Blurred],
        door_nonce: "00".repeat(16),
        attachment: Some(sealed()),
    };
    let both = PassageRequest {
        probes: vec![
            face(),
            Probe::new(ModelDigest::from_bytes([2; 32]), iris(Eye::Left), 70.0, 1).unwrap(),
        ],
        ..request.clone()
    };
    message("passage_request", &[request, both]);
    let order = DoorOrder {
        purpose: DoorOrder::PURPOSE.to_owned(),
        gate: gate(),
        transaction: transaction(),
        nonce: "00".repeat(16),
        issued_at: at(),
        not_after: at().plus_millis(2_000),
    };
    let decision = PassageDecision {
        transaction: transaction(),
        verdict: Verdict::Grant,
        reason: ReasonCode::Authorised,
        log_index: 7,
        door_order: Some(SignedDoorOrder {
            order: serde_json::to_string(&order).unwrap(),
            signature: "AAAA".to_owned(),
        }),
    };
    message("passage_decision", &[decision]);
    message("door_order", &[order]);
}

#[test]
fn changes_of_models() {
    let probes = || {
        vec![
            face(),
            Probe::new(ModelDigest::from_bytes([2; 32]), iris(Eye::Left), 70.0, 1).unwrap(),
        ]
    };
    message(
        "successor_probes",
        &[SuccessorProbes {
            version: PROTOCOL_VERSION,
            transaction: transaction(),
            gate: gate(),
            probes: probes(),
        }],
    );
    let reference: ReferenceId = "0192a000-0000-7000-8000-000000000001".parse().unwrap();
    message(
        "reencoding_task",
        &[ReencodingTask {
            reference,
            from: ModelDigest::from_bytes([1; 32]),
            photograph: "AAAA".to_owned(),
            waiting: 3,
        }],
    );
    let result = |result| ReencodingResult {
        version: PROTOCOL_VERSION,
        station: gate(),
        reference,
        result,
    };
    let encoded = Reencoded::Encoded {
        old: Box::new(face()),
        new: Box::new(face()),
    };
    message(
        "reencoding_result",
        &[result(Reencoded::Unusable), result(encoded)],
    );
}

#[test]
fn reports() {
    message(
        "door_report",
        &[DoorReport {
            version: PROTOCOL_VERSION,
            transaction: transaction(),
            gate: gate(),
            outcome: DoorOutcome::Released,
            at: at(),
            sequence: 1,
        }],
    );
    message(
        "signed_door_report",
        &[SignedDoorReport {
            version: PROTOCOL_VERSION,
            gate: gate(),
            key: "k".to_owned(),
            note: "n".to_owned(),
        }],
    );
    message(
        "failed_acquisition",
        &[FailedAcquisition {
            version: PROTOCOL_VERSION,
            transaction: transaction(),
            gate: gate(),
            direction: Direction::Exit,
            began_at: at(),
            ended_at: at(),
            defects: vec![QualityDefect::Blurred],
            attachment: Some(sealed()),
        }],
    );
    let event = |body| GateEvent {
        purpose: GateEvent::PURPOSE.to_owned(),
        gate: gate(),
        epoch: 1,
        sequence: 2,
        previous: "00".repeat(32),
        mono_us: 3,
        at: at(),
        body,
    };
    message(
        "gate_event",
        &[
            event(GateEventBody::LifeSafetyBegan {
                release: transaction(),
                source: LifeSafetySource::FireInput,
                doors: vec!["front-in".to_owned()],
                officer: String::new(),
                reason: String::new(),
                found: false,
            }),
            event(GateEventBody::DegradedEnded {
                cause: DegradedCause::Network,
                began_at: at(),
                undecided: 1,
                found: true,
            }),
            event(GateEventBody::Undecided {
                transaction: transaction(),
            }),
        ],
    );
    message(
        "signed_gate_event",
        &[SignedGateEvent {
            version: PROTOCOL_VERSION,
            gate: gate(),
            key: "k".to_owned(),
            note: "text\n\n— k AAAA\n".to_owned(),
        }],
    );
}

#[test]
fn enrolments() {
    let subject: SubjectId = "0192a000-0000-7000-8000-000000000002".parse().unwrap();
    let sample = |photograph| EnrolmentSample {
        probe: face(),
        source_sha256: "00".repeat(32),
        photograph,
    };
    message(
        "enrolment_submission",
        &[EnrolmentSubmission {
            version: PROTOCOL_VERSION,
            enrolment: "ABCD-EFGH".to_owned(),
            subject,
            station: gate(),
            category: SubjectCategory::Staff,
            display_name: "Name".to_owned(),
            samples: vec![sample(None), sample(Some(sealed()))],
        }],
    );
    let enrolment: EnrolmentId = "0192a000-0000-7000-8000-000000000003".parse().unwrap();
    let reference: ReferenceId = "0192a000-0000-7000-8000-000000000001".parse().unwrap();
    message(
        "enrolment_outcome",
        &[
            EnrolmentOutcome::UnderReview {
                enrolment,
                doubt: Some(EnrolmentRefusal::PossibleDuplicate),
                log_index: 5,
            },
            EnrolmentOutcome::Enrolled {
                subject,
                references: vec![reference],
                log_index: 6,
            },
            EnrolmentOutcome::Refused {
                reason: EnrolmentRefusal::Rejected,
                log_index: u64::MAX,
            },
        ],
    );
}

#[test]
fn joining_and_heartbeats() {
    let token = format!(
        "sallyport-join-v1.front-in.{}.{}",
        "5".repeat(64),
        "a".repeat(64)
    );
    fuzz("join_token", &[token.into_bytes()], 20_000, |bytes| {
        let Some(token) = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<JoinToken>().ok())
        else {
            return false;
        };
        assert_eq!((token.secret.len(), token.ca_sha256.len()), (64, 64));
        true
    });
    let request = JoinRequest {
        version: PROTOCOL_VERSION,
        gate: gate(),
        secret: "5".repeat(64),
        csr_pem: "-----BEGIN".to_owned(),
    };
    parses::<JoinRequest>("join_request", &serde_json::to_vec(&request).unwrap());
    let renewal = RenewRequest {
        version: PROTOCOL_VERSION,
        gate: gate(),
        csr_pem: "-----BEGIN".to_owned(),
    };
    parses::<RenewRequest>("renew_request", &serde_json::to_vec(&renewal).unwrap());
    let answer = JoinAnswer {
        certificate_pem: "c".to_owned(),
        ca_pem: "a".to_owned(),
        door_key: "AAAA".to_owned(),
        sealing_key: "AAAA".to_owned(),
        log_vkey: "k".to_owned(),
        direction: Direction::Entry,
    };
    parses::<JoinAnswer>("join_answer", &serde_json::to_vec(&answer).unwrap());
    let beat = Heartbeat {
        version: PROTOCOL_VERSION,
        gate: gate(),
        now: at(),
        cameras: vec![("front".to_owned(), "ok".to_owned())],
        spooled: 1,
        log: Some(LogSeen {
            size: 5,
            witness: "w".to_owned(),
            cosignature: None,
            alarm: None,
        }),
    };
    parses::<Heartbeat>("heartbeat", &serde_json::to_vec(&beat).unwrap());
    let answer = HeartbeatAnswer {
        now: at(),
        checkpoint: Some("note".to_owned()),
        proof: vec!["AAAA".to_owned()],
        log_fault: None,
        release: Some(SignedReleaseOrder {
            order: "{}".to_owned(),
            signature: "AAAA".to_owned(),
        }),
    };
    parses::<HeartbeatAnswer>("heartbeat_answer", &serde_json::to_vec(&answer).unwrap());
    let word = ProfileWord {
        text: "name = \"x\"".to_owned(),
        named_by: Some(ProfileEntry {
            index: 3,
            entry: "{}".to_owned(),
            size: 9,
            proof: vec!["AAAA".to_owned()],
        }),
    };
    parses::<ProfileWord>("profile_word", &serde_json::to_vec(&word).unwrap());
}

/// For what cannot be compared or written.
fn parses<T: DeserializeOwned>(name: &str, sample: &[u8]) {
    fuzz(name, &[sample.to_vec()], 10_000, |bytes| {
        serde_json::from_slice::<T>(bytes).is_ok()
    });
}

#[test]
fn templates() {
    let samples = [
        iris(Eye::Left).to_bytes().to_vec(),
        iris(Eye::Right).to_bytes().to_vec(),
    ];
    fuzz(
        "iris_template",
        &samples,
        20_000,
        |bytes| match IrisTemplate::from_bytes(bytes) {
            Ok(template) => {
                // Bits outside the mask mean nothing and are not kept.
                let kept = template.to_bytes();
                assert!(kept.len() == bytes.len() && kept[..42] == bytes[..42]);
                assert!(IrisTemplate::from_bytes(&kept).unwrap().to_bytes() == kept);
                true
            }
            Err(_) => false,
        },
    );
    parses::<Probe>("probe", &serde_json::to_vec(&face()).unwrap());
}
