//! Officers who sign in at the state's identity provider: accounts that are bound, what a provider that errs, lies or is attacked gets, and
//! what stays ours.

mod accounts;
mod attacks;
mod chromium;
mod presence;
mod provider;
mod token;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use sallyport_domain::Role;
use sallyport_server::config::Oidc;
use sallyport_server::{console, officers};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::browser::{Browser, PASSWORD, setup_path};
use crate::common::{Rig, data};
use crate::coverage::entries;
use crate::factors::HardwareKey;
use provider::TestProvider;

/// A server with a provider.
pub(crate) struct Site {
    pub(crate) rig: Rig,
    provider: TestProvider,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut Oidc)) -> Self {
        Self::start_at("localhost", change).await
    }

    /// With the provider at this name of this machine.
    async fn start_at(host: &str, change: impl FnOnce(&mut Oidc)) -> Self {
        let rig = Rig::start().await;
        let provider = TestProvider::start(host, rig.clock.clone()).await;
        let mut config = rig.state.config.clone();
        let mut oidc = provider.config();
        change(&mut oidc);
        config.oidc = Some(oidc);
        let folder = data(&rig.folder);
        std::fs::write(
            folder.join("server.toml"),
            toml::to_string(&config).unwrap(),
        )
        .unwrap();
        write_secret(&rig, provider::SECRET);
        std::fs::write(folder.join("oidc-ca.pem"), &provider.authority).unwrap();
        let rig = rig.restart().await;
        Self { rig, provider }
    }

    /// Makes an account, with a key where its role needs one, and binds it to a subject of the same name.
    async fn bound(&self, name: &str, role: Role) -> HardwareKey {
        let key = self.account(name, role).await;
        self.bind(name, name).await.unwrap();
        key
    }

    async fn account(&self, name: &str, role: Role) -> HardwareKey {
        let setup = setup_path(&self.rig, role).await;
        let mut browser = Browser::new(&self.rig);
        let form = format!("name={name}&password={PASSWORD}&again={PASSWORD}");
        assert_eq!(browser.post(&setup, &form).await.0, 303);
        let form = format!("name={name}&password={PASSWORD}");
        browser.keep(&browser.post("/sign-in", &form).await.1);
        let mut key = HardwareKey::new(name);
        if role.needs_hardware_key() {
            key.add_to(&mut browser).await;
        }
        key
    }

    async fn bind(&self, name: &str, subject: &str) -> Result<(), officers::OfficerError> {
        let bound = officers::to_be_bound(&self.rig.state, name, subject).await?;
        officers::bind(&self.rig.state, &bound, "test").await
    }

    /// The provider's answer, where the browser was sent to this address and somebody signed in there.
    pub(crate) fn answer(&self, address: &str, subject: &str) -> String {
        self.provider.signs_in(address, subject)
    }

    /// The last attempt to sign in: decision, reason, officer.
    async fn last(&self) -> (String, String, Option<String>) {
        let all = entries(&self.rig, 0).await;
        let last = all.into_iter().rfind(|entry| entry.kind == "sign_in");
        let last = last.expect("somebody signed in");
        (last.decision.unwrap(), last.reason.unwrap(), last.actor)
    }

    async fn id(&self, name: &str) -> String {
        let account = officers::find(&self.rig.state, name).await.unwrap();
        account.id.to_string()
    }
}

fn write_secret(rig: &Rig, secret: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = data(&rig.folder).join("oidc-secret");
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A browser with cookies that come along as `SameSite` says.
pub(crate) struct Tab {
    router: Router,
    /// Name and value, and whether it comes along with a navigation from elsewhere.
    jar: Vec<(String, bool)>,
}

pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Page {
    /// Where a page leads on to by itself.
    pub(crate) fn hop(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.body);
        let (_, rest) = self.body.split_once("content=\"0;url=").expect(&self.body);
        let to = rest.split('"').next().unwrap();
        to.replace("&#38;", "&").replace("&amp;", "&")
    }
}

impl Tab {
    pub(crate) fn new(site: &Site) -> Self {
        Self {
            router: console::router(site.rig.state.clone()),
            jar: Vec::new(),
        }
    }

    fn has(&self, name: &str) -> bool {
        let start = format!("{name}=");
        self.jar.iter().any(|(pair, _)| pair.starts_with(&start))
    }

    /// With a session or half a sign-in?
    fn is_nobody(&self) -> bool {
        !self.has("__Host-sallyport") && !self.has("__Host-sallyport-step")
    }

    async fn request(&mut self, method: &str, path: &str, body: &str, elsewhere: bool) -> Page {
        let kind = match body.starts_with('{') {
            true => "application/json",
            false => "application/x-www-form-urlencoded",
        };
        let cookies: Vec<&str> = self
            .jar
            .iter()
            .filter(|(_, lax)| *lax || !elsewhere)
            .map(|(pair, _)| pair.as_str())
            .collect();
        let site = if elsewhere {
            "cross-site"
        } else {
            "same-origin"
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost:0")
            .header("sec-fetch-site", site)
            .header(header::CONTENT_TYPE, kind)
            .header(header::COOKIE, cookies.join("; "));
        if method == "POST" {
            request = request.header(header::ORIGIN, "https://localhost:0");
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let policy = &answer.headers()["content-security-policy"];
        assert!(policy.to_str().unwrap().contains("form-action 'self';"));
        for line in answer.headers().get_all(header::SET_COOKIE) {
            let line = line.to_str().unwrap();
            let pair = line.split(';').next().unwrap().to_owned();
            assert!(
                line.contains("; Path=/; Secure; HttpOnly; SameSite="),
                "{line}"
            );
            let name = format!("{}=", pair.split('=').next().unwrap());
            self.jar.retain(|(known, _)| !known.starts_with(&name));
            if !line.contains("Max-Age=0") {
                self.jar.push((pair, line.contains("SameSite=Lax")));
            }
        }
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        Page { status, body }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Page {
        self.request("GET", path, "", false).await
    }

    pub(crate) async fn post(&mut self, path: &str, form: &str) -> Page {
        self.request("POST", path, form, false).await
    }

    async fn json(&mut self, path: &str, message: &Value) -> (u16, Value) {
        let page = self.post(path, &message.to_string()).await;
        (page.status, serde_json::from_str(&page.body).unwrap())
    }

    /// Presses the button: where the browser is sent to.
    pub(crate) async fn leaves(&mut self) -> String {
        self.post("/sign-in/oidc", "").await.hop()
    }

    /// Comes back from elsewhere.
    pub(crate) async fn comes_back(&mut self, address: &str) -> Page {
        let path = address.strip_prefix("https://localhost:0").expect(address);
        self.request("GET", path, "", true).await
    }

    /// Signs in at the provider as this subject.
    async fn signs_in(&mut self, site: &Site, subject: &str) -> Page {
        let to = self.leaves().await;
        let back = site.provider.signs_in(&to, subject);
        self.comes_back(&back).await
    }
}

pub(crate) async fn bound_gate_officer(site: &Site, name: &str) {
    site.bound(name, Role::GateOfficer).await;
}
