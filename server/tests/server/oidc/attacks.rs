//! A provider that errs, lies or is attacked. Each attempt is refused with an entry that says why, and opens nothing.

use sallyport_domain::Role;
use serde_json::{Value, json};

use super::provider::{Instead, Keys, Knobs};
use super::{Site, Tab, write_secret};
use crate::browser::{Browser, PASSWORD};
use crate::common::data;
use crate::coverage::entries;

/// Tries to sign in as Robin, whose account would be open, and finds it refused with this code.
async fn refused(site: &Site, code: &str) {
    // One address may ask so often.
    site.rig.clock.advance_millis(3_000);
    let mut tab = Tab::new(site);
    let page = tab.signs_in(site, "Robin").await;
    assert_eq!(page.status, 401, "{code}: {}", page.body);
    assert!(page.body.contains("nothing was opened"), "{}", page.body);
    assert!(
        tab.is_nobody() && !tab.has("__Host-sallyport-oidc"),
        "{code}"
    );
    let (decision, reason, _) = site.last().await;
    assert_eq!((decision.as_str(), reason.as_str()), ("refuse", code));
}

async fn accepted(site: &Site) {
    site.rig.clock.advance_millis(3_000);
    let mut tab = Tab::new(site);
    let page = tab.signs_in(site, "Robin").await;
    assert_eq!(page.hop(), "/sign-in");
    assert_eq!(site.last().await.0, "grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_in_a_token_is_refused_with_an_entry_and_nothing_is_opened() {
    let site = Site::start().await;
    site.bound("Robin", Role::GateOfficer).await;
    for signs in ["RS256", "ES256", "EdDSA"] {
        site.provider.set(|knobs| knobs.signs = signs);
        accepted(&site).await;
    }
    let claim = |name: &'static str, value: Value, code: &'static str| {
        let change = move |claims: &mut Value| claims[name] = value.clone();
        let knob = move |knobs: &mut Knobs| knobs.claims = Box::new(change);
        (Box::new(knob) as Box<dyn FnOnce(&mut Knobs)>, code)
    };
    let header = |name: &'static str, value: Value, code: &'static str| {
        let change = move |header: &mut Value| header[name] = value.clone();
        let knob = move |knobs: &mut Knobs| knobs.header = Box::new(change);
        (Box::new(knob) as Box<dyn FnOnce(&mut Knobs)>, code)
    };
    // So many seconds from now.
    let time = |name: &'static str, seconds: i64, code: &'static str| {
        let change = move |claims: &mut Value| {
            claims[name] = json!(claims["iat"].as_i64().unwrap() + seconds);
        };
        let knob = move |knobs: &mut Knobs| knobs.claims = Box::new(change);
        (Box::new(knob) as Box<dyn FnOnce(&mut Knobs)>, code)
    };
    for (change, code) in [
        claim("iss", json!("https://evil.example"), "oidc_issuer"),
        claim("aud", json!("another-client"), "oidc_audience"),
        claim(
            "aud",
            json!([super::provider::CLIENT, "b"]),
            "oidc_audience",
        ),
        claim("azp", json!("another-client"), "oidc_audience"),
        claim("nonce", json!("another"), "oidc_nonce"),
        time("exp", -31, "oidc_expired"),
        time("iat", 40, "oidc_time"),
        time("iat", -3_600, "oidc_time"),
        time("nbf", 40, "oidc_time"),
        // Signed in an hour ago, by whoever it was; or nothing is said of it.
        time("auth_time", -3_600, "oidc_not_anew"),
        claim("auth_time", Value::Null, "oidc_not_anew"),
        claim("sub", json!(""), "oidc_malformed"),
        header("alg", json!("none"), "oidc_algorithm"),
        header("alg", json!("HS256"), "oidc_algorithm"),
        header("alg", json!("RS256"), "oidc_unknown_key"),
        header("kid", json!("p"), "oidc_unknown_key"),
        header("kid", json!("../../etc/passwd"), "oidc_unknown_key"),
        header("crit", json!(["exp"]), "oidc_algorithm"),
    ] {
        site.provider.set(change);
        refused(&site, code).await;
    }
    // Signed by another key under the published key's id.
    site.provider.set(|_| ());
    let ours = std::mem::replace(&mut *site.provider.shared.keys.lock().unwrap(), Keys::new());
    let before = json!({ "keys": ours.published() });
    *site.provider.shared.published.lock().unwrap() = Some(before);
    refused(&site, "oidc_signature").await;
    assert!(!entries(&site.rig, 0).await.iter().any(|entry| {
        let said = format!("{entry:?}");
        said.contains("sam@example.org") || said.contains("evil.example")
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn hmac_with_the_public_key_and_no_signature_at_all_are_none() {
    // By hand, since no key of the provider makes them.
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    let keys = Keys::new();
    let set = json!({ "keys": keys.published() }).to_string();
    let set = sallyport_server::oidc::KeySet::parse(set.as_bytes()).unwrap();
    let expected = sallyport_server::oidc::Expected {
        issuer: "i",
        client_id: "c",
        nonce: "n",
        asked_at: sallyport_domain::Timestamp::from_micros(0),
        acr: &[],
        amr: &[],
    };
    let public = BASE64
        .decode(keys.rsa_jwk()["n"].as_str().unwrap())
        .unwrap();
    for (alg, kid) in [("none", "r"), ("HS256", "r"), ("HS256", "o")] {
        let part = |value: Value| BASE64.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(json!({ "alg": alg, "kid": kid })),
            part(
                json!({ "iss": "i", "sub": "s", "aud": "c", "nonce": "n", "iat": 0, "exp": 300, "auth_time": 0 })
            )
        );
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &public);
        let tag = ring::hmac::sign(&key, signed.as_bytes());
        for signature in [String::new(), BASE64.encode(tag.as_ref())] {
            let token = format!("{signed}.{signature}");
            let now = sallyport_domain::Timestamp::from_micros(0);
            let refused = sallyport_server::oidc::check(&token, &set, &expected, now);
            assert_eq!(refused.unwrap_err().code(), "oidc_algorithm", "{alg}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_for_its_own_question_in_its_own_browser() {
    let site = Site::start().await;
    site.bound("Robin", Role::GateOfficer).await;
    // The question of another browser, and none.
    let (mut robin, mut mallory) = (Tab::new(&site), Tab::new(&site));
    let to = robin.leaves().await;
    let back = site.provider.signs_in(&to, "Robin");
    let page = mallory.comes_back(&back).await;
    assert_eq!(page.status, 410);
    mallory.leaves().await;
    let page = mallory.comes_back(&back).await;
    assert!(page.status == 401 && mallory.is_nobody());
    assert_eq!(site.last().await.1, "oidc_state");
    // The browser's own question still stands; then its answer is used up, with the cookie or without.
    let cookie = robin.jar[0].clone();
    assert_eq!(robin.comes_back(&back).await.hop(), "/sign-in");
    let mut again = Tab::new(&site);
    again.jar.push(cookie);
    assert_eq!(again.comes_back(&back).await.status, 410);
    assert!(again.is_nobody());
    let all = entries(&site.rig, 0).await;
    let refused = all.iter().filter(|entry| entry.kind == "refused");
    let words: Vec<_> = refused
        .map(|entry| entry.reason.as_deref().unwrap())
        .collect();
    assert_eq!(
        words,
        ["oidc_not_asked"],
        "more within a minute are counted"
    );

    // A code out of another browser: the provider finds out by PKCE, and where it does not look, the nonce is another.
    for (checks_pkce, code) in [(true, "oidc_status"), (false, "oidc_nonce")] {
        site.provider.set(|knobs| knobs.checks_pkce = checks_pkce);
        let theirs = site
            .provider
            .signs_in(&Tab::new(&site).leaves().await, "Robin");
        let mut tab = Tab::new(&site);
        let own = site.provider.signs_in(&tab.leaves().await, "Mallory");
        let query = |address: &str, name: &str| {
            let url = url::Url::parse(address).unwrap();
            let mut pairs = url.query_pairs().into_owned();
            pairs.find(|(key, _)| key == name).unwrap().1
        };
        let mixed = own.replace(&query(&own, "code"), &query(&theirs, "code"));
        assert_eq!(tab.comes_back(&mixed).await.status, 401);
        assert!(tab.is_nobody());
        assert_eq!(site.last().await.1, code);
    }

    // A question is open for five minutes.
    let mut late = Tab::new(&site);
    let back = site.provider.signs_in(&late.leaves().await, "Robin");
    site.rig.clock.advance_millis(5 * 60_000);
    assert_eq!(late.comes_back(&back).await.status, 410);

    // Mixed up, unnamed, declined, empty, unreadable.
    site.provider.set(|_| ());
    for (change, code) in [
        (
            &(|back: String| back.replace("%2Frealms%2Fstate", "")) as &dyn Fn(String) -> String,
            "oidc_answer_issuer",
        ),
        (
            &|back| back.split("&iss=").next().unwrap().to_owned(),
            "oidc_answer_issuer",
        ),
        (
            &|back| format!("{back}&error=access_denied"),
            "oidc_declined",
        ),
        (&|back| back.replace("code=", "kode="), "oidc_declined"),
        (&|back| back.replace("state=", "stat="), "oidc_state"),
        (&|back| format!("{back}&state=a&state=b"), "oidc_state"),
    ] {
        let mut tab = Tab::new(&site);
        let back = site.provider.signs_in(&tab.leaves().await, "Robin");
        assert_eq!(
            tab.comes_back(&change(back.clone())).await.status,
            401,
            "{code}"
        );
        assert_eq!(site.last().await.1, code);
        assert_eq!(
            tab.comes_back(&back).await.status,
            410,
            "its question ended"
        );
        assert!(tab.is_nobody());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_provider_does_on_the_wire_ends_in_a_refusal() {
    let site = Site::start_with(|oidc| oidc.patience_seconds = 2).await;
    site.bound("Robin", Role::GateOfficer).await;
    for (instead, code) in [
        (Instead::Endless, "oidc_unreachable"),
        (Instead::Never, "oidc_unreachable"),
        (Instead::Elsewhere, "oidc_status"),
        (Instead::Fails, "oidc_status"),
        (Instead::Nonsense, "oidc_malformed"),
    ] {
        site.provider.set(|knobs| knobs.instead = Some(instead));
        site.provider.asked();
        refused(&site, code).await;
        let asked = site.provider.asked();
        let codes = asked.iter().filter(|path| **path == "token").count();
        assert_eq!(codes, 1, "a code is sent once: {asked:?}");
    }
    site.provider.set(|_| ());
    // The secret is read each time; a wrong one, one that others may read, none.
    write_secret(&site.rig, "another secret");
    refused(&site, "oidc_status").await;
    let path = data(&site.rig.folder).join("oidc-secret");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    refused(&site, "oidc_file").await;
    write_secret(&site.rig, "");
    refused(&site, "oidc_file").await;
    std::fs::remove_file(&path).unwrap();
    refused(&site, "oidc_file").await;
    write_secret(&site.rig, super::provider::SECRET);
    accepted(&site).await;
    // By the form, where the provider wants that.
    site.rig.clock.advance_millis(60 * 60_000);
    site.provider.set(|knobs| {
        knobs.discovery = Box::new(|said| {
            said["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
        });
    });
    accepted(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_the_one_we_mean_is_not_even_gone_to() {
    let site = Site::start().await;
    site.bound("Robin", Role::GateOfficer).await;
    let set = |name: &'static str, value: Value| {
        site.provider.set(move |knobs| {
            knobs.discovery = Box::new(move |said| said[name] = value.clone());
        });
    };
    let away = async |code: &str| {
        let mut tab = Tab::new(&site);
        let page = tab.post("/sign-in/oidc", "").await;
        assert_eq!(page.status, 502, "{code}");
        assert!(
            page.body.contains("cannot be asked now") && page.body.contains("name=\"password\"")
        );
        assert!(tab.jar.is_empty());
        let last = entries(&site.rig, 0).await.pop().unwrap();
        assert_eq!(
            (last.kind.as_str(), last.reason.as_deref()),
            ("refused", Some(code))
        );
        // Within a minute more of a kind are counted.
        site.rig.clock.advance_millis(60_000);
        sallyport_server::refusals::flush(&site.rig.state)
            .await
            .unwrap();
    };
    for (name, value, code) in [
        ("issuer", json!("https://evil.example"), "oidc_discovery"),
        (
            "issuer",
            json!(format!("{}/", site.provider.shared.issuer)),
            "oidc_discovery",
        ),
        (
            "token_endpoint",
            json!("http://localhost/token"),
            "oidc_discovery",
        ),
        ("jwks_uri", json!("http://localhost/keys"), "oidc_discovery"),
        (
            "authorization_endpoint",
            json!("javascript:alert(1)"),
            "oidc_discovery",
        ),
        (
            "authorization_endpoint",
            json!("https://a@evil.example/"),
            "oidc_discovery",
        ),
        ("authorization_endpoint", Value::Null, "oidc_malformed"),
        (
            "code_challenge_methods_supported",
            json!(["plain"]),
            "oidc_unsupported",
        ),
        (
            "token_endpoint_auth_methods_supported",
            json!(["none"]),
            "oidc_unsupported",
        ),
    ] {
        set(name, value);
        away(code).await;
    }
    site.provider.set(|_| ());
    *site.provider.shared.published.lock().unwrap() = Some(json!({}));
    away("oidc_malformed").await;
    *site.provider.shared.published.lock().unwrap() = None;

    // Vouched for by an authority that is not the named one; the file holds a key; it is not there.
    let path = data(&site.rig.folder).join("oidc-ca.pem");
    let right = std::fs::read(&path).unwrap();
    let foreign = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    site.provider.asked();
    std::fs::write(&path, foreign.cert.pem()).unwrap();
    away("oidc_unreachable").await;
    assert!(site.provider.asked().is_empty(), "no request reached it");
    std::fs::write(&path, foreign.signing_key.serialize_pem()).unwrap();
    away("oidc_file").await;
    std::fs::remove_file(&path).unwrap();
    away("oidc_file").await;
    std::fs::write(&path, right).unwrap();
    accepted(&site).await;

    // Everybody else is not affected by any of it, and who is bound has no other way in until an administrator unbinds the account.
    std::fs::remove_file(&path).unwrap();
    let alex = Browser::signed_in(&site.rig).await;
    alex.get("/gates").await;
    let form = format!("name=Robin&password={PASSWORD}");
    let shut = Browser::new(&site.rig).post("/sign-in", &form).await;
    assert_eq!(shut.0, 401);
    sallyport_server::officers::unbind(&site.rig.state, "Robin", "test")
        .await
        .unwrap();
    let mut robin = Browser::new(&site.rig);
    robin.keep(&robin.post("/sign-in", &form).await.1);
    robin.get("/gates").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_fetched_when_a_token_names_one_and_at_most_once_a_minute() {
    let site = Site::start().await;
    site.bound("Robin", Role::GateOfficer).await;
    accepted(&site).await;
    assert_eq!(site.provider.asked(), ["discovery", "keys", "token"]);
    accepted(&site).await;
    assert_eq!(site.provider.asked(), ["token"], "kept for an hour");
    // Tokens with made-up key ids: the keys are asked for once in a minute, whatever they say.
    let unknown = |knobs: &mut Knobs| {
        knobs.header = Box::new(|header| header["kid"] = json!("made-up"));
    };
    site.provider.set(unknown);
    refused(&site, "oidc_unknown_key").await;
    assert_eq!(site.provider.asked(), ["token"], "asked for a moment ago");
    site.rig.clock.advance_millis(60_000);
    for _ in 0..5 {
        refused(&site, "oidc_unknown_key").await;
    }
    let asked = site.provider.asked();
    assert_eq!(asked.iter().filter(|path| **path == "keys").count(), 1);
    // The provider has a new key, and the old one ends.
    site.provider.set(|knobs| {
        knobs.header = Box::new(|header| header["kid"] = json!("new"));
    });
    *site.provider.shared.keys.lock().unwrap() = Keys::new();
    let mut key = site.provider.shared.keys.lock().unwrap().ed25519_jwk();
    key["kid"] = json!("new");
    *site.provider.shared.published.lock().unwrap() = Some(json!({ "keys": [key] }));
    site.rig.clock.advance_millis(60_000);
    accepted(&site).await;
    assert_eq!(site.provider.asked(), ["token", "keys"]);
    site.provider.set(|_| ());
    refused(&site, "oidc_unknown_key").await;
}
