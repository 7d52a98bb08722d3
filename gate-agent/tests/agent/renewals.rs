//! The gate's certificate is renewed while it works, and nothing else than a good new one is taken.

use std::sync::Arc;
use std::time::Duration;

use sallyport_gate::clock::{Clock, ManualClock};
use sallyport_gate::event::AgentEvent;
use sallyport_gate::join::{Again, JoinError, join};
use sallyport_gate::renewal::{KEY_LIFETIME_MS, Life, Phase, RenewalError, Renewer};
use sallyport_gate::state::{StateError, StateFolder};
use sallyport_gate::tls;
use sallyport_gate::uplink::Uplink;

use crate::gate::{Gate, policy};
use crate::support::{Behaviour, FakeServer, Renewal, Tls, deps, wall};

/// A gate whose certificate is past half its life.
fn old_gate() -> (FakeServer, tempfile::TempDir, StateFolder) {
    let server = FakeServer::start(Behaviour::Grant, Tls::Good);
    server.seen(|seen| seen.validity = (-13, 11));
    let folder = tempfile::tempdir().unwrap();
    let (state, _) = server.join(&folder.path().join("state"));
    (server, folder, state)
}

fn renewer(state: &StateFolder) -> (Renewer, Arc<Uplink>) {
    let identity = state.identity().unwrap();
    let uplink = Arc::new(Uplink::new(
        &identity.server,
        tls::joined(&identity).unwrap(),
        deps().clock,
    ));
    let renewer = Renewer::new(identity, state.clone(), uplink.clone(), deps().clock).unwrap();
    (renewer, uplink)
}

fn kept(state: &StateFolder) -> Life {
    Life::of_pem(&state.identity().unwrap().answer.certificate_pem).unwrap()
}

#[test]
fn a_new_certificate_is_tried_used_and_kept() {
    let (server, _folder, state) = old_gate();
    let (mut renewer, uplink) = renewer(&state);
    let before = kept(&state);
    assert!(renewer.is_due(wall()));
    renewer.renew().unwrap();
    assert!(!renewer.is_due(wall()));
    assert!(kept(&state).not_after > before.not_after);
    uplink.ping().unwrap();
    let newest = server.seen(|seen| seen.newest_client);
    assert_eq!(newest, kept(&state).not_before.as_micros() / 1_000_000);
}

#[test]
fn nothing_but_a_good_new_certificate_replaces_the_old_one() {
    for bad in [
        Renewal::Failing,
        Renewal::OtherKey,
        Renewal::Shorter,
        Renewal::OtherDoorKey,
        Renewal::OtherAuthority,
    ] {
        let (server, folder, state) = old_gate();
        server.seen(|seen| seen.renewal = bad);
        let before = std::fs::read(folder.path().join("state/join.json")).unwrap();
        let (mut renewer, uplink) = renewer(&state);
        let error = renewer.renew().unwrap_err();
        let expected = match bad {
            Renewal::Failing => matches!(error, RenewalError::Uplink(_)),
            Renewal::OtherAuthority => matches!(error, RenewalError::NotAccepted(_)),
            _ => matches!(error, RenewalError::NotOurs(_)),
        };
        assert!(expected, "{bad:?}: {error}");
        assert!(renewer.is_due(wall()), "{bad:?}");
        let after = std::fs::read(folder.path().join("state/join.json")).unwrap();
        assert_eq!(before, after, "{bad:?}");
        uplink.ping().unwrap();
        // It works as soon as the server does.
        server.seen(|seen| seen.renewal = Renewal::Good);
        renewer.renew().unwrap();
    }
}

