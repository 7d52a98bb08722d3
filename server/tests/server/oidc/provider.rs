//! An identity provider on this machine, over TLS, with real signatures, that misbehaves as a test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sallyport_server::clock::{Clock as _, ManualClock};
use sallyport_server::config::Oidc;
use sallyport_server::tls;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(super) const SECRET: &str = "a+secret of/the test:provider";
pub(super) const CLIENT: &str = "sallyport test-site";

/// A provider's keys of all three kinds; those for ES256 and EdDSA are new each time.
pub(super) struct Keys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Keys {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let pem = include_bytes!("test-provider-key.pem");
        let rsa = PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(rsa.secret_pkcs8_der()).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                p256.as_ref(),
                &random,
            )
            .unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        }
    }

    pub(super) fn rsa_jwk(&self) -> Value {
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({
            "kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256",
            "n": BASE64.encode(public.n),
            "e": BASE64.encode(public.e),
        })
    }

    pub(super) fn p256_jwk(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "kid": "p",
            "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..]) })
    }

    pub(super) fn ed25519_jwk(&self) -> Value {
        let point = self.ed25519.public_key().as_ref();
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "o", "x": BASE64.encode(point) })
    }

    pub(super) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "RS256" => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            _ => Vec::new(),
        }
    }

    pub(super) fn token(&self, header: &Value, claims: &Value, algorithm: &str) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature))
    }

    pub(super) fn published(&self) -> [Value; 3] {
        [self.rsa_jwk(), self.p256_jwk(), self.ed25519_jwk()]
    }
}

type Change = Box<dyn Fn(&mut Value) + Send>;

/// How it misbehaves.
pub(super) struct Knobs {
    pub(super) discovery: Change,
    pub(super) claims: Change,
    pub(super) header: Change,
    /// What signs, whatever the header says.
    pub(super) signs: &'static str,
    pub(super) checks_pkce: bool,
    /// Hands one code out again and again.
    pub(super) checks_use: bool,
    /// What the token endpoint does instead.
    pub(super) instead: Option<Instead>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    Endless,
    Never,
    Elsewhere,
    Fails,
    Nonsense,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            discovery: Box::new(|_| ()),
            claims: Box::new(|_| ()),
            header: Box::new(|_| ()),
            signs: "EdDSA",
            checks_pkce: true,
            checks_use: true,
            instead: None,
        }
    }
}

/// What stands behind a code.
#[derive(Clone)]
struct Granted {
    subject: String,
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

pub(super) struct Shared {
    pub(super) issuer: String,
    clock: Arc<ManualClock>,
    pub(super) keys: Mutex<Keys>,
    /// What is published instead of the keys.
    pub(super) published: Mutex<Option<Value>>,
    pub(super) knobs: Mutex<Knobs>,
    codes: Mutex<HashMap<String, Granted>>,
    /// Paths that were asked for.
    pub(super) asked: Mutex<Vec<&'static str>>,
}

pub(super) struct TestProvider {
    pub(super) shared: Arc<Shared>,
    pub(super) authority: String,
    _stop: watch::Sender<bool>,
}

impl TestProvider {
    pub(super) async fn start(host: &str, clock: Arc<ManualClock>) -> Self {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            issuer: format!("https://{host}:{port}/realms/state"),
            clock,
            keys: Mutex::new(Keys::new()),
            published: Mutex::default(),
            knobs: Mutex::default(),
            codes: Mutex::default(),
            asked: Mutex::default(),
        });
        let routes = Router::new()
            .route(
                "/realms/state/.well-known/openid-configuration",
                get(discovery),
            )
            .route("/authorize", get(asks).post(enters))
            .route("/keys", get(published))
            .route("/token", post(token))
            .route("/elsewhere", post(token))
            .with_state(shared.clone());
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(tls::serve(listener, Arc::new(config), routes, stopped));
        Self {
            shared,
            authority: made.cert.pem(),
            _stop: stop,
        }
    }

    pub(super) fn config(&self) -> Oidc {
        Oidc {
            name: "State ID".to_owned(),
            issuer: self.shared.issuer.clone(),
            client_id: CLIENT.to_owned(),
            client_secret_file: "oidc-secret".into(),
            authority: "oidc-ca.pem".into(),
            acr: Vec::new(),
            amr: Vec::new(),
            amr_for_code: vec!["mfa".to_owned()],
            redirect_uri: None,
            patience_seconds: 10,
        }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Knobs)) {
        let mut knobs = Knobs::default();
        change(&mut knobs);
        *self.shared.knobs.lock().unwrap() = knobs;
    }

    /// Somebody whom the provider knows by `subject` signs in at this address of it: where the browser is sent back to.
    pub(super) fn signs_in(&self, address: &str, subject: &str) -> String {
        self.shared.signs_in(address, subject)
    }

    /// Paths that were asked for since.
    pub(super) fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap())
    }
}

