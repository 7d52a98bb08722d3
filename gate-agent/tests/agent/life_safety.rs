//! Release for life safety: no grant, no server, no network; written down afterwards, whatever is killed in between.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sallyport_domain::{GateId, Timestamp, TransactionId};
use sallyport_gate::door::{DoorFault, SimulatedDoor};
use sallyport_gate::event::AgentEvent;
use sallyport_gate::journal::Journal;
use sallyport_gate::life_safety::{
    FileInput, LifeSafetyDoor, LifeSafetyParts, OnFault, Ongoing, ReleaseRequest, SpotNote, Watch,
    ask, leave_note,
};
use sallyport_gate::spool::{FileDisk, Spool, SpoolLimits};
use sallyport_protocol::{
    DegradedCause, GateEvent, GateEventBody, LifeSafetySource, ReleaseAction, SpotDecision,
};
use sha2::{Digest as _, Sha256};

use crate::gate::{Gate, policy};
use crate::support::{Behaviour, FakeServer, Tls, deps, wall};

fn freed(event: &AgentEvent) -> bool {
    matches!(
        event,
        AgentEvent::LifeSafety {
            released: true,
            problem: None
        }
    )
}

fn restored(event: &AgentEvent) -> bool {
    matches!(
        event,
        AgentEvent::LifeSafety {
            released: false,
            problem: None
        }
    )
}

/// Waits until the server has an event that is wanted; all that it has then.
fn reported(gate: &Gate, wanted: impl Fn(&GateEventBody) -> bool) -> Vec<GateEvent> {
    loop {
        let events = gate.server.seen(|seen| seen.gate_events.clone());
        if events.iter().any(|event| wanted(&event.body)) {
            return events;
        }
        gate.until(|event| matches!(event, AgentEvent::Delivered { .. }));
    }
}

/// Numbers without gap, each chained to the one before, signed by one key.
fn assert_chained(gate: &Gate) {
    gate.server.seen(|seen| {
        let mut previous = String::new();
        for (index, (event, text)) in seen
            .gate_events
            .iter()
            .zip(&seen.gate_event_texts)
            .enumerate()
        {
            assert_eq!(event.sequence, index as u64 + 1);
            assert_eq!(event.previous, previous);
            previous = hex::encode(Sha256::digest(text));
        }
    });
}

/// A machine under load may be too slow for the cameras and clocks of these tests.
fn of_load(event: &GateEvent) -> bool {
    matches!(
        event.body,
        GateEventBody::DegradedBegan {
            cause: DegradedCause::Camera | DegradedCause::Clock
        } | GateEventBody::DegradedEnded {
            cause: DegradedCause::Camera | DegradedCause::Clock,
            ..
        }
    )
}

fn marker(folder: &Path) -> PathBuf {
    folder.join("door/life-safety")
}

#[test]
fn fire_frees_the_doors_with_the_network_cut_and_is_reported_when_it_is_back() {
    let gate = Gate::start(Behaviour::Grant);
    gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    gate.server.seen(|seen| seen.cut = true);
    gate.until(|event| matches!(event, AgentEvent::HeartbeatFailed { .. }));
    gate.fire(true);
    gate.until(freed);
    assert!(marker(gate.folder.path()).exists());
    gate.fire(false);
    gate.until(restored);
    assert!(!marker(gate.folder.path()).exists());
    assert_eq!(gate.releases(), 0, "no grant is invented");
    gate.server.seen(|seen| {
        assert!(seen.gate_events.is_empty());
        seen.cut = false;
    });
    let ended = |body: &GateEventBody| {
        matches!(
            body,
            GateEventBody::DegradedEnded {
                cause: DegradedCause::Network,
                ..
            }
        )
    };
    let events = reported(&gate, ended);
    assert_chained(&gate);
    let events: Vec<_> = events.iter().filter(|event| !of_load(event)).collect();
    let bodies: Vec<_> = events.iter().map(|event| &event.body).collect();
    let [
        GateEventBody::DegradedBegan {
            cause: DegradedCause::Network,
        },
        GateEventBody::LifeSafetyBegan {
            release,
            source: LifeSafetySource::FireInput,
            doors,
            found: false,
            ..
        },
        GateEventBody::LifeSafetyEnded {
            release: end,
            found: false,
        },
        GateEventBody::DegradedEnded { found: false, .. },
    ] = bodies[..]
    else {
        panic!("{bodies:?}");
    };
    assert_eq!(release, end);
    assert_eq!(doors, &["front-in"]);
    assert!(events[1].mono_us <= events[2].mono_us);
}

