//! Second factors and guessing: one-time codes, hardware keys played by a key of the tests' own, and attacks on names that lock nobody out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use sallyport_domain::Role;
use sallyport_server::clock::Clock as _;
use sallyport_server::officers::{self, Credentials, OfficerError, SignedIn};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::browser::{Browser, PASSWORD, csrf};
use crate::common::Rig;
use crate::coverage::entries;

/// A security key as WebAuthn level 2 says, without attestation: ES256, user present and verified.
pub(crate) struct HardwareKey {
    credential: Vec<u8>,
    pair: KeyPair,
    counter: u32,
    origin: &'static str,
    /// User present 1, user verified 4, may be copied 8.
    flags: u8,
}

impl HardwareKey {
    /// A key of its own; its credential's id comes from the name.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            credential: Sha256::digest(name).to_vec(),
            pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            counter: 0,
            origin: "https://localhost:0",
            flags: 5,
        }
    }

    /// How the server calls it.
    pub(crate) fn id(&self) -> String {
        hex::encode(Sha256::digest(URL_SAFE_NO_PAD.encode(&self.credential)))
    }

    fn client_data(&self, act: &str, question: &Value) -> String {
        json!({
            "type": act,
            "challenge": question["publicKey"]["challenge"],
            "origin": self.origin,
            "crossOrigin": false,
        })
        .to_string()
    }

    fn authenticator_data(&mut self, more: u8) -> Vec<u8> {
        self.counter += 1;
        let mut data = Sha256::digest("localhost").to_vec();
        data.push(self.flags | more);
        data.extend(self.counter.to_be_bytes());
        data
    }

    /// The answer to the question for a new credential.
    pub(crate) fn made(&mut self, question: &Value) -> Value {
        let client_data = self.client_data("webauthn.create", question);
        let mut data = self.authenticator_data(0x40);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.credential.len()).unwrap().to_be_bytes());
        data.extend(&self.credential);
        // COSE: EC2, ES256, P-256, x, y.
        let point = self.pair.der_bytes();
        data.extend([0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 32]);
        data.extend(&point[33..65]);
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        object.push(u8::try_from(data.len()).unwrap());
        object.extend(data);
        json!({
            "id": URL_SAFE_NO_PAD.encode(&self.credential),
            "rawId": URL_SAFE_NO_PAD.encode(&self.credential),
            "type": "public-key",
            "extensions": {},
            "response": {
                "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
                "attestationObject": URL_SAFE_NO_PAD.encode(object),
            },
        })
    }

    /// The answer to the question for this credential.
    pub(crate) fn shown(&mut self, question: &Value) -> Value {
        let client_data = self.client_data("webauthn.get", question);
        let data = self.authenticator_data(0);
        let mut signed = data.clone();
        signed.extend(Sha256::digest(&client_data));
        json!({
            "id": URL_SAFE_NO_PAD.encode(&self.credential),
            "rawId": URL_SAFE_NO_PAD.encode(&self.credential),
            "type": "public-key",
            "extensions": {},
            "response": {
                "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
                "authenticatorData": URL_SAFE_NO_PAD.encode(data),
                "signature": URL_SAFE_NO_PAD.encode(self.pair.sign(&signed).unwrap()),
                "userHandle": null,
            },
        })
    }

    async fn offer(&mut self, browser: &mut Browser) -> (u16, Value) {
        let csrf = csrf(&browser.get("/account").await);
        let message = json!({ "csrf": csrf });
        let (status, question) = browser.send("/account/keys/ask", &message).await;
        assert_eq!(status, 200, "{question}");
        let message = json!({ "csrf": csrf, "label": "key ring", "answer": self.made(&question) });
        browser.send("/account/keys", &message).await
    }

    /// Adds it to the account of whoever is signed in.
    pub(crate) async fn add_to(&mut self, browser: &mut Browser) {
        let (status, said) = self.offer(browser).await;
        assert_eq!(status, 200, "{said}");
    }
}

/// The secret of one-time codes that the account page shows, read from its QR code as an app does and from its letters.
pub(crate) fn secret_of(page: &str) -> Vec<u8> {
    let uri = crate::slip::scanned(page.split("class=\"qr\"").nth(1).unwrap());
    let secret = uri.split("secret=").nth(1).unwrap();
    let secret = secret.split('&').next().unwrap();
    assert!(
        uri.starts_with("otpauth://totp/Sallyport%20test-site:Alex?"),
        "{uri}"
    );
    assert!(page.contains(&format!("<code id=\"secret\">{secret}</code>")));
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    secret.as_bytes().to_vec()
}

