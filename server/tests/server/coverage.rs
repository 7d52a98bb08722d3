//! Everything that people and machines do leaves an entry: each route of both interfaces and each command of the program is tried, and
//! the log must then hold the entries that this table says. A new route or command without a line in the table fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use sallyport_domain::{Role, SubjectCategory};
use sallyport_protocol::{
    DoorOutcome, DoorReport, EnrolmentOutcome, FailedAcquisition, Heartbeat, PROTOCOL_VERSION,
    RenewRequest, paths,
};
use sallyport_server::approvals::{Asked, Kind, Pass, pass};
use sallyport_server::clock::Clock as _;
use sallyport_server::{break_glass, presence, promises, refusals, rights};
use sallyport_transparency::Entry;
use serde_json::json;

use crate::browser::{Browser, PASSWORD, csrf, setup_path};
use crate::common::{Device, Gate, Rig, approve, mate, template};
use crate::factors::{HardwareKey, code_now, secret_of};

/// Routes, and the kinds of entries that a proper use leaves, in order. Nothing, where nobody's data is shown and nothing is changed.
const ROUTES: &[(&str, &[&str])] = &[
    ("POST /gate/v1/join", &["gate_joined"]),
    ("POST /gate/v1/renew", &["gate_renewed"]),
    ("POST /gate/v1/passage", &["passage"]),
    ("POST /gate/v1/door-report", &["door"]),
    ("POST /gate/v1/failed-acquisition", &["passage"]),
    (
        "POST /gate/v1/enrolment",
        &["enrolment_capturing", "enrolment_submitted"],
    ),
    ("POST /gate/v1/heartbeat", &["gate_health"]),
    ("GET /gate/v1/heartbeat", &[]),
    // A profile says nothing about anybody.
    ("GET /gate/v1/profile", &[]),
    ("POST /gate/v1/successors", &["reference_renewed"]),
    ("POST /gate/v1/reencoding", &["photograph_to_station"]),
    ("POST /gate/v1/reencoded", &["reference_not_renewed"]),
    ("POST /gate/v1/event", &["gate_event_key", "gate_degraded"]),
    // The answer that a gate waits for is the review's entry.
    ("GET /gate/v1/review", &[]),
    ("GET /", &["consultation"]),
    ("GET /live/events", &["consultation"]),
    // It says only that there is an alarm.
    ("GET /live/alarms", &[]),
    ("GET /passages/{id}", &["consultation"]),
    ("POST /passages/{id}", &["consultation"]),
    ("GET /passages/{id}/picture", &["consultation"]),
    ("GET /passages/{id}/slip", &["receipt"]),
    ("POST /passages/{id}/review", &["review"]),
    // No name stands in these lists.
    ("GET /enrolments", &[]),
    ("POST /enrolments", &["enrolment_opened"]),
    ("GET /enrolments/{id}", &["consultation"]),
    ("POST /enrolments/{id}", &["enrolment"]),
    ("GET /enrolments/{id}/pictures/{at}", &["consultation"]),
    (
        "GET /enrolments/{id}/candidates/{subject}",
        &["consultation"],
    ),
    ("GET /enrolment-orders/{id}", &[]),
    (
        "POST /enrolment-orders/{id}",
        &["enrolment_batch", "enrolment"],
    ),
    ("POST /enrolment-orders/{id}/close", &["enrolment_closed"]),
    // Nobody is shown yet.
    ("GET /people", &[]),
    ("POST /people", &[]),
    ("POST /people/{id}", &["consultation"]),
    ("GET /people/{id}", &["consultation"]),
    ("GET /people/{id}/statement", &["consultation"]),
    ("POST /people/{id}/propose", &["approval_asked"]),
    ("GET /log", &["consultation"]),
    ("GET /log/alarms", &[]),
    ("GET /gates", &[]),
    ("POST /gates/approve", &["gate_approved"]),
    ("GET /release", &[]),
    ("POST /release/{gate}", &["life_safety_order"]),
    ("GET /approvals", &[]),
    ("GET /approvals/{request}", &["consultation"]),
    ("POST /approvals/{request}", &["approval_given"]),
    ("GET /break-glass", &[]),
    ("POST /break-glass", &["break_glass_opened"]),
    ("GET /break-glass/uses", &["consultation"]),
    ("POST /break-glass/uses/{used}/end", &["break_glass_ended"]),
    (
        "POST /break-glass/uses/{used}/review",
        &["break_glass_reviewed"],
    ),
    ("GET /consultations", &["consultation"]),
    ("POST /consultations/raise", &["quota_raised"]),
    ("GET /account", &[]),
    ("POST /account/confirm", &["sign_in"]),
    ("POST /account/confirm/ask", &[]),
    ("POST /account/confirm/key", &["sign_in"]),
    ("POST /account/password", &["officer_password"]),
    ("POST /account/keys/ask", &[]),
    ("POST /account/keys", &["officer_key_added"]),
    ("POST /account/keys/remove", &["officer_key_removed"]),
    ("POST /account/codes/new", &[]),
    ("POST /account/codes", &["officer_codes_added"]),
    ("GET /sign-in/second", &[]),
    ("POST /sign-in/code", &["sign_in"]),
    ("POST /sign-in/key/ask", &[]),
    ("POST /sign-in/key", &["sign_in"]),
    ("GET /sign-in", &[]),
    ("POST /sign-in", &["sign_in"]),
    ("POST /sign-out", &["sign_out"]),
    ("GET /setup/{secret}", &[]),
    ("POST /setup/{secret}", &["officer_created"]),
    #[cfg(feature = "oidc")]
    ("POST /sign-in/oidc", &[]),
    #[cfg(feature = "oidc")]
    ("GET /sign-in/oidc/callback", &["sign_in"]),
    #[cfg(feature = "oidc")]
    ("POST /account/confirm/oidc", &[]),
    ("GET /assets/{name}", &[]),
];

