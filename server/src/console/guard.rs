//! What stands before every handler: response headers, the same-origin check, the signed-in officer.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq as _;

use super::pages::Trouble;
use crate::officers::{self, Session};
use crate::refusals;
use crate::state::AppState;

/// The session cookie. The prefix makes browsers insist on Secure, Path=/ and no Domain.
const COOKIE: &str = "__Host-sallyport";

/// Between password and second factor.
const STEP_COOKIE: &str = "__Host-sallyport-step";

/// While a browser is at the identity provider. `Lax`, unlike the others: it has to come along when the provider sends the browser back,
/// which is a navigation from elsewhere. It opens nothing by itself.
#[cfg(feature = "oidc")]
const PROVIDER_COOKIE: &str = "__Host-sallyport-oidc";

const HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (
        "strict-transport-security",
        "max-age=31536000; includeSubDomains",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    // Not `no-referrer`: with it browsers send `Origin: null` on our own forms.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    ),
];

/// Adds the security headers; nothing but assets may be cached.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Writes what was refused into the log.
pub(super) async fn refusals(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    refusals::of_console(&state, request, next).await
}

/// Refuses every request that could change something and does not come from our own pages.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if safe
        || is_same_origin(
            request.headers(),
            request.uri().authority().map(|a| a.as_str()),
        )
    {
        next.run(request).await
    } else {
        let refused = (
            StatusCode::FORBIDDEN,
            "This form was not sent from the console's own page, so nothing was done.\n",
        );
        refusals::marked(refused.into_response(), "foreign_form")
    }
}

fn is_same_origin(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let origin = match (text("origin"), text("host").or(authority)) {
        (Some(origin), Some(host)) => origin.strip_prefix("https://") == Some(host),
        _ => false,
    };
    site && origin
}

/// A signed-in officer whose role may use the route; [`super::access::check`] has seen to both.
pub(super) struct Officer(pub(super) Session);

impl FromRequestParts<AppState> for Officer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        match parts.extensions.get::<Session>() {
            Some(session) => Ok(Self(session.clone())),
            None => Err(Trouble::not_for_role(state, None).into_response()),
        }
    }
}

fn cookie(headers: &HeaderMap, wanted: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, token)| token.to_owned())
}

/// The token of a sign-in that waits for its second factor.
pub(super) fn step(headers: &HeaderMap) -> Option<String> {
    cookie(headers, STEP_COOKIE)
}

/// The token of a browser that was sent to the identity provider.
#[cfg(feature = "oidc")]
pub(super) fn provider_step(headers: &HeaderMap) -> Option<String> {
    cookie(headers, PROVIDER_COOKIE)
}

/// The Set-Cookie value of a browser that is sent to the identity provider.
#[cfg(feature = "oidc")]
pub(super) fn set_provider_step(token: &str) -> String {
    format!("{PROVIDER_COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=300")
}

/// The Set-Cookie value that removes it.
#[cfg(feature = "oidc")]
pub(super) fn clear_provider_step() -> String {
    format!("{PROVIDER_COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// The session that the cookie stands for.
pub(crate) async fn current(
    headers: &HeaderMap,
    state: &AppState,
) -> Result<Option<Session>, Response> {
    match cookie(headers, COOKIE) {
        Some(token) => officers::session(state, &token)
            .await
            .map_err(|error| Trouble::server(state, &error).into_response()),
        None => Ok(None),
    }
}

/// Refuses a form whose token is not the session's.
pub(super) fn check_csrf(session: &Session, sent: &str) -> Result<(), Response> {
    if bool::from(session.csrf.as_bytes().ct_eq(sent.as_bytes())) {
        Ok(())
    } else {
        let refused = (
            StatusCode::FORBIDDEN,
            "This form is out of date, so nothing was done. Go back, reload the page and try again.\n",
        );
        Err(refusals::marked(refused.into_response(), "old_form"))
    }
}

/// The Set-Cookie value of a new session.
pub(super) fn set_cookie(token: &str) -> String {
    format!("{COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Strict")
}

/// The Set-Cookie value of a sign-in that waits for its second factor.
pub(super) fn set_step(token: &str) -> String {
    format!("{STEP_COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=300")
}

/// The Set-Cookie value that removes the session.
pub(super) fn clear_cookie() -> String {
    format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_may_post() {
        let ours = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs
                .iter()
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                })
                .collect();
            is_same_origin(&headers, None)
        };
        let host = ("host", "gaol.example:8443");
        let origin = ("origin", "https://gaol.example:8443");
        assert!(ours(&[host, origin]));
        assert!(ours(&[host, origin, ("sec-fetch-site", "same-origin")]));
        assert!(!ours(&[host, origin, ("sec-fetch-site", "same-site")]));
        assert!(!ours(&[host, origin, ("sec-fetch-site", "cross-site")]));
        assert!(!ours(&[host]));
        assert!(!ours(&[origin]));
        assert!(!ours(&[host, ("origin", "null")]));
        assert!(!ours(&[host, ("origin", "http://gaol.example:8443")]));
        assert!(!ours(&[host, ("origin", "https://gaol.example.evil:8443")]));
    }
}
