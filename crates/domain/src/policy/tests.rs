use super::*;

fn window(days: &[Weekday], from_minute: u16, until_minute: u16) -> WeeklyWindow {
    WeeklyWindow {
        days: days.to_vec(),
        from_minute,
        until_minute,
    }
}

fn rule(categories: &[SubjectCategory], windows: Vec<WeeklyWindow>) -> AccessRule {
    AccessRule {
        categories: categories.to_vec(),
        directions: vec![Direction::Entry],
        windows,
    }
}

fn policy() -> GatePolicy {
    GatePolicy {
        version: "front-1".to_owned(),
        purpose: Purpose::Access,
        fpir_target: 1e-4,
        fmr_target: 1e-4,
        pad: PadPolicy::Advisory,
        modalities: ModalityPolicy::FaceOrIris,
        unrecognised: UnrecognisedPolicy::Refer,
        rules: vec![rule(&[SubjectCategory::Staff], Vec::new())],
    }
}

#[test]
fn nonsense_is_refused_with_the_field_that_has_it() {
    use Weekday::{Monday, Sunday};
    let with = |change: &dyn Fn(&mut GatePolicy)| {
        let mut policy = policy();
        change(&mut policy);
        policy.check()
    };
    assert_eq!(policy().check(), Ok(()));
    // Nobody may pass: harsh, but it means something.
    assert_eq!(with(&|policy| policy.rules.clear()), Ok(()));
    let mut cases: Vec<(&str, Result<(), PolicyError>)> = Vec::new();
    for version in [
        "",
        "front",
        "front-",
        "front-x1",
        "Front-1",
        "a b-1",
        "-99999999999",
        "é-1",
    ] {
        cases.push((
            "version",
            with(&|policy| version.clone_into(&mut policy.version)),
        ));
    }
    let long = format!("{}-1", "x".repeat(63));
    cases.push(("version", with(&|policy| policy.version.clone_from(&long))));
    for rate in [0.0, -1e-4, 1.1e-2, 1.0, 1e-10, f64::NAN, f64::INFINITY] {
        cases.push(("fpir_target", with(&|policy| policy.fpir_target = rate)));
        cases.push(("fmr_target", with(&|policy| policy.fmr_target = rate)));
    }
    let one = |rule: AccessRule| with(&|policy| policy.rules.push(rule.clone()));
    cases.push(("rules[1].categories", one(rule(&[], Vec::new()))));
    let twice = [SubjectCategory::Staff, SubjectCategory::Staff];
    cases.push(("rules[1].categories", one(rule(&twice, Vec::new()))));
    let mut nowhere = rule(&[SubjectCategory::Staff], Vec::new());
    nowhere.directions.clear();
    cases.push(("rules[1].directions", one(nowhere)));
    for (days, from, until, field) in [
        (&[][..], 0, 1_440, "rules[1].windows[0].days"),
        (
            &[Monday, Sunday, Monday][..],
            0,
            1_440,
            "rules[1].windows[0].days",
        ),
        (&[Monday][..], 600, 600, "rules[1].windows[0]"),
        (&[Monday][..], 1_320, 360, "rules[1].windows[0]"),
        (&[Monday][..], 0, 1_441, "rules[1].windows[0]"),
    ] {
        let windows = vec![window(days, from, until)];
        cases.push((field, one(rule(&[SubjectCategory::Staff], windows))));
    }
    let many = vec![policy().rules.remove(0); 65];
    cases.push(("rules", with(&|policy| policy.rules.clone_from(&many))));
    for (field, result) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field}: ")), "{field}: {error}");
    }
}

#[test]
fn versions_follow_one_another_by_the_number_at_their_end() {
    for (version, number) in [
        ("default-1", Some(1)),
        ("1", Some(1)),
        ("front-in-2026-12", Some(12)),
        ("a-007", Some(7)),
        ("v1", None),
        ("front", None),
        ("a-", None),
        ("a-+1", None),
        ("a-4294967296", None),
    ] {
        assert_eq!(GatePolicy::number_of(version), number, "{version}");
    }
}

#[test]
fn a_change_is_said_by_who_may_pass_when_not_by_how_the_rules_are_written() {
    use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let old = policy();
    let mut spelt = policy();
    spelt.version = "front-2".to_owned();
    let all = [
        Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday,
    ];
    spelt.rules = vec![
        rule(&[SubjectCategory::Staff], vec![window(&all, 0, 700)]),
        rule(&[SubjectCategory::Staff], vec![window(&all, 600, 1_440)]),
    ];
    assert_eq!(old.changes(&spelt), [] as [&str; 0]);

    let mut new = policy();
    new.purpose = Purpose::Movement;
    new.fpir_target = 1e-3;
    new.fmr_target = 1e-5;
    new.pad = PadPolicy::Required;
    new.modalities = ModalityPolicy::FaceAndIris;
    new.unrecognised = UnrecognisedPolicy::Refuse;
    new.rules = vec![
        rule(
            &[SubjectCategory::Staff],
            vec![
                window(&[Monday, Sunday], 360, 1_080),
                window(&[Monday], 1_200, 1_440),
            ],
        ),
        AccessRule {
            directions: vec![Direction::Exit],
            ..rule(&[SubjectCategory::LegalRepresentative], Vec::new())
        },
    ];
    assert_eq!(
        old.changes(&new),
        [
            "Purpose: was access to the centre; becomes movement within the centre.",
            "A stranger taken for somebody in the registry (fpir_target): was at most once in 10000 searches (0.0001); becomes at most once in 1000 searches (0.001).",
            "A stranger taken for the person named (fmr_target): was at most once in 10000 comparisons (0.0001); becomes at most once in 100000 comparisons (0.00001).",
            "Suspicion of a print, screen or mask: was referred to an officer, and not being able to check is only recorded; becomes refused, and not being able to check is referred to an officer.",
            "Recognised by: was face, iris or both, whatever was captured; becomes face and at least one iris, both confirming.",
            "Whoever is not recognised: was referred to an officer; becomes refused.",
            "legal representative outwards: was never; becomes at any time.",
            "staff inwards: was at any time; becomes Monday 06:00 to 18:00 and 20:00 to 24:00, Sunday 06:00 to 18:00.",
        ]
    );
    let whole = new.in_words();
    assert_eq!(whole.len(), 1 + 6 + 14);
    assert!(whole.contains(&"prisoner inwards: never.".to_owned()));
}
