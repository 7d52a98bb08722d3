//! The console's guards through its real router: set-up links, sessions, forms from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use sallyport_domain::Timestamp;
use sallyport_server::clock::ManualClock;
use sallyport_server::config::Config;
use sallyport_server::state::AppState;
use sallyport_server::{console, installation, officers};
use tower::ServiceExt as _;

const HOST: &str = "localhost:8443";
const ORIGIN: &str = "https://localhost:8443";
const PASSWORD: &str = "a+quiet+harbour+in+june";

struct Console {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    state: AppState,
    router: Router,
}

impl Console {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (database, owner) = crate::common::new_database().await;
        let config = Config {
            site: "site-test".parse().unwrap(),
            hostnames: vec!["localhost".into()],
            gate_listen: "127.0.0.1:7443".parse().unwrap(),
            console_listen: "127.0.0.1:8443".parse().unwrap(),
            database,
            utc_offset_minutes: 0,
            cool_off_seconds: 0,
            allow_unlocked_memory: true,
            monitor_listen: None,
            oidc: None,
            officers: sallyport_server::config::OfficerRules::FLOOR,
        };
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(
            1_795_428_420_000_000,
        )));
        installation::create_with_owner(&data, &config, owner.as_deref(), &*clock)
            .await
            .unwrap();
        let state = installation::open(&data, Arc::clone(&clock) as Arc<_>)
            .await
            .unwrap();
        let router = console::router(state.clone());
        Self {
            _folder: folder,
            clock,
            state,
            router,
        }
    }

    async fn get(&self, path: &str, cookie: Option<&str>) -> Response<Body> {
        let mut request = Request::get(path).header(header::HOST, HOST);
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    async fn post(
        &self,
        path: &str,
        body: &str,
        cookie: Option<&str>,
        origin: Option<&str>,
    ) -> Response<Body> {
        let mut request = Request::post(path)
            .header(header::HOST, HOST)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        self.router
            .clone()
            .oneshot(request.body(Body::from(body.to_owned())).unwrap())
            .await
            .unwrap()
    }

    /// Path of a fresh set-up link.
    async fn setup_path(&self) -> String {
        let link = officers::create_setup_link(&self.state, sallyport_domain::Role::GateOfficer)
            .await
            .unwrap();
        link.strip_prefix(ORIGIN).unwrap().to_owned()
    }

    async fn account(&self, name: &str) {
        let path = self.setup_path().await;
        let body = format!("name={name}&password={PASSWORD}&again={PASSWORD}");
        assert_eq!(
            self.post(&path, &body, None, Some(ORIGIN)).await.status(),
            StatusCode::SEE_OTHER
        );
    }

    /// Signs in and returns the cookie.
    async fn sign_in(&self, name: &str) -> String {
        let answer = self
            .post(
                "/sign-in",
                &format!("name={name}&password={PASSWORD}"),
                None,
                Some(ORIGIN),
            )
            .await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer
            .headers()
            .get(header::SET_COOKIE)
            .unwrap()
            .to_str()
            .unwrap();
        for flag in [
            "__Host-sallyport=",
            "Secure",
            "HttpOnly",
            "SameSite=Strict",
            "Path=/",
        ] {
            assert!(cookie.contains(flag), "the cookie lacks {flag}");
        }
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn is_signed_in(&self, cookie: &str) -> bool {
        self.get("/gates", Some(cookie)).await.status() == StatusCode::OK
    }
}

async fn text(answer: Response<Body>) -> String {
    String::from_utf8(
        to_bytes(answer.into_body(), 1 << 20)
            .await
            .unwrap()
            .to_vec(),
    )
    .unwrap()
}

#[tokio::test]
async fn a_set_up_link_works_once_and_for_fifteen_minutes() {
    let console = Console::new().await;
    let path = console.setup_path().await;
    assert_eq!(console.get(&path, None).await.status(), StatusCode::OK);
    let body = format!("name=Alex&password={PASSWORD}&again={PASSWORD}");
    let short = "name=Alex&password=short&again=short";
    assert_eq!(
        console
            .post(&path, short, None, Some(ORIGIN))
            .await
            .status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        console
            .post(&path, &body, None, Some(ORIGIN))
            .await
            .status(),
        StatusCode::SEE_OTHER
    );
    let again = body.replace("Alex", "Blair");
    assert_eq!(
        console
            .post(&path, &again, None, Some(ORIGIN))
            .await
            .status(),
        StatusCode::GONE
    );
    let late = console.setup_path().await;
    console.clock.advance_millis(15 * 60_000 + 1);
    assert_eq!(console.get(&late, None).await.status(), StatusCode::GONE);
    assert_eq!(
        console
            .post(&late, &again, None, Some(ORIGIN))
            .await
            .status(),
        StatusCode::GONE
    );
}

#[tokio::test]
async fn sessions_end_when_idle_after_a_shift_and_on_signing_out() {
    let console = Console::new().await;
    console.account("Alex").await;
    let cookie = console.sign_in("Alex").await;
    assert!(console.is_signed_in(&cookie).await);
    console.clock.advance_millis(15 * 60_000 + 1);
    assert!(
        !console.is_signed_in(&cookie).await,
        "idle for a quarter of an hour"
    );

    let cookie = console.sign_in("Alex").await;
    for _ in 0..48 {
        assert!(console.is_signed_in(&cookie).await);
        console.clock.advance_millis(10 * 60_000);
    }
    console.clock.advance_millis(1);
    assert!(!console.is_signed_in(&cookie).await, "a shift is over");

    let (first, second) = (console.sign_in("Alex").await, console.sign_in("Alex").await);
    assert_ne!(first, second, "every sign-in has a token of its own");
    let page = text(console.get("/gates", Some(&first)).await).await;
    let csrf = page
        .split("name=\"csrf\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let form = format!("csrf={csrf}");
    let other = console
        .post("/sign-out", &form, Some(&second), Some(ORIGIN))
        .await;
    assert_eq!(
        other.status(),
        StatusCode::FORBIDDEN,
        "the form of another session"
    );
    let done = console
        .post("/sign-out", &form, Some(&first), Some(ORIGIN))
        .await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    assert!(!console.is_signed_in(&first).await);
    assert!(console.is_signed_in(&second).await);
}

#[tokio::test]
async fn no_form_from_elsewhere_and_no_form_without_its_token_does_anything() {
    let console = Console::new().await;
    console.account("Alex").await;
    let cookie = console.sign_in("Alex").await;
    let passage = "/passages/01a20863-bf52-7cc3-8e99-86a9a124d088";
    let setup = console.setup_path().await;
    let review = format!("{passage}/review");
    for path in [
        "/sign-in",
        "/sign-out",
        passage,
        review.as_str(),
        setup.as_str(),
    ] {
        for origin in [
            None,
            Some("null"),
            Some("https://evil.example"),
            Some("http://localhost:8443"),
        ] {
            let answer = console.post(path, "csrf=x", Some(&cookie), origin).await;
            assert_eq!(
                answer.status(),
                StatusCode::FORBIDDEN,
                "{path} from {origin:?}"
            );
        }
    }
    for (path, body) in [
        ("/sign-out", "csrf=x"),
        (passage, "csrf=x&reason=incident&case=1"),
        (
            review.as_str(),
            "csrf=x&verdict=grant&preset=other&words=x&sure=yes",
        ),
    ] {
        let answer = console.post(path, body, Some(&cookie), Some(ORIGIN)).await;
        assert_eq!(
            answer.status(),
            StatusCode::FORBIDDEN,
            "{path} without its token"
        );
        let answer = console.post(path, body, None, Some(ORIGIN)).await;
        assert_eq!(
            answer.status(),
            StatusCode::SEE_OTHER,
            "{path} without a session"
        );
    }
    assert!(console.is_signed_in(&cookie).await);
}

#[tokio::test]
async fn wrong_names_and_passwords_look_alike_and_cost_growing_delays() {
    let console = Console::new().await;
    console.account("Alex").await;
    let attempt = async |name: &str, password: &str| {
        let answer = console
            .post(
                "/sign-in",
                &format!("name={name}&password={password}"),
                None,
                Some(ORIGIN),
            )
            .await;
        (answer.status(), text(answer).await)
    };
    let known = attempt("Alex", "not-the-right-password").await;
    let unknown = attempt("Nobody", "not-the-right-password").await;
    assert_eq!(known, unknown);
    assert_eq!(known.0, StatusCode::UNAUTHORIZED);
    for _ in 0..4 {
        attempt("Alex", "not-the-right-password").await;
    }
    // Even the right password is not looked at during the delay, and is again after it.
    assert_eq!(attempt("Alex", PASSWORD).await.0, StatusCode::UNAUTHORIZED);
    console.clock.advance_millis(60_000);
    assert_eq!(attempt("Alex", PASSWORD).await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn every_page_has_the_strict_headers_and_nothing_is_cached() {
    let console = Console::new().await;
    for path in [
        "/",
        "/sign-in",
        "/log",
        "/gates",
        "/nowhere",
        "/passages/x",
        "/live/events",
    ] {
        let answer = console.get(path, None).await;
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let policy = header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{path}"
        );
        assert_eq!(
            header("cache-control").as_deref(),
            Some("no-store"),
            "{path}"
        );
        assert_eq!(
            header("x-content-type-options").as_deref(),
            Some("nosniff"),
            "{path}"
        );
        assert!(
            header("strict-transport-security")
                .unwrap()
                .contains("max-age=31536000"),
            "{path}"
        );
        assert!(
            !answer.status().is_success() || path == "/sign-in",
            "{path} without signing in"
        );
    }
}