impl Shared {
    fn signs_in(&self, address: &str, subject: &str) -> String {
        let url = url::Url::parse(address).unwrap();
        assert!(
            address.starts_with(&self.authorization_endpoint()),
            "{address}"
        );
        let all: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let asked: HashMap<_, _> = all.iter().cloned().collect();
        assert_eq!(all.len(), asked.len(), "each once");
        for (name, value) in [
            ("response_type", "code"),
            ("scope", "openid"),
            ("client_id", CLIENT),
            ("code_challenge_method", "S256"),
            ("prompt", "login"),
            ("max_age", "0"),
        ] {
            assert_eq!(asked[name], value);
        }
        let code = hex::encode(Sha256::digest(address));
        let granted = Granted {
            subject: subject.to_owned(),
            nonce: asked["nonce"].clone(),
            challenge: asked["code_challenge"].clone(),
            redirect_uri: asked["redirect_uri"].clone(),
        };
        self.codes.lock().unwrap().insert(code.clone(), granted);
        let mut back = url::Url::parse(&asked["redirect_uri"]).unwrap();
        back.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &asked["state"])
            .append_pair("iss", &self.issuer);
        back.to_string()
    }

    pub(super) fn at(&self, path: &str) -> String {
        self.issuer.replace("/realms/state", path)
    }

    fn authorization_endpoint(&self) -> String {
        self.at("/authorize?tenant=a")
    }
}

/// The provider's own page.
async fn asks() -> Html<&'static str> {
    Html(
        "<!doctype html><title>State ID</title><form method=\"post\"><input id=\"subject\" name=\"subject\"><button id=\"enter\">Enter</button></form>",
    )
}

/// Somebody signs in on it. The way back is a redirect after a form, which no `Strict` cookie follows.
async fn enters(State(shared): State<Arc<Shared>>, uri: axum::http::Uri, form: Fields) -> Redirect {
    let address = shared.at(uri.path_and_query().unwrap().as_str());
    Redirect::to(&shared.signs_in(&address, &form.0["subject"]))
}

async fn discovery(State(shared): State<Arc<Shared>>) -> String {
    shared.asked.lock().unwrap().push("discovery");
    let mut said = json!({
        "issuer": shared.issuer,
        "authorization_endpoint": shared.authorization_endpoint(),
        "token_endpoint": shared.at("/token"),
        "jwks_uri": shared.at("/keys"),
        "code_challenge_methods_supported": ["plain", "S256"],
        "authorization_response_iss_parameter_supported": true,
    });
    (shared.knobs.lock().unwrap().discovery)(&mut said);
    said.to_string()
}

async fn published(State(shared): State<Arc<Shared>>) -> String {
    shared.asked.lock().unwrap().push("keys");
    let instead = shared.published.lock().unwrap().clone();
    let keys = || json!({ "keys": shared.keys.lock().unwrap().published() });
    instead.unwrap_or_else(keys).to_string()
}

type Fields = Form<HashMap<String, String>>;

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, form: Fields) -> Response {
    shared.asked.lock().unwrap().push("token");
    let instead = shared.knobs.lock().unwrap().instead;
    match instead {
        None => {}
        Some(Instead::Endless) => {
            let chunk = || Ok::<_, std::io::Error>(vec![b' '; 8_192]);
            let body = futures_util::stream::repeat_with(chunk);
            return Body::from_stream(body).into_response();
        }
        Some(Instead::Never) => std::future::pending().await,
        Some(Instead::Elsewhere) => {
            return Redirect::temporary(&shared.at("/elsewhere")).into_response();
        }
        Some(Instead::Fails) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Instead::Nonsense) => return "nonsense".into_response(),
    }
    match shared.redeem(&headers, &form.0) {
        Some(answer) => answer.to_string().into_response(),
        None => (StatusCode::BAD_REQUEST, "{\"error\":\"invalid_grant\"}").into_response(),
    }
}

impl Shared {
    fn redeem(&self, headers: &HeaderMap, form: &HashMap<String, String>) -> Option<Value> {
        let encoded =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(CLIENT), encoded(SECRET));
        let basic = format!("Basic {}", STANDARD.encode(pair));
        let by_header = headers
            .get(header::AUTHORIZATION)
            .map(|value| value == basic.as_str());
        let by_form = form.get("client_secret").map(|secret| secret == SECRET);
        if by_header.or(by_form) != Some(true) || form.get("grant_type")? != "authorization_code" {
            return None;
        }
        let knobs = self.knobs.lock().unwrap();
        let mut codes = self.codes.lock().unwrap();
        let code = form.get("code")?;
        let granted = codes.get(code)?.clone();
        if knobs.checks_use {
            codes.remove(code);
        }
        let challenge = BASE64.encode(Sha256::digest(form.get("code_verifier")?));
        if (knobs.checks_pkce && challenge != granted.challenge)
            || *form.get("redirect_uri")? != granted.redirect_uri
        {
            return None;
        }
        let now = self.clock.now().as_micros() / 1_000_000;
        let mut claims = json!({
            "iss": self.issuer, "sub": granted.subject, "aud": CLIENT, "nonce": granted.nonce,
            "iat": now, "exp": now + 300, "auth_time": now, "amr": ["pwd"],
            "roles": ["administrator"], "groups": ["supervisor"], "email": "sam@example.org",
        });
        (knobs.claims)(&mut claims);
        let id = match knobs.signs {
            "RS256" => "r",
            "ES256" => "p",
            _ => "o",
        };
        let mut head = json!({ "alg": knobs.signs, "kid": id, "typ": "JWT" });
        (knobs.header)(&mut head);
        let token = self.keys.lock().unwrap().token(&head, &claims, knobs.signs);
        Some(json!({ "access_token": "a", "token_type": "Bearer", "id_token": token }))
    }
}