#[test]
fn a_certificate_that_cannot_be_kept_is_used_and_kept_later() {
    let (server, folder, state) = old_gate();
    let (mut renewer, uplink) = renewer(&state);
    // A folder in the way of the temporary file stands for a disk that takes nothing.
    let obstacle = folder.path().join("state/join.json.tmp");
    std::fs::create_dir(&obstacle).unwrap();
    let old = kept(&state);
    assert!(matches!(
        renewer.renew(),
        Err(RenewalError::NotKept(StateError::Io { .. }))
    ));
    assert_eq!(kept(&state), old);
    uplink.ping().unwrap();
    assert!(renewer.is_due(wall()));
    std::fs::remove_dir(&obstacle).unwrap();
    renewer.renew().unwrap();
    assert!(kept(&state).not_after > old.not_after);
    assert_eq!(server.seen(|seen| seen.renewals), 1);
}

/// The same gate, whose key has been in use for so many milliseconds.
fn with_key_of(state: &StateFolder, age_ms: i64) -> (Renewer, Arc<Uplink>) {
    let identity = state.identity().unwrap();
    let since = Some(wall().plus_millis(-age_ms));
    state
        .keep_joined(&identity.gate, &identity.server, &identity.answer, since)
        .unwrap();
    renewer(state)
}

#[test]
fn before_thirty_days_the_key_stays() {
    let (_server, _folder, state) = old_gate();
    let first = state.device_key().unwrap().unwrap();
    let (mut renewer, _) = with_key_of(&state, KEY_LIFETIME_MS - 3_600_000);
    renewer.renew().unwrap();
    assert_eq!(state.device_key().unwrap().unwrap(), first);
}

#[test]
fn after_thirty_days_the_renewal_is_for_a_new_key() {
    let (server, folder, state) = old_gate();
    let file = |name: &str| folder.path().join("state").join(name);
    let first = state.device_key().unwrap().unwrap();
    let (mut renewer, uplink) = with_key_of(&state, KEY_LIFETIME_MS);
    assert!(renewer.is_key_old());
    // A server that does not do it leaves everything as it is.
    server.seen(|seen| seen.renewal = Renewal::OtherKey);
    assert!(matches!(renewer.renew(), Err(RenewalError::NotOurs(_))));
    assert_eq!(state.identity().unwrap().device_key_pem, first);
    server.seen(|seen| seen.renewal = Renewal::Good);
    renewer.renew().unwrap();
    assert!(!renewer.is_key_old());
    uplink.ping().unwrap();
    let identity = state.identity().unwrap();
    assert_ne!(identity.device_key_pem, first);
    assert!(identity.key_since.unwrap().millis_since(wall()) <= 0);
    tls::joined(&identity).unwrap();
    assert!(!file("device.key.next").exists());

    // Cut short between the new certificate and the new key: the next start finishes it.
    std::fs::rename(file("device.key"), file("device.key.next")).unwrap();
    state.keep_device_key(&first).unwrap();
    let again = state.identity().unwrap();
    assert_eq!(again.device_key_pem, identity.device_key_pem);
    assert!(!file("device.key.next").exists());
    // Cut short before: what was prepared is no one's.
    state.prepare_device_key(&first).unwrap();
    let again = state.identity().unwrap();
    assert_eq!(again.device_key_pem, identity.device_key_pem);
}

#[test]
fn a_disk_that_takes_no_new_key_does_not_keep_the_certificate_from_being_renewed() {
    let (_server, folder, state) = old_gate();
    let first = state.device_key().unwrap().unwrap();
    let (mut renewer, uplink) = with_key_of(&state, KEY_LIFETIME_MS);
    let old = kept(&state);
    std::fs::create_dir(folder.path().join("state/device.key.next.tmp")).unwrap();
    renewer.renew().unwrap();
    uplink.ping().unwrap();
    assert!(kept(&state).not_after > old.not_after);
    assert!(renewer.is_key_old());
    assert_eq!(state.device_key().unwrap().unwrap(), first);
}

