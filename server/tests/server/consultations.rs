//! Looking at a past passage and the people in it: no reason, nothing; quotas; wings; emergencies with an alarm.

use sallyport_domain::{Role, SubjectId, Verdict};
use sallyport_server::{consultations, officers, registry};
use sallyport_transparency::Entry;
use sqlx::Row as _;

use crate::browser::{Browser, csrf};
use crate::common::{Rig, mate};
use crate::coverage::entries;

const NAME: &str = "Canary Person 1";

/// Somebody known who passed more than a quarter of an hour ago.
async fn past(rig: &Rig) -> (SubjectId, String) {
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let request = gate.request(rig.transaction(1), mate(1, 5));
    assert_eq!(gate.pass(&request).await.verdict, Verdict::Grant);
    rig.clock.advance_millis(15 * 60_000 + 1);
    (person, format!("/passages/{}", request.transaction))
}

/// Asks for the passage with this form.
async fn ask(browser: &Browser, path: &str, form: &str) -> (u16, String) {
    let csrf = csrf(&browser.get("/account").await);
    browser.post(path, &format!("csrf={csrf}&{form}")).await
}

async fn last(rig: &Rig) -> Entry {
    entries(rig, rig.state.store.log_size().await.unwrap() - 1)
        .await
        .pop()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_reason_nothing_of_a_past_passage_is_shown() {
    let rig = Rig::start().await;
    let (person, path) = past(&rig).await;
    let browser = Browser::signed_in(&rig).await;
    let question = browser.get(&path).await;
    assert!(question.contains("Why do you need this record?") && !question.contains(NAME));
    let opened = rig.state.records_opened();
    for form in [
        "",
        "reason=&case=2026-17",
        "reason=curiosity&case=2026-17",
        "reason=incident&case=",
        "reason=incident&case=%3C%3E",
        "reason=emergency&case=2026-17",
    ] {
        let (status, page) = ask(&browser, &path, form).await;
        assert_eq!(status, 400, "{form}");
        assert!(!page.contains(NAME), "{form}");
    }
    assert_eq!(last(&rig).await.reason.as_deref(), Some("no_reason"));
    for form in ["verdict=refuse&preset=other&words=x&sure=yes", "verdict="] {
        let (status, page) = ask(&browser, &format!("{path}/review"), form).await;
        assert!(status == 400 || status == 422, "{form}: {status}");
        assert!(!page.contains(NAME), "a review shows it without a reason");
    }
    let picture = format!("{path}/picture");
    for query in ["", "?reason=incident&case=2026-17"] {
        let (status, _) = browser
            .ask("GET", &format!("{picture}{query}"), "", "null")
            .await;
        assert_eq!(status, 400, "the reason does not travel in addresses");
    }
    assert_eq!(
        rig.state.records_opened(),
        opened,
        "no record was opened meanwhile"
    );

    let size = rig.state.store.log_size().await.unwrap();
    let (status, page) = ask(&browser, &path, "reason=incident&case=2026-17").await;
    assert!(status == 200 && page.contains(NAME));
    let entry = &entries(&rig, size).await[0];
    assert_eq!(entry.kind, "consultation");
    assert_eq!(entry.subject, Some(person.to_string()));
    assert!(entry.actor.is_some() && path.ends_with(entry.about.as_deref().unwrap()));
    assert_eq!(entry.reason.as_deref(), Some("incident 2026-17"));
    // For a quarter of an hour its picture is open (this passage has none).
    let (status, _) = browser.ask("GET", &picture, "", "null").await;
    assert_eq!(status, 404);
    let other = Browser::signed_in_as(&rig, "Blair", Role::GateOfficer).await;
    assert_eq!(
        other.ask("GET", &picture, "", "null").await.0,
        400,
        "for one officer"
    );
    rig.clock.advance_millis(consultations::OPEN_MS - 60_000);
    assert_eq!(browser.ask("GET", &picture, "", "null").await.0, 404);
    rig.clock.advance_millis(60_001);
    assert_eq!(browser.ask("GET", &picture, "", "null").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_holds_a_supervisor_raises_it_and_an_emergency_breaks_it_with_an_alarm() {
    let rig = Rig::start().await;
    let (_, path) = past(&rig).await;
    let browser = Browser::signed_in(&rig).await;
    let form = "reason=incident&case=2026-17";
    for _ in 0..20 {
        assert_eq!(ask(&browser, &path, form).await.0, 200);
    }
    let (status, page) = ask(&browser, &path, form).await;
    assert!(status == 429 && page.contains("supervisor") && !page.contains(NAME));
    assert_eq!(last(&rig).await.reason.as_deref(), Some("quota"));
    let (status, page) = ask(&browser, &path, "reason=emergency&words=fire+in+the+wing").await;
    assert!(status == 200 && page.contains(NAME));
    assert_eq!(last(&rig).await.kind, "break_the_glass");

    let supervisor = Browser::signed_in_as(&rig, "Kim", Role::Supervisor).await;
    assert_eq!(ask(&supervisor, &path, form).await.0, 200);
    let page = supervisor.get("/consultations").await;
    assert!(
        page.contains("<td>Alex</td><td class=\"n\">21</td>"),
        "{page}"
    );
    let accounts = officers::list(&rig.state).await.unwrap();
    let id = |name: &str| {
        let account = accounts
            .iter()
            .find(|account| account.name == name)
            .unwrap();
        account.id.to_string()
    };
    let raise = |name: &str| format!("officer={}", id(name));
    let own = ask(&supervisor, "/consultations/raise", &raise("Kim")).await;
    assert_eq!(own.0, 403, "nobody raises their own");
    assert_eq!(
        ask(&browser, "/consultations/raise", &raise("Alex"))
            .await
            .0,
        403
    );
    assert_eq!(ask(&browser, &path, form).await.0, 429);
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    let late = ask(&supervisor, "/consultations/raise", &raise("Alex")).await;
    assert_eq!(late.0, 403, "presence was proved too long ago");
    let again = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    assert_eq!(
        ask(&again, "/consultations/raise", &raise("Alex")).await.0,
        303
    );
    assert_eq!(last(&rig).await.kind, "quota_raised");
    for _ in 0..19 {
        assert_eq!(ask(&browser, &path, form).await.0, 200);
    }
    assert_eq!(
        ask(&browser, &path, form).await.0,
        429,
        "twice as many, not more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_other_wings_stay_shut_but_for_an_emergency_that_is_told() {
    let rig = Rig::start().await;
    let (person, path) = past(&rig).await;
    let browser = Browser::signed_in(&rig).await;
    let form = "reason=incident&case=2026-17";
    let wings = |wings: &[&str]| {
        wings
            .iter()
            .map(|wing| (*wing).to_owned())
            .collect::<Vec<_>>()
    };
    let set = async |of: &[&str]| {
        consultations::set_officer_wings(&rig.state, "Alex", &wings(of), "test").await
    };
    set(&["b", "C-East"]).await.unwrap();
    assert_eq!(
        ask(&browser, &path, form).await.0,
        200,
        "who lives in no wing is everybody's"
    );
    consultations::set_wing(&rig.state, person, Some("A"), "test")
        .await
        .unwrap();
    let (status, page) = ask(&browser, &path, form).await;
    assert!(status == 403 && page.contains("wings") && !page.contains(NAME));
    assert_eq!(last(&rig).await.reason.as_deref(), Some("other_wing"));
    let size = rig.state.store.log_size().await.unwrap();
    let emergency = "reason=emergency&words=He+collapsed+in+the+yard";
    let (status, page) = ask(&browser, &path, emergency).await;
    assert!(status == 200 && page.contains(NAME));
    let told: Vec<_> = entries(&rig, size)
        .await
        .into_iter()
        .map(|entry| (entry.kind, entry.subject))
        .collect();
    let subject = Some(person.to_string());
    assert_eq!(
        told,
        [
            ("consultation".to_owned(), subject.clone()),
            ("break_the_glass".to_owned(), subject)
        ]
    );
    set(&["a"]).await.unwrap();
    assert_eq!(ask(&browser, &path, form).await.0, 200);
    set(&["b"]).await.unwrap();
    assert_eq!(ask(&browser, &path, form).await.0, 403);
    set(&[]).await.unwrap();
    assert_eq!(ask(&browser, &path, form).await.0, 200, "no list means all");
    assert!(set(&["two words"]).await.is_err());
    // The wing goes with the person.
    registry::remove(&rig.state, person, "test").await.unwrap();
    let row = sqlx::query("SELECT CAST(COUNT(*) AS BIGINT) FROM subject_wing")
        .fetch_one(&rig.hand().await)
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_up_somebody_of_ones_own_name_is_told() {
    let rig = Rig::start().await;
    let (_, path) = past(&rig).await;
    let form = "reason=incident&case=2026-17";
    let stranger = Browser::signed_in(&rig).await;
    assert_eq!(ask(&stranger, &path, form).await.0, 200);
    assert_eq!(last(&rig).await.kind, "consultation");
    let relative = Browser::signed_in_as(&rig, "Jo+Canary", Role::Enroller).await;
    assert_eq!(ask(&relative, &path, form).await.0, 200);
    assert_eq!(last(&rig).await.kind, "same_name_lookup");
}
