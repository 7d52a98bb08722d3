//! What a hand in the database would like to have: a session, a role, an account, a key, a link, a gate's policy, an older status. The log
//! knows of none of it, so it is worth nothing and raises an alarm (`security.md` section 6, threat 7).

use sallyport_domain::{Role, SubjectStatus, Verdict};
use sallyport_protocol::{PROTOCOL_VERSION, paths};
use sallyport_server::clock::Clock as _;
use sallyport_server::gates::GateError;
use sallyport_server::officers::{self, Credentials, OfficerError, SignedIn};
use sallyport_server::{audit, gates, registry, rights};
use sallyport_transparency::Entry;
use sha2::{Digest as _, Sha256};
use sqlx::AssertSqlSafe;

use crate::browser::{Browser, PASSWORD};
use crate::common::{Rig, mate};
use crate::coverage::entries;

async fn by_hand(rig: &Rig, statement: impl Into<String>) {
    let statement: String = statement.into();
    let done = sqlx::query(AssertSqlSafe(statement.clone()))
        .execute(&rig.hand().await)
        .await
        .unwrap();
    assert!(done.rows_affected() > 0, "{statement}");
}

/// Alarms so far.
async fn alarms(rig: &Rig) -> usize {
    let all = entries(rig, 0).await;
    all.iter().filter(|entry| entry.kind == "log_alarm").count()
}

async fn is_in(browser: &Browser) -> bool {
    let (status, _) = browser
        .ask("GET", "/account", "", "https://localhost:0")
        .await;
    assert!(status == 200 || status == 303, "{status}");
    status == 200
}

async fn sign_in(rig: &Rig, name: &str) -> Result<SignedIn, OfficerError> {
    // Attempts that led to nothing are delayed.
    rig.clock.advance_millis(60_000);
    let shown = Credentials {
        name: name.to_owned(),
        // As it stands in a form.
        password: PASSWORD.replace('+', " "),
        code: None,
        step: None,
        address: None,
    };
    officers::sign_in(&rig.state, shown).await
}

async fn id_of(rig: &Rig, name: &str) -> String {
    let account = officers::find(&rig.state, name).await.unwrap();
    account.id.to_string()
}

/// An entry about an account as somebody writes it who has the database and no key.
pub(crate) async fn forge(rig: &Rig, kind: &str, name: &str) {
    let entry = Entry {
        about: Some(id_of(rig, name).await),
        content: Some("made up".to_owned()),
        ..audit::entry(kind, rig.clock.now()).unwrap()
    };
    audit::record(&rig.state, entry).await.unwrap();
}

