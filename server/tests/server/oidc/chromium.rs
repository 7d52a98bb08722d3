//! The way to the provider and back in a real Chromium: the provider is another site, so that cookies, form policy and navigations are
//! what they are for an officer. It also says whether the pages are accessible.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sallyport_domain::Role;
use sallyport_server::{console, officers, post, tls};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Site;
use crate::browser::setup_path;

const PASSWORD: &str = "a quiet harbour in june";

/// A window, driven over W3C WebDriver.
struct Window {
    driver: Child,
    port: u16,
    session: String,
}

impl Window {
    async fn open(folder: &std::path::Path) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver is missing; run deploy/setup --test");
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .map(|line| line.unwrap())
            .find_map(|line| {
                let (_, rest) = line.split_once("successfully on port ")?;
                rest.trim_end_matches('.').parse().ok()
            })
            .unwrap();
        let mut window = Self {
            driver,
            port,
            session: String::new(),
        };
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--force-prefers-reduced-motion".to_owned(),
            format!("--user-data-dir={}", folder.join("profile").display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
            // Finding an element waits for it.
            "timeouts": { "implicit": 30_000 },
        }}});
        let made = window.send("", &wanted).await;
        window.session = format!("/{}", made["sessionId"].as_str().unwrap());
        let key = json!({
            "protocol": "ctap2", "transport": "usb", "hasResidentKey": false,
            "hasUserVerification": true, "isUserConsenting": true, "isUserVerified": true,
        });
        window.send("/webauthn/authenticator", &key).await;
        window
    }

    async fn send(&self, path: &str, message: &Value) -> Value {
        let url = format!(
            "http://127.0.0.1:{}/session{}{path}",
            self.port, self.session
        );
        let headers = [("content-type", "application/json".to_owned())];
        let patience = Duration::from_secs(60);
        let sent = post::post(&url, &[], &headers, message.to_string(), patience).await;
        let (status, body) = sent.unwrap();
        let said: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, 200, "{path} {message}: {said}");
        said["value"].clone()
    }

    async fn goto(&self, url: &str) {
        self.send("/url", &json!({ "url": url })).await;
    }

    async fn find(&self, css: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": css });
        let found = self.send("/element", &wanted).await;
        let id = found.as_object().unwrap().values().next().unwrap();
        id.as_str().unwrap().to_owned()
    }

    async fn click(&self, css: &str) {
        let path = format!("/element/{}/click", self.find(css).await);
        self.send(&path, &json!({})).await;
    }

    async fn fill(&self, css: &str, text: &str) {
        let path = format!("/element/{}/value", self.find(css).await);
        self.send(&path, &json!({ "text": text })).await;
    }

    async fn asks(&self, script: &str) -> Value {
        let message = json!({ "script": script, "args": [] });
        self.send("/execute/sync", &message).await
    }

    /// WCAG 2.2 AA by axe-core.
    async fn is_accessible(&self) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/axe.min.js");
        let axe = std::fs::read_to_string(path).expect("run deploy/setup --test");
        let script = format!(
            "{axe}; const done = arguments[arguments.length - 1];
             axe.run(document, {{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }})
                .then(found => done(found.violations.map(one => one.id + ': ' + one.help)));"
        );
        let message = json!({ "script": script, "args": [] });
        let found = self.send("/execute/async", &message).await;
        assert_eq!(found, json!([]));
    }

    async fn close(mut self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let text = format!(
            "DELETE /session{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            self.session
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        // Its first words say that the window is closed.
        assert!(stream.read(&mut [0; 16]).await.unwrap() > 0);
        self.driver.kill().unwrap();
        self.driver.wait().unwrap();
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Where a test fails, the driver ends its browser.
        if matches!(self.driver.try_wait(), Ok(None)) {
            let pid = self.driver.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn officers_go_to_the_provider_and_come_back_in_a_real_browser() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let redirect = format!("{at}/sign-in/oidc/callback");
    // By its address it is another site than `localhost`.
    let change = |oidc: &mut sallyport_server::config::Oidc| oidc.redirect_uri = Some(redirect);
    let site = Site::start_at("127.0.0.1", change).await;
    let rig = &site.rig;
    let identity = rig
        .state
        .authority
        .server_identity(
            &rig.state.config.hostnames,
            sallyport_server::clock::Clock::now(&*rig.clock),
        )
        .unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(tls::serve(
        listener,
        tls::console_config(&identity).unwrap(),
        console::router(rig.state.clone()),
        stopped,
    ));
    let folder = tempfile::tempdir().unwrap();
    let window = Window::open(folder.path()).await;

    site.bound("Robin", Role::GateOfficer).await;
    window.goto(&format!("{at}/sign-in")).await;
    window.find("form[action='/sign-in/oidc']").await;
    window.is_accessible().await;
    window.click("form[action='/sign-in/oidc'] button").await;
    // Robin is at the provider now, and signs in there.
    window.fill("#subject", "Robin").await;
    let there = window
        .asks("return [location.origin, document.referrer]")
        .await;
    assert_eq!(there, json!([site.provider.shared.at(""), ""]));
    window.click("#enter").await;
    window.find("#passages").await;
    let here = window.asks("return location.href").await;
    assert_eq!(here, json!(format!("{at}/")));
    assert_eq!(site.last().await.1, "oidc");

    // Presence, by the same way.
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    window.goto(&format!("{at}/account")).await;
    window
        .click("form[action='/account/confirm/oidc'] button")
        .await;
    window.fill("#subject", "Robin").await;
    window.click("#enter").await;
    window.find("form[action='/account/codes/new']").await;
    window.is_accessible().await;
    assert_eq!(site.last().await.1, "again_oidc");

    // Whom nobody knows is told so, and is nobody.
    window.click(".who button").await;
    window.click("form[action='/sign-in/oidc'] button").await;
    window.fill("#subject", "Mallory").await;
    window.click("#enter").await;
    window.find(".message.bad").await;
    window.goto(&format!("{at}/account")).await;
    window.find("input[autocomplete=current-password]").await;

    // A supervisor adds a security key, is bound, and shows the key after the provider.
    window
        .goto(&format!("{at}{}", setup_path(rig, Role::Supervisor).await))
        .await;
    window.fill("#name", "Sam").await;
    window.fill("#password", PASSWORD).await;
    window.fill("#again", PASSWORD).await;
    window.click("main button").await;
    window.fill("#name", "Sam").await;
    window
        .fill("input[autocomplete=current-password]", PASSWORD)
        .await;
    window.click("form[action='/sign-in'] button").await;
    window.fill("#label", "On my key ring").await;
    window.click("#key").await;
    window.find("nav a[href='/log']").await;
    site.bind("Sam", "Sam").await.unwrap();
    window.goto(&format!("{at}/sign-in")).await;
    window.click("form[action='/sign-in/oidc'] button").await;
    window.fill("#subject", "Sam").await;
    window.click("#enter").await;
    window.click("#key[data-act=show]").await;
    window.find("nav a[href='/approvals']").await;
    assert_eq!(site.last().await.1, "oidc+key");
    window.close().await;
}
