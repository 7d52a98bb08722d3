//! Proof of presence for officers without a key of ours: they sign in at the provider anew.

use sallyport_domain::Role;
use sallyport_server::officers;
use serde_json::json;

use super::{Site, Tab};
use crate::browser::csrf;

/// Asks to prove presence; where the browser is sent to.
async fn asks(tab: &mut Tab) -> String {
    let token = csrf(&tab.get("/account").await.body);
    let form = format!("csrf={token}");
    tab.post("/account/confirm/oidc", &form).await.hop()
}

async fn is_fresh(tab: &mut Tab) -> bool {
    let token = csrf(&tab.get("/account").await.body);
    let page = tab
        .post("/account/codes/new", &format!("csrf={token}"))
        .await;
    assert!([303, 403].contains(&page.status), "{}", page.body);
    page.status == 303
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_same_officer_who_signs_in_anew_is_there() {
    let site = Site::start().await;
    site.bound("Robin", Role::GateOfficer).await;
    site.bound("Alex", Role::GateOfficer).await;
    let mut tab = Tab::new(&site);
    tab.signs_in(&site, "Robin").await.hop();
    assert!(is_fresh(&mut tab).await);
    site.rig.clock.advance_millis(officers::FRESH_MS + 1);
    assert!(!is_fresh(&mut tab).await);
    let page = tab.get("/account").await.body;
    assert!(page.contains("Confirm with State ID") && !page.contains("confirm-password"));

    // A colleague; a session at the provider that was open already; the account's old password.
    let back = site.provider.signs_in(&asks(&mut tab).await, "Alex");
    assert_eq!(tab.comes_back(&back).await.status, 401);
    assert_eq!(site.last().await.1, "oidc_another");
    assert!(!is_fresh(&mut tab).await);
    site.provider.set(|knobs| {
        knobs.claims = Box::new(|claims| {
            claims["auth_time"] = json!(claims["iat"].as_i64().unwrap() - 600);
        });
    });
    let back = site.provider.signs_in(&asks(&mut tab).await, "Robin");
    assert_eq!(tab.comes_back(&back).await.status, 401);
    assert_eq!(site.last().await.1, "oidc_not_anew");
    assert!(!is_fresh(&mut tab).await);
    let token = csrf(&tab.get("/account").await.body);
    let form = format!("csrf={token}&password={}", crate::browser::PASSWORD);
    assert_eq!(tab.post("/account/confirm", &form).await.status, 401);
    assert!(!is_fresh(&mut tab).await);

    site.provider.set(|_| ());
    let back = site.provider.signs_in(&asks(&mut tab).await, "Robin");
    assert_eq!(tab.comes_back(&back).await.hop(), "/account");
    let (decision, reason, _) = site.last().await;
    assert_eq!(
        (decision.as_str(), reason.as_str()),
        ("grant", "again_oidc")
    );
    assert!(is_fresh(&mut tab).await);

    // The answer of a proof of presence opens no session, here or elsewhere, and none that has ended.
    site.rig.clock.advance_millis(officers::FRESH_MS + 1);
    let back = site.provider.signs_in(&asks(&mut tab).await, "Robin");
    tab.jar
        .retain(|(pair, _)| pair.starts_with("__Host-sallyport-oidc="));
    let token = tab.jar.clone();
    assert_eq!(tab.comes_back(&back).await.hop(), "/account");
    assert!(tab.is_nobody() && token.len() == 1);
    let mut tab = Tab::new(&site);
    tab.signs_in(&site, "Robin").await.hop();
    let back = site.provider.signs_in(&asks(&mut tab).await, "Robin");
    officers::unbind(&site.rig.state, "Robin", "test")
        .await
        .unwrap();
    assert_eq!(tab.comes_back(&back).await.status, 410);

    // Without the form's token, and without a session.
    let mut tab = Tab::new(&site);
    assert_eq!(
        tab.post("/account/confirm/oidc", "csrf=a").await.status,
        303
    );
    tab.signs_in(&site, "Alex").await.hop();
    assert_eq!(
        tab.post("/account/confirm/oidc", "csrf=a").await.status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_key_proves_presence_with_it_and_not_by_the_provider() {
    let site = Site::start().await;
    let mut key = site.bound("Sam", Role::Supervisor).await;
    let mut tab = Tab::new(&site);
    tab.signs_in(&site, "Sam").await.hop();
    let (_, question) = tab.json("/sign-in/key/ask", &json!({})).await;
    let answer = json!({ "answer": key.shown(&question) });
    assert_eq!(tab.json("/sign-in/key", &answer).await.0, 200);
    site.rig.clock.advance_millis(officers::FRESH_MS + 1);
    let page = tab.get("/account").await.body;
    assert!(!page.contains("Confirm with State ID"));
    let token = csrf(&page);
    let form = format!("csrf={token}");
    assert_eq!(tab.post("/account/confirm/oidc", &form).await.status, 401);
    let message = json!({ "csrf": token });
    let (_, question) = tab.json("/account/confirm/ask", &message).await;
    let message = json!({ "csrf": token, "answer": key.shown(&question) });
    assert_eq!(tab.json("/account/confirm/key", &message).await.0, 200);
}