#[test]
fn people_who_come_meanwhile_are_decided_as_always_and_marked() {
    let gate = Gate::start(Behaviour::Refuse);
    gate.fire(true);
    gate.until(freed);
    gate.person(1);
    gate.until(|event| matches!(event, AgentEvent::Decided { .. }));
    let events = reported(&gate, |body| {
        matches!(body, GateEventBody::LifeSafetyPassage { .. })
    });
    assert_chained(&gate);
    assert_eq!(gate.releases(), 0);
    gate.server.seen(|seen| {
        let came = events.iter().find_map(|event| match &event.body {
            GateEventBody::LifeSafetyPassage { transaction, .. } => Some(*transaction),
            _ => None,
        });
        assert_eq!(came, Some(seen.requests[0].transaction));
    });
}

#[test]
fn a_restart_in_the_middle_keeps_the_release_and_names_it_once() {
    let mut gate = Gate::start(Behaviour::Grant);
    gate.fire(true);
    gate.until(freed);
    reported(&gate, |body| {
        matches!(body, GateEventBody::LifeSafetyBegan { .. })
    });
    gate.end();
    gate.restart(policy());
    gate.until(freed);
    gate.fire(false);
    gate.until(restored);
    let events = reported(&gate, |body| {
        matches!(body, GateEventBody::LifeSafetyEnded { .. })
    });
    assert_chained(&gate);
    let began = events
        .iter()
        .filter(|event| matches!(event.body, GateEventBody::LifeSafetyBegan { .. }));
    assert_eq!(began.count(), 1);
    let epochs: Vec<u64> = events
        .iter()
        .filter(|event| !of_load(event))
        .map(|event| event.epoch)
        .collect();
    assert!(epochs[0] < epochs[1], "{epochs:?}");
}

#[test]
fn a_supervisors_order_frees_the_doors_stands_over_a_restart_and_ends_by_another() {
    let mut gate = Gate::start(Behaviour::Grant);
    gate.server
        .seen(|seen| seen.release = Some(ReleaseAction::Free));
    gate.until(freed);
    let events = reported(&gate, |body| {
        matches!(body, GateEventBody::LifeSafetyBegan { .. })
    });
    let began = events.iter().find_map(|event| match &event.body {
        GateEventBody::LifeSafetyBegan {
            source,
            officer,
            reason,
            found,
            ..
        } => Some((*source, officer.clone(), reason.clone(), *found)),
        _ => None,
    });
    let officer = "0192f0c4-7b3a-7c1d-9f00-000000000001".to_owned();
    let reason = "smoke in the corridor".to_owned();
    assert_eq!(
        began,
        Some((LifeSafetySource::Console, officer, reason, false))
    );
    // The fire alarm comes and goes meanwhile; the order still stands.
    gate.server.seen(|seen| seen.release = None);
    gate.fire(true);
    gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    gate.fire(false);
    gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    gate.end();
    gate.restart(policy());
    gate.until(freed);
    gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    assert!(marker(gate.folder.path()).exists());
    gate.server
        .seen(|seen| seen.release = Some(ReleaseAction::End));
    gate.until(restored);
    let events = reported(&gate, |body| {
        matches!(body, GateEventBody::LifeSafetyEnded { .. })
    });
    assert_chained(&gate);
    let began = events
        .iter()
        .filter(|event| matches!(event.body, GateEventBody::LifeSafetyBegan { .. }));
    assert_eq!(began.count(), 1);
    assert_eq!(gate.releases(), 0, "no grant is invented");
}

#[test]
fn a_broken_line_is_an_alarm_and_no_release_and_no_all_clear() {
    let gate = Gate::start(Behaviour::Grant);
    gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    std::fs::remove_file(gate.fire_line()).unwrap();
    gate.until(
        |event| matches!(event, AgentEvent::Trouble { problem } if problem.contains("fire input")),
    );
    reported(&gate, |body| {
        matches!(
            body,
            GateEventBody::DegradedBegan {
                cause: DegradedCause::FireInput
            }
        )
    });
    assert!(!marker(gate.folder.path()).exists());
    gate.fire(true);
    gate.until(freed);
    std::fs::remove_file(gate.fire_line()).unwrap();
    gate.until(|event| matches!(event, AgentEvent::Trouble { .. }));
    assert!(marker(gate.folder.path()).exists());
    gate.fire(false);
    gate.until(restored);
}

