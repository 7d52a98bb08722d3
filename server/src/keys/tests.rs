//! The swap matrix: every ciphertext of an installation offered in every other's place.

use std::sync::Arc;

use sallyport_domain::{
    Direction, FaceTemplate, ModelDigest, OfficerId, SubjectCategory, SubjectId, Timestamp,
};
use sallyport_protocol::{
    EnrolmentOutcome, EnrolmentSample, EnrolmentSubmission, PROTOCOL_VERSION, Probe,
};

use super::*;
use crate::clock::{Clock as _, ManualClock, SystemClock};
use crate::config::Config;
use crate::state::AppState;
use crate::store::registry::{ReferenceRow, SubjectRow};
use crate::{enrolments, gates, installation, officers, registry};

/// Where a ciphertext belongs, and how the product opens it there.
enum Spot {
    Record(SubjectRow),
    Template(ReferenceRow),
    DataKey(DataKeyRow),
    Setting(&'static str),
    OfficerName(OfficerId),
    Detail(Option<String>, u64),
}

impl Spot {
    async fn opens(&self, state: &AppState, blob: &[u8]) -> bool {
        match self {
            Self::Record(row) => {
                let mut row = row.clone();
                row.record_sealed = blob.to_vec();
                registry::open_record(state, &row).is_ok()
            }
            Self::Template(row) => {
                let mut row = row.clone();
                row.template_sealed = blob.to_vec();
                let key = subject_key(state, row.subject, Purpose::Registry).await;
                registry::open_template(state, &key.unwrap().unwrap(), &row).is_ok()
            }
            Self::DataKey(row) => state
                .keys
                .ring
                .unwrap(&row.owner, row.purpose, row.version, blob)
                .is_ok(),
            Self::Setting(name) => {
                installation::open_setting(&state.keys.site, &state.config.site, name, blob).is_ok()
            }
            Self::OfficerName(id) => officers::open_name(state, *id, blob).is_ok(),
            Self::Detail(subject, index) => {
                let opened = data_keys::open_detail(state, subject.as_deref(), *index, blob).await;
                matches!(opened, Ok(Some(_)))
            }
        }
    }
}

fn face(seed: u64) -> FaceTemplate {
    let values = (0..512_u64).map(|at| {
        let mixed = (seed * 1_000_003 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / 16_777_216.0
            - 0.5
    });
    FaceTemplate::normalise(values.collect()).unwrap()
}

async fn installed() -> (tempfile::TempDir, AppState) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let config = Config {
        site: "test-site".parse().unwrap(),
        hostnames: vec!["localhost".to_owned()],
        gate_listen: "127.0.0.1:0".parse().unwrap(),
        console_listen: "127.0.0.1:0".parse().unwrap(),
        database: String::new(),
        utc_offset_minutes: 0,
        cool_off_seconds: 0,
        allow_unlocked_memory: true,
        monitor_listen: None,
        oidc: None,
        officers: crate::config::OfficerRules::FLOOR,
    };
    installation::create(&data, &config, &*clock).await.unwrap();
    let state = installation::open(&data, clock).await.unwrap();
    (folder, state)
}

async fn enrol(state: &AppState, number: u64) -> SubjectId {
    let id = "front-in".parse().unwrap();
    let gate = state.store.gate(&id).await.unwrap().unwrap();
    let subject = SubjectId::new(
        Timestamp::from_micros(1_700_000_000_000_000),
        [u8::try_from(number).unwrap(); 10],
    );
    let [first, second] = [1, 2].map(|n| OfficerId::new(Timestamp::from_micros(1_000), [n; 10]));
    let detail = enrolments::OrderDetail {
        reason: "test".to_owned(),
        document: "test".to_owned(),
    };
    let order = enrolments::open(state, first, &id, false, detail, None)
        .await
        .unwrap();
    let sample = |at: u64| EnrolmentSample {
        // One face of each person, as two pictures of it.
        probe: Probe::new(
            ModelDigest::from_bytes([7; 32]),
            sallyport_domain::Template::Face(face(number)),
            80.0,
            1,
        )
        .unwrap(),
        source_sha256: format!("{:064x}", number * 10 + at),
        photograph: None,
    };
    let submission = EnrolmentSubmission {
        version: PROTOCOL_VERSION,
        enrolment: order.code,
        subject,
        station: id,
        category: SubjectCategory::Staff,
        display_name: format!("Person {number}"),
        samples: vec![sample(0), sample(1)],
    };
    let outcome = enrolments::submit(state, &gate, submission).await.unwrap();
    let EnrolmentOutcome::UnderReview { enrolment, .. } = outcome else {
        panic!("{outcome:?}");
    };
    let seen = enrolments::review(state, enrolment, second).await.unwrap();
    let (approve, content) = (enrolments::Outcome::Approve, &seen.row.content_sha256);
    enrolments::decide(state, enrolment, second, approve, content, "")
        .await
        .unwrap();
    subject
}

/// Ciphertexts of subjects, columns, tables, key versions and models, each offered in the place of each: only its own takes it.
#[tokio::test(flavor = "multi_thread")]
async fn of_all_pairs_of_ciphertexts_none_can_be_exchanged() {
    let (_folder, state) = installed().await;
    let gate = "front-in".parse().unwrap();
    gates::add(
        &state,
        &gate,
        Direction::Entry,
        &gates::default_policy(),
        "test",
    )
    .await
    .unwrap();
    let mut spots: Vec<(Spot, Vec<u8>)> = Vec::new();
    for number in 1..=6 {
        let subject = enrol(&state, number).await;
        let owner = subject.to_string();
        let row = state.store.subject(subject).await.unwrap().unwrap();
        spots.push((Spot::Record(row.clone()), row.record_sealed));
        for reference in state.store.references(subject).await.unwrap() {
            spots.push((
                Spot::Template(reference.clone()),
                reference.template_sealed.clone(),
            ));
            // The same template in the same row, said to be another model's, another modality's or under another template secret.
            for (model, modality, secret_version) in
                [("08", "face", 1), ("07", "iris_left", 1), ("07", "face", 2)]
            {
                let key = subject_key(&state, subject, Purpose::Registry)
                    .await
                    .unwrap()
                    .unwrap();
                let other = ReferenceRow {
                    model: model.repeat(32),
                    modality: modality.to_owned(),
                    secret_version,
                    ..reference.clone()
                };
                let sealed =
                    registry::seal_template_bytes(&state, &key, &other, &[0; 2_048]).unwrap();
                spots.push((Spot::Template(other), sealed));
            }
        }
        for purpose in [Purpose::Registry, Purpose::Audit] {
            let row = state
                .store
                .data_key(&owner, purpose)
                .await
                .unwrap()
                .unwrap();
            spots.push((Spot::DataKey(row.clone()), row.wrapped));
        }
        let mut write = state.store.write().await.unwrap();
        for index in [1_000 + number, 2_000 + number] {
            let sealed = audit_detail(&state, &mut write, Some(&owner), index, b"detail")
                .await
                .unwrap();
            spots.push((Spot::Detail(Some(owner.clone()), index), sealed));
        }
    }
    for name in installation::SETTINGS {
        spots.push((
            Spot::Setting(name),
            state.store.setting(name).await.unwrap().unwrap(),
        ));
    }
    for name in ["one", "two"] {
        let link = officers::create_setup_link(&state, sallyport_domain::Role::GateOfficer)
            .await
            .unwrap();
        let secret = link.rsplit('/').next().unwrap().to_owned();
        let id = officers::redeem_setup_link(
            &state,
            &secret,
            name,
            "a quiet harbour in june".to_owned(),
        )
        .await
        .unwrap();
        spots.push((
            Spot::OfficerName(id),
            state.store.officer_name(id).await.unwrap().unwrap(),
        ));
    }
    // The same data keys once more, wrapped by the next version of the KEK.
    state.keys.ring.add_version().unwrap();
    let old: Vec<DataKeyRow> = spots
        .iter()
        .filter_map(|(spot, _)| match spot {
            Spot::DataKey(row) => Some(row.clone()),
            Spot::Record(_)
            | Spot::Template(_)
            | Spot::Setting(_)
            | Spot::OfficerName(_)
            | Spot::Detail(..) => None,
        })
        .collect();
    for row in old {
        let key = state.keys.ring.open_row(&row).unwrap();
        let (version, wrapped) = state.keys.ring.wrap(&row.owner, row.purpose, &key).unwrap();
        assert_eq!(version, 2);
        spots.push((Spot::DataKey(DataKeyRow { version, ..row }), wrapped));
    }
    let mut refused = 0_u32;
    for (a, (spot, own)) in spots.iter().enumerate() {
        assert!(spot.opens(&state, own).await, "its own, {a}");
        for (b, (_, blob)) in spots.iter().enumerate() {
            if a != b {
                assert!(!spot.opens(&state, blob).await, "place {a}, ciphertext {b}");
                refused += 1;
            }
        }
    }
    println!(
        "{} ciphertexts, {refused} exchanges refused, 0 accepted",
        spots.len()
    );
    assert_eq!(refused as usize, spots.len() * (spots.len() - 1));
    assert!(spots.len() > 70, "{}", spots.len());
}
