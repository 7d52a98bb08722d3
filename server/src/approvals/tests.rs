use super::*;

fn entry(kind: &str, time_ms: i64, by: &str, about: Option<&str>) -> Entry {
    Entry {
        actor: Some(by.to_owned()),
        about: about.map(str::to_owned),
        decision: Some("removal".to_owned()),
        content: Some("c".to_owned()),
        ..Entry::new("id".to_owned(), kind, time_ms * 1_000)
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_micros(ms * 1_000)
}

fn approved(approvals: &Approvals, ms: i64) -> bool {
    matches!(approvals.standing("c", at(ms)), Some(Standing::Approved(_)))
}

#[test]
fn an_approval_holds_a_quarter_of_an_hour_and_once() {
    let mut approvals = Approvals::default();
    approvals.take(4, &entry("approval_asked", 0, "a", None));
    assert!(!approved(&approvals, 1));
    approvals.take(5, &entry("approval_given", 10, "b", Some("4")));
    assert!(approved(&approvals, 10) && approved(&approvals, 10 + GIVEN_MS));
    assert!(!approved(&approvals, 11 + GIVEN_MS) && !approved(&approvals, 9 - SKEW_MS));
    approvals.take(6, &entry("approval_used", 20, "a", Some("4")));
    assert!(!approved(&approvals, 20));
}

#[test]
fn neither_whoever_asked_nor_whom_it_is_about_nor_a_late_answer_counts() {
    for (by, about, ms, counts) in [
        ("a", None, 1, false),
        ("b", Some("b"), 1, false),
        ("b", Some("c"), 1, true),
        ("b", None, ASKED_MS, true),
        ("b", None, ASKED_MS + 1, false),
    ] {
        let mut approvals = Approvals::default();
        approvals.take(4, &entry("approval_asked", 0, "a", about));
        approvals.take(5, &entry("approval_given", ms, by, Some("4")));
        assert_eq!(approved(&approvals, ms), counts, "{by} {about:?} {ms}");
    }
    // Another content, and another request.
    let mut approvals = Approvals::default();
    approvals.take(4, &entry("approval_asked", 0, "a", None));
    let mut other = entry("approval_given", 1, "b", Some("4"));
    other.content = Some("d".to_owned());
    approvals.take(5, &other);
    approvals.take(6, &entry("approval_given", 1, "b", Some("3")));
    assert!(!approved(&approvals, 1));
}