/// What an app shows now.
pub(crate) fn code_now(rig: &Rig, secret: &[u8]) -> String {
    let totp = totp_rs::Builder::new()
        .with_secret(totp_rs::Secret::new(secret.into()))
        .build()
        .unwrap();
    let seconds = u64::try_from(rig.clock.now().as_micros() / 1_000_000).unwrap();
    totp.generate(seconds).to_string()
}

/// Turns one-time codes on for whoever is signed in.
async fn with_codes(rig: &Rig, browser: &Browser) -> Vec<u8> {
    let csrf = csrf(&browser.get("/account").await);
    let form = format!("csrf={csrf}");
    assert_eq!(browser.post("/account/codes/new", &form).await.0, 303);
    let secret = secret_of(&browser.get("/account").await);
    let wrong = browser
        .post("/account/codes", &format!("csrf={csrf}&code=000000"))
        .await;
    assert_eq!(wrong.0, 401);
    let form = format!("csrf={csrf}&code={}", code_now(rig, &secret));
    assert_eq!(browser.post("/account/codes", &form).await.0, 303);
    rig.clock.advance_millis(30_000);
    secret
}

const ALEX: &str = "name=Alex&password=a+quiet+harbour+in+june";

#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_code_is_asked_for_and_accepted_once() {
    assert_eq!(ALEX, format!("name=Alex&password={PASSWORD}"));
    let rig = Rig::start().await;
    let browser = Browser::signed_in(&rig).await;
    let mut elsewhere = Browser::new(&rig);
    elsewhere.keep(&elsewhere.post("/sign-in", ALEX).await.1);
    elsewhere.get("/gates").await;
    let secret = with_codes(&rig, &browser).await;
    let (status, _) = elsewhere.ask("GET", "/gates", "", "null").await;
    assert_eq!(status, 303, "sessions of before have ended");
    browser.get("/gates").await;

    // Password, then code.
    let mut second = Browser::new(&rig);
    let (status, cookie) = second.post("/sign-in", ALEX).await;
    assert_eq!(status, 303);
    assert!(cookie.starts_with("__Host-sallyport-step="));
    second.keep(&cookie);
    let (status, _) = second.ask("GET", "/gates", "", "null").await;
    assert_eq!(status, 303, "half a sign-in is none");
    let (status, page) = second.post("/sign-in/code", "code=123456").await;
    assert!(status == 401 && page.contains("wrong or was used"));
    let code = code_now(&rig, &secret);
    let (status, cookie) = second.post("/sign-in/code", &format!("code={code}")).await;
    assert_eq!(status, 303);
    second.keep(&cookie);
    second.get("/gates").await;

    // The same code again, in both ways.
    let mut replay = Browser::new(&rig);
    let (_, cookie) = replay
        .post("/sign-in", &format!("{ALEX}&code={code}"))
        .await;
    assert!(
        cookie.starts_with("__Host-sallyport-step="),
        "it is asked for anew"
    );
    replay.keep(&cookie);
    for _ in 0..4 {
        let (status, _) = replay.post("/sign-in/code", &format!("code={code}")).await;
        assert_eq!(status, 401);
    }
    rig.clock.advance_millis(30_000);
    let fresh = code_now(&rig, &secret);
    // An older step than the last that was used is no good either; five wrong codes end it.
    assert_eq!(
        replay
            .post("/sign-in/code", &format!("code={code}"))
            .await
            .0,
        401
    );
    let (status, _) = replay.post("/sign-in/code", &format!("code={fresh}")).await;
    assert_eq!(status, 303);
    let (status, _) = replay.ask("GET", "/gates", "", "null").await;
    assert_eq!(status, 303, "it had ended: back to the password");
    let (status, cookie) = replay
        .post("/sign-in", &format!("{ALEX}&code={fresh}"))
        .await;
    assert_eq!(status, 303);
    assert!(cookie.starts_with("__Host-sallyport="), "both at once");
    // Half a sign-in waits five minutes.
    let mut late = Browser::new(&rig);
    late.keep(&late.post("/sign-in", ALEX).await.1);
    rig.clock.advance_millis(5 * 60_000);
    let code = code_now(&rig, &secret);
    assert_eq!(
        late.post("/sign-in/code", &format!("code={code}")).await.0,
        303
    );
    let (status, _) = late.ask("GET", "/gates", "", "null").await;
    assert_eq!(status, 303);
    // A new set-up link is the way back; it takes the code away.
    let link = officers::renewal_link(&rig.state, "Alex").await.unwrap();
    let path = format!("/setup/{}", link.rsplit('/').next().unwrap());
    let form = format!("password={PASSWORD}&again={PASSWORD}");
    assert_eq!(late.post(&path, &form).await.0, 303);
    let (_, cookie) = late.post("/sign-in", ALEX).await;
    assert!(cookie.starts_with("__Host-sallyport="));
}

