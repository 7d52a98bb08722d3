//! One delivery: taken by the receiver as a whole, or not at all as far as we know.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use rustls::pki_types::CertificateDer;
use sallyport_domain::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{Event, Stream, Target};
use crate::post::{self, PostError};
use crate::state::AppState;

/// A receiver that takes longer is asked again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a delivery did not end well; it is made again.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// The file of authorities.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The address.
    #[error("'{0}' is no address: write host:port for syslog, https://… for a webhook")]
    Address(String),
    /// The receiver could not be reached or broke off.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The receiver said no.
    #[error("the receiver answered with status {0}, not with 2xx")]
    Status(u16),
    /// The receiver took too long.
    #[error("the receiver took longer than {} seconds", PATIENCE.as_secs())]
    Slow,
}

pub(super) async fn deliver(
    state: &AppState,
    stream: &Stream,
    events: Vec<Event>,
    note: &str,
    now: Timestamp,
) -> Result<(), Undelivered> {
    let roots = match &stream.authorities {
        Some(path) => post::authorities(path).map_err(|source| Undelivered::File {
            path: path.display().to_string(),
            source,
        })?,
        None => Vec::new(),
    };
    let sent = async {
        match &stream.target {
            Target::Syslog { address } => {
                let host = state.config.hostnames.first().map_or("-", String::as_str);
                let mut bytes = Vec::new();
                for event in &events {
                    bytes.extend(event.syslog(stream.format, host, state.config.site.as_str()));
                }
                syslog(address, &roots, &bytes).await
            }
            Target::Webhook { url } => {
                let next = events.last().map_or(0, |event| event.index + 1);
                let first = events.first().map_or(0, |event| event.index);
                let events: Vec<_> = events
                    .iter()
                    .map(|event| event.as_value(stream.format))
                    .collect();
                let body = json!({
                    "site": state.config.site.as_str(),
                    "stream": stream.name,
                    "first": first,
                    "next": next,
                    "events": events,
                    "checkpoint": note,
                });
                let id = format!("{}/{first}", state.config.log_origin());
                webhook(state, url, &roots, id, now, body.to_string()).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, sent)
        .await
        .unwrap_or(Err(Undelivered::Slow))
}

/// A connection for each delivery. Syslog has no acknowledgement; what stands for it is the orderly end: we say that we have ended, and
/// the receiver, when it has read to there, ends too. A receiver that breaks off gets the same messages again.
async fn syslog(
    address: &str,
    roots: &[CertificateDer<'static>],
    bytes: &[u8],
) -> Result<(), Undelivered> {
    let broken = |error: std::io::Error| Undelivered::Post(error.into());
    let (host, port) = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or_else(|| Undelivered::Address(address.to_owned()))?;
    let mut stream = post::open_tls(host, port, roots).await?;
    stream.write_all(bytes).await.map_err(broken)?;
    stream.shutdown().await.map_err(broken)?;
    // Receivers say nothing; what they might say does not matter.
    let mut heard = [0; 256];
    while stream.read(&mut heard).await.map_err(broken)? > 0 {}
    Ok(())
}

/// `https`, or `http` to this machine: what is streamed is signed but not secret from the network otherwise.
fn is_protected(url: &str) -> bool {
    let host = |rest: &str| -> String {
        let end = rest.find('/').unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        let host = authority
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(authority, |(host, _)| host);
        host.to_owned()
    };
    url.starts_with("https://")
        || url
            .strip_prefix("http://")
            .is_some_and(|rest| ["localhost", "127.0.0.1", "[::1]"].contains(&host(rest).as_str()))
}

/// The key of this installation's webhooks. Derived, so that it is no further secret to keep; of one use only.
fn signer(state: &AppState) -> SigningKey {
    let seed = Sha256::new()
        .chain_update(b"sallyport/webhook/1")
        .chain_update(Zeroizing::new(state.keys.door.to_bytes()).as_slice())
        .finalize();
    SigningKey::from_bytes(&seed.into())
}

/// The public key that receivers need, as the Standard Webhooks specification writes it.
#[must_use]
pub fn webhook_key(state: &AppState) -> String {
    let key = signer(state).verifying_key();
    format!("whpk_{}", STANDARD.encode(key.as_bytes()))
}

async fn webhook(
    state: &AppState,
    url: &str,
    roots: &[CertificateDer<'static>],
    id: String,
    now: Timestamp,
    body: String,
) -> Result<(), Undelivered> {
    if !is_protected(url) {
        return Err(Undelivered::Address(
            url.split('?').next().unwrap_or_default().to_owned(),
        ));
    }
    // As the Standard Webhooks specification has it: a signature over id, time in seconds and body.
    let seconds = now.as_micros().div_euclid(1_000_000).to_string();
    let signature = signer(state).sign(format!("{id}.{seconds}.{body}").as_bytes());
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id),
        ("webhook-timestamp", seconds),
        (
            "webhook-signature",
            format!("v1a,{}", STANDARD.encode(signature.to_bytes())),
        ),
    ];
    let (status, _) = post::post(url, roots, &headers, body, PATIENCE).await?;
    if (200..300).contains(&status) {
        Ok(())
    } else {
        Err(Undelivered::Status(status))
    }
}

#[cfg(test)]
mod tests {
    use super::is_protected;

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for good in [
            "https://siem.example/hook",
            "http://localhost:9/x",
            "http://127.0.0.1/",
            "http://[::1]:80/x",
        ] {
            assert!(is_protected(good), "{good}");
        }
        for bad in [
            "http://siem.example/",
            "http://localhost.evil.example/",
            "http://localhost@evil.example/",
            "http://127.0.0.1:80@evil.example/",
            "ftp://localhost/",
            "",
        ] {
            assert!(!is_protected(bad), "{bad}");
        }
    }
}