#[test]
fn a_running_gate_renews_while_people_pass() {
    let (server, folder, _) = old_gate();
    let mut gate = Gate::before(server, folder);
    // The renewal is held back until a passage is being decided.
    gate.server.seen(|seen| {
        seen.renewal = Renewal::Failing;
        seen.behaviour = Behaviour::Refer;
    });
    gate.restart(policy());
    gate.person(3);
    gate.until(|event| matches!(event, AgentEvent::Decided { .. }));
    let asked = gate.server.seen(|seen| seen.renewals);
    assert!(
        asked >= 1,
        "the old certificate was not renewed at the start"
    );
    let state = StateFolder::existing(&gate.folder.path().join("state"));
    let (mut renewer, _) = renewer(&state);
    gate.server.seen(|seen| {
        seen.renewal = Renewal::Good;
        let transaction = seen.requests[0].transaction;
        seen.reviews
            .insert(transaction, sallyport_domain::Verdict::Grant);
    });
    renewer.renew().unwrap();
    gate.until(|event| matches!(event, AgentEvent::DoorReleased { .. }));
    assert_eq!(gate.releases(), 1);

    // With a server that renews, the next start does so by itself.
    gate.server.seen(|seen| seen.validity = (-13, 11));
    let place = gate.folder.path().join("state");
    gate.end();
    let deps = deps();
    join(
        &gate.server.address,
        &gate.server.token,
        &place,
        deps.clock,
        Again::SameGate,
    )
    .unwrap();
    gate.restart(policy());
    let seen = gate.until(|event| matches!(event, AgentEvent::Certificate { .. }));
    assert!(matches!(
        seen.last(),
        Some(AgentEvent::Certificate { problem, .. }) if problem.is_empty()
    ));
    assert_eq!(kept(&state).phase(wall()), Phase::Fresh);
}

#[test]
fn an_ended_certificate_is_told_once_and_joining_again_keeps_the_folder() {
    let server = FakeServer::start(Behaviour::Grant, Tls::Good);
    server.seen(|seen| seen.validity = (-25, -1));
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state");
    server.join(&place);
    let mut gate = Gate::before(server, folder);
    gate.restart(policy());
    let seen = gate.until(|event| matches!(event, AgentEvent::Certificate { .. }));
    let Some(AgentEvent::Certificate { problem, .. }) = seen.last() else {
        panic!("{seen:?}");
    };
    assert!(problem.contains("join --again"), "{problem}");
    gate.end();
    let place = gate.folder.path().join("state");
    gate.server.seen(|seen| seen.validity = (0, 24));
    let address = gate.server.address.clone();
    let key = std::fs::read(place.join("device.key")).unwrap();
    let refused = join(
        &address,
        &gate.server.token,
        &place,
        deps().clock,
        Again::No,
    )
    .unwrap_err();
    assert!(refused.to_string().contains("--again"), "{refused}");
    let mut other = gate.server.token.clone();
    other.gate = "front-out".parse().unwrap();
    let refused = join(&address, &other, &place, deps().clock, Again::SameGate).unwrap_err();
    assert!(matches!(
        refused,
        JoinError::State(StateError::AlreadyJoined(..))
    ));
    join(
        &address,
        &gate.server.token,
        &place,
        deps().clock,
        Again::SameGate,
    )
    .unwrap();
    assert_eq!(std::fs::read(place.join("device.key")).unwrap(), key);
    gate.restart(policy());
    gate.until(|event| matches!(event, AgentEvent::Heartbeat));
}

#[test]
fn the_clock_that_counts_is_the_injected_one() {
    let (_server, _folder, state) = old_gate();
    let (mut renewer, _) = renewer(&state);
    let clock = ManualClock::starting_at(wall().plus_millis(-3 * 3_600_000));
    assert!(!renewer.is_due(clock.wall()));
    clock.advance(Duration::from_secs(3 * 3_600 + 60));
    assert!(renewer.is_due(clock.wall()));
    renewer.renew().unwrap();
    assert!(!renewer.is_due(clock.wall()));
    clock.advance(Duration::from_secs(12 * 3_600));
    assert!(renewer.is_due(clock.wall()));
}