/// In every build: what was bound to an identity provider does not fall back to the password where there is no provider.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_said_to_be_bound_is_shut_until_an_administrator_unbinds_it() {
    let rig = Rig::start().await;
    let alex = Browser::signed_in(&rig).await;
    forge(&rig, "officer_oidc_bound", "Alex").await;
    let no = sign_in(&rig, "Alex").await.map(drop);
    assert!(matches!(no, Err(OfficerError::SignIn)), "{no:?}");
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 1);
    assert_eq!(alarms(&rig).await, 1);
    // An end that nobody with a key wrote is none.
    forge(&rig, "officer_oidc_unbound", "Alex").await;
    assert!(sign_in(&rig, "Alex").await.is_err());
    officers::unbind(&rig.state, "Alex", "test").await.unwrap();
    assert!(sign_in(&rig, "Alex").await.is_ok());
    assert!(!is_in(&alex).await, "sessions of before have ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_links_written_by_hand_are_none() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let alex = Browser::signed_in(&rig).await;
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    assert!(is_in(&alex).await && is_in(&sam).await);
    let (alex_id, sam_id) = (id_of(&rig, "Alex").await, id_of(&rig, "Sam").await);

    // Alex's own session, said to be Sam's; of a hardware key; younger than it is.
    for (change, back) in [
        (
            format!("officer_id = '{sam_id}' WHERE officer_id = '{alex_id}'"),
            format!("officer_id = '{alex_id}' WHERE level = 1"),
        ),
        (
            "level = 3 WHERE level = 1".to_owned(),
            format!("level = 1 WHERE officer_id = '{alex_id}'"),
        ),
        (
            format!("created_at = created_at + 1 WHERE officer_id = '{alex_id}'"),
            format!("created_at = created_at - 1 WHERE officer_id = '{alex_id}'"),
        ),
        (
            format!("fresh_at = fresh_at + 1 WHERE officer_id = '{alex_id}'"),
            format!("fresh_at = fresh_at - 1 WHERE officer_id = '{alex_id}'"),
        ),
    ] {
        by_hand(&rig, format!("UPDATE session SET {change}")).await;
        assert!(!is_in(&alex).await, "{change}");
        by_hand(&rig, format!("UPDATE session SET {back}")).await;
        assert!(is_in(&alex).await, "{back}");
    }
    // A session of one's own making, with a code taken from another row.
    let sha256 = hex::encode(Sha256::digest("mine"));
    by_hand(
        &rig,
        format!(
            "INSERT INTO session (token_sha256, officer_id, csrf, created_at, last_seen, level, fresh_at, code) \
             SELECT '{sha256}', officer_id, csrf, created_at, last_seen, level, fresh_at, code FROM session WHERE officer_id = '{sam_id}'"
        ),
    )
    .await;
    let mut mine = Browser::new(&rig);
    let name = sam.cookie.as_deref().unwrap().split('=').next().unwrap();
    mine.cookie = Some(format!("{name}=mine"));
    assert!(!is_in(&mine).await);
    assert!(is_in(&sam).await);
    // Four changes named Alex or Sam; the same words are one alarm.
    assert_eq!(alarms(&rig).await, 2);

    // A link for an administrator, with the code of a link for a gate officer.
    officers::create_setup_link(&rig.state, Role::GateOfficer)
        .await
        .unwrap();
    by_hand(
        &rig,
        format!(
            "INSERT INTO setup_token (secret_sha256, role, expires_at, code) \
             SELECT '{sha256}', 'administrator', expires_at, code FROM setup_token WHERE used_at IS NULL"
        ),
    )
    .await;
    assert_eq!(officers::setup(&rig.state, "mine").await.unwrap(), None);
    let made =
        officers::redeem_setup_link(&rig.state, "mine", "Mallory", PASSWORD.to_owned()).await;
    assert!(matches!(made, Err(OfficerError::SetupLink)));
    assert_eq!(alarms(&rig).await, 3);

    // A join token.
    gates::token(&rig.state, &gate.id, "test").await.unwrap();
    by_hand(
        &rig,
        format!(
            "INSERT INTO join_token (secret_sha256, gate_id, expires_at, code) \
             SELECT '{sha256}', gate_id, expires_at, code FROM join_token WHERE used_at IS NULL"
        ),
    )
    .await;
    let request = sallyport_protocol::JoinRequest {
        version: PROTOCOL_VERSION,
        gate: gate.id.clone(),
        secret: "mine".to_owned(),
        csr_pem: String::new(),
    };
    let joined = gates::join(&rig.state, &request).await;
    assert!(matches!(joined, Err(GateError::BadToken)));
    assert_eq!(alarms(&rig).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_roles_passwords_and_keys_count_by_the_log() {
    let rig = Rig::start().await;
    let alex = Browser::signed_in(&rig).await;
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let (alex_id, sam_id) = (id_of(&rig, "Alex").await, id_of(&rig, "Sam").await);
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 0);

    by_hand(
        &rig,
        format!("UPDATE officer SET role = 'administrator' WHERE id = '{alex_id}'"),
    )
    .await;
    assert!(!is_in(&alex).await);
    let no = sign_in(&rig, "Alex").await;
    let no = no.map(drop);
    assert!(matches!(no, Err(OfficerError::NotInLog)), "{no:?}");
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 1);
    assert_eq!(alarms(&rig).await, 1);
    by_hand(
        &rig,
        format!("UPDATE officer SET role = 'gate_officer' WHERE id = '{alex_id}'"),
    )
    .await;
    assert!(is_in(&alex).await);

    // Sam's password is Alex's now; it happens to be the same word, under another salt.
    let hash = format!("(SELECT password_hash FROM officer WHERE id = '{alex_id}')");
    let of_sam = rig
        .state
        .store
        .officer(sam_id.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    by_hand(
        &rig,
        format!("UPDATE officer SET password_hash = {hash} WHERE id = '{sam_id}'"),
    )
    .await;
    let no = sign_in(&rig, "Sam").await;
    let no = no.map(drop);
    assert!(matches!(no, Err(OfficerError::NotInLog)), "{no:?}");
    by_hand(
        &rig,
        format!(
            "UPDATE officer SET password_hash = '{}' WHERE id = '{sam_id}'",
            of_sam.password_hash
        ),
    )
    .await;
    let second = sign_in(&rig, "Sam").await.unwrap();
    assert!(matches!(second, SignedIn::Second(_)));

    // Sam's hardware key is Alex's; then nobody's.
    by_hand(
        &rig,
        format!("UPDATE officer_key SET officer_id = '{alex_id}'"),
    )
    .await;
    for name in ["Alex", "Sam"] {
        let no = sign_in(&rig, name).await;
        assert!(matches!(no, Err(OfficerError::NotInLog)), "{name}");
    }
    by_hand(&rig, "DELETE FROM officer_key").await;
    assert!(matches!(
        sign_in(&rig, "Sam").await,
        Err(OfficerError::NotInLog)
    ));
    assert!(sign_in(&rig, "Alex").await.is_ok());

    // An account that ended stays so, whatever its row says.
    officers::disable(&rig.state, "Alex", "test").await.unwrap();
    by_hand(&rig, "UPDATE officer SET disabled_at = NULL").await;
    assert!(matches!(
        sign_in(&rig, "Alex").await,
        Err(OfficerError::NotInLog)
    ));
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 1);
    drop(sam);
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_their_keys_and_peoples_status_count_by_the_log() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let passes = async |number: u64| {
        let request = gate.request(rig.transaction(number), mate(1, number));
        gate.client.post(paths::PASSAGE, &request).await
    };
    let decided = async |number: u64| {
        let decision: sallyport_protocol::PassageDecision = passes(number).await.good();
        decision.verdict
    };
    assert_eq!(decided(1).await, Verdict::Grant);

    // A policy that lets more in, and a gate that leads the other way.
    let policy = rig
        .state
        .store
        .gate(&gate.id)
        .await
        .unwrap()
        .unwrap()
        .policy;
    let looser = policy.replace("\"rules\":[", "\"rules\":[ ");
    assert_ne!(looser, policy);
    by_hand(&rig, format!("UPDATE gate SET policy = '{looser}'")).await;
    assert_eq!(passes(2).await.refused(), (503, "not_in_log".to_owned()));
    by_hand(
        &rig,
        format!("UPDATE gate SET policy = '{policy}', direction = 'exit'"),
    )
    .await;
    assert_eq!(passes(2).await.refused(), (503, "not_in_log".to_owned()));
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 1);
    assert_eq!(alarms(&rig).await, 1);
    by_hand(&rig, "UPDATE gate SET direction = 'entry'").await;
    assert_eq!(decided(2).await, Verdict::Grant);

    // The record as it was before the ban. It opens: its bytes are genuine.
    let before = rig.state.store.subject(person).await.unwrap().unwrap();
    registry::set_status(&rig.state, person, SubjectStatus::Banned, "test", "trial")
        .await
        .unwrap();
    let banned = decided(3).await;
    assert_ne!(banned, Verdict::Grant);
    sqlx::query("UPDATE subject SET record_sealed = $1 WHERE id = $2")
        .bind(before.record_sealed)
        .bind(person.to_string())
        .execute(&rig.hand().await)
        .await
        .unwrap();
    assert_eq!(decided(4).await, Verdict::Refer);
    assert_eq!(alarms(&rig).await, 2);

    // A revoked key stays revoked.
    gates::revoke(&rig.state, &gate.id, "test").await.unwrap();
    assert_eq!(passes(5).await.refused().0, 403);
    by_hand(&rig, "UPDATE gate_key SET revoked_at = NULL").await;
    assert_eq!(passes(5).await.refused().0, 403);
    assert_eq!(alarms(&rig).await, 3);
}
