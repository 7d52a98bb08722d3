//! Whole passages through a running agent: which answers open the door, and which never do.

use std::sync::atomic::Ordering;

use crate::gate::{Gate, policy};
use crate::support::Behaviour;
use sallyport_domain::{QualityDefect, Verdict};
use sallyport_gate::event::AgentEvent;
use sallyport_protocol::DoorOutcome;

fn delivered(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::Delivered { .. })
}

fn idle(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::Idle)
}

#[test]
fn a_grant_opens_the_door_once_and_is_reported() {
    let gate = Gate::start(Behaviour::Grant);
    gate.person(1);
    gate.until(delivered);
    gate.person(0);
    gate.until(idle);
    gate.person(2);
    gate.until(delivered);
    assert_eq!(gate.releases(), 2);
    gate.server.seen(|seen| {
        assert_eq!(seen.requests.len(), 2);
        assert_ne!(seen.requests[0].door_nonce, seen.requests[1].door_nonce);
        assert_ne!(seen.requests[0].transaction, seen.requests[1].transaction);
        assert_eq!(seen.doors.len(), 2);
        assert!(
            seen.doors
                .iter()
                .all(|report| report.outcome == DoorOutcome::Released)
        );
        assert_eq!([seen.doors[0].sequence, seen.doors[1].sequence], [1, 2]);
        let sealed = seen.requests[0].attachment.as_ref().unwrap();
        assert!(
            !sealed.ciphertext.contains("anBlZw"),
            "the picture travels sealed"
        );
        assert_eq!(seen.clients_without_certificate, 0);
    });
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_transaction() {
    let gate = Gate::start(Behaviour::BreakOnce);
    gate.person(1);
    gate.until(delivered);
    assert_eq!(gate.releases(), 1);
    gate.server.seen(|seen| {
        assert!(seen.requests.len() >= 2);
        assert!(
            seen.requests
                .iter()
                .all(|r| r.transaction == seen.requests[0].transaction)
        );
        assert_eq!(seen.doors.len(), 1);
    });
}

#[test]
fn answers_that_are_no_valid_grant_never_open() {
    for behaviour in [
        Behaviour::Refuse,
        Behaviour::Silent,
        Behaviour::Failing,
        Behaviour::OtherGate,
        Behaviour::Forged,
        Behaviour::NoOrder,
        Behaviour::RefuseWithOrder,
    ] {
        let gate = Gate::start(behaviour);
        gate.person(1);
        let events = gate.until(
            |event| matches!(event, AgentEvent::Shown { sentence } if sentence.contains("officer")),
        );
        gate.person(0);
        gate.until(idle);
        assert_eq!(gate.releases(), 0, "{behaviour:?}");
        assert!(
            !events
                .iter()
                .any(|event| matches!(event, AgentEvent::DoorReleased { .. })),
            "{behaviour:?}"
        );
    }
}

#[test]
fn an_order_that_was_not_obeyed_is_reported() {
    let gate = Gate::start(Behaviour::OtherGate);
    gate.person(1);
    gate.until(delivered);
    assert_eq!(gate.releases(), 0);
    gate.server
        .seen(|seen| assert_eq!(seen.doors[0].outcome, DoorOutcome::OrderRejected));
}

#[test]
fn an_officers_grant_opens_for_a_person_who_waited_and_not_for_one_who_left() {
    let gate = Gate::start(Behaviour::Refer);
    // Nobody stands there yet: otherwise the decision may come before the heartbeat, and be missed below.
    gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    gate.person(1);
    let referred = |event: &AgentEvent| {
        matches!(
            event,
            AgentEvent::Decided {
                verdict: Verdict::Refer,
                ..
            }
        )
    };
    gate.until(referred);
    let transaction = gate.server.seen(|seen| seen.requests[0].transaction);
    gate.server
        .seen(|seen| seen.reviews.insert(transaction, Verdict::Grant));
    gate.until(delivered);
    assert_eq!(gate.releases(), 1);
    gate.person(0);
    gate.until(idle);

    gate.person(2);
    gate.until(referred);
    gate.person(0);
    gate.until(idle);
    let transaction = gate.server.seen(|seen| seen.requests[1].transaction);
    gate.server
        .seen(|seen| seen.reviews.insert(transaction, Verdict::Grant));
    gate.person(3);
    gate.until(referred);
    assert_eq!(gate.releases(), 1);
}

#[test]
fn a_blurred_person_is_told_what_to_do_and_recorded() {
    let gate = Gate::start(Behaviour::Grant);
    gate.person(100);
    let events = gate.until(delivered);
    assert!(events.contains(&AgentEvent::Cue {
        defect: QualityDefect::Blurred
    }));
    assert!(events.iter().any(|event| matches!(
        event,
        AgentEvent::Shown { sentence } if sentence == QualityDefect::Blurred.cue()
    )));
    gate.server.seen(|seen| {
        assert_eq!(seen.failures[0].defects, [QualityDefect::Blurred]);
        assert!(seen.failures[0].attachment.is_some());
        assert!(seen.requests.is_empty());
    });
    assert_eq!(gate.releases(), 0);
}

#[test]
fn reports_survive_a_restart_of_the_agent() {
    let mut gate = Gate::start(Behaviour::Grant);
    gate.server.seen(|seen| seen.reports_fail = true);
    gate.person(1);
    gate.until(|event| matches!(event, AgentEvent::DoorReleased { .. }));
    gate.person(0);
    gate.until(idle);
    gate.server.seen(|seen| assert!(seen.doors.is_empty()));
    gate.restart(policy());
    gate.server.seen(|seen| seen.reports_fail = false);
    gate.until(delivered);
    gate.server.seen(|seen| {
        assert_eq!(seen.doors.len(), 1);
        assert_eq!(seen.doors[0].transaction, seen.requests[0].transaction);
    });
    assert_eq!(gate.releases(), 1, "a restart opens nothing again");
}

#[test]
fn an_unplugged_camera_comes_back_and_the_gate_works_again() {
    let gate = Gate::start(Behaviour::Grant);
    let ok =
        |event: &AgentEvent| matches!(event, AgentEvent::Camera { health, .. } if health == "ok");
    gate.until(ok);
    gate.unplugged.store(true, Ordering::SeqCst);
    gate.until(|event| matches!(event, AgentEvent::Camera { health, .. } if health == "unplugged"));
    gate.unplugged.store(false, Ordering::SeqCst);
    gate.person(1);
    gate.until(ok);
    gate.until(delivered);
    assert_eq!(gate.releases(), 1);
}

#[test]
fn an_order_that_is_dead_by_the_servers_own_time_does_not_open() {
    let gate = Gate::start(Behaviour::Old);
    gate.until(|event| matches!(event, AgentEvent::Heartbeat));
    gate.person(1);
    let events = gate.until(delivered);
    assert!(events.iter().any(|event| matches!(
        event,
        AgentEvent::DoorNotReleased { problem, .. } if problem.contains("too late")
    )));
    assert_eq!(gate.releases(), 0);
    gate.server
        .seen(|seen| assert_eq!(seen.doors[0].outcome, DoorOutcome::OrderRejected));
}
