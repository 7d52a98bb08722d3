//! Tokens that are right, and the ways in which one is not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sallyport_domain::Timestamp;
use sallyport_server::oidc::{Expected, KeySet, Refusal, SKEW_S, check};
use serde_json::{Value, json};

use super::provider::Keys;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn published(keys: &Keys) -> KeySet {
    set(&keys.published())
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "sub": "subject-1", "aud": "gaol", "nonce": "n",
        "iat": NOW, "exp": NOW + 300, "auth_time": NOW,
        "acr": "high", "amr": ["pwd", "mfa"], "roles": ["supervisor"],
    })
}

fn expected<'a>(acr: &'a [String], amr: &'a [String]) -> Expected<'a> {
    Expected {
        issuer: "https://id.example",
        client_id: "gaol",
        nonce: "n",
        asked_at: at(NOW - 60),
        acr,
        amr,
    }
}

fn checked(token: &str, keys: &KeySet) -> Result<String, &'static str> {
    check(token, keys, &expected(&[], &[]), at(NOW))
        .map(|named| named.subject)
        .map_err(|refusal| refusal.code())
}

#[test]
fn each_kind_of_key_verifies_its_own_algorithm_and_no_other() {
    let keys = Keys::new();
    let all = [("RS256", "r"), ("ES256", "p"), ("EdDSA", "o")];
    for (algorithm, id) in all {
        let header = json!({ "alg": algorithm, "kid": id, "typ": "JWT" });
        let token = keys.token(&header, &claims(), algorithm);
        assert_eq!(
            checked(&token, &published(&keys)),
            Ok("subject-1".to_owned())
        );
        // The key id of another kind, and the signature of another kind.
        for (other, other_id) in all.into_iter().filter(|(_, other)| *other != id) {
            let header = json!({ "alg": algorithm, "kid": other_id });
            let token = keys.token(&header, &claims(), algorithm);
            assert_eq!(checked(&token, &published(&keys)), Err("oidc_unknown_key"));
            let header = json!({ "alg": algorithm, "kid": id });
            let token = keys.token(&header, &claims(), other);
            assert_eq!(checked(&token, &published(&keys)), Err("oidc_signature"));
        }
    }
    for name in [
        "none", "None", "", "HS256", "RS384", "PS256", "ES384", "rs256",
    ] {
        let header = json!({ "alg": name, "kid": "r" });
        let token = keys.token(&header, &claims(), name);
        assert_eq!(
            checked(&token, &published(&keys)),
            Err("oidc_algorithm"),
            "{name}"
        );
    }
    for more in [
        json!({ "alg": "EdDSA", "kid": "o", "crit": ["b64"] }),
        json!({ "alg": "EdDSA", "kid": "o", "crit": null }),
        json!({ "alg": "EdDSA", "kid": "o", "typ": "at+jwt" }),
    ] {
        let token = keys.token(&more, &claims(), "EdDSA");
        assert_eq!(
            checked(&token, &published(&keys)),
            Err("oidc_algorithm"),
            "{more}"
        );
    }
}

#[test]
fn a_header_chooses_among_published_keys_and_brings_none() {
    let (keys, other) = (Keys::new(), Keys::new());
    let brought = json!({ "alg": "EdDSA", "kid": "o", "jwk": other.ed25519_jwk(), "jku": "https://evil.example" });
    let token = other.token(&brought, &claims(), "EdDSA");
    assert_eq!(checked(&token, &published(&keys)), Err("oidc_signature"));

    let bare = keys.token(&json!({ "alg": "EdDSA" }), &claims(), "EdDSA");
    assert!(checked(&bare, &published(&keys)).is_ok(), "one of its kind");
    let two = set(&[keys.ed25519_jwk(), other.ed25519_jwk()]);
    assert_eq!(checked(&bare, &two), Err("oidc_unknown_key"), "which?");
    let header = json!({ "alg": "EdDSA", "kid": "o" });
    let token = keys.token(&header, &claims(), "EdDSA");
    assert_eq!(
        checked(&token, &two),
        Err("oidc_unknown_key"),
        "one id, two keys"
    );

    // Keys for something else, with their private half, or for another algorithm are none.
    for (name, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("alg", json!("ES256")),
        ("d", json!("AAAA")),
        ("crv", json!("Ed448")),
        ("x", json!("AAAA")),
        ("kty", json!("oct")),
    ] {
        let mut key = keys.ed25519_jwk();
        key[name] = value;
        assert_eq!(
            checked(&token, &set(&[key])),
            Err("oidc_unknown_key"),
            "{name}"
        );
    }
    for wrong in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[1]}"] {
        assert!(KeySet::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    // A weak key of the right form.
    let mut weak = keys.rsa_jwk();
    weak["n"] = json!(BASE64.encode([0xff; 128]));
    let header = json!({ "alg": "RS256", "kid": "r" });
    let token = keys.token(&header, &claims(), "RS256");
    assert_eq!(checked(&token, &set(&[weak])), Err("oidc_signature"));
}

