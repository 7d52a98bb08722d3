use sallyport_domain::Timestamp;

use super::*;

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn change(station: bool) -> ChangeRow {
    ChangeRow {
        id: "change".to_owned(),
        from: ModelDigest::from_bytes(OLD),
        to: ModelDigest::from_bytes(NEW),
        station: station.then(|| "desk".parse().unwrap()),
        begun_at: Timestamp::from_micros(0),
        ended_at: None,
        log_index: 0,
    }
}

fn person(number: u128) -> SubjectId {
    SubjectId::from_uuid(uuid::Uuid::from_u128(number))
}

fn row(id: u128, subject: u128, modality: &str, model: [u8; 32], photograph: bool) -> TouchedRow {
    TouchedRow {
        id: ReferenceId::from_uuid(uuid::Uuid::from_u128(id)),
        subject: person(subject),
        modality: modality.to_owned(),
        model: ModelDigest::from_bytes(model).to_string(),
        source_sha256: format!("source {subject} {photograph}"),
        has_photograph: photograph,
        unusable: false,
    }
}

#[test]
fn somebody_is_left_until_every_modality_has_a_new_reference() {
    let rows = [
        row(1, 1, "face", OLD, false),
        row(2, 2, "iris_left", OLD, false),
        row(3, 2, "iris_right", OLD, false),
        row(4, 2, "iris_left", NEW, false),
        row(5, 3, "iris_left", OLD, false),
        row(6, 3, "iris_left", NEW, false),
        // Enrolled with the new model only.
        row(7, 4, "face", NEW, false),
    ];
    let progress = Progress::new(change(false), &rows);
    assert_eq!(progress.people, 4);
    let left: Vec<SubjectId> = progress.left.keys().copied().collect();
    assert_eq!(left, [person(1), person(2)]);
}

#[test]
fn photographs_wait_only_for_a_station_and_only_until_they_were_tried() {
    let mut rows = vec![
        row(1, 1, "face", OLD, true),
        row(2, 2, "face", OLD, true),
        row(3, 2, "face", NEW, true),
        row(4, 3, "face", OLD, false),
    ];
    let progress = Progress::new(change(true), &rows);
    assert_eq!(progress.photographs, 1);
    assert_eq!(progress.left[&person(1)], Waits::Photograph);
    assert_eq!(progress.left[&person(3)], Waits::Passage);
    assert_eq!(Progress::new(change(false), &rows).photographs, 0);
    rows[0].unusable = true;
    let progress = Progress::new(change(true), &rows);
    assert_eq!((progress.photographs, progress.unusable), (0, 1));
    assert_eq!(progress.left[&person(1)], Waits::Passage);
}