fn shown(name: &str, password: &str, address: [u8; 4]) -> Credentials {
    Credentials {
        name: name.to_owned(),
        password: password.to_owned(),
        code: None,
        step: None,
        address: Some(IpAddr::from(address)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_guessing_reaches_few_passwords_and_locks_nobody_out() {
    let rig = Rig::start().await;
    let browser = Browser::signed_in(&rig).await;
    let secret = with_codes(&rig, &browser).await;
    let supervisor = Browser::signed_in_as(&rig, "Kim", Role::Supervisor).await;
    let mut key = HardwareKey::new("spare");
    let mut supervisor = supervisor;
    key.add_to(&mut supervisor).await;
    let right = "a quiet harbour in june";
    let before = rig.state.guessing.checked();
    let size = rig.state.store.log_size().await.unwrap();
    for number in 0..10_000_u32 {
        let [_, _, a, b] = number.to_be_bytes();
        let name = if number % 2 == 0 { "Alex" } else { "Kim" };
        // Half of them from one address, the others from everywhere.
        let address = if number % 4 < 2 {
            [10, 0, 0, 1]
        } else {
            [10, 1, a, b]
        };
        let guess = shown(name, "a loud harbour in june", address);
        let refused = officers::sign_in(&rig.state, guess).await;
        assert!(matches!(refused, Err(OfficerError::SignIn)));
        rig.clock.advance_millis(360);
    }
    let looked_at = rig.state.guessing.checked() - before;
    println!("10,000 guesses in an hour: {looked_at} passwords looked at");
    assert!((4..=100).contains(&looked_at), "{looked_at}");
    let logged = rig.state.store.log_size().await.unwrap() - size;
    assert!(logged <= 200, "{logged} entries");

    // The victims, from the attacker's own address, in the middle of it.
    let late = officers::sign_in(&rig.state, shown("Alex", right, [10, 0, 0, 1])).await;
    assert!(
        matches!(late, Err(OfficerError::SignIn)),
        "the delay stands"
    );
    let mut victim = shown("Alex", right, [10, 0, 0, 1]);
    victim.code = Some(code_now(&rig, &secret));
    let session = officers::sign_in(&rig.state, victim).await.unwrap();
    assert!(matches!(session, SignedIn::Session(_)));
    for _ in 0..6 {
        let guess = shown("Kim", "a loud harbour in june", [10, 9, 9, 9]);
        assert!(officers::sign_in(&rig.state, guess).await.is_err());
    }
    let mut victim = Browser::new(&rig);
    let (_, question) = victim
        .send("/sign-in/key/ask", &json!({ "name": "Kim" }))
        .await;
    let message = json!({ "answer": key.shown(&question) });
    let (status, said) = victim.send("/sign-in/key", &message).await;
    assert_eq!(status, 200);
    assert!(
        said["say"]
            .as_str()
            .unwrap()
            .contains("sign in with your password")
    );
    let form = format!("name=Kim&password={PASSWORD}");
    let (status, cookie) = victim.post("/sign-in", &form).await;
    assert_eq!(status, 303);
    victim.keep(&cookie);
    victim.get("/log").await;
    // The key's answer stood for one password.
    let mut again = Browser::new(&rig);
    again.cookie.clone_from(&victim.cookie);
    let (_, cookie) = again.post("/sign-in", &form).await;
    assert!(
        !cookie.starts_with("__Host-sallyport="),
        "asked for the key anew"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_exist_and_names_that_do_not_look_alike() {
    let rig = Rig::start().await;
    let mut kim = Browser::signed_in_as(&rig, "Kim", Role::Supervisor).await;
    drop(kim.cookie.take());
    let mut said = BTreeSet::new();
    let mut shapes = BTreeSet::new();
    for name in ["Kim", "Nobody", "Kim", "Nobody"] {
        let form = format!("name={name}&password=a+loud+harbour+in+june");
        said.insert(Browser::new(&rig).post("/sign-in", &form).await);
        let message = json!({ "name": name });
        let (status, question) = Browser::new(&rig).send("/sign-in/key/ask", &message).await;
        let question = &question["publicKey"];
        let keys: Vec<&String> = question.as_object().unwrap().keys().collect();
        let allowed = question["allowCredentials"].as_array().unwrap();
        let id = allowed[0]["id"].as_str().unwrap();
        shapes.insert(format!(
            "{status} {keys:?} {} {} {:?} {} {} {}",
            allowed.len(),
            id.len(),
            allowed[0].as_object().unwrap().keys().collect::<Vec<_>>(),
            question["rpId"],
            question["userVerification"],
            question["timeout"],
        ));
        // The same at each attempt.
        let (_, again) = Browser::new(&rig).send("/sign-in/key/ask", &message).await;
        assert_eq!(again["publicKey"]["allowCredentials"][0]["id"], id);
    }
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said.first().unwrap().0, 401);
    assert_eq!(shapes.len(), 1, "{shapes:#?}");
    // Nobody's question has no right answer.
    let mut stranger = Browser::new(&rig);
    let (_, question) = stranger
        .send("/sign-in/key/ask", &json!({ "name": "Nobody" }))
        .await;
    let message = json!({ "answer": HardwareKey::new("Kim").shown(&question) });
    assert_eq!(stranger.send("/sign-in/key", &message).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hardware_key_must_be_the_right_one_and_answer_here_and_once() {
    let rig = Rig::start().await;
    let mut browser = Browser::signed_in(&rig).await;
    // Not accepted: from another site, without PIN, or copied to other devices.
    type Change = fn(&mut HardwareKey);
    let bad: [(Change, u16); 4] = [
        (|key| key.origin = "https://evil.example", 401),
        (|key| key.flags = 1, 401),
        (|key| key.flags = 4, 401),
        (|key| key.flags = 5 | 8, 400),
    ];
    for (change, expected) in bad {
        let mut key = HardwareKey::new("bad");
        change(&mut key);
        let (status, said) = key.offer(&mut browser).await;
        assert_eq!(status, expected, "{said}");
        assert!(said["problem"].as_str().unwrap().len() > 20);
    }
    assert!(browser.get("/account").await.contains("None."));
    let mut key = HardwareKey::new("good");
    key.add_to(&mut browser).await;
    let again = key.offer(&mut browser).await;
    assert_eq!(again.0, 401, "the same credential twice");
    let csrf = csrf(&browser.get("/account").await);
    let form = format!("csrf={csrf}&key={}", key.id());
    assert_eq!(
        browser.post("/account/keys/remove", &form).await.0,
        400,
        "the last one stays"
    );

    // Now the password alone is half a sign-in.
    let begin = async || {
        // Sign-ins that stay half done cost a growing delay, as wrong passwords do.
        rig.clock.advance_millis(60_000);
        let mut browser = Browser::new(&rig);
        let (_, cookie) = browser.post("/sign-in", ALEX).await;
        assert!(cookie.starts_with("__Host-sallyport-step="));
        browser.keep(&cookie);
        let (_, question) = browser.send("/sign-in/key/ask", &json!({})).await;
        (browser, question)
    };
    let (mut second, question) = begin().await;
    let answer = json!({ "answer": key.shown(&question) });
    let (status, said) = second.send("/sign-in/key", &answer).await;
    assert_eq!((status, &said["next"]), (200, &json!("/sign-in")));
    second.get("/gates").await;
    let (mut thief, _) = begin().await;
    assert_eq!(
        thief.send("/sign-in/key", &answer).await.0,
        401,
        "an answer to another question"
    );
    assert_eq!(
        thief.send("/sign-in/key", &answer).await.0,
        410,
        "a question is answered once"
    );

    let mut wrong = HardwareKey::new("good");
    let (mut thief, question) = begin().await;
    let answer = json!({ "answer": wrong.shown(&question) });
    assert_eq!(
        thief.send("/sign-in/key", &answer).await.0,
        401,
        "another private key"
    );
    let (mut thief, question) = begin().await;
    key.origin = "https://evil.example";
    let answer = json!({ "answer": key.shown(&question) });
    assert_eq!(
        thief.send("/sign-in/key", &answer).await.0,
        401,
        "of another site"
    );
    key.origin = "https://localhost:0";
    let (mut thief, question) = begin().await;
    let counter = key.counter;
    key.counter = 1;
    let answer = json!({ "answer": key.shown(&question) });
    assert_eq!(
        thief.send("/sign-in/key", &answer).await.0,
        401,
        "a copy whose counter is behind"
    );
    key.counter = counter;
    let (mut late, question) = begin().await;
    rig.clock.advance_millis(5 * 60_000);
    let answer = json!({ "answer": key.shown(&question) });
    assert_eq!(late.send("/sign-in/key", &answer).await.0, 410);
    assert_eq!(late.ask("GET", "/gates", "", "null").await.0, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_needs_a_key_can_do_nothing_without_and_a_code_is_not_enough() {
    let rig = Rig::start().await;
    let setup = crate::browser::setup_path(&rig, Role::Auditor).await;
    let mut browser = Browser::new(&rig);
    let form = format!("name=Alex&password={PASSWORD}&again={PASSWORD}");
    assert_eq!(browser.post(&setup, &form).await.0, 303);
    browser.keep(&browser.post("/sign-in", ALEX).await.1);
    let page = browser.get("/account").await;
    assert!(page.contains("Add one now") && !page.contains("href=\"/log\""));
    let secret = with_codes(&rig, &browser).await;
    let refused = browser.ask("GET", "/log", "", "null").await;
    assert!(refused.0 == 403 && refused.1.contains("Add your security key first"));
    let entry = entries(&rig, 0).await.pop().unwrap();
    assert_eq!(entry.reason.as_deref(), Some("needs_key"));
    let mut key = HardwareKey::new("key");
    key.add_to(&mut browser).await;
    browser.get("/log").await;
    // From now on the code opens nothing.
    let code = code_now(&rig, &secret);
    let mut other = Browser::new(&rig);
    let (_, cookie) = other.post("/sign-in", &format!("{ALEX}&code={code}")).await;
    assert!(cookie.starts_with("__Host-sallyport-step="));
    other.keep(&cookie);
    rig.clock.advance_millis(30_000);
    let form = format!("code={}", code_now(&rig, &secret));
    assert_eq!(other.post("/sign-in/code", &form).await.0, 401);
    assert!(!other.get("/sign-in/second").await.contains("name=\"code\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_protects_the_account_is_changed_only_by_who_has_just_proved_to_be_there() {
    let rig = Rig::start().await;
    let mut browser = Browser::signed_in(&rig).await;
    let csrf = csrf(&browser.get("/account").await);
    let message = json!({ "csrf": csrf, "label": "x" });
    let (_, question) = browser.send("/account/keys/ask", &message).await;
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    let answer =
        json!({ "csrf": csrf, "label": "x", "answer": HardwareKey::new("x").made(&question) });
    assert_eq!(browser.send("/account/keys", &answer).await.0, 403);
    assert_eq!(browser.send("/account/keys/ask", &message).await.0, 403);
    let form = format!("csrf={csrf}&password=kettle+moss+forty+two&again=kettle+moss+forty+two");
    for path in [
        "/account/codes/new",
        "/account/codes",
        "/account/keys/remove",
        "/account/password",
    ] {
        assert_eq!(browser.post(path, &form).await.0, 403, "{path}");
    }
    let page = browser.get("/account").await;
    assert!(page.contains("still there") && !page.contains("Add a security key"));
    assert_eq!(
        browser.post("/account/confirm", &form).await.0,
        401,
        "a wrong password"
    );
    let right = format!("csrf={csrf}&password={PASSWORD}");
    assert_eq!(browser.post("/account/confirm", &right).await.0, 303);
    assert_eq!(browser.post("/account/password", &form).await.0, 303);
    assert_eq!(
        browser.post("/sign-in", ALEX).await.0,
        401,
        "the old password"
    );

    // Eight characters are enough beside a second factor only.
    let short = format!("csrf={csrf}&password=harbqurt&again=harbqurt");
    assert_eq!(browser.post("/account/password", &short).await.0, 400);
    let mut key = HardwareKey::new("key");
    key.add_to(&mut browser).await;
    assert_eq!(browser.post("/account/password", &short).await.0, 303);
    let common = format!("csrf={csrf}&password=baseball&again=baseball");
    assert_eq!(browser.post("/account/password", &common).await.0, 400);
    let differ = format!("csrf={csrf}&password=harbqurt&again=harbqurx");
    assert_eq!(browser.post("/account/password", &differ).await.0, 400);
    // With a key in the account a password does not prove presence any more.
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    let form = format!("csrf={csrf}&password=harbqurt");
    assert_eq!(browser.post("/account/confirm", &form).await.0, 401);
    let message = json!({ "csrf": csrf });
    let (_, question) = browser.send("/account/confirm/ask", &message).await;
    let answer = json!({ "csrf": csrf, "answer": key.shown(&question) });
    assert_eq!(browser.send("/account/confirm/key", &answer).await.0, 200);
    assert_eq!(browser.post("/account/codes/new", &form).await.0, 303);
}