#[test]
fn no_character_of_a_token_can_be_changed_dropped_or_added() {
    let keys = Keys::new();
    let set = published(&keys);
    let header = json!({ "alg": "ES256", "kid": "p" });
    let token = keys.token(&header, &claims(), "ES256");
    assert!(checked(&token, &set).is_ok());
    for at in 0..token.len() {
        let (before, after) = token.split_at(at);
        let rest = &after[1..];
        let new = if after.starts_with('A') { 'B' } else { 'A' };
        for changed in [
            format!("{before}{new}{rest}"),
            format!("{before}{rest}"),
            format!("{before}{new}{after}"),
            before.to_owned(),
        ] {
            assert!(checked(&changed, &set).is_err(), "{changed}");
        }
    }
    for more in [".", "=", ".A", " ", "\n"] {
        assert!(checked(&format!("{token}{more}"), &set).is_err());
        assert!(checked(&format!("{more}{token}"), &set).is_err());
    }
    // One name twice: whoever signs and whoever reads might take another one.
    let twice = claims().to_string().replacen('{', "{\"sub\":\"a\",", 1);
    let signed = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(twice)
    );
    let signature = BASE64.encode(keys.sign("ES256", signed.as_bytes()));
    assert_eq!(
        checked(&format!("{signed}.{signature}"), &set),
        Err("oidc_malformed")
    );
}

#[test]
fn every_claim_must_be_there_and_right() {
    let keys = Keys::new();
    let set = published(&keys);
    let (acr, amr) = (["high".to_owned()], ["mfa".to_owned()]);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        let header = json!({ "alg": "EdDSA", "kid": "o" });
        let token = keys.token(&header, &claims, "EdDSA");
        check(&token, &set, &expected(&acr, &amr), at(NOW))
            .map(drop)
            .map_err(|refusal: Refusal| refusal.code())
    };
    let asked = NOW - 60;
    for (name, value, says) in [
        ("aud", json!(["gaol"]), Ok(())),
        ("azp", json!("gaol"), Ok(())),
        ("nbf", json!(NOW + SKEW_S), Ok(())),
        ("exp", json!(NOW + 1), Ok(())),
        ("iat", json!(NOW + SKEW_S), Ok(())),
        ("iat", json!(asked - SKEW_S), Ok(())),
        ("auth_time", json!(asked - SKEW_S), Ok(())),
        ("iss", json!("https://id.example/"), Err("oidc_issuer")),
        ("iss", json!(null), Err("oidc_malformed")),
        ("aud", json!("gaol2"), Err("oidc_audience")),
        ("aud", json!(["gaol", "other"]), Err("oidc_audience")),
        ("aud", json!([]), Err("oidc_audience")),
        ("aud", json!(null), Err("oidc_malformed")),
        ("azp", json!("other"), Err("oidc_audience")),
        ("nonce", json!("m"), Err("oidc_nonce")),
        ("nonce", json!(""), Err("oidc_nonce")),
        ("nonce", json!(null), Err("oidc_nonce")),
        ("exp", json!(NOW - SKEW_S), Err("oidc_expired")),
        ("exp", json!(NOW), Err("oidc_expired")),
        ("exp", json!(null), Err("oidc_malformed")),
        ("exp", json!("9999999999"), Err("oidc_malformed")),
        ("exp", json!(1e300), Err("oidc_malformed")),
        ("iat", json!(NOW + SKEW_S + 1), Err("oidc_time")),
        ("iat", json!(asked - SKEW_S - 1), Err("oidc_time")),
        ("iat", json!(i64::MIN), Err("oidc_time")),
        ("iat", json!(null), Err("oidc_malformed")),
        ("nbf", json!(NOW + SKEW_S + 1), Err("oidc_time")),
        ("nbf", json!("never"), Err("oidc_malformed")),
        ("auth_time", json!(asked - SKEW_S - 1), Err("oidc_not_anew")),
        ("auth_time", json!(NOW + SKEW_S + 1), Err("oidc_not_anew")),
        ("auth_time", json!(null), Err("oidc_not_anew")),
        ("acr", json!("low"), Err("oidc_weak")),
        ("acr", json!(null), Err("oidc_weak")),
        ("amr", json!(["pwd"]), Err("oidc_weak")),
        ("amr", json!(null), Err("oidc_weak")),
        ("amr", json!("mfa"), Err("oidc_malformed")),
        ("sub", json!(""), Err("oidc_malformed")),
        ("sub", json!("s".repeat(256)), Err("oidc_malformed")),
        ("sub", json!(null), Err("oidc_malformed")),
        ("sub", json!(7), Err("oidc_malformed")),
    ] {
        assert_eq!(with(name, value.clone()), says, "{name} {value}");
    }
    // Before anything in it is read.
    let large = format!(
        "{}.{}.{}",
        "a".repeat(8_000),
        "b".repeat(8_000),
        "c".repeat(8_000)
    );
    assert_eq!(checked(&large, &set), Err("oidc_malformed"));
}