#[test]
fn an_officer_at_the_gate_machine_frees_the_doors_and_writes_down_what_he_decided() {
    let gate = Gate::start(Behaviour::Failing);
    gate.person(1);
    let events = gate.until(|event| matches!(event, AgentEvent::Undecided { .. }));
    let undecided = events.iter().find_map(|event| match event {
        AgentEvent::Undecided { transaction, .. } => Some(*transaction),
        _ => None,
    });
    let state = gate.folder.path().join("state");
    let note = SpotNote {
        transaction: undecided,
        decision: SpotDecision::Admitted,
        officer: "Officer 7".to_owned(),
        reason: "known by sight".to_owned(),
        at: wall(),
    };
    let name = TransactionId::new(note.at, [1; 10]);
    leave_note(&state, name, &note).unwrap();
    let request = ReleaseRequest {
        officer: "Officer 7".to_owned(),
        reason: "smoke in the corridor".to_owned(),
    };
    ask(&state, Some(&request)).unwrap();
    gate.until(freed);
    ask(&state, None).unwrap();
    gate.until(restored);
    let events = reported(&gate, |body| {
        matches!(body, GateEventBody::LifeSafetyEnded { .. })
    });
    assert!(events.iter().any(|event| matches!(&event.body,
        GateEventBody::OfficerDecided { transaction, decision: SpotDecision::Admitted, .. } if *transaction == undecided)));
    assert!(events.iter().any(|event| matches!(&event.body,
        GateEventBody::Undecided { transaction } if Some(*transaction) == undecided)));
    assert!(events.iter().any(|event| matches!(&event.body,
        GateEventBody::LifeSafetyBegan { source: LifeSafetySource::Officer, reason, .. } if reason == "smoke in the corridor")));
    assert_chained(&gate);
    assert_eq!(std::fs::read_dir(state.join("notes")).unwrap().count(), 0);
}

/// Where the child of the next test works.
const FOLDER: &str = "SALLYPORT_TEST_FOLDER";

/// Frees the door and then hangs, before anybody can write down that it did.
struct Hanging(SimulatedDoor);

impl LifeSafetyDoor for Hanging {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }
    fn free(&mut self, release: TransactionId, at: Timestamp) -> Result<(), DoorFault> {
        self.0.free(release, at)?;
        println!("freed");
        loop {
            std::thread::park();
        }
    }
    fn restore(&mut self, release: TransactionId, at: Timestamp) -> Result<(), DoorFault> {
        self.0.restore(release, at)
    }
    fn standing(&self) -> Option<(TransactionId, Timestamp)> {
        self.0.standing()
    }
}

#[test]
#[ignore = "the child of the next test, which kills it"]
fn child_that_is_killed() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the parent says where its folder is"
    )]
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let gate: GateId = "front-in".parse().unwrap();
    let spool = Spool::open(
        &folder.join("state/spool"),
        SpoolLimits::default(),
        Arc::new(FileDisk),
    );
    let journal = Journal::open(
        &folder.join("state"),
        &gate,
        Arc::new(spool.unwrap()),
        deps(),
    )
    .unwrap();
    let (deps, ongoing) = (deps(), Ongoing::default());
    let door = SimulatedDoor::new(gate, &folder.join("door"), false).unwrap();
    let parts = LifeSafetyParts {
        input: Some(Box::new(FileInput::new(&folder.join("fire-line"), true))),
        on_fault: OnFault::Alarm,
        debounce: Duration::ZERO,
        doors: Box::new(Hanging(door)),
    };
    let mut watch = Watch::begin(parts, &*deps.clock, &journal, &|_| {}, &ongoing);
    watch.look();
}

#[test]
fn an_agent_killed_between_release_and_report_loses_nothing() {
    let server = FakeServer::start(Behaviour::Grant, Tls::Good);
    let folder = tempfile::tempdir().unwrap();
    server.join(&folder.path().join("state"));
    let mut gate = Gate::before(server, folder);
    gate.fire(true);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "life_safety::child_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(FOLDER, gate.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let freed_by_child = lines
        .map_while(Result::ok)
        .any(|line| line.contains("freed"));
    assert!(freed_by_child);
    child.kill().unwrap();
    child.wait().unwrap();
    let said = std::fs::read_to_string(marker(gate.folder.path())).unwrap();
    let release: TransactionId = said.split_once(' ').unwrap().0.parse().unwrap();
    gate.restart(policy());
    let events = reported(&gate, |body| {
        matches!(body, GateEventBody::LifeSafetyBegan { .. })
    });
    assert!(events.iter().any(|event| matches!(&event.body,
        GateEventBody::LifeSafetyBegan { release: named, found: true, .. } if *named == release)));
    gate.fire(false);
    gate.until(restored);
    reported(
        &gate,
        |body| matches!(body, GateEventBody::LifeSafetyEnded { release: named, .. } if *named == release),
    );
    assert_chained(&gate);
}
