//! Tokens, certificates and who may speak.

use crate::browser::{Browser, csrf};
use crate::common::{Device, Rig, TlsStream, contains, exchange};
use crate::coverage::entries;
use rustls::pki_types::ServerName;
use sallyport_domain::{GateId, Role};
use sallyport_protocol::{
    Heartbeat, HeartbeatAnswer, JoinAnswer, PROTOCOL_VERSION, RenewRequest, key_fingerprint, paths,
};
use sallyport_server::clock::Clock as _;
use sallyport_server::gates::{self, GateError};
use sallyport_server::{installation, officers, rights};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn heartbeat(rig: &Rig, gate: &GateId) -> Heartbeat {
    Heartbeat {
        version: PROTOCOL_VERSION,
        gate: gate.clone(),
        now: rig.clock.now(),
        cameras: vec![("front".to_owned(), "ok".to_owned())],
        spooled: 0,
        log: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_uses_of_one_token_exactly_one_succeeds() {
    let rig = Rig::start().await;
    let gate: GateId = "front-in".parse().unwrap();
    gates::add(
        &rig.state,
        &gate,
        sallyport_domain::Direction::Entry,
        &crate::common::policy(),
        "test",
    )
    .await
    .unwrap();
    let token = gates::token(&rig.state, &gate, "test").await.unwrap();
    let tries: Vec<_> = (0..100)
        .map(|_| {
            let (client, request) = (rig.stranger(), Device::new().request(&token));
            tokio::spawn(async move { client.post(paths::JOIN, &request).await })
        })
        .collect();
    let mut joined = 0;
    for one in tries {
        let answer = one.await.unwrap();
        if answer.status == 200 {
            joined += 1;
        } else {
            assert_eq!(answer.refused(), (403, "bad_token".to_owned()));
        }
    }
    assert_eq!(joined, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_dies_after_fifteen_minutes_and_serves_its_gate_only() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let other: GateId = "back-out".parse().unwrap();
    gates::add(
        &rig.state,
        &other,
        sallyport_domain::Direction::Exit,
        &crate::common::policy(),
        "test",
    )
    .await
    .unwrap();
    let token = gates::token(&rig.state, &gate.id, "test").await.unwrap();
    let mut request = Device::new().request(&token);
    request.gate = other;
    let answer = rig.stranger().post(paths::JOIN, &request).await;
    assert_eq!(answer.refused(), (403, "bad_token".to_owned()));

    rig.clock.advance_millis(15 * 60_000 + 1);
    let answer = rig
        .stranger()
        .post(paths::JOIN, &Device::new().request(&token))
        .await;
    assert_eq!(answer.refused(), (403, "bad_token".to_owned()));
    // Nothing of the token is in the database but its hash.
    for (path, bytes) in rig.end().await.files().await {
        assert!(
            !contains(&bytes, token.secret.as_bytes()),
            "{}",
            path.display()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signing_request_does_not_use_the_token_up() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let token = gates::token(&rig.state, &gate.id, "test").await.unwrap();
    let device = Device::new();
    let mut request = device.request(&token);
    request.csr_pem = request.csr_pem.replace('A', "B");
    let answer = rig.stranger().post(paths::JOIN, &request).await;
    assert_eq!(answer.refused(), (400, "bad_request".to_owned()));
    let _: JoinAnswer = rig
        .stranger()
        .post(paths::JOIN, &device.request(&token))
        .await
        .good();
    // The answer may be lost: the same device with a new token is the same gate.
    let again = gates::token(&rig.state, &gate.id, "test").await.unwrap();
    let _: JoinAnswer = rig
        .stranger()
        .post(paths::JOIN, &device.request(&again))
        .await
        .good();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_allowed_certificate_every_route_but_joining_is_shut() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let body = serde_json::to_vec(&heartbeat(&rig, &gate.id)).unwrap();
    for path in [
        paths::PASSAGE,
        paths::DOOR_REPORT,
        paths::FAILED_ACQUISITION,
        paths::ENROLMENT,
        paths::HEARTBEAT,
        paths::RENEW,
    ] {
        let answer = rig.stranger().send("POST", path, &body).await.unwrap();
        assert_eq!(answer.refused(), (403, "not_a_gate".to_owned()), "{path}");
    }
    let review = format!("{}?transaction={}", paths::REVIEW, rig.transaction(1));
    let answer = rig.stranger().send("GET", &review, b"").await.unwrap();
    assert_eq!(answer.refused(), (403, "not_a_gate".to_owned()));

    // A certificate of another authority does not come through the handshake.
    let other = Rig::start().await;
    let foreign = other.gate("front-in").await;
    let client = rig.client(Some((
        &foreign.answer.certificate_pem,
        &foreign.device.key_pem,
    )));
    assert!(client.send("POST", paths::HEARTBEAT, &body).await.is_err());

    // A certificate of ours whose key was never allowed: signed, but not in the list.
    let device = Device::new();
    let certificate = rig
        .state
        .authority
        .gate_certificate(&gate.id, &device.csr_pem, rig.clock.now())
        .unwrap();
    let client = rig.client(Some((&certificate.pem, &device.key_pem)));
    let answer = client.send("POST", paths::HEARTBEAT, &body).await.unwrap();
    assert_eq!(answer.refused(), (403, "not_a_gate".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_speaks_for_itself_only() {
    let rig = Rig::start().await;
    let front = rig.gate("front-in").await;
    let back = rig.gate("back-in").await;
    let answer = front
        .client
        .post(paths::HEARTBEAT, &heartbeat(&rig, &back.id))
        .await;
    assert_eq!(answer.refused(), (403, "gate_mismatch".to_owned()));
    let mut request = front.request(rig.transaction(1), crate::common::template(1));
    request.direction = sallyport_domain::Direction::Exit;
    let answer = front.client.post(paths::PASSAGE, &request).await;
    assert_eq!(answer.refused(), (400, "invalid".to_owned()));
    let answer: HeartbeatAnswer = front
        .client
        .post(paths::HEARTBEAT, &heartbeat(&rig, &front.id))
        .await
        .good();
    assert_eq!(answer.now, rig.clock.now());
}

/// The next that comes on a connection: nothing, when it is cut.
async fn is_cut(stream: &mut TlsStream) {
    let mut byte = [0];
    let came = stream.read(&mut byte).await;
    assert!(matches!(came, Ok(0) | Err(_)), "{came:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_cuts_open_connections_at_once_and_the_key_for_ever() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let side = rig.gate("side").await;
    let body = serde_json::to_vec(&heartbeat(&rig, &gate.id)).unwrap();
    let mut asked = gate.client.connect().await.unwrap();
    let answer = exchange(&mut asked, "POST", paths::HEARTBEAT, &body)
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    // One that has asked nothing yet, one that is in the middle of a request, and another gate's.
    let mut silent = gate.client.connect().await.unwrap();
    let mut half = gate.client.connect().await.unwrap();
    half.write_all(b"POST /gate/v1/heart").await.unwrap();
    half.flush().await.unwrap();
    let mut other = side.client.connect().await.unwrap();
    let beat = serde_json::to_vec(&heartbeat(&rig, &side.id)).unwrap();
    let answer = exchange(&mut other, "POST", paths::HEARTBEAT, &beat)
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    // By another process; this server's chores read the log every second.
    let elsewhere = installation::open(&crate::common::data(&rig.folder), rig.clock.clone())
        .await
        .unwrap();
    assert_eq!(
        gates::revoke(&elsewhere, &gate.id, "test").await.unwrap(),
        1
    );
    rights::waiting(&rig.state).await.unwrap();
    for stream in [&mut asked, &mut silent, &mut half] {
        is_cut(stream).await;
    }
    let answer = exchange(&mut other, "POST", paths::HEARTBEAT, &beat)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "another gate's goes on");
    let answer = gate.client.send("POST", paths::HEARTBEAT, &body).await;
    assert_eq!(answer.unwrap().refused(), (403, "not_a_gate".to_owned()));
    let token = gates::token(&rig.state, &gate.id, "test").await.unwrap();
    let answer = rig
        .stranger()
        .post(paths::JOIN, &gate.device.request(&token))
        .await;
    assert_eq!(answer.refused(), (403, "bad_key".to_owned()));
    // The refused attempt did not use the token up: another device may have it.
    let _: JoinAnswer = rig
        .stranger()
        .post(paths::JOIN, &Device::new().request(&token))
        .await
        .good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_joined_may_do_nothing_until_an_officer_has_compared_its_fingerprint() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let token = gates::token(&rig.state, &gate.id, "test").await.unwrap();
    let device = Device::new();
    let answer: JoinAnswer = rig
        .stranger()
        .post(paths::JOIN, &device.request(&token))
        .await
        .good();
    let client = rig.client(Some((&answer.certificate_pem, &device.key_pem)));
    let refused = (403, "not_approved".to_owned());
    let beat = heartbeat(&rig, &gate.id);
    let passage = gate.request(rig.transaction(1), crate::common::template(1));
    let renewal = RenewRequest {
        version: PROTOCOL_VERSION,
        gate: gate.id.clone(),
        csr_pem: Device::new().csr_pem,
    };
    let asked = async || {
        [
            client.post(paths::HEARTBEAT, &beat).await.refused(),
            client.post(paths::PASSAGE, &passage).await.refused(),
            client.post(paths::RENEW, &renewal).await.refused(),
            client
                .send("GET", paths::HEARTBEAT, b"")
                .await
                .unwrap()
                .refused(),
        ]
    };
    assert!(asked().await.iter().all(|answer| *answer == refused));

    // A hand in the database has nowhere to write that it is approved, and nobody approves another one by mistake.
    let waiting = rights::waiting(&rig.state).await.unwrap();
    let [(of, key)] = waiting.as_slice() else {
        panic!("{waiting:?}")
    };
    assert_eq!(*of, gate.id);
    let shown = key_fingerprint(key);
    let back = rig.gate("back-in").await;
    for (gate, fingerprint) in [
        (
            &gate.id,
            "0000 0000 0000 0000 0000 0000 0000 0000".to_owned(),
        ),
        (&gate.id, shown[..34].to_owned()),
        (&gate.id, String::new()),
        (&back.id, shown.clone()),
    ] {
        let done = gates::approve(&rig.state, gate, &fingerprint, "test").await;
        assert!(matches!(done, Err(GateError::NotWaiting)), "{fingerprint}");
    }
    assert!(asked().await.iter().all(|answer| *answer == refused));

    let pat = Browser::signed_in_as(&rig, "Pat", Role::Administrator).await;
    let page = pat.get("/gates").await;
    assert!(page.contains(&shown[..29]) && !page.contains(&shown[29..]));
    let form = |rest: &str| {
        let shown = shown[..29].replace(' ', "+");
        let rest = rest.replace(' ', "+");
        format!(
            "csrf={}&gate={}&shown={shown}&rest={rest}",
            csrf(&page),
            gate.id
        )
    };
    let (status, again) = pat.post("/gates/approve", &form("0000 0000")).await;
    assert!(status == 400 && again.contains("role=\"alert\""), "{again}");
    let start = rig.state.store.log_size().await.unwrap();
    let rest = shown[29..].to_uppercase();
    assert_eq!(pat.post("/gates/approve", &form(&rest)).await.0, 303);
    let entry = entries(&rig, start).await.pop().unwrap();
    assert_eq!(entry.kind, "gate_approved");
    assert_eq!(entry.about.as_ref(), Some(key));
    assert!(entry.actor.is_some());
    assert_eq!(client.post(paths::HEARTBEAT, &beat).await.status, 200);
    assert!(!pat.get("/gates").await.contains("A device waits"));
    // After five minutes the officer proves to be there first.
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    assert_eq!(pat.post("/gates/approve", &form(&rest)).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_follows_ends_the_one_before_with_its_first_sign_of_life() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let next = Device::new();
    let renewed: JoinAnswer = gate
        .client
        .post(
            paths::RENEW,
            &RenewRequest {
                version: PROTOCOL_VERSION,
                gate: gate.id.clone(),
                csr_pem: next.csr_pem.clone(),
            },
        )
        .await
        .good();
    // Until then the old one works: the answer may have been lost.
    let beat = heartbeat(&rig, &gate.id);
    assert_eq!(gate.client.post(paths::HEARTBEAT, &beat).await.status, 200);
    let follows = rig.client(Some((&renewed.certificate_pem, &next.key_pem)));
    let start = rig.state.store.log_size().await.unwrap();
    for _ in 0..2 {
        assert_eq!(follows.post(paths::HEARTBEAT, &beat).await.status, 200);
    }
    let ended = entries(&rig, start).await;
    let ended: Vec<_> = ended.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(ended, ["gate_key_ended"], "once");
    let refused = (403, "not_a_gate".to_owned());
    let answer = gate.client.post(paths::HEARTBEAT, &beat).await;
    assert_eq!(answer.refused(), refused);
    // Not by a hand in the database either.
    sqlx::query("UPDATE gate_key SET revoked_at = NULL")
        .execute(&rig.hand().await)
        .await
        .unwrap();
    let answer = gate.client.post(paths::HEARTBEAT, &beat).await;
    assert_eq!(answer.refused(), refused);
    assert_eq!(follows.post(paths::HEARTBEAT, &beat).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_ends_after_a_day_and_is_renewed_before() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    rig.clock.advance_millis(12 * 3_600_000);
    let renewed: JoinAnswer = gate
        .client
        .post(
            paths::RENEW,
            &RenewRequest {
                version: PROTOCOL_VERSION,
                gate: gate.id.clone(),
                csr_pem: gate.device.csr_pem.clone(),
            },
        )
        .await
        .good();
    assert_ne!(renewed.certificate_pem, gate.answer.certificate_pem);
    rig.clock.advance_millis(13 * 3_600_000);
    let beat = heartbeat(&rig, &gate.id);
    assert_eq!(gate.client.post(paths::HEARTBEAT, &beat).await.status, 200);
    rig.clock.advance_millis(12 * 3_600_000);
    let answer = gate.client.post(paths::HEARTBEAT, &beat).await;
    assert_eq!(answer.refused(), (403, "not_a_gate".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_tls_is_refused() {
    let rig = Rig::start().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rig.state.authority.der().clone()).unwrap();
    let old = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS12])
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let refused = tokio_rustls::TlsConnector::from(std::sync::Arc::new(old))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await;
    assert!(refused.is_err());
}