/// Commands, and what they leave.
const COMMANDS: &[(&str, &[&str])] = &[
    ("init", &[]),
    ("backup", &["backup"]),
    ("backup-key", &[]),
    // Their entries are in the log of the installation that they make: `backup.rs` and `moving.rs`.
    ("restore", &[]),
    ("registry migrate-store", &[]),
    // Needs a TPM: its entry is looked for in `custody.rs`.
    ("registry recovery-key", &[]),
    ("registry protect-keys", &["keys_protected"]),
    ("serve", &["server_started", "server_stopped"]),
    ("migrate", &["migrated"]),
    ("gate add", &["gate_added"]),
    ("gate list", &[]),
    ("gate token", &["gate_token"]),
    ("gate approve", &["gate_approved"]),
    ("gate policy", &["approval_missing", "gate_policy"]),
    ("gate revoke", &["gate_revoked"]),
    ("enrolment open", &["enrolment_opened"]),
    ("enrolment list", &[]),
    ("enrolment close", &["enrolment_closed"]),
    ("registry list", &["consultation"]),
    // Shutting doors needs nobody; the rest is tried in `approvals.rs`.
    ("registry status", &["subject_status"]),
    ("registry show", &["consultation"]),
    ("registry set-basis", &["subject_details"]),
    ("registry set-custody", &["subject_details"]),
    ("registry set-visits", &["subject_details"]),
    ("registry end-visits", &["subject_details"]),
    ("registry wing", &["subject_wing"]),
    ("registry group", &["approval_missing", "subject_group"]),
    ("registry duplicates", &["consultation"]),
    (
        "registry merge",
        &["approval_missing", "subject_merged", "subject_merged"],
    ),
    (
        "registry unmerge",
        &["approval_missing", "subject_unmerged", "subject_unmerged"],
    ),
    ("registry remove", &["approval_missing", "subject_removed"]),
    ("registry new-key", &["keys_rotated"]),
    ("registry rewrap", &["keys_rotated"]),
    ("registry retire-key", &["approval_missing", "keys_rotated"]),
    (
        "registry renew-templates",
        &["templates_renewed", "templates_renewed"],
    ),
    ("profile show", &[]),
    ("profile notice", &[]),
    ("profile set", &["approval_missing", "profile_change"]),
    ("error-rates set", &["error_rates"]),
    ("error-rates show", &[]),
    ("error-rates withdraw", &["error_rates"]),
    ("retention event", &["approval_missing", "subject_event"]),
    ("retention hold", &["approval_missing", "legal_hold"]),
    ("retention lift", &["approval_missing", "legal_hold"]),
    ("retention list", &["consultation"]),
    ("retention check", &["consultation"]),
    ("retention run", &["retention_run"]),
    ("model-change report", &["consultation"]),
    // Nobody has changed, so no reference is retired; that is tried in `model_change.rs`.
    ("model-change end", &["model_change"]),
    ("model-change begin", &["model_change"]),
    ("officer setup-link", &["officer_setup_link"]),
    ("officer list", &["consultation"]),
    #[cfg(feature = "oidc")]
    ("officer bind-oidc", &["officer_oidc_bound"]),
    ("officer unbind-oidc", &["officer_oidc_unbound"]),
    ("officer wings", &["officer_wings"]),
    ("officer disable", &["officer_disabled"]),
    (
        "officer break-glass prepare",
        &["approval_missing", "break_glass_prepared"],
    ),
    // It names nobody.
    ("officer break-glass status", &[]),
    ("officer break-glass drill", &["break_glass_drilled"]),
    ("officer break-glass end", &["break_glass_ended"]),
    ("audit export", &["export"]),
    ("audit key", &[]),
    ("audit policy", &[]),
    ("audit fsck", &[]),
    ("audit alarms", &["consultation"]),
    ("audit proof", &["consultation"]),
    ("promise make", &["promise_made"]),
    ("promise list", &["consultation"]),
    ("promise keep", &["promise_kept"]),
    ("audit evidence", &["export"]),
    ("audit erasure", &["erasure_checked"]),
    ("audit receipt", &["receipt"]),
    ("audit report subject", &["export"]),
    ("audit report officer", &["export"]),
    ("audit report shift", &["export"]),
    ("audit report month", &["export"]),
    ("audit report sample", &["export"]),
    ("audit streams", &[]),
    ("audit stream-from", &["stream_moved"]),
];

/// `METHOD path` of every route, out of the routers' own text.
pub(crate) fn routes(source: &str) -> BTreeSet<String> {
    let names = BTreeMap::from([
        ("paths::JOIN", paths::JOIN),
        ("paths::RENEW", paths::RENEW),
        ("paths::PASSAGE", paths::PASSAGE),
        ("paths::DOOR_REPORT", paths::DOOR_REPORT),
        ("paths::FAILED_ACQUISITION", paths::FAILED_ACQUISITION),
        ("paths::ENROLMENT", paths::ENROLMENT),
        ("paths::HEARTBEAT", paths::HEARTBEAT),
        ("paths::SUCCESSORS", paths::SUCCESSORS),
        ("paths::REENCODING", paths::REENCODING),
        ("paths::REENCODED", paths::REENCODED),
        ("paths::GATE_EVENT", paths::GATE_EVENT),
        ("paths::PROFILE", paths::PROFILE),
        ("paths::REVIEW", paths::REVIEW),
    ]);
    // Whoever needs other methods teaches them to this test first.
    assert!(source.contains("use axum::routing::{get, post};"));
    for hidden in [".nest(", ".merge(", ".route_service("] {
        assert!(
            !source.contains(hidden),
            "routes behind {hidden} are not seen by this test; use .route"
        );
    }
    let mut found = BTreeSet::new();
    for part in source.split(".route(").skip(1) {
        let (path, rest) = part.split_once(',').unwrap();
        let path = path.trim();
        let path = match path.strip_prefix('"') {
            Some(literal) => literal.trim_end_matches('"'),
            None => names
                .get(path)
                .unwrap_or_else(|| panic!("{path} is not known to this test; name it in `names`")),
        };
        // Up to the bracket that closes `.route(`.
        let mut depth = 1;
        let end = rest
            .find(|c| {
                match c {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                depth == 0
            })
            .unwrap();
        for (method, word) in [("GET", "get("), ("POST", "post(")] {
            if rest[..end].contains(word) {
                found.insert(format!("{method} {path}"));
            }
        }
    }
    found
}

#[test]
fn every_route_stands_in_the_table() {
    let mut found = routes(include_str!("../../src/gate_api.rs"));
    found.extend(routes(include_str!("../../src/console/mod.rs")));
    #[cfg(feature = "oidc")]
    found.extend(routes(include_str!("../../src/console/oidc.rs")));
    let table: BTreeSet<String> = ROUTES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<_> = found.difference(&table).collect();
    assert!(
        missing.is_empty(),
        "say in ROUTES what these leave in the log, and use them in this file's test: {missing:?}"
    );
    let gone: Vec<_> = table.difference(&found).collect();
    assert!(gone.is_empty(), "no longer there: {gone:?}");
}

/// Kinds of the entries from `start` on.
async fn kinds(rig: &Rig, start: u64) -> Vec<String> {
    entries(rig, start)
        .await
        .into_iter()
        .map(|entry| entry.kind)
        .collect()
}

pub(crate) async fn entries(rig: &Rig, start: u64) -> Vec<Entry> {
    let rows = rig.state.store.log_entries(start, 1_000).await.unwrap();
    rows.iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .collect()
}

/// Checks what each use left, and which were used.
struct Tried<'a> {
    rig: &'a Rig,
    at: u64,
    /// Records of people that were opened until then.
    opened: u64,
    left: BTreeMap<&'static str, &'static [&'static str]>,
}

impl<'a> Tried<'a> {
    async fn new(rig: &'a Rig, table: &[(&'static str, &'static [&'static str])]) -> Self {
        Self {
            rig,
            at: rig.state.store.log_size().await.unwrap(),
            opened: rig.state.records_opened(),
            left: table.iter().copied().collect(),
        }
    }

    /// What happened since the last call was preparation.
    async fn ready(&mut self) {
        self.at = self.rig.state.store.log_size().await.unwrap();
        self.opened = self.rig.state.records_opened();
    }

    async fn left(&mut self, name: &str) {
        let expected = self
            .left
            .remove(name)
            .unwrap_or_else(|| panic!("{name} is not in the table, or was tried twice"));
        assert_eq!(kinds(self.rig, self.at).await, expected, "{name}");
        assert!(
            self.rig.state.records_opened() == self.opened || !expected.is_empty(),
            "{name} opens people's records and leaves no entry"
        );
        self.ready().await;
    }

    fn done(self) {
        assert!(self.left.is_empty(), "never tried: {:?}", self.left);
    }
}

