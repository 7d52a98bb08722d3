//! What a gate, or somebody who plays one, may send: each wrong thing is refused in a sentence, and nothing is logged as a passage.

use std::sync::Arc;

use sallyport_domain::Timestamp;
use sallyport_gate::clock::SystemClock;
use sallyport_gate::state::StateFolder;
use sallyport_gate::tls;
use sallyport_gate::uplink::{Uplink, UplinkError};
use sallyport_protocol::{PROTOCOL_VERSION, paths};
use sallyport_tests::site::Site;

fn now() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test is outside the programs"
    )]
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_micros(since.as_micros() as i64)
}

fn uplink(server: &str, config: Arc<rustls::ClientConfig>) -> Uplink {
    Uplink::new(server, config, Arc::new(SystemClock::new(now)))
}

fn refusal(result: Result<(), UplinkError>) -> (u16, String) {
    match result {
        Err(UplinkError::Refused { status, code, .. }) => (status, code),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[test]
fn wrong_certificates_tokens_and_messages_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(folder.path()).unwrap();
    let state = site.join("front-in", "entry").unwrap();
    site.server_command(&["gate", "add", "front-out", "--direction", "exit"])
        .unwrap();
    let identity = StateFolder::existing(&state).identity().unwrap();
    let server = identity.server.clone();
    let joined = uplink(&server, tls::joined(&identity).unwrap());
    let heartbeat = |gate: &str, version: u16| {
        format!(r#"{{"version":{version},"gate":"{gate}","now":0,"cameras":[],"spooled":0}}"#)
    };

    // Good, then everything that is wrong with it.
    joined
        .report(
            paths::HEARTBEAT,
            heartbeat("front-in", PROTOCOL_VERSION).as_bytes(),
        )
        .unwrap();
    let send = |path: &'static str, body: &[u8]| refusal(joined.report(path, body));
    assert_eq!(
        send(
            paths::HEARTBEAT,
            heartbeat("front-out", PROTOCOL_VERSION).as_bytes()
        )
        .1,
        "gate_mismatch"
    );
    assert_eq!(
        send(paths::HEARTBEAT, heartbeat("front-in", 9).as_bytes()).1,
        "unsupported_version"
    );
    for path in [
        paths::PASSAGE,
        paths::DOOR_REPORT,
        paths::FAILED_ACQUISITION,
        paths::ENROLMENT,
        paths::HEARTBEAT,
    ] {
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"{\"version\":2}",
            b"\xff\xfe\x00",
            &[b'['; 100_000],
        ] {
            let (status, code) = send(path, body);
            assert_eq!((status, code.as_str()), (400, "malformed"), "{path}");
        }
    }
    assert_eq!(send(paths::PASSAGE, &vec![b' '; 3 * 1024 * 1024]).0, 413);

    // No certificate: every route but joining is shut.
    let ca: [u8; 32] = {
        let token = site
            .server_command(&["gate", "token", "front-out"])
            .unwrap();
        let token: sallyport_protocol::JoinToken = token.lines().last().unwrap().parse().unwrap();
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&token.ca_sha256[at..at + 2], 16).unwrap();
        }
        bytes
    };
    let stranger = uplink(&server, tls::pinned(ca).unwrap());
    for path in [
        paths::PASSAGE,
        paths::DOOR_REPORT,
        paths::FAILED_ACQUISITION,
        paths::ENROLMENT,
        paths::HEARTBEAT,
    ] {
        assert_eq!(
            refusal(stranger.report(path, heartbeat("front-in", PROTOCOL_VERSION).as_bytes())).0,
            403,
            "{path}"
        );
    }
    // Somebody else's server: the pinned authority is not in its chain.
    let elsewhere = uplink(&server, tls::pinned([7; 32]).unwrap());
    assert!(matches!(
        elsewhere.report(paths::HEARTBEAT, b"{}"),
        Err(UplinkError::Unreachable(_))
    ));

    // A certificate of another site's authority fails the handshake.
    let other_folder = tempfile::tempdir().unwrap();
    let other = Site::create(other_folder.path()).unwrap();
    let other_state = other.join("front-in", "entry").unwrap();
    let mut forged = StateFolder::existing(&other_state).identity().unwrap();
    forged.answer.ca_pem.clone_from(&identity.answer.ca_pem);
    let forged = uplink(&server, tls::joined(&forged).unwrap());
    assert!(
        forged
            .report(
                paths::HEARTBEAT,
                heartbeat("front-in", PROTOCOL_VERSION).as_bytes()
            )
            .is_err()
    );

    // A token works once, for its gate only.
    let token = site
        .server_command(&["gate", "token", "front-out"])
        .unwrap();
    let token = token.lines().last().unwrap().to_owned();
    let join = |folder: &str, token: &str| {
        let state = site.root.join(folder).display().to_string();
        site.checkout.run(
            "sallyport-gate",
            [
                "join", "--server", &server, "--token", token, "--state", &state,
            ],
        )
    };
    let for_another_gate = token.replace("front-out", "front-in");
    assert!(join("thief", &for_another_gate).is_err());
    join("out", &token).unwrap();
    let reused = join("again", &token).unwrap_err().to_string();
    assert!(reused.contains("used up"), "{reused}");
    assert!(
        !reused.contains(token.split('.').nth(2).unwrap()),
        "the error repeats the token's secret"
    );

    // A revoked gate is refused at its next request, on the connection that it has.
    site.server_command(&["gate", "revoke", "front-in"])
        .unwrap();
    assert_eq!(
        refusal(joined.report(
            paths::HEARTBEAT,
            heartbeat("front-in", PROTOCOL_VERSION).as_bytes()
        ))
        .0,
        403
    );

    let (export, _) = site.verified_log("export").unwrap();
    let table = site
        .checkout
        .run(
            "sallyport-audit",
            ["export-csv", &export.display().to_string()],
        )
        .unwrap();
    assert!(
        !table
            .lines()
            .any(|line| line.split(',').nth(2) == Some("passage")),
        "{table}"
    );
    other.server.stop().unwrap();
    site.server.stop().unwrap();
}
