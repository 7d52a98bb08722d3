//! Evidence bundles, slips and reports, out of a log with known content.

use sallyport_domain::{Timestamp, Verdict};
use sallyport_protocol::{EnrolmentOutcome, Heartbeat, PROTOCOL_VERSION, paths};
use sallyport_server::clock::Clock as _;
use sallyport_server::{audit, demographics, error_rates, evidence, profiles, registry, reports};
use sallyport_transparency::{
    Checkpoint, Entry, Evidence, EvidenceError, MeasuredPairs, MeasuredPoint, Measurement,
    NoteSigner, Receipt,
};

use crate::common::{Gate, Rig, mate, subject, template};

/// Three passages of person 1, one of somebody unknown, a look at the record.
async fn rig() -> (Rig, Gate, String) {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    // The same person under another name: put aside, and no second one in any figure.
    let mut twice = gate.submission(1);
    twice.subject = subject(2);
    let refused: EnrolmentOutcome = gate.client.post(paths::ENROLMENT, &twice).await.good();
    assert!(matches!(
        refused,
        EnrolmentOutcome::UnderReview { doubt: Some(_), .. }
    ));
    let beat = Heartbeat {
        version: PROTOCOL_VERSION,
        gate: gate.id.clone(),
        now: rig.clock.now(),
        cameras: vec![("face".to_owned(), "a bit dark".to_owned())],
        spooled: 0,
        log: None,
    };
    assert_eq!(gate.client.post(paths::HEARTBEAT, &beat).await.status, 200);
    for number in 0..3 {
        let request = gate.request(rig.transaction(number), mate(1, number));
        assert_eq!(gate.pass(&request).await.verdict, Verdict::Grant);
    }
    let stranger = gate.request(rig.transaction(9), template(99));
    gate.pass(&stranger).await;
    let look = Entry {
        actor: Some("0192f0c4-7b3a-7c1d-9f00-000000000001".to_owned()),
        subject: Some(subject(1).to_string()),
        about: Some(rig.transaction(1).to_string()),
        reason: Some("incident 2026-17".to_owned()),
        ..audit::entry("consultation", rig.clock.now()).unwrap()
    };
    audit::record(&rig.state, look).await.unwrap();
    audit::publish(&rig.state).await.unwrap();
    let transaction = rig.transaction(1).to_string();
    (rig, gate, transaction)
}