fn beat(rig: &Rig, gate: &Gate, cameras: &str) -> Heartbeat {
    Heartbeat {
        version: PROTOCOL_VERSION,
        gate: gate.id.clone(),
        now: rig.clock.now(),
        cameras: vec![("face".to_owned(), cameras.to_owned())],
        spooled: 0,
        log: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_leaves_its_entries() {
    #[cfg(feature = "oidc")]
    let site = crate::oidc::Site::start().await;
    #[cfg(feature = "oidc")]
    let rig = &site.rig;
    #[cfg(not(feature = "oidc"))]
    let rig = &Rig::start().await;
    let gate = rig.gate("front-in").await;
    let mut tried = Tried::new(rig, ROUTES).await;
    use_gate(rig, &gate, &mut tried).await;
    use_console(rig, &gate, &mut tried).await;
    #[cfg(feature = "oidc")]
    use_provider(&site, &mut tried).await;
    tried.done();
}

#[cfg(feature = "oidc")]
async fn use_provider(site: &crate::oidc::Site, tried: &mut Tried<'_>) {
    crate::oidc::bound_gate_officer(site, "Jo").await;
    tried.ready().await;
    let mut tab = crate::oidc::Tab::new(site);
    let to = tab.leaves().await;
    tried.left("POST /sign-in/oidc").await;
    tab.comes_back(&site.answer(&to, "Jo")).await.hop();
    tried.left("GET /sign-in/oidc/callback").await;
    let csrf = csrf(&tab.get("/account").await.body);
    let form = format!("csrf={csrf}");
    tab.post("/account/confirm/oidc", &form).await.hop();
    tried.left("POST /account/confirm/oidc").await;
}

async fn use_gate(rig: &Rig, gate: &Gate, tried: &mut Tried<'_>) {
    let other = "back-out".parse().unwrap();
    let policy = crate::common::policy();
    sallyport_server::gates::add(
        &rig.state,
        &other,
        sallyport_domain::Direction::Exit,
        &policy,
        "test",
    )
    .await
    .unwrap();
    let token = sallyport_server::gates::token(&rig.state, &other, "test")
        .await
        .unwrap();
    tried.ready().await;
    let device = Device::new();
    let joined = rig
        .stranger()
        .post(paths::JOIN, &device.request(&token))
        .await;
    assert_eq!(joined.status, 200);
    tried.left("POST /gate/v1/join").await;
    let renewal = RenewRequest {
        version: PROTOCOL_VERSION,
        gate: gate.id.clone(),
        csr_pem: gate.device.csr_pem.clone(),
    };
    assert_eq!(gate.client.post(paths::RENEW, &renewal).await.status, 200);
    tried.left("POST /gate/v1/renew").await;
    let submission = gate.submission(1);
    tried.ready().await;
    let taken: EnrolmentOutcome = gate.client.post(paths::ENROLMENT, &submission).await.good();
    tried.left("POST /gate/v1/enrolment").await;
    let EnrolmentOutcome::UnderReview { enrolment, .. } = taken else {
        panic!("{taken:?}")
    };
    approve(&rig.state, enrolment).await;
    tried.ready().await;
    let request = gate.request(rig.transaction(1), mate(1, 5));
    gate.pass(&request).await;
    tried.left("POST /gate/v1/passage").await;
    let report = DoorReport {
        version: PROTOCOL_VERSION,
        gate: gate.id.clone(),
        transaction: request.transaction,
        outcome: DoorOutcome::Released,
        at: rig.clock.now(),
        sequence: 1,
    };
    assert_eq!(
        gate.client.post(paths::DOOR_REPORT, &report).await.status,
        204
    );
    tried.left("POST /gate/v1/door-report").await;
    let failed = FailedAcquisition {
        version: PROTOCOL_VERSION,
        transaction: rig.transaction(2),
        gate: gate.id.clone(),
        direction: request.direction,
        began_at: rig.clock.now(),
        ended_at: rig.clock.now(),
        defects: Vec::new(),
        attachment: None,
    };
    let answer = gate.client.post(paths::FAILED_ACQUISITION, &failed).await;
    assert_eq!(answer.status, 200);
    tried.left("POST /gate/v1/failed-acquisition").await;
    let answer = gate
        .client
        .post(paths::HEARTBEAT, &beat(rig, gate, "ok"))
        .await;
    assert_eq!(answer.status, 200);
    tried.left("POST /gate/v1/heartbeat").await;
    let alive = gate
        .client
        .send("GET", paths::HEARTBEAT, b"")
        .await
        .unwrap();
    assert_eq!(alive.status, 204);
    tried.left("GET /gate/v1/heartbeat").await;
    let ask = format!("{}?size=0", paths::PROFILE);
    let told = gate.client.send("GET", &ask, b"").await.unwrap();
    assert_eq!(told.status, 200);
    tried.left("GET /gate/v1/profile").await;
    let event = crate::gate_events::camera_lost(rig, gate);
    assert_eq!(
        gate.client.post(paths::GATE_EVENT, &event).await.status,
        204
    );
    tried.left("POST /gate/v1/event").await;
    use_models(rig, gate, request.transaction, tried).await;
}

/// A change of models: after a grant, and a photograph for the station.
async fn use_models(
    rig: &Rig,
    gate: &Gate,
    granted: sallyport_domain::TransactionId,
    tried: &mut Tried<'_>,
) {
    let mut submission = gate.submission(8);
    submission.samples[0].photograph = Some(picture(rig, &submission.subject.to_string()));
    gate.enrol_as(submission).await;
    crate::model_change::begin(rig, Some(&gate.id)).await;
    tried.ready().await;
    let after = crate::model_change::after(gate, granted, 1);
    assert_eq!(
        gate.client.post(paths::SUCCESSORS, &after).await.status,
        200
    );
    tried.left("POST /gate/v1/successors").await;
    let task = crate::model_change::next(gate).await.unwrap();
    tried.left("POST /gate/v1/reencoding").await;
    let unusable = crate::model_change::unusable(gate, task.reference);
    let answer = gate.client.post(paths::REENCODED, &unusable).await;
    assert_eq!(answer.status, 200);
    tried.left("POST /gate/v1/reencoded").await;
}

async fn use_console(rig: &Rig, gate: &Gate, tried: &mut Tried<'_>) {
    // Somebody whom nobody knows, with a picture.
    let mut request = gate.request(rig.transaction(3), template(77));
    request.attachment = Some(picture(rig, &request.transaction.to_string()));
    gate.pass(&request).await;
    let passage = format!("/passages/{}", request.transaction);
    let setup = setup_path(rig, Role::GateOfficer).await;
    tried.ready().await;
    let mut browser = Browser::new(rig);
    browser.get(&setup).await;
    tried.left("GET /setup/{secret}").await;
    let form = format!("name=Alex&password={PASSWORD}&again={PASSWORD}");
    assert_eq!(browser.post(&setup, &form).await.0, 303);
    tried.left("POST /setup/{secret}").await;
    browser.get("/sign-in").await;
    tried.left("GET /sign-in").await;
    let (status, cookie) = browser
        .post("/sign-in", &format!("name=Alex&password={PASSWORD}"))
        .await;
    assert_eq!(status, 303);
    browser.cookie = Some(cookie);
    tried.left("POST /sign-in").await;
    let page = browser.get("/").await;
    tried.left("GET /").await;
    let style = page.split("/assets/").nth(1).unwrap();
    let style = style.split('"').next().unwrap();
    browser.get(&format!("/assets/{style}")).await;
    tried.left("GET /assets/{name}").await;
    browser.get("/live/events").await;
    tried.left("GET /live/events").await;
    browser.get("/live/alarms").await;
    tried.left("GET /live/alarms").await;
    browser.get(&format!("{passage}/picture")).await;
    tried.left("GET /passages/{id}/picture").await;
    let csrf = csrf(&browser.get(&passage).await);
    tried.left("GET /passages/{id}").await;
    // The same look again is in the log already.
    browser.get(&format!("{passage}/picture")).await;
    assert_eq!(kinds(rig, tried.at).await, [] as [&str; 0]);
    let form = format!("csrf={csrf}&reason=incident&case=2026-17");
    assert_eq!(browser.post(&passage, &form).await.0, 200);
    tried.left("POST /passages/{id}").await;
    browser.get(&format!("{passage}/slip")).await;
    tried.left("GET /passages/{id}/slip").await;
    let form = format!("csrf={csrf}&verdict=refuse&preset=other&words=unknown&sure=yes");
    assert_eq!(
        browser.post(&format!("{passage}/review"), &form).await.0,
        303
    );
    tried.left("POST /passages/{id}/review").await;
    let answer = gate
        .client
        .send(
            "GET",
            &format!("{}?transaction={}", paths::REVIEW, request.transaction),
            b"",
        )
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    tried.left("GET /gate/v1/review").await;
    for path in ["/gates", "/account"] {
        browser.get(path).await;
        tried.left(&format!("GET {path}")).await;
    }
    let administrator = Browser::signed_in_as(rig, "Pat", Role::Administrator).await;
    tried.ready().await;
    // The device that joined for the other gate waits.
    let csrf_of_pat = self::csrf(&administrator.get("/gates").await);
    let (of, key) = rights::waiting(&rig.state).await.unwrap().remove(0);
    let shown = sallyport_protocol::key_fingerprint(&key);
    let form = format!(
        "csrf={csrf_of_pat}&gate={of}&shown={}&rest={}",
        &shown[..29].replace(' ', "+"),
        &shown[29..].replace(' ', "+")
    );
    assert_eq!(administrator.post("/gates/approve", &form).await.0, 303);
    tried.left("POST /gates/approve").await;
    use_enrolments(rig, gate, tried).await;
    let auditor = Browser::signed_in_as(rig, "Kim", Role::Auditor).await;
    tried.ready().await;
    for path in ["/log", "/log/alarms"] {
        auditor.get(path).await;
        tried.left(&format!("GET {path}")).await;
    }
    let supervisor = Browser::signed_in_as(rig, "Sam", Role::Supervisor).await;
    tried.ready().await;
    let page = supervisor.get("/release").await;
    tried.left("GET /release").await;
    // Every passage of the gate lies some time back, so that it does not answer.
    let form = format!("csrf={}&action=free&reason=smoke", self::csrf(&page));
    let (status, _) = supervisor.post("/release/front-in", &form).await;
    assert!([303, 409].contains(&status), "{status}");
    tried.left("POST /release/{gate}").await;
    let asked = Asked {
        kind: Kind::Profile,
        subject: None,
        officer: None,
        what: "A trial.".to_owned(),
        reason: String::new(),
    };
    let Ok(Pass::Waits { request, .. }) = pass(&rig.state, &asked, "test").await else {
        panic!("asked");
    };
    tried.ready().await;
    supervisor.get("/approvals").await;
    tried.left("GET /approvals").await;
    let path = format!("/approvals/{request}");
    let page = supervisor.get(&path).await;
    tried.left("GET /approvals/{request}").await;
    let content = page.split("name=\"content\" value=\"").nth(1).unwrap();
    let content = content.split('"').next().unwrap();
    let form = format!(
        "csrf={}&content={content}&decision=approve",
        self::csrf(&page)
    );
    assert_eq!(supervisor.post(&path, &form).await.0, 303);
    tried.left("POST /approvals/{request}").await;
    let page = supervisor.get("/consultations").await;
    tried.left("GET /consultations").await;
    let officer = page.split("name=\"officer\" value=\"").nth(1).unwrap();
    let officer = officer.split('"').next().unwrap();
    let raise = format!("csrf={}&officer={officer}", self::csrf(&page));
    assert_eq!(supervisor.post("/consultations/raise", &raise).await.0, 303);
    tried.left("POST /consultations/raise").await;
    use_people(&browser, &csrf, tried).await;
    let (status, _) = browser.post("/sign-out", &format!("csrf={csrf}")).await;
    assert_eq!(status, 303);
    tried.left("POST /sign-out").await;
    use_emergency(rig, tried, &supervisor, &auditor).await;
    use_factors(rig, tried).await;
}

/// Somebody breaks the seal; a supervisor ends it, an auditor reviews it.
async fn use_emergency(rig: &Rig, tried: &mut Tried<'_>, supervisor: &Browser, auditor: &Browser) {
    let (credential, _) = break_glass::prepare(&rig.state, "test").await.unwrap();
    let here = Browser::at_the_server(rig);
    tried.ready().await;
    here.get("/break-glass").await;
    tried.left("GET /break-glass").await;
    let typed = credential.text().replace(' ', "+");
    let form = format!("credential={typed}&name=Robin&reason=trial");
    let used = tried.at;
    assert_eq!(here.post("/break-glass", &form).await.0, 303);
    tried.left("POST /break-glass").await;
    let page = supervisor.get("/break-glass/uses").await;
    tried.left("GET /break-glass/uses").await;
    let path = format!("/break-glass/uses/{used}");
    let form = format!("csrf={}", csrf(&page));
    assert_eq!(supervisor.post(&format!("{path}/end"), &form).await.0, 303);
    tried.left("POST /break-glass/uses/{used}/end").await;
    let page = auditor.get("/break-glass/uses").await;
    tried.ready().await;
    let form = format!("csrf={}&finding=as+announced", csrf(&page));
    let (status, _) = auditor.post(&format!("{path}/review"), &form).await;
    assert_eq!(status, 303);
    tried.left("POST /break-glass/uses/{used}/review").await;
}

/// Alex opens a record and proposes something about it.
async fn use_people(browser: &Browser, csrf: &str, tried: &mut Tried<'_>) {
    let id = crate::common::subject(1);
    browser.get("/people").await;
    tried.left("GET /people").await;
    let form = format!("csrf={csrf}&person={id}");
    assert_eq!(browser.post("/people", &form).await.0, 303);
    tried.left("POST /people").await;
    let path = format!("/people/{id}");
    let form = format!("csrf={csrf}&reason=own_request&case=2026-17");
    assert_eq!(browser.post(&path, &form).await.0, 200);
    tried.left("POST /people/{id}").await;
    browser.get(&path).await;
    tried.left("GET /people/{id}").await;
    browser.get(&format!("{path}/statement")).await;
    tried.left("GET /people/{id}/statement").await;
    let form = format!("csrf={csrf}&what=hold&words=order+4711");
    let proposed = browser.post(&format!("{path}/propose"), &form).await;
    assert_eq!(proposed.0, 303, "{}", proposed.1);
    tried.left("POST /people/{id}/propose").await;
}

/// Erin opens, the station submits, Robin looks and decides.
async fn use_enrolments(rig: &Rig, gate: &Gate, tried: &mut Tried<'_>) {
    let enroller = Browser::signed_in_as(rig, "Erin", Role::Enroller).await;
    let second = Browser::signed_in_as(rig, "Robin", Role::Supervisor).await;
    tried.ready().await;
    let token = csrf(&enroller.get("/enrolments").await);
    tried.left("GET /enrolments").await;
    let form = format!("csrf={token}&kind=batch&station=front-in&document=file+1&reason=trial");
    let (status, page) = enroller.post("/enrolments", &form).await;
    assert_eq!(status, 200);
    tried.left("POST /enrolments").await;
    let code = page.split_once("enrolment-code\">").unwrap().1;
    let code = code.split_once('<').unwrap().0.to_owned();
    // Somebody new, and somebody who looks like person 1, with pictures.
    let mut taken = Vec::new();
    for (seed, like) in [(21, 21), (22, 1)] {
        let mut submission = gate.submission(seed);
        submission.enrolment.clone_from(&code);
        for (sample, number) in submission.samples.iter_mut().zip(70..) {
            sample.probe = crate::common::probe(mate(like, number));
            sample.photograph = Some(picture(rig, &submission.subject.to_string()));
        }
        let outcome: EnrolmentOutcome =
            gate.client.post(paths::ENROLMENT, &submission).await.good();
        let EnrolmentOutcome::UnderReview {
            enrolment, doubt, ..
        } = outcome
        else {
            panic!("{outcome:?}")
        };
        assert_eq!(doubt.is_some(), like == 1);
        taken.push(enrolment);
    }
    let listed = rig.state.store.orders_live().await.unwrap();
    let of_code = listed
        .iter()
        .find(|order| order.code_sha256 == sha256(&code));
    let batch = of_code.unwrap().id;
    tried.ready().await;
    let close = format!("/enrolment-orders/{batch}/close");
    assert_eq!(enroller.post(&close, &format!("csrf={token}")).await.0, 303);
    tried.left("POST /enrolment-orders/{id}/close").await;
    let path = format!("/enrolment-orders/{batch}");
    let page = second.get(&path).await;
    tried.left("GET /enrolment-orders/{id}").await;
    let hidden = |page: &str, name: &str| {
        let (_, rest) = page
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let (token, content) = (csrf(&page), hidden(&page, "content"));
    let approval = format!("csrf={token}&content={content}&decision=approve");
    // Not before whoever was drawn was looked at.
    assert_eq!(second.post(&path, &approval).await.0, 400);
    let one = format!("/enrolments/{}", taken[0]);
    tried.ready().await;
    second.get(&one).await;
    tried.left("GET /enrolments/{id}").await;
    second.get(&format!("{one}/pictures/0")).await;
    tried.left("GET /enrolments/{id}/pictures/{at}").await;
    assert_eq!(second.post(&path, &approval).await.0, 303);
    tried.left("POST /enrolment-orders/{id}").await;
    let other = format!("/enrolments/{}", taken[1]);
    let page = second.get(&other).await;
    assert!(page.contains("Perhaps the same person"), "{page}");
    let candidate = page.split_once("same:").unwrap().1;
    let candidate = candidate.split('"').next().unwrap();
    tried.ready().await;
    // Person 1 was enrolled without a picture: the look is logged all the same.
    let (status, _) = second
        .ask(
            "GET",
            &format!("{other}/candidates/{candidate}"),
            "",
            "https://localhost:0",
        )
        .await;
    assert_eq!(status, 404);
    tried
        .left("GET /enrolments/{id}/candidates/{subject}")
        .await;
    let content = hidden(&page, "content");
    let form = format!("csrf={token}&content={content}&decision=reject&reason=double");
    assert_eq!(second.post(&other, &form).await.0, 303);
    tried.left("POST /enrolments/{id}").await;
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text))
}

/// Alex adds a code, then keys, and signs in with each.
async fn use_factors(rig: &Rig, tried: &mut Tried<'_>) {
    let mut browser = Browser::new(rig);
    let password = format!("name=Alex&password={PASSWORD}");
    let cookie = browser.post("/sign-in", &password).await.1;
    browser.keep(&cookie);
    let csrf = csrf(&browser.get("/account").await);
    let form = format!("csrf={csrf}&password={PASSWORD}&again={PASSWORD}");
    tried.ready().await;
    assert_eq!(browser.post("/account/confirm", &form).await.0, 303);
    tried.left("POST /account/confirm").await;
    assert_eq!(browser.post("/account/password", &form).await.0, 303);
    tried.left("POST /account/password").await;
    assert_eq!(browser.post("/account/codes/new", &form).await.0, 303);
    tried.left("POST /account/codes/new").await;
    let secret = secret_of(&browser.get("/account").await);
    let form = format!("csrf={csrf}&code={}", code_now(rig, &secret));
    assert_eq!(browser.post("/account/codes", &form).await.0, 303);
    tried.left("POST /account/codes").await;
    rig.clock.advance_millis(30_000);
    let mut second = Browser::new(rig);
    second.keep(&second.post("/sign-in", &password).await.1);
    tried.ready().await;
    second.get("/sign-in/second").await;
    tried.left("GET /sign-in/second").await;
    let form = format!("code={}", code_now(rig, &secret));
    assert_eq!(second.post("/sign-in/code", &form).await.0, 303);
    tried.left("POST /sign-in/code").await;

    let (mut key, mut other) = (HardwareKey::new("one"), HardwareKey::new("two"));
    let message = json!({ "csrf": csrf, "label": "one" });
    let (_, question) = browser.send("/account/keys/ask", &message).await;
    tried.left("POST /account/keys/ask").await;
    let message = json!({ "csrf": csrf, "label": "one", "answer": key.made(&question) });
    assert_eq!(browser.send("/account/keys", &message).await.0, 200);
    tried.left("POST /account/keys").await;
    other.add_to(&mut browser).await;
    let form = format!("csrf={csrf}&key={}", other.id());
    tried.ready().await;
    assert_eq!(browser.post("/account/keys/remove", &form).await.0, 303);
    tried.left("POST /account/keys/remove").await;
    let message = json!({ "csrf": csrf });
    let (_, question) = browser.send("/account/confirm/ask", &message).await;
    tried.left("POST /account/confirm/ask").await;
    let message = json!({ "csrf": csrf, "answer": key.shown(&question) });
    assert_eq!(browser.send("/account/confirm/key", &message).await.0, 200);
    tried.left("POST /account/confirm/key").await;
    let mut third = Browser::new(rig);
    third.keep(&third.post("/sign-in", &password).await.1);
    tried.ready().await;
    let (_, question) = third.send("/sign-in/key/ask", &json!({})).await;
    tried.left("POST /sign-in/key/ask").await;
    let message = json!({ "answer": key.shown(&question) });
    assert_eq!(third.send("/sign-in/key", &message).await.0, 200);
    tried.left("POST /sign-in/key").await;
    third.get("/gates").await;
}

/// Enough for a test's one picture.
struct Same;

impl hpke::rand_core::RngCore for Same {
    fn next_u32(&mut self) -> u32 {
        7
    }

    fn next_u64(&mut self) -> u64 {
        7
    }

    fn fill_bytes(&mut self, target: &mut [u8]) {
        target.fill(7);
    }
}

impl hpke::rand_core::CryptoRng for Same {}

/// A picture as an agent seals it.
pub(crate) fn picture(rig: &Rig, transaction: &str) -> sallyport_protocol::Sealed {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hpke::Serializable as _;
    let (enc, ciphertext) = hpke::single_shot_seal::<
        hpke::aead::AesGcm256,
        hpke::kdf::HkdfSha256,
        hpke::kem::X25519HkdfSha256,
        _,
    >(
        &hpke::OpModeS::Base,
        &rig.state.keys.picture_public,
        b"sallyport/attachment/1",
        b"jpeg",
        transaction.as_bytes(),
        &mut Same,
    )
    .unwrap();
    sallyport_protocol::Sealed {
        media_type: "image/jpeg".to_owned(),
        enc: STANDARD.encode(enc.to_bytes()),
        ciphertext: STANDARD.encode(ciphertext),
    }
}

/// The last refusal in the log: route and code.
async fn refused(rig: &Rig) -> (Option<String>, String, String) {
    let entry = entries(rig, 0).await.pop().unwrap();
    assert_eq!(entry.kind, "refused");
    assert_eq!(entry.decision.as_deref(), Some("refuse"));
    (entry.gate, entry.about.unwrap(), entry.reason.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_an_entry_and_a_flood_of_them_is_counted() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let stranger = rig.stranger();
    let browser = Browser::new(&rig);
    for (name, _) in ROUTES {
        let (method, path) = name.split_once(' ').unwrap();
        let real = path
            .replace("{id}", "1")
            .replace("{secret}", "1")
            .replace("{at}", "1")
            .replace("{subject}", "1")
            .replace("{used}", "1")
            .replace("{request}", "1");
        if path.starts_with("/gate/") {
            let answer = stranger.send(method, &real, b"{}").await.unwrap();
            assert!((400..500).contains(&answer.status), "{name}");
            let code = if path == paths::JOIN {
                "malformed"
            } else {
                "not_a_gate"
            };
            assert_eq!(
                refused(&rig).await,
                (None, (*name).to_owned(), code.to_owned())
            );
        } else if method == "POST" {
            let (status, _) = browser
                .ask("POST", &real, "a=b", "https://evil.example")
                .await;
            assert_eq!(status, 403);
            let expected = (None, (*name).to_owned(), "foreign_form".to_owned());
            assert_eq!(refused(&rig).await, expected);
        } else if ![
            "/sign-in",
            "/sign-in/second",
            "/sign-in/oidc/callback",
            "/setup/{secret}",
            "/assets/{name}",
            "/break-glass",
        ]
        .contains(&path)
        {
            let (status, _) = browser.ask("GET", &real, "", "null").await;
            assert_eq!(status, 303, "{name}");
            let expected = (None, (*name).to_owned(), "not_signed_in".to_owned());
            assert_eq!(refused(&rig).await, expected);
        }
    }
    // A joined gate that speaks for another one is named.
    let mut foreign = gate.request(rig.transaction(1), mate(1, 5));
    foreign.gate = "back-out".parse().unwrap();
    assert_eq!(gate.client.post(paths::PASSAGE, &foreign).await.status, 403);
    let named = (
        Some("front-in".to_owned()),
        "POST /gate/v1/passage".to_owned(),
        "gate_mismatch".to_owned(),
    );
    assert_eq!(refused(&rig).await, named);
    let size = rig.state.store.log_size().await.unwrap();
    for _ in 0..17 {
        gate.client.post(paths::PASSAGE, &foreign).await;
    }
    refusals::flush(&rig.state).await.unwrap();
    assert_eq!(rig.state.store.log_size().await.unwrap(), size);
    rig.clock.advance_millis(60_000);
    refusals::flush(&rig.state).await.unwrap();
    let (_, about, code) = refused(&rig).await;
    assert_eq!(about, "POST /gate/v1/passage (17 more within a minute)");
    assert_eq!(code, "gate_mismatch");
    refusals::flush(&rig.state).await.unwrap();
    assert_eq!(rig.state.store.log_size().await.unwrap(), size + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_return_and_wrong_clocks_of_gates_are_entries_with_begin_and_end() {
    let rig = Rig::start().await;
    let (gate, other) = (rig.gate("front-in").await, rig.gate("back-out").await);
    let hear = async |gate: &Gate, ahead_ms: i64| {
        let mut beat = beat(&rig, gate, "ok");
        beat.now = beat.now.plus_millis(ahead_ms);
        assert_eq!(gate.client.post(paths::HEARTBEAT, &beat).await.status, 200);
    };
    hear(&gate, 0).await;
    hear(&other, 0).await;
    let start = rig.state.store.log_size().await.unwrap();
    rig.clock.advance_millis(presence::SILENT_MS);
    hear(&other, 0).await;
    presence::look(&rig.state).await.unwrap();
    assert_eq!(kinds(&rig, start).await, [] as [&str; 0], "not yet");
    rig.clock.advance_millis(1);
    for _ in 0..3 {
        presence::look(&rig.state).await.unwrap();
    }
    hear(&gate, 0).await;
    hear(&gate, 0).await;
    let found = entries(&rig, start).await;
    let brief: Vec<_> = found
        .iter()
        .map(|entry| (entry.kind.as_str(), entry.gate.as_deref().unwrap()))
        .collect();
    assert_eq!(
        brief,
        [("gate_lost", "front-in"), ("gate_back", "front-in")]
    );
    assert!(
        found[0]
            .about
            .as_ref()
            .unwrap()
            .starts_with("last heard of")
    );
    let start = start + 2;
    for ahead in [1_000, 5_000, 6_000, -90_000, 0, 0] {
        hear(&gate, ahead).await;
    }
    let reasons: Vec<_> = entries(&rig, start)
        .await
        .into_iter()
        .map(|entry| (entry.kind, entry.reason.unwrap()))
        .collect();
    let clock = |reason: &str| ("clock".to_owned(), reason.to_owned());
    assert_eq!(
        reasons,
        [clock("gate_clock_differs"), clock("gate_clock_right_again")]
    );
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sallyport-server"));
    command.stdin(Stdio::null());
    command
}

/// Every command of the program that does something, out of its own help.
fn commands(words: &[String]) -> BTreeSet<String> {
    let output = program().args(words).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let Some((_, list)) = text.split_once("\nCommands:\n") else {
        return BTreeSet::from([words.join(" ")]);
    };
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .filter(|name| *name != "help")
        .flat_map(|name| {
            let mut deeper = words.to_vec();
            deeper.push(name.to_owned());
            commands(&deeper)
        })
        .collect()
}

/// The backup into a new installation on SQLite, and that on to PostgreSQL.
async fn restore_and_move(export: &str, data: &std::path::Path) {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("data");
    let database = crate::common::cluster().database().await;
    let key = data.join("registry.key");
    for line in [
        format!(
            "restore {export}.age --identity {export}.custodian --key {} --checkpoint {}",
            key.display(),
            data.join("checkpoint").display()
        ),
        format!(
            "registry migrate-store --database {}",
            database.application()
        ),
    ] {
        let mut command = program();
        command.args(line.split(' ')).arg("--data").arg(&new);
        if line.starts_with("registry") {
            command.env("SALLYPORT_DATABASE_OWNER", database.owner());
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
    }
    let state = sallyport_server::installation::open(
        &new,
        std::sync::Arc::new(sallyport_server::clock::SystemClock),
    )
    .await
    .unwrap();
    let size = state.store.log_size().await.unwrap();
    let last = state.store.log_entries(size - 2, 2).await.unwrap();
    for ((_, bytes), kind) in last.iter().zip(["restored", "store_moved"]) {
        assert_eq!(Entry::from_bytes(bytes).unwrap().kind, kind);
    }
    state.store.close().await;
}

/// The drill asks for the credential; the end needs something to end.
async fn try_the_seal(rig: &Rig, data: &std::path::Path, tried: &mut Tried<'_>) {
    let (credential, _) = break_glass::prepare(&rig.state, "test").await.unwrap();
    tried.ready().await;
    for act in ["drill", "end"] {
        let name = format!("officer break-glass {act}");
        if act == "end" {
            break_glass::open(&rig.state, credential.text(), "Robin", "trial")
                .await
                .unwrap();
            tried.ready().await;
        }
        let mut child = program()
            .args(name.split(' '))
            .arg("--data")
            .arg(data)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that asks for nothing may have ended already.
        let _ = writeln!(stdin, "{}", credential.text());
        drop(stdin);
        assert!(child.wait().unwrap().success(), "{name}");
        tried.left(&name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_leaves_its_entries() {
    let found = commands(&[]);
    let table: BTreeSet<String> = COMMANDS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(
        found, table,
        "say in COMMANDS what each command leaves in the log"
    );
    #[cfg(feature = "oidc")]
    let site = crate::oidc::Site::start().await;
    #[cfg(feature = "oidc")]
    let rig = &site.rig;
    #[cfg(not(feature = "oidc"))]
    let rig = &Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await.to_string();
    let mut other = gate.submission(8);
    other.category = SubjectCategory::Prisoner;
    let prisoner = gate.enrol_as(other).await;
    let mut other = gate.submission(9);
    other.category = SubjectCategory::Visitor;
    let visitor = gate.enrol_as(other).await;
    assert_eq!(SubjectCategory::Staff.code(), "staff");
    Browser::signed_in_as(rig, "Erin", Role::Enroller).await;
    let order = gate.order(true).await.id;
    let transaction = rig.transaction(4);
    gate.pass(&gate.request(transaction, mate(1, 4))).await;
    let window = (rig.clock.now(), rig.clock.now().plus_millis(3_600_000));
    let promise = promises::make(
        &rig.state,
        promises::Kind::Count,
        None,
        None,
        window,
        "test",
    )
    .await
    .unwrap();
    let period = "--since 2026-01-01T00:00:00Z --until 2027-01-01T00:00:00Z";
    let data = crate::common::data(&rig.folder);
    let export = rig.folder.path().join("export");
    let owner = rig.database.as_ref().map(|database| database.owner());
    let now = rig.clock.now();
    let mut write = rig.state.store.write().await.unwrap();
    write.stream_take("siem", "test", now, now).await.unwrap();
    write.commit().await.unwrap();
    Browser::signed_in(rig).await;
    // A build without the provider still knows what one with it bound.
    #[cfg(not(feature = "oidc"))]
    crate::rights::forge(rig, "officer_oidc_bound", "Alex").await;
    let hold =
        sallyport_server::retention::hold(&rig.state, person.parse().unwrap(), "trial", "test")
            .await
            .unwrap();
    // Somebody who was enrolled twice.
    let double = crate::merging::enrol_again(rig, &gate, 30, 1).await;
    let change = crate::model_change::begin(rig, None).await;
    let left = sallyport_server::model_change::report(&rig.state, "test")
        .await
        .unwrap()
        .remove(0)
        .left
        .len();
    let measurement = crate::reports::measurement(rig, "face", &"07".repeat(32));
    let measurement = measurement.display();
    let token = sallyport_server::gates::token(&rig.state, &gate.id, "test")
        .await
        .unwrap();
    let second = rig
        .stranger()
        .post(paths::JOIN, &Device::new().request(&token))
        .await;
    assert_eq!(second.status, 200);
    let (_, key) = rights::waiting(&rig.state).await.unwrap().remove(0);
    let shown = sallyport_protocol::key_fingerprint(&key);
    let policy = crate::policies::file(rig, "side-2");
    let mut tried = Tried::new(rig, COMMANDS).await;
    let export = export.display().to_string();
    let mut key = program();
    let output = key.args(["backup-key", &format!("{export}.custodian")]);
    let output = output.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let custodian = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    tried.left("backup-key").await;
    for line in [
        "gate add side --direction entry",
        "gate list",
        "gate token side",
        &format!("gate approve front-in {shown}"),
        &format!("gate policy side --set {policy} --reason trial"),
        "gate revoke side",
        "enrolment open --officer Erin --station front-in --batch --reason trial --document file-1",
        "enrolment list",
        &format!("enrolment close {order}"),
        "registry list",
        "profile show",
        "profile notice visitor",
        "profile set uk --reason trial",
        &format!("error-rates set {measurement} --reason trial"),
        "error-rates show",
        "error-rates withdraw face --reason trial",
        &format!("retention event {person} employment_ended --reason trial"),
        &format!("retention hold {prisoner} --reason trial"),
        &format!("retention lift {person} {hold} --reason trial"),
        "retention list",
        "retention check",
        "retention run",
        "model-change report",
        &format!("model-change end {change} --leave {left}"),
        &format!(
            "model-change begin --from {} --to {} --reason trial",
            "07".repeat(32),
            "0a".repeat(32)
        ),
        &format!("registry set-basis {person} employment --reason trial"),
        &format!("registry set-custody {prisoner} s-1 --reason trial"),
        &format!(
            "registry set-visits {visitor} {prisoner} --from 2026-01-01T00:00:00Z --until 2099-01-01T00:00:00Z --reason trial"
        ),
        &format!("registry show {visitor} --reason inspection --case 1"),
        &format!("registry end-visits {visitor} {prisoner} --reason trial"),
        "registry duplicates",
        &format!("registry merge {double} --into {person} --reason passport"),
        &format!("registry unmerge {double} --reason twins"),
        &format!("registry status {person} suspended --reason trial"),
        &format!("registry wing {person} c"),
        &format!("registry group {person} white --reason stated"),
        &format!("registry remove {person} --reason asked"),
        "registry protect-keys",
        "registry new-key",
        "registry rewrap",
        "registry retire-key 1",
        "registry renew-templates",
        "officer setup-link",
        "officer list",
        #[cfg(feature = "oidc")]
        "officer bind-oidc Alex --subject a-1",
        "officer unbind-oidc Alex",
        "officer wings Alex a b",
        "officer disable Alex",
        "officer break-glass prepare --reason trial",
        "officer break-glass status",
        &format!("audit export {export}"),
        "audit key",
        "audit policy",
        "audit fsck",
        "audit alarms",
        "audit proof 0",
        &format!("audit evidence {transaction} {export}.evidence --reason trial"),
        &format!("audit erasure {person} {export}.erasure --reason case-1 --wait-seconds 0"),
        "audit receipt 0",
        "promise make review --opens 2026-01-01T00:00:00Z --closes 2099-01-01T00:00:00Z",
        "promise list",
        &format!("promise keep {promise}"),
        &format!("audit report subject {person} {export}-1.json --reason request"),
        &format!("audit report officer nobody {export}-2.pdf --reason complaint {period}"),
        &format!("audit report shift {export}-3.pdf {period}"),
        &format!("audit report month {export}-4.json {period}"),
        &format!("audit report sample --week 2026-W01 {export}-5.csv"),
        "audit streams",
        "audit stream-from siem 0",
        "migrate",
        &format!("backup {export}.age --recipient {custodian}"),
    ] {
        let mut command = program();
        command.args(line.split(' ')).arg("--data").arg(&data);
        if line == "migrate"
            && let Some(owner) = &owner
        {
            command.env("SALLYPORT_DATABASE_OWNER", owner);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
        let name = COMMANDS
            .iter()
            .map(|(name, _)| *name)
            .find(|name| line == *name || line.starts_with(&format!("{name} ")))
            .unwrap();
        tried.left(name).await;
    }
    try_the_seal(rig, &data, &mut tried).await;
    // A new installation's log begins when its server first starts.
    let folder = tempfile::tempdir().unwrap();
    let (database, owner) = crate::common::new_database().await;
    let mut init = program();
    init.args(["init", "--site", "other", "--database", &database, "--data"])
        .arg(folder.path().join("data"))
        .env("SALLYPORT_DATABASE_OWNER", owner.unwrap_or_default());
    let output = init.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    tried.left("init").await;
    restore_and_move(&export, &data).await;
    tried.left("restore").await;
    tried.left("registry migrate-store").await;
    tried.left("registry recovery-key").await;
    let mut server = program()
        .args(["serve", "--data"])
        .arg(&data)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains("listening")),
        "the server starts"
    );
    let pid = server.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    lines.for_each(drop);
    assert!(server.wait().unwrap().success());
    tried.left("serve").await;
    tried.done();
}
