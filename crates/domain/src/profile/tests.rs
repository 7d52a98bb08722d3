use super::*;

const SHIPPED: [(&str, &str); 4] = [
    (
        "nsw-2014",
        include_str!("../../../../profiles/nsw-2014.toml"),
    ),
    ("uk", include_str!("../../../../profiles/uk.toml")),
    ("eu-led", include_str!("../../../../profiles/eu-led.toml")),
    (
        "us-generic",
        include_str!("../../../../profiles/us-generic.toml"),
    ),
];

/// 2026-08-31T12:00:00Z.
const CAPTURED: Timestamp = Timestamp::from_micros(1_788_177_600_000_000);

fn nsw() -> Profile {
    toml::from_str(SHIPPED[0].1).unwrap()
}

fn events() -> LifeEvents {
    LifeEvents {
        captured: CAPTURED,
        last_visit: None,
        released: None,
        employment_ended: None,
        deletion_requested: None,
        held: false,
    }
}

fn visitors_photograph(events: &LifeEvents) -> Due {
    nsw().due(DataKind::Photograph, SubjectCategory::Visitor, events)
}

fn refusal(text: &str) -> String {
    toml::from_str::<Profile>(text).unwrap_err().to_string()
}

#[test]
fn shipped_profiles_are_complete_and_none_keeps_an_iris_image() {
    for (name, text) in SHIPPED {
        let profile: Profile = toml::from_str(text).unwrap();
        assert_eq!(profile.name(), name);
        for category in SubjectCategory::ALL {
            assert_eq!(
                profile.rule(DataKind::IrisImage, category).keep,
                Keep::Never,
                "{name}"
            );
        }
    }
}

#[test]
fn in_new_south_wales_a_visitors_photograph_is_due_six_calendar_months_after_the_last_visit() {
    let due = |events: &LifeEvents| match visitors_photograph(events) {
        Due::At(moment) => moment.to_rfc3339(),
        other @ (Due::Held | Due::NotBegun) => panic!("{other:?}"),
    };
    assert_eq!(due(&events()), "2027-02-28T12:00:00.000Z");
    let visit = CAPTURED.plus_months(2);
    let visited = LifeEvents {
        last_visit: Some(visit),
        ..events()
    };
    assert_eq!(due(&visited), "2027-04-30T12:00:00.000Z");
    let moment = visit.plus_months(6);
    assert!(!visitors_photograph(&visited).has_come(moment.plus_millis(-1)));
    assert!(visitors_photograph(&visited).has_come(moment));
    let asked = LifeEvents {
        deletion_requested: Some(visit),
        ..visited
    };
    assert_eq!(visitors_photograph(&asked), Due::At(visit));
}

#[test]
fn a_request_made_after_the_term_does_not_prolong_it() {
    let asked = LifeEvents {
        deletion_requested: Some(CAPTURED.plus_months(30)),
        ..events()
    };
    assert_eq!(
        visitors_photograph(&asked),
        Due::At(CAPTURED.plus_months(6))
    );
}

#[test]
fn a_hold_stops_deletion_but_never_covers_what_may_not_be_kept() {
    let held = LifeEvents {
        held: true,
        deletion_requested: Some(CAPTURED),
        ..events()
    };
    assert_eq!(visitors_photograph(&held), Due::Held);
    assert!(!Due::Held.has_come(Timestamp::from_micros(i64::MAX)));
    let image = nsw().due(DataKind::IrisImage, SubjectCategory::Visitor, &held);
    assert_eq!(image, Due::At(CAPTURED));
}

#[test]
fn a_prisoners_term_begins_at_release_and_is_not_ended_by_a_request() {
    let profile = nsw();
    let due = |events: &LifeEvents| {
        profile.due(DataKind::FaceTemplate, SubjectCategory::Prisoner, events)
    };
    let asked = LifeEvents {
        deletion_requested: Some(CAPTURED),
        ..events()
    };
    assert_eq!(due(&asked), Due::NotBegun);
    let released = LifeEvents {
        released: Some(CAPTURED.plus_months(1)),
        ..asked
    };
    assert_eq!(
        due(&released),
        Due::At(CAPTURED.plus_months(1).plus_months(6))
    );
}

