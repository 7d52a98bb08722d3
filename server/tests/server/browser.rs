//! An officer at the console: the console's router, asked as a browser asks it.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{Request, header};
use futures_util::StreamExt as _;
use sallyport_domain::Role;
use sallyport_server::tls::PeerAddress;
use sallyport_server::{console, officers};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::common::Rig;
use crate::factors::HardwareKey;

pub(crate) const PASSWORD: &str = "a+quiet+harbour+in+june";

pub(crate) async fn setup_path(rig: &Rig, role: Role) -> String {
    let link = officers::create_setup_link(&rig.state, role).await.unwrap();
    format!("/setup/{}", link.split_once("/setup/").unwrap().1)
}

pub(crate) struct Browser {
    router: Router,
    pub(crate) cookie: Option<String>,
    /// Where its connection comes from, as the listener would say.
    pub(crate) from: Option<IpAddr>,
    /// A proxy on the way says that it passed the request on.
    pub(crate) passed_on: bool,
}

/// The events of an open live page.
pub(crate) struct Stream(BodyDataStream);

impl Stream {
    /// Waits for this event; comments that keep the connection open are none.
    pub(crate) async fn until(&mut self, event: &str) {
        let wanted = format!("event: {event}");
        let found = async {
            while let Some(chunk) = self.0.next().await {
                if String::from_utf8_lossy(&chunk.unwrap()).contains(&wanted) {
                    return;
                }
            }
            panic!("the stream ended before {event}");
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, found).await.unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) {
        let end = async { while self.0.next().await.is_some() {} };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, end).await.unwrap();
    }
}

impl Browser {
    pub(crate) fn new(rig: &Rig) -> Self {
        Self {
            router: console::router(rig.state.clone()),
            cookie: None,
            from: None,
            passed_on: false,
        }
    }

    /// In a browser of the server's own machine.
    pub(crate) fn at_the_server(rig: &Rig) -> Self {
        Self {
            from: Some(IpAddr::from([127, 0, 0, 1])),
            ..Self::new(rig)
        }
    }

    /// Opens the stream of a page.
    pub(crate) async fn stream(&self, path: &str) -> Stream {
        let mut request = Request::get(path)
            .header(header::HOST, "localhost:0")
            .body(Body::empty())
            .unwrap();
        self.mark(&mut request);
        let answer = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        Stream(answer.into_body().into_data_stream())
    }

    /// What comes with every request of this browser.
    fn mark(&self, request: &mut Request<Body>) {
        if let Some(cookie) = &self.cookie {
            let cookie = cookie.parse().unwrap();
            request.headers_mut().insert(header::COOKIE, cookie);
        }
        if self.passed_on {
            let from = "127.0.0.1".parse().unwrap();
            request.headers_mut().insert("x-forwarded-for", from);
        }
        if let Some(from) = self.from {
            request.extensions_mut().insert(PeerAddress(from));
        }
    }

    /// With a gate officer of its own.
    pub(crate) async fn signed_in(rig: &Rig) -> Self {
        Self::signed_in_as(rig, "Alex", Role::GateOfficer).await
    }

    /// With an officer of its own.
    pub(crate) async fn signed_in_as(rig: &Rig, name: &str, role: Role) -> Self {
        let setup = setup_path(rig, role).await;
        let mut browser = Self::new(rig);
        let form = format!("name={name}&password={PASSWORD}&again={PASSWORD}");
        assert_eq!(browser.post(&setup, &form).await.0, 303);
        let form = format!("name={name}&password={PASSWORD}");
        let (status, cookie) = browser.post("/sign-in", &form).await;
        assert_eq!(status, 303);
        browser.cookie = Some(cookie);
        if role.needs_hardware_key() {
            HardwareKey::new(name).add_to(&mut browser).await;
        }
        browser
    }

    /// One of the messages that the console's script sends, and its answer. Cookies are kept beside those that there are.
    pub(crate) async fn send(&mut self, path: &str, message: &Value) -> (u16, Value) {
        let mut request = Request::post(path)
            .header(header::HOST, "localhost:0")
            .header(header::ORIGIN, "https://localhost:0")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(Body::from(message.to_string())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        if let Some(cookie) = answer.headers().get(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.keep(pair);
        }
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Adds or replaces a cookie.
    pub(crate) fn keep(&mut self, pair: &str) {
        let name = pair.split('=').next().unwrap();
        let mut jar: Vec<&str> = self.cookie.as_deref().unwrap_or("").split("; ").collect();
        jar.retain(|known| !known.is_empty() && known.split('=').next() != Some(name));
        jar.push(pair);
        self.cookie = Some(jar.join("; "));
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        form: &str,
        origin: &str,
    ) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost:0")
            .header(header::ORIGIN, origin)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let mut request = request.body(Body::from(form.to_owned())).unwrap();
        self.mark(&mut request);
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        if let Some(cookie) = answer.headers().get(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            return (status, pair.to_owned());
        }
        if path.starts_with("/live/") {
            // The stream goes on for ever; its head is enough.
            return (status, String::new());
        }
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let (status, body) = self.ask("GET", path, "", "https://localhost:0").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, form: &str) -> (u16, String) {
        self.ask("POST", path, form, "https://localhost:0").await
    }
}

pub(crate) fn csrf(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}
