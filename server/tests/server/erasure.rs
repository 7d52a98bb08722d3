//! The proof that somebody was erased.

use sallyport_domain::SubjectId;
use sallyport_server::erasure::{self, Checked, ErasureError};
use sallyport_server::{backup, keys, merging, registry};
use sallyport_transparency::{Checkpoint, Entry, Evidence};

use crate::common::{Rig, mate, subject};
use crate::coverage::entries;

async fn check(rig: &Rig, who: SubjectId) -> Result<Checked, ErasureError> {
    erasure::check(&rig.state, who, "request 12", "test").await
}

async fn bundle(rig: &Rig, checked: &Checked) -> Evidence {
    let bundle = erasure::bundle(&rig.state, checked, false).await.unwrap();
    let read = Evidence::parse(bundle.unwrap().to_text().as_bytes()).unwrap();
    let key = rig.state.keys.log.verifier();
    let checkpoint = Checkpoint::open(read.checkpoint.as_bytes(), key).unwrap();
    read.verify(&checkpoint).unwrap();
    read
}

async fn back_up(rig: &Rig, name: &str) {
    let custodian = rig.folder.path().join(format!("{name}.key"));
    let public = backup::new_custodian(&custodian).unwrap();
    let file = rig.folder.path().join(format!("{name}.age"));
    backup::backup(&rig.state, &file, &[public], "test")
        .await
        .unwrap();
}

async fn rotate(rig: &Rig) -> u32 {
    keys::rewrap(&rig.state, "test", |_| ())
        .await
        .unwrap()
        .version
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_proved_and_backups_hold_the_person_until_their_key_versions_are_destroyed() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    back_up(&rig, "before").await;
    gate.enrol(1).await;
    gate.enrol(2).await;
    assert_eq!(rotate(&rig).await, 2);
    back_up(&rig, "during").await;
    assert!(matches!(
        check(&rig, subject(1)).await,
        Err(ErasureError::Registered)
    ));
    assert!(matches!(
        check(&rig, subject(9)).await,
        Err(ErasureError::Unknown)
    ));
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    back_up(&rig, "after").await;

    let first = check(&rig, subject(1)).await.unwrap();
    assert!(first.in_backups);
    for words in [
        "holds no record, no reference",
        "Key version 1, which may have wrapped the person's keys: not destroyed",
        "Key version 2, which may have wrapped the person's keys: not destroyed",
        "between enrolment and erasure: 1, the last at",
        "BACKUPS STILL HOLD THE PERSON",
    ] {
        assert!(first.text.contains(words), "{words}: {}", first.text);
    }
    let said = entries(&rig, first.log_index).await.remove(0);
    assert_eq!(said.kind, "erasure_checked");
    assert_eq!(said.decision.as_deref(), Some("gone_but_in_backups"));
    let proof = bundle(&rig, &first).await;
    let kinds: Vec<String> = proof
        .entries
        .iter()
        .map(|one| Entry::from_bytes(one.entry.as_bytes()).unwrap().kind)
        .collect();
    assert_eq!(
        kinds,
        [
            "enrolment_submitted",
            "backup",
            "subject_removed",
            "erasure_checked"
        ]
    );
    // Another text is not the one that the log names.
    let mut forged = proof.clone();
    forged.artefacts[0].text = forged.artefacts[0]
        .text
        .replace("STILL HOLD", "DO NOT HOLD");
    let key = rig.state.keys.log.verifier();
    let checkpoint = Checkpoint::open(forged.checkpoint.as_bytes(), key).unwrap();
    assert!(forged.verify(&checkpoint).is_err());

    // One of the two versions is not enough.
    keys::retire(&rig.state, 1, "test").await.unwrap();
    assert!(check(&rig, subject(1)).await.unwrap().in_backups);
    assert_eq!(rotate(&rig).await, 3);
    keys::retire(&rig.state, 2, "test").await.unwrap();
    let last = check(&rig, subject(1)).await.unwrap();
    assert!(!last.in_backups);
    assert!(
        last.text
            .contains("No backup of the database opens for this person any more"),
        "{}",
        last.text
    );
    let proof = bundle(&rig, &last).await;
    let destroyed = proof
        .entries
        .iter()
        .filter(|one| one.entry.contains("keys_rotated"));
    assert_eq!(destroyed.count(), 2);
    // The other person is as before, and can be erased and enrolled again.
    registry::remove(&rig.state, subject(2), "test")
        .await
        .unwrap();
    assert!(check(&rig, subject(2)).await.is_ok());
    gate.enrol(2).await;
    assert!(matches!(
        check(&rig, subject(2)).await,
        Err(ErasureError::Registered)
    ));
}