#[test]
fn gaps_contradictions_and_unknown_words_are_refused() {
    let text = SHIPPED[0].1;
    for (from, to, says) in [
        ("version = 3", "version = 0", "version starts at 1"),
        ("name = \"nsw-2014\"", "name = \"NSW\"", "lower-case"),
        ("months = 6", "months = 0", "between 1 and 1,200"),
        (
            "\"access\", \"leaving\"",
            "\"leaving\", \"leaving\"",
            "each permitted purpose once",
        ),
        ("source = \"clause 320\"", "source = \" \"", "blank"),
        (
            "kinds = [\"iris_image\"]",
            "kinds = []",
            "0 rules cover IrisImage",
        ),
        (
            "kinds = [\"iris_image\"]",
            "kinds = [\"iris_image\", \"notes\"]",
            "2 rules cover Notes",
        ),
        ("version = 3", "version = 3\nkeeps = true", "unknown field"),
        ("hours = 72", "hours = 0", "1 to 336 hours"),
        ("hours = 72", "hours = 400", "400 and 336 are not"),
        (
            "hours_before_review = 336",
            "hours_before_review = 337",
            "72 and 337 are not",
        ),
        ("\"never\"", "\"sometimes\"", "unknown variant"),
        ("\"medication\"", "\"marketing\"", "unknown variant"),
    ] {
        assert!(text.contains(from), "{from}");
        let message = refusal(&text.replacen(from, to, 1));
        assert!(message.contains(says), "{from} to {to}: {message}");
    }
}

#[test]
fn a_picture_of_nobody_known_is_due_after_the_decision_and_at_the_latest_14_days_after_the_passage()
{
    let profile = nsw();
    let rule = profile.unrecognised();
    let hours = |hours: i64| CAPTURED.plus_millis(hours * 3_600_000);
    assert_eq!(rule.due(CAPTURED, Some(CAPTURED)), hours(72));
    assert_eq!(rule.due(CAPTURED, Some(hours(10))), hours(82));
    assert_eq!(rule.due(CAPTURED, None), hours(336));
    assert_eq!(rule.due(CAPTURED, Some(hours(335))), hours(336));
}

#[test]
fn a_profile_that_says_nothing_about_unrecognised_people_has_the_default() {
    let text = SHIPPED[0].1;
    let begin = text.find("[unrecognised]").unwrap();
    let end = text.find("[[rule]]").unwrap();
    let before = format!("{}{}", &text[..begin], &text[end..]);
    let profile: Profile = toml::from_str(&before).unwrap();
    assert_eq!(profile.unrecognised(), &UnrecognisedRule::default());
    assert_eq!(profile.unrecognised().hours, 72);
}

#[test]
fn a_list_of_groups_has_codes_and_words_of_which_no_two_are_alike() {
    for (name, text) in SHIPPED {
        let profile: Profile = toml::from_str(text).unwrap();
        let list = profile.groups();
        assert!(list.to_confirm && list.groups.len() > 2, "{name}");
        for group in &list.groups {
            assert_eq!(list.of_code(&group.code), Some(group));
            assert_eq!(list.of_words(&group.words.to_uppercase()), Some(group));
        }
        assert_eq!(list.of_code("Aboriginal"), None);
    }
    let with = |list: &str| {
        let (before, after) = SHIPPED[0].1.split_once("\ngroup = [").unwrap();
        let (_, after) = after.split_once("\n]\n").unwrap();
        format!("{before}\ngroup = {list}\n{after}")
    };
    // A profile of before there was a list.
    let (before, after) = SHIPPED[0].1.split_once("[groups]").unwrap();
    let (_, after) = after.split_once("\n]\n").unwrap();
    let profile: Profile = toml::from_str(&format!("{before}{after}")).unwrap();
    assert_eq!(*profile.groups(), GroupList::default());
    let one = |code: &str, words: &str| format!("{{ code = {code:?}, words = {words:?} }}");
    for list in [
        format!("[{}]", one("A", "a")),
        format!("[{}]", one("a b", "a")),
        format!("[{}]", one("", "a")),
        format!("[{}]", one(&"a".repeat(33), "a")),
        format!("[{}]", one("a", "")),
        format!("[{}]", one("a", &"a".repeat(61))),
        format!("[{}]", one("a", "Not  recorded")),
        format!("[{}]", one("a", "other words recorded before")),
        format!("[{}, {}]", one("a", "x"), one("a", "y")),
        format!("[{}, {}]", one("a", "x"), one("b", " X")),
        format!("[{}, {}]", one("a", "x"), one("x", "y")),
    ] {
        let error = refusal(&with(&list));
        assert!(error.contains("groups: "), "{list}: {error}");
    }
}
