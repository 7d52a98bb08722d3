//! Releases for life safety and times without a server, as gates report them: in the log once, in order, whatever is repeated,
//! reordered or exchanged.

use sallyport_domain::{GateId, Role, TransactionId};
use sallyport_protocol::{
    DegradedCause, DoorOutcome, DoorReport, GateEvent, GateEventBody, LifeSafetySource,
    PROTOCOL_VERSION, SignedDoorReport, SignedGateEvent, SpotDecision, paths,
};
use sallyport_server::clock::Clock as _;
use sallyport_server::gate_events;
use sallyport_transparency::{Entry, NoteSigner};
use sha2::{Digest as _, Sha256};

use crate::browser::Browser;
use crate::common::{Answer, Gate, Rig};

/// Signs as the agent's journal does.
pub(crate) struct Journal {
    signer: NoteSigner,
    gate: GateId,
    sequence: u64,
    previous: String,
}

impl Journal {
    pub(crate) fn new(gate: &Gate, seed: u8) -> Self {
        Self {
            signer: NoteSigner::new(&GateEvent::key_name(&gate.id), &[seed; 32]).unwrap(),
            gate: gate.id.clone(),
            sequence: 0,
            previous: String::new(),
        }
    }

    fn event(&mut self, rig: &Rig, body: GateEventBody) -> SignedGateEvent {
        self.sequence += 1;
        let event = GateEvent {
            purpose: GateEvent::PURPOSE.to_owned(),
            gate: self.gate.clone(),
            epoch: 3,
            sequence: self.sequence,
            previous: self.previous.clone(),
            mono_us: 5,
            at: rig.clock.now(),
            body,
        };
        let text = format!("{}\n", serde_json::to_string(&event).unwrap());
        self.previous = hex::encode(Sha256::digest(&text));
        self.signed(&text)
    }

    fn signed(&self, text: &str) -> SignedGateEvent {
        SignedGateEvent {
            version: PROTOCOL_VERSION,
            gate: self.gate.clone(),
            key: self.signer.verifier().to_string(),
            note: self.signer.sign(text).unwrap(),
        }
    }
}

fn began(release: TransactionId) -> GateEventBody {
    GateEventBody::LifeSafetyBegan {
        release,
        source: LifeSafetySource::FireInput,
        doors: vec!["front-in".to_owned()],
        officer: String::new(),
        reason: String::new(),
        found: false,
    }
}

/// The gate says that it obeyed a supervisor.
pub(crate) async fn freed_by_console(
    rig: &Rig,
    gate: &Gate,
    journal: &mut Journal,
    release: TransactionId,
) {
    let body = GateEventBody::LifeSafetyBegan {
        release,
        source: LifeSafetySource::Console,
        doors: vec!["front-in".to_owned()],
        officer: "0192f0c4-7b3a-7c1d-9f00-000000000001".to_owned(),
        reason: "smoke".to_owned(),
        found: false,
    };
    let event = journal.event(rig, body);
    assert_eq!(send(gate, &event).await.status, 204);
}

/// The gate says that its doors obey grants again.
pub(crate) async fn restored(
    rig: &Rig,
    gate: &Gate,
    journal: &mut Journal,
    release: TransactionId,
) {
    let body = GateEventBody::LifeSafetyEnded {
        release,
        found: false,
    };
    let event = journal.event(rig, body);
    assert_eq!(send(gate, &event).await.status, 204);
}

fn missing(cause: DegradedCause) -> GateEventBody {
    GateEventBody::DegradedBegan { cause }
}

/// An event for the tests of all routes.
pub(crate) fn camera_lost(rig: &Rig, gate: &Gate) -> SignedGateEvent {
    Journal::new(gate, 1).event(rig, missing(DegradedCause::Camera))
}

async fn send(gate: &Gate, event: &SignedGateEvent) -> Answer {
    gate.client.post(paths::GATE_EVENT, event).await
}