/// While merged, the references lay under the other record's key: a backup of that time opens with it.
#[tokio::test(flavor = "multi_thread")]
async fn backups_of_a_time_as_another_record_are_said() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let double = crate::merging::enrol_again(&rig, &gate, 2, 1).await;
    let plan = merging::plan(&rig.state, double, subject(1)).await.unwrap();
    merging::merge(&rig.state, &plan, "one passport", "test")
        .await
        .unwrap();
    back_up(&rig, "merged").await;
    let plan = merging::plan_back(&rig.state, double).await.unwrap();
    merging::unmerge(&rig.state, &plan, "twins", "test")
        .await
        .unwrap();
    registry::remove(&rig.state, double, "test").await.unwrap();
    rotate(&rig).await;
    keys::retire(&rig.state, 1, "test").await.unwrap();
    let checked = check(&rig, double).await.unwrap();
    assert!(checked.in_backups);
    let words = format!("merged into {}", subject(1));
    assert!(checked.text.contains(&words), "{}", checked.text);
    for wrong in [
        "",
        "no number",
        "Mr John Smith, born 1.2.1970",
        &"1".repeat(61),
    ] {
        let refused = erasure::check(&rig.state, double, wrong, "test").await;
        assert!(matches!(refused, Err(ErasureError::Case)), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_something_is_left_or_put_back_there_is_no_proof_but_an_alarm() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let hand = rig.hand().await;
    for line in [
        "CREATE TEMPORARY TABLE kept AS SELECT * FROM data_key",
        "CREATE TEMPORARY TABLE kept_subject AS SELECT * FROM subject",
    ] {
        sqlx::query(line).execute(&hand).await.unwrap();
    }
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    assert!(check(&rig, subject(1)).await.is_ok());
    for (line, what) in [
        (
            "INSERT INTO data_key SELECT * FROM kept WHERE owner NOT IN (SELECT owner FROM data_key)",
            "2 data keys",
        ),
        (
            "INSERT INTO subject SELECT * FROM kept_subject",
            "1 record, 2 data keys",
        ),
    ] {
        sqlx::query(line).execute(&hand).await.unwrap();
        let left = check(&rig, subject(1)).await;
        assert!(
            matches!(&left, Err(ErasureError::Remains(said)) if said == what),
            "{left:?}"
        );
    }
    assert_eq!(rig.state.store.alarms().await.unwrap().len(), 1);
}

/// Everything that is stored about somebody goes: wing, photograph, and what was merged.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_somebody_with_a_wing_and_a_second_record() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let double = crate::merging::enrol_again(&rig, &gate, 2, 1).await;
    sallyport_server::consultations::set_wing(&rig.state, double, Some("c"), "test")
        .await
        .unwrap();
    sallyport_server::demographics::record(&rig.state, double, Some("neither"), "stated", "test")
        .await
        .unwrap();
    let plan = merging::plan(&rig.state, double, subject(1)).await.unwrap();
    merging::merge(&rig.state, &plan, "one passport", "test")
        .await
        .unwrap();
    gate.pass(&gate.request(rig.transaction(1), mate(1, 40)))
        .await;
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    for who in [subject(1), double] {
        let checked = check(&rig, who).await.unwrap();
        assert!(checked.text.contains(
            "Pictures of passages at which somebody may have stood who was taken for this person: 0"
        ));
    }
}
