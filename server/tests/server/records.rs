//! The record in full: legal basis, custody, visits, where references come from, and that nobody changes it past the log.

use sallyport_domain::{SubjectCategory, SubjectId, SubjectStatus};
use sallyport_server::clock::Clock as _;
use sallyport_server::records::{self, LegalBasis, RecordError, Set, Visits};
use sallyport_server::registry::{self, RegistryError};
use sallyport_server::retention;

use crate::common::{Gate, Rig, contains, subject};
use crate::coverage::entries;

/// Reference of a sentence that must stand nowhere in clear.
const CUSTODY: &str = "canary-sentence-2024/1177";

async fn enrol(gate: &Gate, person: u64, category: SubjectCategory) -> SubjectId {
    let mut submission = gate.submission(person);
    submission.category = category;
    gate.enrol_as(submission).await;
    subject(person)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_says_why_whom_since_when_and_every_change_is_an_entry_without_content() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let prisoner = enrol(&gate, 1, SubjectCategory::Prisoner).await;
    let visitor = enrol(&gate, 2, SubjectCategory::Visitor).await;
    let start = rig.state.store.log_size().await.unwrap();
    let now = rig.clock.now();
    let visits = Visits {
        prisoner,
        from: now,
        until: now.plus_millis(86_400_000),
    };
    let set =
        async |who, what: Set| records::set(&rig.state, who, &what, "order 4711", "test").await;
    set(prisoner, Set::Basis(LegalBasis::Sentence))
        .await
        .unwrap();
    set(prisoner, Set::Custody(Some(CUSTODY.to_owned())))
        .await
        .unwrap();
    set(visitor, Set::Basis(LegalBasis::VisitRules))
        .await
        .unwrap();
    set(visitor, Set::Visits(visits.clone())).await.unwrap();
    for (who, wrong) in [
        (visitor, Set::Basis(LegalBasis::Sentence)),
        (prisoner, Set::Basis(LegalBasis::Consent)),
        (visitor, Set::Custody(Some(CUSTODY.to_owned()))),
        (prisoner, Set::Custody(Some(" ".to_owned()))),
        (prisoner, Set::Visits(visits.clone())),
        (
            visitor,
            Set::Visits(Visits {
                prisoner: visitor,
                ..visits.clone()
            }),
        ),
        (
            visitor,
            Set::Visits(Visits {
                until: now,
                ..visits.clone()
            }),
        ),
        (prisoner, Set::EndVisits(visitor)),
        (subject(9), Set::Custody(None)),
    ] {
        set(who, wrong).await.unwrap_err();
    }
    let without = records::set(&rig.state, visitor, &Set::EndVisits(prisoner), " ", "test").await;
    assert!(matches!(without, Err(RecordError::NoReason)));
    registry::set_status(
        &rig.state,
        prisoner,
        SubjectStatus::Released,
        "test",
        "end of sentence",
    )
    .await
    .unwrap();
    let hold = retention::hold(&rig.state, prisoner, "order 4711", "test")
        .await
        .unwrap();

    let left = entries(&rig, start).await;
    let kinds: Vec<_> = left.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "subject_details",
            "subject_details",
            "subject_details",
            "subject_details",
            "subject_status",
            "legal_hold"
        ]
    );
    for entry in &left {
        let bytes = entry.to_bytes().unwrap();
        assert!(!contains(&bytes, CUSTODY.as_bytes()) && !contains(&bytes, b"4711"));
        assert!(
            entry.detail_hash.is_some(),
            "the reason is sealed beside it"
        );
    }
    // Who visits whom is not in the log.
    assert!(!contains(
        &left[3].to_bytes().unwrap(),
        prisoner.to_string().as_bytes()
    ));

    let seen = records::view(&rig.state, prisoner).await.unwrap();
    let details = &seen.subject.record.details;
    assert_eq!(details.basis, Some(LegalBasis::Sentence));
    assert_eq!(details.custody.as_deref(), Some(CUSTODY));
    assert_eq!(seen.subject.record.status, SubjectStatus::Released);
    assert_eq!(seen.holds, [hold]);
    assert!(!seen.clause.is_empty() && !seen.items.is_empty() && !seen.references.is_empty());
    for reference in &seen.references {
        assert_eq!(reference.device.as_deref(), Some("front-in"));
    }
    let changed: Vec<_> = seen
        .changes
        .iter()
        .map(|change| change.decision.as_str())
        .collect();
    assert_eq!(
        changed,
        [
            "enrolled",
            "legal_basis",
            "custody_set",
            "released",
            "placed"
        ]
    );
    let seen = records::view(&rig.state, visitor).await.unwrap();
    assert_eq!(seen.subject.record.details.visits, [visits]);
    set(visitor, Set::EndVisits(prisoner)).await.unwrap();
    let seen = records::view(&rig.state, visitor).await.unwrap();
    assert!(seen.subject.record.details.visits.is_empty());
    for (path, bytes) in rig.end().await.files().await {
        assert!(!contains(&bytes, CUSTODY.as_bytes()), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_record_put_back_by_hand_is_neither_shown_nor_sealed_again() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let prisoner = enrol(&gate, 1, SubjectCategory::Prisoner).await;
    let set = async |what: Set| records::set(&rig.state, prisoner, &what, "trial", "test").await;
    set(Set::Basis(LegalBasis::Remand)).await.unwrap();
    let before = rig.state.store.subject(prisoner).await.unwrap().unwrap();
    set(Set::Basis(LegalBasis::Sentence)).await.unwrap();
    let after = rig.state.store.subject(prisoner).await.unwrap().unwrap();
    let hand = rig.hand().await;
    let put = async |sealed: &[u8]| {
        sqlx::query("UPDATE subject SET record_sealed = $1 WHERE id = $2")
            .bind(sealed.to_vec())
            .bind(prisoner.to_string())
            .execute(&hand)
            .await
            .unwrap();
    };
    // It opens: its bytes are genuine.
    put(&before.record_sealed).await;
    let refused =
        |result: RecordError| matches!(result, RecordError::Registry(RegistryError::NotInLog));
    assert!(refused(
        records::view(&rig.state, prisoner).await.unwrap_err()
    ));
    assert!(refused(
        set(Set::Custody(Some("x".to_owned()))).await.unwrap_err()
    ));
    put(&after.record_sealed).await;
    records::view(&rig.state, prisoner).await.unwrap();
    put(&before.record_sealed).await;
    // Not even through a change of status, which seals it again.
    registry::set_status(
        &rig.state,
        prisoner,
        SubjectStatus::Suspended,
        "test",
        "trial",
    )
    .await
    .unwrap();
    assert!(refused(
        records::view(&rig.state, prisoner).await.unwrap_err()
    ));
    // A record with the right details and an older status is no better.
    put(&after.record_sealed).await;
    assert!(refused(
        records::view(&rig.state, prisoner).await.unwrap_err()
    ));
    let all = entries(&rig, 0).await;
    assert!(all.iter().any(|entry| entry.kind == "log_alarm"));
}
