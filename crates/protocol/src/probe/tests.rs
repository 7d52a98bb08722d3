use proptest::prelude::*;
use sallyport_domain::{
    Direction, Eye, FaceTemplate, GateId, IrisTemplate, PadAssessment, Timestamp, TransactionId,
};
use serde_json::{Value, json};

use super::*;
use crate::{PROTOCOL_VERSION, PassageRequest};

const MODEL: ModelDigest = ModelDigest::from_bytes([3; 32]);

fn face() -> FaceTemplate {
    FaceTemplate::normalise((0..512).map(|n| (n as f32).sin()).collect()).unwrap()
}

fn iris(eye: Eye) -> IrisTemplate {
    let code = std::array::from_fn(|ring| 0x0123_4567_89ab_cdef_u128 << ring);
    IrisTemplate::new(MODEL, eye, 70, 380, code, [u128::MAX; 64]).unwrap()
}

fn three() -> Vec<Probe> {
    vec![
        Probe::new(MODEL, face(), 80.0, 5).unwrap(),
        Probe::new(MODEL, iris(Eye::Left), 70.0, 3).unwrap(),
        Probe::new(MODEL, iris(Eye::Right), 71.0, 3).unwrap(),
    ]
}

fn request() -> PassageRequest {
    PassageRequest {
        version: PROTOCOL_VERSION,
        transaction: TransactionId::new(Timestamp::from_micros(1), [1; 10]),
        gate: "front-in".parse::<GateId>().unwrap(),
        direction: Direction::Entry,
        captured_at: Timestamp::from_micros(1),
        claim: None,
        probes: three(),
        pad: PadAssessment::default(),
        people_in_view: 1,
        defects: Vec::new(),
        door_nonce: "0".repeat(32),
        attachment: None,
    }
}

#[test]
fn all_three_modalities_travel_in_one_request() {
    let request = request();
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(
        serde_json::from_str::<PassageRequest>(&text).unwrap(),
        request
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    let modalities: Vec<_> = value["probes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|probe| probe["modality"].as_str().unwrap())
        .collect();
    assert_eq!(modalities, ["face", "iris_left", "iris_right"]);
    assert_eq!(
        value["probes"][0]["template"]["face"]
            .as_array()
            .unwrap()
            .len(),
        512
    );
    assert!(value["probes"][1]["template"]["iris"].is_string());
}

/// Changes the request's JSON and expects it to be refused with these words.
fn refused(change: impl FnOnce(&mut Value), words: &str) {
    let mut value = serde_json::to_value(request()).unwrap();
    change(&mut value);
    let error = serde_json::from_str::<PassageRequest>(&value.to_string())
        .expect_err(words)
        .to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_template_under_the_wrong_name_is_refused() {
    for (probe, modality) in [
        (0, "iris_left"),
        (0, "iris_right"),
        (1, "face"),
        (1, "iris_right"),
        (2, "iris_left"),
    ] {
        refused(
            |value| {
                // The others go, so that it is not refused as a repetition.
                let mut lone = value["probes"][probe].clone();
                lone["modality"] = json!(modality);
                value["probes"] = json!([lone]);
            },
            "modality is not its template's",
        );
    }
    refused(
        |value| value["probes"][0]["modality"] = json!("gait"),
        "unknown variant",
    );
    refused(
        |value| {
            let iris = value["probes"][1]["template"]["iris"].take();
            value["probes"][0]["template"] = json!({ "face": iris });
        },
        "invalid type",
    );
    refused(
        |value| {
            let face = value["probes"][0]["template"]["face"].take();
            value["probes"][1]["template"] = json!({ "iris": face });
        },
        "invalid type",
    );
    refused(
        |value| {
            let face = value["probes"][0]["template"]["face"].take();
            // As version 1 sent it.
            value["probes"][0]["template"] = face;
        },
        "expected value",
    );
}

#[test]
fn templates_of_the_wrong_length_are_refused() {
    for length in [0, 1, 511, 513, 100_000] {
        refused(
            |value| value["probes"][0]["template"]["face"] = json!(vec![0.0_f32; length]),
            "512 numbers",
        );
    }
    for text in ["", "U1BJVA==", "not base64!", &"A".repeat(100_000)] {
        refused(
            |value| value["probes"][1]["template"]["iris"] = json!(text),
            "iris template",
        );
    }
}

#[test]
fn contradictions_and_repetitions_are_refused() {
    refused(
        |value| value["probes"][1]["model"] = json!("00".repeat(32)),
        "not the encoder",
    );
    for quality in [-0.1, 100.1, 1e30] {
        refused(
            |value| value["probes"][0]["quality"] = json!(quality),
            "between 0 and 100",
        );
    }
    refused(
        |value| value["probes"][0]["samples"] = json!(0),
        "at least one sample",
    );
    refused(
        |value| value["probes"][0]["samples"] = json!(256),
        "invalid value",
    );
    refused(
        |value| value["probes"][1]["note"] = json!("x"),
        "unknown field",
    );
    refused(
        |value| value["probes"][2] = value["probes"][1].clone(),
        "at most one probe per modality",
    );
    refused(
        |value| value["probes"] = json!(vec![value["probes"][0].clone(); 50]),
        "at most one probe per modality",
    );
    refused(|value| value["probes"] = json!({}), "invalid type");
}

#[test]
fn no_error_and_no_debug_output_quotes_a_template() {
    let mut value = serde_json::to_value(request()).unwrap();
    value["probes"][0]["template"]["face"][3] = json!(0.123_456_789);
    let error = serde_json::from_value::<PassageRequest>(value)
        .unwrap_err()
        .to_string();
    assert!(!error.contains("0.1234"), "{error}");
    let shown = format!("{:?}", request());
    assert!(shown.contains("FaceTemplate([sealed])") && shown.contains("IrisTemplate([sealed])"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// One character of a good message overwritten: never a panic, and what is read still agrees with itself.
    #[test]
    fn damaged_messages_never_panic(at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
        let mut text = serde_json::to_string(&request()).unwrap().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(read) = serde_json::from_slice::<PassageRequest>(&text) {
            prop_assert!(read.probes.iter().all(|probe| probe.check().is_ok()));
            prop_assert!(read.probes.len() <= 3);
        }
    }
}
