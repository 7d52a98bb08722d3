//! A gate renews its certificate at a real server, which logs it and accepts the new one.

use std::sync::Arc;
use std::time::Duration;

use sallyport_domain::Timestamp;
use sallyport_gate::clock::{Clock as _, ManualClock, SystemClock};
use sallyport_gate::renewal::{Life, Phase, Renewer};
use sallyport_gate::state::StateFolder;
use sallyport_gate::tls;
use sallyport_gate::uplink::Uplink;
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

#[test]
fn at_half_life_the_server_gives_a_new_certificate_and_logs_it() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(folder.path()).unwrap();
    let place = site.join("front-in", "entry").unwrap();
    let state = StateFolder::existing(&place);
    let identity = state.identity().unwrap();
    let before = identity.answer.clone();
    let life = Life::of_pem(&before.certificate_pem).unwrap();
    let status = |place: &std::path::Path| {
        site.checkout
            .run(
                "sallyport-gate",
                ["status", "--state", &place.display().to_string()],
            )
            .unwrap()
    };
    assert!(status(&place).contains("certificate: valid until"));

    let clock = Arc::new(SystemClock::new(now));
    let uplink = Arc::new(Uplink::new(
        &identity.server,
        tls::joined(&identity).unwrap(),
        clock.clone(),
    ));
    let mut renewer = Renewer::new(identity, state.clone(), uplink.clone(), clock).unwrap();
    let twelve_hours_on = ManualClock::starting_at(now());
    assert!(!renewer.is_due(twelve_hours_on.wall()));
    twelve_hours_on.advance(Duration::from_secs(12 * 3_600));
    assert_eq!(life.phase(twelve_hours_on.wall()), Phase::Due);
    assert!(renewer.is_due(twelve_hours_on.wall()));
    // Certificates count in whole seconds, and the new one must end later.
    let clock = SystemClock::new(now);
    let next_second = life.not_after.plus_millis(-86_400_000 + 1_000);
    while clock.wall() < next_second {
        std::thread::yield_now();
    }
    renewer.renew().unwrap();

    let after = state.identity().unwrap().answer;
    assert_ne!(after.certificate_pem, before.certificate_pem);
    assert_eq!(after.ca_pem, before.ca_pem);
    assert!(Life::of_pem(&after.certificate_pem).unwrap().not_after > life.not_after);
    uplink.ping().unwrap();
    assert!(status(&place).contains("accepts this gate"));
    let (export, _) = site.verified_log("export").unwrap();
    let table = site
        .checkout
        .run(
            "sallyport-audit",
            ["export-csv", &export.display().to_string()],
        )
        .unwrap();
    assert_eq!(table.matches("gate_renewed").count(), 1, "{table}");

    // A revoked gate gets no new certificate.
    site.server_command(&["gate", "revoke", "front-in"])
        .unwrap();
    let refused = renewer.renew().unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
    site.server.stop().unwrap();
}
