//! Enrolment, and what a hand in the database can and cannot do.

use sallyport_domain::{SubjectStatus, Verdict};
use sallyport_protocol::{EnrolmentOutcome, EnrolmentRefusal, EnrolmentSubmission, paths};
use sallyport_server::registry;

use crate::common::{Gate, Rig, approve, contains, mate, probe, subject, template};

async fn submit(gate: &Gate, submission: &EnrolmentSubmission) -> EnrolmentOutcome {
    gate.client.post(paths::ENROLMENT, submission).await.good()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_is_stored_once_and_other_content_is_refused() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let submission = gate.submission(1);
    let first = submit(&gate, &submission).await;
    assert_eq!(submit(&gate, &submission).await, first);
    assert_eq!(rig.state.gallery.read().unwrap().len(), 0);
    assert_eq!(rig.state.pending.read().unwrap().len(), 2);
    let EnrolmentOutcome::UnderReview {
        enrolment,
        doubt: None,
        ..
    } = first
    else {
        panic!("{first:?}")
    };
    approve(&rig.state, enrolment).await;
    let EnrolmentOutcome::Enrolled { references, .. } = submit(&gate, &submission).await else {
        panic!("it is enrolled now")
    };
    assert_eq!(references.len(), 2);
    assert_eq!(rig.state.gallery.read().unwrap().len(), 2);
    assert_eq!(rig.state.pending.read().unwrap().len(), 0);
    let mut other = submission.clone();
    other.display_name = "Somebody Else".to_owned();
    let answer = gate.client.post(paths::ENROLMENT, &other).await;
    assert_eq!(answer.refused(), (409, "conflict".to_owned()));

    let mut bad = gate.submission(2);
    bad.samples.clear();
    let answer = gate.client.post(paths::ENROLMENT, &bad).await;
    assert_eq!(answer.refused(), (400, "invalid".to_owned()));
    let mut bad = gate.submission(2);
    bad.display_name = "two\nlines".to_owned();
    let answer = gate.client.post(paths::ENROLMENT, &bad).await;
    assert_eq!(answer.refused(), (400, "invalid".to_owned()));
    let mut bad = gate.submission(2);
    bad.samples[1].source_sha256 = bad.samples[0].source_sha256.clone();
    let answer = gate.client.post(paths::ENROLMENT, &bad).await;
    assert_eq!(answer.refused(), (400, "invalid".to_owned()));
    let huge = vec![b' '; 16 * 1024 * 1024 + 1];
    let answer = gate
        .client
        .send("POST", paths::ENROLMENT, &huge)
        .await
        .unwrap();
    assert_eq!(answer.refused(), (413, "too_large".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_samples_and_known_faces_are_refused() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let mut mixed = gate.submission(2);
    mixed.samples[1].probe = probe(template(77));
    assert!(matches!(
        submit(&gate, &mixed).await,
        EnrolmentOutcome::Refused {
            reason: EnrolmentRefusal::InconsistentSamples,
            ..
        }
    ));
    let mut double = gate.submission(3);
    for (sample, number) in double.samples.iter_mut().zip(60..) {
        sample.probe = probe(mate(1, number));
    }
    assert!(matches!(
        submit(&gate, &double).await,
        EnrolmentOutcome::UnderReview {
            doubt: Some(EnrolmentRefusal::PossibleDuplicate),
            ..
        }
    ));
    assert_eq!(rig.state.gallery.read().unwrap().len(), 2);
    assert!(rig.state.store.subject(subject(3)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_person_sent_twice_at_once_under_two_ids_is_doubtful_once() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (one, mut two) = (gate.submission(1), gate.submission(2));
    for (sample, number) in two.samples.iter_mut().zip(60..) {
        sample.probe = probe(mate(1, number));
    }
    let (one, two) = tokio::join!(submit(&gate, &one), submit(&gate, &two));
    let enrolled = [one, two]
        .iter()
        .filter(|outcome| matches!(outcome, EnrolmentOutcome::UnderReview { doubt: None, .. }))
        .count();
    assert_eq!(enrolled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_name_nor_template_is_readable_in_the_files() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    gate.pass(&gate.request(rig.transaction(1), mate(1, 40)))
        .await;
    registry::set_status(
        &rig.state,
        subject(1),
        SubjectStatus::Suspended,
        "test",
        "trial",
    )
    .await
    .unwrap();
    let files = rig.end().await.files().await;
    let mut canaries = vec![b"Canary Person".to_vec()];
    for template in [mate(1, 0), mate(1, 1), mate(1, 40)] {
        let values = &template.as_slice()[..4];
        canaries.push(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        );
    }
    let mut searched = 0;
    for (path, bytes) in &files {
        searched += bytes.len();
        for canary in &canaries {
            assert!(!contains(bytes, canary), "{}", path.display());
        }
    }
    assert!(searched > 10_000, "the database was there");
}

/// Somebody who can write the database but has no key: nothing moved or changed is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn values_moved_between_people_or_rows_are_not_loaded() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=6 {
        gate.enrol(seed).await;
    }
    let name = |seed: u64| subject(seed).to_string();
    let pool = rig.hand().await;
    let swap = |table: &str, column: &str, key: &str, a: String, b: String| {
        let id = match table {
            "data_key" => "owner || purpose",
            _ => "id",
        };
        let read = format!("SELECT {id}, {column} FROM {table} WHERE {key} = $1 ORDER BY {id}");
        let write = format!("UPDATE {table} SET {column} = $1 WHERE {id} = $2");
        let pool = pool.clone();
        async move {
            let rows = async |of: String| -> Vec<(String, Vec<u8>)> {
                let query = sqlx::query_as(sqlx::AssertSqlSafe(read.clone()));
                query.bind(of).fetch_all(&pool).await.unwrap()
            };
            let (ones, others) = (rows(a).await, rows(b).await);
            assert!(!ones.is_empty() && ones.len() == others.len());
            for ((one, blob), (other, another)) in ones.into_iter().zip(others) {
                for (id, value) in [(one, another), (other, blob)] {
                    sqlx::query(sqlx::AssertSqlSafe(write.clone()))
                        .bind(value)
                        .bind(id)
                        .execute(&pool)
                        .await
                        .unwrap();
                }
            }
        }
    };
    // 1 and 2 exchange templates, 3 and 4 their wrapped keys, 5 and 6 their records (a ban for a clean one).
    swap(
        "reference",
        "template_sealed",
        "subject_id",
        name(1),
        name(2),
    )
    .await;
    swap("data_key", "wrapped", "owner", name(3), name(4)).await;
    registry::set_status(
        &rig.state,
        subject(5),
        SubjectStatus::Banned,
        "test",
        "trial",
    )
    .await
    .unwrap();
    swap("subject", "record_sealed", "id", name(5), name(6)).await;
    // While running: the records are read at each passage, and a record that does not open is referred.
    for seed in 3..=6 {
        let decision = gate
            .pass(&gate.request(rig.transaction(seed), mate(seed, 30)))
            .await;
        assert_eq!(decision.verdict, Verdict::Refer, "{seed}");
    }
    let (certificate, key) = (
        gate.answer.certificate_pem.clone(),
        gate.device.key_pem.clone(),
    );
    let requests: Vec<_> = (1..=6)
        .map(|seed| gate.request(rig.transaction(100 + seed), mate(seed, 31)))
        .collect();
    pool.close().await;
    let rig = rig.restart().await;
    let loaded = registry::load(&rig.state).await.unwrap();
    assert_eq!((loaded.references, loaded.failed), (0, 6));
    let client = rig.client(Some((&certificate, &key)));
    for request in &requests {
        let decision: sallyport_protocol::PassageDecision =
            client.post(paths::PASSAGE, request).await.good();
        assert_ne!(decision.verdict, Verdict::Grant);
    }
}

/// What the command line changes in its own process reaches a running server.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_by_another_process_is_followed() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    gate.enrol(2).await;
    rig.follow();
    rig.caught_up().await;
    assert_eq!(rig.state.gallery.read().unwrap().len(), 4);
    let other =
        sallyport_server::installation::open(&crate::common::data(&rig.folder), rig.clock.clone())
            .await
            .unwrap();
    registry::remove(&other, subject(1), "test").await.unwrap();
    rig.caught_up().await;
    assert_eq!(rig.state.gallery.read().unwrap().len(), 2);
    sallyport_server::audit::check(&rig.state).await.unwrap();
}
