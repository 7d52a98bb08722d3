//! Joining a server: the first connection is pinned by the token, and nothing less will do.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Behaviour, FakeServer, Tls, deps};
use sallyport_gate::join::{Again, JoinError, join};
use sallyport_gate::state::StateError;

#[test]
fn a_gate_joins_and_keeps_its_key_to_itself() {
    let server = FakeServer::start(Behaviour::Grant, Tls::Good);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state");
    let (state, identity) = server.join(&place);
    assert_eq!(identity.gate.as_str(), "front-in");
    assert_eq!(state.identity().unwrap().server, server.address);
    let key = std::fs::read_to_string(place.join("device.key")).unwrap();
    let mode = std::fs::metadata(place.join("device.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    server.seen(|seen| {
        assert!(seen.joins[0].csr_pem.contains("CERTIFICATE REQUEST"));
        assert!(!seen.joins[0].csr_pem.contains("PRIVATE"));
        let secret: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(!seen.joins[0].csr_pem.replace('\n', "").contains(&secret));
    });
    let again = join(
        &server.address,
        &server.token,
        &place,
        deps().clock,
        Again::No,
    )
    .unwrap_err();
    assert!(
        matches!(again, JoinError::State(StateError::AlreadyJoined(..))),
        "{again}"
    );
}

#[test]
fn another_authority_a_missing_one_and_old_tls_are_refused_before_the_secret_is_sent() {
    let other = "0".repeat(64);
    for (tls, pin) in [
        (Tls::Good, Some(other)),
        (Tls::WithoutCa, None),
        (Tls::Old, None),
    ] {
        let server = FakeServer::start(Behaviour::Grant, tls);
        let folder = tempfile::tempdir().unwrap();
        let mut token = server.token.clone();
        if let Some(pin) = pin {
            token.ca_sha256 = pin;
        }
        let error = join(
            &server.address,
            &token,
            folder.path(),
            deps().clock,
            Again::No,
        )
        .unwrap_err();
        assert!(matches!(error, JoinError::Uplink(_)), "{tls:?}: {error}");
        assert!(!error.to_string().contains(&token.secret));
        server.seen(|seen| assert!(seen.joins.is_empty(), "{tls:?}"));
    }
}

#[test]
fn a_server_of_another_name_is_refused() {
    let server = FakeServer::start(Behaviour::Grant, Tls::Good);
    let folder = tempfile::tempdir().unwrap();
    let address = server.address.replace("localhost", "127.0.0.1");
    assert!(
        join(
            &address,
            &server.token,
            folder.path(),
            deps().clock,
            Again::No
        )
        .is_err()
    );
    server.seen(|seen| assert!(seen.joins.is_empty()));
}
