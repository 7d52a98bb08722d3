//! Does a request come from the server's own machine? Emergency access asks.
//!
//! The connection itself must be a loopback one and the address in the browser a name of this machine. No header makes a request local;
//! headers that proxies add make it foreign. A proxy or port forwarder on this machine that asks for a local name and adds no header
//! carries somebody in all the same, to the form for the credential: run none (docs/officers.md).

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};

use super::pages::Trouble;
use crate::refusals;
use crate::state::AppState;
use crate::tls::PeerAddress;

/// What proxies add.
const PASSED_ON: [&str; 8] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
    "x-client-ip",
];

/// A request of the server's own machine; every other is refused.
pub(super) struct Here;

impl FromRequestParts<AppState> for Here {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        if is_local(peer(&parts.extensions), &parts.headers, &parts.uri) {
            Ok(Self)
        } else {
            Err(refused(state))
        }
    }
}

/// The answer to a request from elsewhere.
pub(super) fn refused(state: &AppState) -> Response {
    refusals::marked(
        Trouble::not_here(state).into_response(),
        "not_at_the_server",
    )
}

/// Is this request of the server's own machine?
pub(super) fn is_here(request: &Request) -> bool {
    is_local(peer(request.extensions()), request.headers(), request.uri())
}

/// Where the connection comes from; `None` where nothing is known of it, and then it is from elsewhere.
fn peer(extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<PeerAddress>();
    peer.map(|PeerAddress(address)| *address)
}

fn is_local(peer: Option<IpAddr>, headers: &HeaderMap, uri: &Uri) -> bool {
    let connected = peer.is_some_and(|address| address.to_canonical().is_loopback());
    let passed_on = PASSED_ON.iter().any(|name| headers.contains_key(*name));
    let host = match headers.get(header::HOST) {
        Some(host) => host.to_str().ok(),
        None => uri.authority().map(|authority| authority.as_str()),
    };
    connected && !passed_on && host.is_some_and(is_own_name)
}

/// `localhost` or a loopback address, with or without a port.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loopback_connection_to_a_name_of_this_machine_is_local() {
        let local = |peer: &str, host: &str, more: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if !host.is_empty() {
                headers.insert(header::HOST, host.parse().unwrap());
            }
            if let Some(name) = more {
                headers.insert(name, "127.0.0.1".parse().unwrap());
            }
            is_local(peer.parse().ok(), &headers, &Uri::from_static("/"))
        };
        for (peer, host) in [
            ("127.0.0.1", "localhost:8443"),
            ("127.0.0.1", "LOCALHOST"),
            ("127.9.9.9", "127.0.0.1:8443"),
            ("::1", "[::1]:8443"),
            ("::ffff:127.0.0.1", "localhost:8443"),
        ] {
            assert!(local(peer, host, None), "{peer} {host}");
            for name in PASSED_ON {
                assert!(!local(peer, host, Some(name)), "{name}");
            }
        }
        for (peer, host) in [
            ("", "localhost:8443"),
            ("10.0.0.7", "localhost:8443"),
            ("::ffff:10.0.0.7", "localhost:8443"),
            ("fe80::1", "localhost:8443"),
            ("127.0.0.1", ""),
            ("127.0.0.1", "sallyport.gaol.example:8443"),
            ("127.0.0.1", "localhost.evil.example"),
            ("127.0.0.1", "10.0.0.7:8443"),
            ("127.0.0.1", "[2001:db8::1]:8443"),
            ("127.0.0.1", "evil.example@localhost"),
            ("127.0.0.1", "[localhost]"),
        ] {
            let expected = host == "[localhost]";
            assert_eq!(local(peer, host, None), expected, "{peer} {host}");
        }
        // As HTTP/2 names it.
        let uri = Uri::from_static("https://localhost:8443/break-glass");
        let peer = "127.0.0.1".parse().ok();
        assert!(is_local(peer, &HeaderMap::new(), &uri));
    }
}