/// Entries from events, as `kind decision reason sequence`.
async fn told(rig: &Rig) -> Vec<String> {
    let rows = rig.state.store.log_entries(0, 1_000).await.unwrap();
    rows.iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .filter(|entry| entry.seq.is_some())
        .map(|entry| {
            assert_eq!(entry.epoch, Some(3));
            assert!(entry.gate_sig.is_some_and(|text| text.len() == 88));
            format!(
                "{} {} {} {}",
                entry.kind,
                entry.decision.unwrap_or_default(),
                entry.reason.unwrap_or_default(),
                entry.seq.unwrap()
            )
        })
        .collect()
}

/// A door report as the agent signs it.
fn door(
    journal: &Journal,
    gate: &Gate,
    rig: &Rig,
    transaction: TransactionId,
    sequence: u64,
) -> SignedDoorReport {
    let report = DoorReport {
        version: PROTOCOL_VERSION,
        transaction,
        gate: gate.id.clone(),
        outcome: DoorOutcome::Fault,
        at: rig.clock.now(),
        sequence,
    };
    SignedDoorReport {
        version: PROTOCOL_VERSION,
        gate: gate.id.clone(),
        key: journal.signer.verifier().to_string(),
        note: journal
            .signer
            .sign(&SignedDoorReport::text(
                &serde_json::to_string(&report).unwrap(),
            ))
            .unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchanged_or_unsigned_door_report_is_an_entry_once_and_no_report_is_lost() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let passage: Vec<TransactionId> = (0..9).map(|number| rig.transaction(number)).collect();
    let journal = Journal::new(&gate, 1);
    let send =
        async |report: &SignedDoorReport| gate.client.post(paths::DOOR_REPORT, report).await.status;
    let faults = async || -> Vec<String> {
        let rows = rig.state.store.log_entries(0, 1_000).await.unwrap();
        rows.iter()
            .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
            .filter(|entry| {
                ["door", "gate_sequence", "gate_event_key"].contains(&entry.kind.as_str())
            })
            .map(|entry| {
                format!(
                    "{} {} {}",
                    entry.seq.unwrap_or_default(),
                    entry.reason.clone().unwrap_or(entry.kind),
                    if entry.gate_sig.is_some() {
                        "signed"
                    } else {
                        ""
                    }
                )
            })
            .collect()
    };
    // A gate that begins to sign goes on counting.
    let plain = DoorReport {
        version: PROTOCOL_VERSION,
        transaction: passage[0],
        gate: gate.id.clone(),
        outcome: DoorOutcome::Fault,
        at: rig.clock.now(),
        sequence: 1,
    };
    assert_eq!(
        gate.client.post(paths::DOOR_REPORT, &plain).await.status,
        204
    );
    let second = door(&journal, &gate, &rig, passage[1], 2);
    assert_eq!(send(&second).await, 204);
    assert_eq!(send(&second).await, 204, "a retry");
    assert_eq!(
        faults().await,
        ["1 door ", "0 gate_event_key ", "2 door signed"]
    );
    // 3 and 4 are missing; 3 comes late; another 5; and another story about a passage.
    assert_eq!(send(&door(&journal, &gate, &rig, passage[5], 5)).await, 204);
    assert_eq!(send(&door(&journal, &gate, &rig, passage[3], 3)).await, 204);
    assert_eq!(send(&door(&journal, &gate, &rig, passage[6], 5)).await, 204);
    let other_story = door(&journal, &gate, &rig, passage[5], 6);
    for _ in 0..3 {
        assert_eq!(send(&other_story).await, 409);
    }
    // Without the signature.
    let unsigned = DoorReport {
        transaction: passage[7],
        sequence: 6,
        ..plain.clone()
    };
    assert_eq!(
        gate.client.post(paths::DOOR_REPORT, &unsigned).await.status,
        204
    );
    assert_eq!(
        faults().await[3..],
        [
            "5 gap signed",
            "5 door signed",
            "3 late signed",
            "3 door signed",
            "5 duplicate_differs signed",
            "5 door signed",
            "6 passage_differs signed",
            "6 unsigned ",
            "6 gap ",
            "6 door ",
        ]
    );
    // Another gate's key, a changed text, a number that cannot be: nothing is recorded.
    let before = faults().await;
    let mut changed = door(&journal, &gate, &rig, passage[8], 7);
    changed.note = changed.note.replace("fault", "released");
    assert_eq!(send(&changed).await, 400);
    let mut foreign = door(&journal, &gate, &rig, passage[8], 7);
    foreign.key = NoteSigner::new("sallyport/gate-events/other", &[1; 32])
        .unwrap()
        .verifier()
        .to_string();
    assert_eq!(send(&foreign).await, 400);
    assert_eq!(send(&door(&journal, &gate, &rig, passage[8], 0)).await, 400);
    assert_eq!(faults().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_in_the_log_from_begin_to_end_and_on_every_page_until_then() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let mut journal = Journal::new(&gate, 1);
    let release = rig.transaction(1);
    let person = rig.transaction(2);
    let first = journal.event(&rig, began(release));
    assert_eq!(send(&gate, &first).await.status, 204);
    assert_eq!(send(&gate, &first).await.status, 204, "a retry");
    let browser = Browser::signed_in_as(&rig, "Officer One", Role::GateOfficer).await;
    let page = browser.get("/").await;
    assert!(
        page.contains("the doors of gate front-in are free"),
        "{page}"
    );
    assert!(page.contains("until now"), "{page}");
    let came = GateEventBody::LifeSafetyPassage {
        release,
        transaction: person,
    };
    let came = journal.event(&rig, came);
    assert_eq!(send(&gate, &came).await.status, 204);
    rig.clock.advance_millis(60_000);
    let end = GateEventBody::LifeSafetyEnded {
        release,
        found: false,
    };
    let end = journal.event(&rig, end);
    assert_eq!(send(&gate, &end).await.status, 204);
    // Whatever of it is sent again changes nothing.
    for event in [&first, &came, &end] {
        assert_eq!(send(&gate, event).await.status, 204);
    }
    assert_eq!(
        told(&rig).await,
        [
            "life_safety_release begin fire_input 1",
            "life_safety_passage  door_free 2",
            "life_safety_release end restored 3",
        ]
    );
    let page = browser.get("/").await;
    assert!(!page.contains("are free"), "{page}");
    assert!(page.contains("fire alarm"), "{page}");
    rig.clock.advance_millis(13 * 3_600_000);
    gate_events::load_releases(&rig.state).await.unwrap();
    assert!(rig.state.releases().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_goes_on_is_known_after_a_restart_of_the_server() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let mut journal = Journal::new(&gate, 1);
    let release = journal.event(&rig, began(rig.transaction(1)));
    assert_eq!(send(&gate, &release).await.status, 204);
    let rig = rig.restart().await;
    gate_events::load_releases(&rig.state).await.unwrap();
    assert_eq!(rig.state.releases().len(), 1);
    assert_eq!(rig.state.releases()[0].gate, "front-in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_without_a_server_stands_in_the_log_with_its_cause_and_what_was_decided_meanwhile() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let mut journal = Journal::new(&gate, 1);
    let (person, since) = (rig.transaction(7), rig.clock.now());
    for body in [
        missing(DegradedCause::Network),
        GateEventBody::Undecided {
            transaction: person,
        },
        GateEventBody::OfficerDecided {
            transaction: Some(person),
            decision: SpotDecision::TurnedAway,
            officer: "Officer Marker-Name".to_owned(),
            reason: "unknown to Marker-Reason".to_owned(),
        },
        GateEventBody::DegradedEnded {
            cause: DegradedCause::Network,
            began_at: since,
            undecided: 1,
            found: false,
        },
    ] {
        let event = journal.event(&rig, body);
        assert_eq!(send(&gate, &event).await.status, 204);
    }
    assert_eq!(
        told(&rig).await,
        [
            "gate_degraded begin network 1",
            "undecided  no_decision 2",
            "officer_at_gate turned_away on_the_spot 3",
            "gate_degraded end network 4",
        ]
    );
    let rows = rig.state.store.log_entries(0, 1_000).await.unwrap();
    let mut opened = 0;
    for (index, bytes) in &rows {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(!text.contains("Marker"), "names are sealed: {text}");
        if text.contains("officer_at_gate") {
            let detail = sallyport_server::audit::detail(&rig.state, *index).await;
            let detail = String::from_utf8(detail.unwrap().unwrap().to_vec()).unwrap();
            assert!(detail.contains("Officer Marker-Name"), "{detail}");
            opened += 1;
        }
    }
    assert_eq!(opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_another_content_under_a_number_and_a_broken_chain_are_alarms_once() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let mut journal = Journal::new(&gate, 1);
    let first = journal.event(&rig, missing(DegradedCause::Network));
    let second = journal.event(&rig, missing(DegradedCause::Camera));
    let third = journal.event(&rig, missing(DegradedCause::Model));
    assert_eq!(send(&gate, &first).await.status, 204);
    assert_eq!(send(&gate, &third).await.status, 204);
    assert_eq!(send(&gate, &second).await.status, 204);
    // Another content under number 2, sent twice.
    let mut forged = Journal::new(&gate, 1);
    forged.sequence = 1;
    let other = forged.event(&rig, missing(DegradedCause::Clock));
    for _ in 0..2 {
        assert_eq!(
            send(&gate, &other).await.refused(),
            (409, "conflict".to_owned())
        );
    }
    // The right number on a chain that is not ours.
    forged.sequence = 3;
    let strange = forged.event(&rig, missing(DegradedCause::Clock));
    assert_eq!(send(&gate, &strange).await.status, 204);
    assert_eq!(
        told(&rig).await,
        [
            "gate_degraded begin network 1",
            "gate_sequence  gap 3",
            "gate_degraded begin model 3",
            "gate_sequence  late 2",
            "gate_degraded begin camera 2",
            "gate_sequence  duplicate_differs 2",
            "gate_sequence  chain_broken 4",
            "gate_degraded begin clock 4",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gate_did_not_sign_is_refused_and_a_new_key_is_an_entry() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let other = rig.gate("front-out").await;
    let mut journal = Journal::new(&gate, 1);
    let good = journal.event(&rig, missing(DegradedCause::Network));
    let refused = (400, "invalid".to_owned());
    let mut wrong = good.clone();
    wrong.note = wrong.note.replace("network", "server");
    assert_eq!(send(&gate, &wrong).await.refused(), refused);
    wrong = good.clone();
    wrong.key = Journal::new(&gate, 2).signer.verifier().to_string();
    assert_eq!(send(&gate, &wrong).await.refused(), refused);
    // Another gate's key, name and event.
    assert_eq!(send(&other, &good).await.refused().0, 403);
    let mut theirs = Journal::new(&other, 3).event(&rig, missing(DegradedCause::Network));
    theirs.gate = gate.id.clone();
    assert_eq!(send(&gate, &theirs).await.refused(), refused);
    for text in [
        "{}\n",
        "not json\n",
        "\"\"\n",
        "{\"purpose\":\"sallyport/door-order/1\"}\n",
    ] {
        let event = journal.signed(text);
        assert_eq!(send(&gate, &event).await.refused(), refused, "{text}");
    }
    let long = GateEventBody::OfficerDecided {
        transaction: None,
        decision: SpotDecision::Admitted,
        officer: "x".repeat(501),
        reason: String::new(),
    };
    let long = Journal::new(&gate, 1).event(&rig, long);
    assert_eq!(send(&gate, &long).await.refused(), refused);
    assert!(told(&rig).await.is_empty());
    assert_eq!(send(&gate, &good).await.status, 204);
    let again = Journal::new(&gate, 9).event(&rig, missing(DegradedCause::Network));
    assert_eq!(send(&gate, &again).await.status, 204);
    let rows = rig.state.store.log_entries(0, 1_000).await.unwrap();
    let keys = rows
        .iter()
        .filter(|(_, bytes)| Entry::from_bytes(bytes).unwrap().kind == "gate_event_key");
    assert_eq!(keys.count(), 2);
}