fn opened(rig: &Rig, note: &str) -> Checkpoint {
    Checkpoint::open(note.as_bytes(), rig.state.keys.log.verifier()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evidence_bundle_holds_the_passage_its_consultation_and_what_held_then_and_verifies() {
    let (rig, _, transaction) = rig().await;
    let bundle = evidence::bundle(&rig.state, &transaction).await.unwrap();
    let read = Evidence::parse(bundle.to_text().as_bytes()).unwrap();
    read.verify(&opened(&rig, &read.checkpoint)).unwrap();
    let kinds: Vec<String> = read
        .entries
        .iter()
        .map(|selected| Entry::from_bytes(selected.entry.as_bytes()).unwrap().kind)
        .collect();
    assert_eq!(
        kinds,
        [
            "gate_added",
            "gate_joined",
            "gate_health",
            "passage",
            "consultation"
        ]
    );
    assert_eq!(read.artefacts.len(), 1, "the calibration");
    let cameras = "cameras, as the gate last reported before the passage";
    assert!(read.stated[cameras].contains("a bit dark"));
    let asked = &read.stated["error rates that the gate's policy asks for"];
    assert!(asked.contains("once in 10000") && asked.contains("targets, not measurements"));
    assert!(read.stated["measured error rates"].starts_with("none: "));
    // No name of a person is in it.
    assert!(!bundle.to_text().contains("Canary"));
    let error = evidence::bundle(&rig.state, "0192f0c4-0000-7000-8000-000000000000").await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("there is no passage")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_is_for_one_entry() {
    let (rig, _, _) = rig().await;
    let rows = rig.state.store.log_entries(0, 100).await.unwrap();
    let slip = evidence::slip(&rig.state, 5).await.unwrap();
    let receipt = Receipt::open(slip.as_bytes(), rig.state.keys.log.verifier()).unwrap();
    for (index, bytes) in &rows {
        assert_eq!(receipt.is_for(*index, bytes), *index == 5);
    }
    evidence::slip(&rig.state, 10_000).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_report_has_passages_looks_by_role_and_proofs_also_after_removal() {
    let (rig, _, _) = rig().await;
    let report = reports::of_subject(&rig.state, subject(1)).await.unwrap();
    assert_eq!(report.figures["Passages"], 3);
    // The second officer's, before approving, and one later.
    assert_eq!(report.figures["Looks at your record"], 2);
    let look = &report.parts["Looks at your record"][1];
    assert_eq!(look.by.as_deref(), Some("officer"), "by role, not by id");
    assert_eq!(look.reason.as_deref(), Some("incident 2026-17"));
    assert!(report.lines().contains(&"Name: Canary Person 1".to_owned()));
    let checkpoint = opened(&rig, report.checkpoint.as_deref().unwrap());
    assert_eq!(report.proofs.len(), 7, "with submission and enrolment");
    for selected in &report.proofs {
        selected.verify(&checkpoint).unwrap();
    }
    let value: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(value["proofs"].as_array().unwrap().len(), 7);
    assert!(report.to_pdf().starts_with(b"%PDF-1.4"));
    // Somebody else's report has nothing of it.
    let other = reports::of_subject(&rig.state, subject(2)).await.unwrap();
    assert_eq!(other.figures.len(), 1, "the refused enrolment only");
    let nobody = reports::of_subject(&rig.state, subject(3)).await.unwrap();
    assert!(nobody.parts.is_empty());
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    let after = reports::of_subject(&rig.state, subject(1)).await.unwrap();
    assert_eq!(after.figures["Passages"], 3);
    assert!(!after.to_json().contains("Canary"));
    assert!(after.notes[1].contains("not in the registry any more"));
    // The log is whole without what was erased.
    audit::check(&rig.state).await.unwrap();
    sallyport_server::fsck::run(&rig.state, |_, _| {})
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shift_officer_and_month_count_what_happened_in_their_time_only() {
    let (rig, gate, _) = rig().await;
    let begin = Timestamp::from_micros(0);
    rig.clock.advance_millis(1);
    let end = rig.clock.now();
    rig.clock.advance_millis(60_000);
    gate.pass(&gate.request(rig.transaction(20), mate(1, 7)))
        .await;
    let shift = reports::of_shift(&rig.state, begin, end).await.unwrap();
    assert_eq!(shift.figures["passages at front-in: grant"], 3);
    assert_eq!(shift.parts["Passages not granted by the machine"].len(), 1);
    assert_eq!(shift.figures["officers: consultation"], 2);
    let later = reports::of_shift(&rig.state, end, rig.clock.now().plus_millis(1))
        .await
        .unwrap();
    assert_eq!(later.figures["passages at front-in: grant"], 1);
    assert_eq!(later.figures.len(), 1);
    let officer = "0192f0c4-7b3a-7c1d-9f00-000000000001";
    let acts = reports::of_officer(&rig.state, officer, begin, end)
        .await
        .unwrap();
    assert_eq!(acts.parts["Acts"].len(), 1);
    let month = reports::of_month(&rig.state, begin, end).await.unwrap();
    assert_eq!(month.figures["passages"], 4);
    assert_eq!(month.figures["passages granted by the machine"], 3);
    assert_eq!(month.figures["passages referred to an officer"], 1);
    assert_eq!(month.figures["looks at records"], 2);
    assert_eq!(month.figures["of these with a reason beyond gate duty"], 2);
    assert_eq!(month.figures["people enrolled"], 1);
    assert_eq!(month.figures["exports"], 0);
    // Nobody is in it.
    let text = month.to_json();
    assert!(!text.contains(&subject(1).to_string()) && !text.contains(officer));
    assert!(month.parts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_gives_referral_rates_only_of_enough_people_and_only_of_those_the_log_states() {
    let rig = Rig::start().await;
    let at = rig.clock.now();
    let end = at.plus_millis(1_000);
    let transactions: Vec<String> = (0..60)
        .map(|number| rig.transaction(number).to_string())
        .collect();
    let passage = |number: usize, person: u64, verdict: &str| Entry {
        subject: Some(subject(person).to_string()),
        about: Some(transactions[number].clone()),
        decision: Some(verdict.to_owned()),
        ..audit::entry("passage", at).unwrap()
    };
    for person in 0..9 {
        let entry = passage(0, person, "grant");
        audit::record(&rig.state, entry).await.unwrap();
    }
    let begin = Timestamp::from_micros(0);
    let month = reports::of_month(&rig.state, begin, end).await.unwrap();
    let groups = month.groups.as_ref().unwrap();
    assert!(groups.rows.is_empty());
    assert!(month.to_json().contains("fewer than 10 such people"));
    // Referred, and nobody says who it was: not counted. The officer's grant may come when the month is over.
    audit::record(&rig.state, passage(50, 9, "refer"))
        .await
        .unwrap();
    audit::record(&rig.state, passage(51, 9, "refer"))
        .await
        .unwrap();
    rig.clock.advance_millis(5_000);
    for (number, verdict) in [(50, "grant"), (51, "refuse")] {
        let review = Entry {
            about: Some(transactions[number].clone()),
            decision: Some(verdict.to_owned()),
            ..audit::entry("review", rig.clock.now()).unwrap()
        };
        audit::record(&rig.state, review).await.unwrap();
    }
    let month = reports::of_month(&rig.state, begin, end).await.unwrap();
    let groups = month.groups.as_ref().unwrap();
    let row = &groups.rows[0];
    assert_eq!((groups.rows.len(), row.group.as_str()), (1, "not recorded"));
    assert_eq!((row.people, row.passages, row.referred), (10, 10, 1));
    assert!(
        month
            .lines()
            .iter()
            .any(|line| line.contains("10.00 %  (0.25 to 44.50 %)  1 of 10 passages of 10 people"))
    );
    assert!(groups.notes[0].contains("1 referred passages that ended otherwise"));
}

/// A signed measurement in a file, its key trusted by the installation.
pub(crate) fn measurement(rig: &Rig, modality: &str, model: &str) -> std::path::PathBuf {
    let signer = NoteSigner::new("lab.example/faces", &[5; 32]).unwrap();
    let pairs = |name: &str| MeasuredPairs {
        name: name.to_owned(),
        identities: 40,
        mated_pairs: 200,
        non_mated_pairs: 10_000,
        points: vec![MeasuredPoint {
            threshold: 0.4,
            false_matches: 1,
            false_non_matches: 4,
        }],
    };
    let measurement = Measurement {
        format: Measurement::format(),
        modality: modality.to_owned(),
        models: [("FaceRecognition".to_owned(), model.to_owned())].into(),
        program: "by hand".to_owned(),
        data_set: "drawn faces".to_owned(),
        conditions: "drawn".to_owned(),
        measured: "2026-11-24".to_owned(),
        samples: 400,
        failures_to_acquire: 0,
        pairs: vec![pairs("every picture")],
        groups: vec![pairs("a"), pairs("b")],
    };
    let data = &rig.state.data;
    let keys = format!("# faces\n{}\n", signer.verifier());
    std::fs::write(data.join(error_rates::KEYS_FILE), keys).unwrap();
    let file = rig
        .folder
        .path()
        .join(format!("{modality}-{}.note", &model[..2]));
    std::fs::write(&file, measurement.sign(&signer).unwrap()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn measured_error_rates_are_in_the_evidence_of_passages_after_them_and_in_the_month() {
    let (rig, gate, before) = rig().await;
    let note = |modality, model: u8| {
        let file = measurement(&rig, modality, &hex::encode([model; 32]));
        std::fs::read_to_string(file).unwrap()
    };
    let set = async |note: &str| error_rates::set(&rig.state, note, "yearly test", "test").await;
    // Another model, nobody enrolled, a changed figure, an untrusted key, no key: each says what to do.
    let refused = |text: &str, error: Result<u64, error_rates::ErrorRatesError>| {
        let said = error.unwrap_err().to_string();
        assert!(said.contains(text), "{said}");
    };
    refused("another face model", set(&note("face", 9)).await);
    refused("nobody is enrolled by iris", set(&note("iris", 7)).await);
    let good = note("face", 7);
    let better = good.replace("\"false_matches\": 1", "\"false_matches\": 0");
    refused("no trusted key signed", set(&better).await);
    let keys = rig.state.data.join(error_rates::KEYS_FILE);
    let stranger = NoteSigner::new("lab.example/faces", &[6; 32]).unwrap();
    std::fs::write(&keys, stranger.verifier().to_string()).unwrap();
    refused("no trusted key signed", set(&good).await);
    std::fs::remove_file(&keys).unwrap();
    refused("measurement-keys must hold", set(&good).await);
    let size = rig.state.store.log_size().await.unwrap();
    note("face", 7);
    let index = set(&good).await.unwrap();
    assert_eq!(index, size, "what was refused left nothing");
    let rows = rig.state.store.log_entries(index, 1).await.unwrap();
    let entry = Entry::from_bytes(&rows[0].1).unwrap();
    let about = entry.about.unwrap();
    assert!(
        about.ends_with(" drawn faces: 200 mated and 10000 non-mated pairs"),
        "{about}"
    );
    assert_eq!(entry.content, Some(Measurement::digest(good.as_bytes())));
    assert_eq!(entry.models, ["07".repeat(32)]);

    rig.clock.advance_millis(1_000);
    let after = rig.transaction(30);
    gate.pass(&gate.request(after, mate(1, 30))).await;
    rig.clock.advance_millis(1_000);
    let end = rig.clock.now();
    error_rates::withdraw(&rig.state, "face", "new cameras", "test")
        .await
        .unwrap();
    refused(
        "nothing to withdraw",
        error_rates::withdraw(&rig.state, "face", "again", "test").await,
    );
    let last = rig.transaction(31);
    gate.pass(&gate.request(last, mate(1, 31))).await;
    // Only the passage between the two has it, whatever holds today.
    for (transaction, measured) in [
        (before, false),
        (after.to_string(), true),
        (last.to_string(), false),
    ] {
        let bundle = evidence::bundle(&rig.state, &transaction).await.unwrap();
        bundle.verify(&opened(&rig, &bundle.checkpoint)).unwrap();
        let stated = &bundle.stated["measured error rates"];
        let artefact = bundle
            .artefacts
            .iter()
            .find(|artefact| artefact.text == good);
        assert_eq!(artefact.is_some(), measured);
        assert_eq!(stated.starts_with("none: "), !measured, "{stated}");
        if measured {
            assert!(stated.contains("group b, at 0.4000: false match rate 0.0100 % (1 of 10000; 95 % interval 0.0003 to 0.0557 %)"), "{stated}");
            let mut other = bundle.clone();
            let artefact = other
                .artefacts
                .iter_mut()
                .find(|artefact| artefact.text == good);
            artefact.unwrap().text = better.clone();
            let refused = other.verify(&opened(&rig, &bundle.checkpoint));
            assert!(matches!(refused, Err(EvidenceError::Artefact { .. })));
        }
    }
    let begin = Timestamp::from_micros(0);
    let month = reports::of_month(&rig.state, begin, end).await.unwrap();
    assert!(
        month
            .to_json()
            .contains("measured 2026-11-24 on drawn faces")
    );
    let later = rig.clock.now().plus_millis(60_000);
    let month = reports::of_month(&rig.state, begin, later).await.unwrap();
    assert_eq!(month.measured, ["No measurement is loaded."]);
}

/// A profile with this list of groups.
async fn set_groups(rig: &Rig, name: &str, list: &str) {
    let text = profiles::read("nsw-2014").unwrap();
    let (before, after) = text.split_once("\ngroup = [").unwrap();
    let (_, after) = after.split_once("\n]\n").unwrap();
    let text = format!("{before}\ngroup = {list}\n{after}");
    let text = text.replace("name = \"nsw-2014\"", &format!("name = \"{name}\""));
    profiles::set(&rig.state, &text, "", "test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn free_words_of_before_count_as_the_group_that_they_mean_or_as_other_words() {
    let list: sallyport_domain::Profile =
        toml::from_str(&profiles::read("nsw-2014").unwrap()).unwrap();
    for (recorded, words) in [
        ("aboriginal", "Aboriginal"),
        ("Aboriginal ", "Aboriginal"),
        ("  ABORIGINAL", "Aboriginal"),
        ("torres  strait islander", "Torres Strait Islander"),
        ("torres_strait_islander", "Torres Strait Islander"),
        ("aborigine", "other words recorded before"),
        ("", "other words recorded before"),
        ("not recorded", "other words recorded before"),
    ] {
        assert_eq!(
            demographics::shown(list.groups(), recorded),
            words,
            "{recorded:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_group_is_in_the_month_and_in_the_persons_report_and_goes_with_the_person() {
    let (rig, _, _) = rig().await;
    set_groups(&rig, "trial", "[{ code = \"canary_a\", words = \"Group Canary A\" }, { code = \"b\", words = \"Group B\" }]").await;
    let record = async |group| {
        demographics::record(&rig.state, subject(1), group, "stated at reception", "test").await
    };
    // Only codes of the list, in their one spelling.
    for bad in [
        "a+b",
        "",
        "Canary_A",
        "canary_a ",
        "Group Canary A",
        "neither",
    ] {
        let error = record(Some(bad)).await.unwrap_err().to_string();
        assert!(
            error.contains("use one of these codes: canary_a, b"),
            "{error}"
        );
    }
    let nobody = demographics::record(&rig.state, subject(77), Some("b"), "stated", "test").await;
    nobody.unwrap_err();
    record(Some("canary_a")).await.unwrap();
    let own = demographics::group(&rig.state, subject(1)).await.unwrap();
    assert_eq!(own.as_deref(), Some("canary_a"));
    let report = reports::of_subject(&rig.state, subject(1)).await.unwrap();
    assert!(
        report
            .to_json()
            .contains("as you stated it: Group Canary A.")
    );
    // Neither in the log nor readable in the database.
    let rows = rig.state.store.log_entries(0, 1_000).await.unwrap();
    let shown = rows
        .iter()
        .any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("canary"));
    assert!(!shown, "the log says only that one was recorded");
    let sealed = rig
        .state
        .store
        .subject_group(subject(1))
        .await
        .unwrap()
        .unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("canary"));
    // With nine people without a group this is ten: all in one row, and nobody alone.
    for person in 10..19 {
        let entry = Entry {
            subject: Some(subject(person).to_string()),
            about: Some(rig.transaction(person).to_string()),
            decision: Some("grant".to_owned()),
            ..audit::entry("passage", rig.clock.now()).unwrap()
        };
        audit::record(&rig.state, entry).await.unwrap();
    }
    let (begin, end) = (Timestamp::from_micros(0), rig.clock.now().plus_millis(1));
    let month = reports::of_month(&rig.state, begin, end).await.unwrap();
    let rows = &month.groups.as_ref().unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].group, "Group Canary A + not recorded");
    assert_eq!((rows[0].people, rows[0].passages), (10, 12));
    // Under a list that has it no more it is not dropped, and under none nothing can be recorded.
    set_groups(&rig, "other", "[{ code = \"b\", words = \"Group B\" }]").await;
    let month = reports::of_month(&rig.state, begin, end).await.unwrap();
    let groups = month.groups.as_ref().unwrap();
    assert_eq!(
        groups.rows[0].group,
        "not recorded + other words recorded before"
    );
    assert_eq!(groups.rows[0].people, 10);
    assert!(groups.notes.iter().any(|note| note.contains("by its code")));
    set_groups(&rig, "none", "[]").await;
    let error = record(Some("b")).await.unwrap_err().to_string();
    assert!(error.contains("lists no groups"), "{error}");
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    assert_eq!(
        rig.state.store.subject_group(subject(1)).await.unwrap(),
        None
    );
    let month = reports::of_month(&rig.state, begin, end).await.unwrap();
    let rows = &month.groups.as_ref().unwrap().rows;
    assert_eq!(rows[0].group, "not recorded");
}
