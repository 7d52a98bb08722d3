//! KEKs in the Transit engine of Vault or OpenBao: made there, never given out, wrapping computed there. Each version is a key of its
//! own (`sallyport-SITE-VERSION`), so that destroying one is deleting one.
//!
//! Speaks HTTPS to the authorities that are named, over one connection that is kept, on a thread of its own: what asks for a key may stand
//! on a worker of the server's runtime.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::{Scheme, Uri};
use axum::http::{HeaderValue, Method, Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::{KeyEncryptionKey, KeyError, KeyProvider};
use crate::post;

/// One answer may take so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Answers are a few lines.
const ANSWER_BYTES: usize = 64 * 1024;

/// Where the engine is; stands in the key file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    /// `https://HOST:PORT`.
    address: String,
    /// Path on which the engine is mounted, usually `transit`.
    mount: String,
    /// PEM file with the authority that vouches for the server's certificate.
    authority: PathBuf,
}

impl Engine {
    pub(super) fn new(address: &str, mount: &str, authority: &Path) -> Result<Self, KeyError> {
        let uri: Uri = address
            .parse()
            .map_err(|_| refused("its address is none; write https://HOST:PORT"))?;
        let plain = uri.path_and_query().is_none_or(|path| path == "/");
        if uri.scheme() != Some(&Scheme::HTTPS) || address.contains('@') || !plain {
            return Err(refused("its address must be https://HOST:PORT"));
        }
        let mount = mount.trim_matches('/');
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
        if mount.is_empty() || !mount.chars().all(good) {
            return Err(refused(
                "the engine's path may have letters, digits, '-', '_' and '/'",
            ));
        }
        Ok(Self {
            address: address.trim_end_matches('/').to_owned(),
            mount: mount.to_owned(),
            authority: std::path::absolute(authority).map_err(|source| KeyError::File {
                path: authority.display().to_string(),
                source,
            })?,
        })
    }

    pub(super) fn line(&self) -> String {
        json!(self).to_string()
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let read: Self = serde_json::from_str(line).ok()?;
        Self::new(&read.address, &read.mount, &read.authority).ok()
    }
}

fn refused(what: impl Into<String>) -> KeyError {
    KeyError::Transit(what.into())
}

struct Order {
    method: Method,
    path: String,
    body: Value,
    answer: mpsc::SyncSender<Result<(u16, Value), KeyError>>,
}

/// The thread that speaks.
struct Line {
    address: String,
    roots: Vec<CertificateDer<'static>>,
    token: Zeroizing<String>,
    open: Option<SendRequest<Body>>,
}

impl Line {
    async fn ask(&mut self, order: &Order) -> Result<(u16, Value), KeyError> {
        // A connection that was kept may have been closed by the other side meanwhile; a new one is tried once.
        if self.open.is_some() {
            if let Ok(answer) = self.once(order).await {
                return Ok(answer);
            }
            self.open = None;
        }
        self.once(order).await
    }

    async fn once(&mut self, order: &Order) -> Result<(u16, Value), KeyError> {
        let exchanged = tokio::time::timeout(PATIENCE, self.exchange(order)).await;
        let answer = exchanged.unwrap_or_else(|_| Err(refused("it took longer than 10 seconds")));
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn exchange(&mut self, order: &Order) -> Result<(u16, Value), KeyError> {
        let uri: Uri = self
            .address
            .parse()
            .map_err(|_| refused("its address is none"))?;
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err(refused("its address is none"));
        };
        let sender = match &mut self.open {
            Some(sender) => sender,
            none => {
                let stream = post::open_tls(host, uri.port_u16().unwrap_or(443), &self.roots)
                    .await
                    .map_err(|error| refused(error.to_string()))?;
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream))
                        .await
                        .map_err(|error| refused(error.to_string()))?;
                tokio::spawn(connection);
                none.insert(sender)
            }
        };
        let mut token = HeaderValue::from_str(&self.token)
            .map_err(|_| refused("the token has characters that no token has"))?;
        token.set_sensitive(true);
        let body = if order.body.is_null() {
            Body::empty()
        } else {
            Body::from(order.body.to_string())
        };
        let request = Request::builder()
            .method(order.method.clone())
            .uri(&order.path)
            .header(header::HOST, authority.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-vault-token", token)
            .header("x-vault-request", "true")
            .body(body)
            .map_err(|_| refused("a key's name has characters that no address has"))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| refused(error.to_string()))?;
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(Body::new(answer.into_body()), ANSWER_BYTES)
            .await
            .map_err(|error| refused(error.to_string()))?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|_| refused("its answer is not JSON"))?
        };
        Ok((status, body))
    }
}

/// Renews the token in half of what it lives; a token that cannot be renewed is left alone.
async fn serve(mut line: Line, mut orders: tokio::sync::mpsc::UnboundedReceiver<Order>) {
    let mut renew_after = None;
    let mut renewing = false;
    loop {
        let next = async {
            match renew_after {
                Some(after) => tokio::time::timeout(after, orders.recv()).await,
                None => Ok(orders.recv().await),
            }
        };
        match next.await {
            Ok(Some(order)) => {
                let answer = line.ask(&order).await;
                if !renewing && answer.is_ok() {
                    renewing = true;
                    renew_after = renewed(&mut line, "lookup-self", Method::GET).await;
                }
                drop(order.answer.send(answer));
            }
            Ok(None) => return,
            Err(_) => renew_after = renewed(&mut line, "renew-self", Method::POST).await,
        }
    }
}

/// Asks about the token; returns when to renew it.
async fn renewed(line: &mut Line, what: &str, method: Method) -> Option<Duration> {
    let (answer, _) = mpsc::sync_channel(1);
    let body = if method == Method::GET {
        Value::Null
    } else {
        json!({})
    };
    let order = Order {
        method,
        path: format!("/v1/auth/token/{what}"),
        body,
        answer,
    };
    let soon = Duration::from_secs(60);
    match line.ask(&order).await {
        Ok((200, said)) => {
            let (renewable, ttl) = if what == "lookup-self" {
                (said.pointer("/data/renewable"), said.pointer("/data/ttl"))
            } else {
                (
                    said.pointer("/auth/renewable"),
                    said.pointer("/auth/lease_duration"),
                )
            };
            let ttl = ttl.and_then(Value::as_u64).unwrap_or(0);
            let renewable = renewable.and_then(Value::as_bool).unwrap_or(false);
            (renewable && ttl > 0).then(|| Duration::from_secs((ttl / 2).max(1)))
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "the key service's token could not be renewed; it is tried again in a minute");
            Some(soon)
        }
    }
}

struct Connection {
    orders: tokio::sync::mpsc::UnboundedSender<Order>,
    mount: String,
}

impl Connection {
    fn ask(
        &self,
        method: Method,
        what: &str,
        name: &str,
        body: Value,
    ) -> Result<(u16, Value), KeyError> {
        let (answer, wait) = mpsc::sync_channel(1);
        let order = Order {
            method,
            path: format!("/v1/{}/{what}/{name}", self.mount),
            body,
            answer,
        };
        self.orders
            .send(order)
            .map_err(|_| refused("its thread has ended"))?;
        wait.recv().map_err(|_| refused("its thread has ended"))?
    }
}

/// A sentence for an answer that is not what we hoped for. Its own words are not repeated: they could hold what was sent.
fn status_error(status: u16, name: &str) -> KeyError {
    refused(match status {
        403 => format!(
            "it refuses the token, or the token may not use '{name}'; see docs/operating.md for the policy that the token needs"
        ),
        404 => format!("it has no key '{name}', or the engine is mounted elsewhere"),
        503 => "it is sealed; its custodians must unseal it".to_owned(),
        other => format!("it answered with status {other} about '{name}'"),
    })
}

/// The provider.
pub(super) struct Transit {
    connection: Arc<Connection>,
    site: String,
}

impl Transit {
    pub(super) fn open(
        engine: &Engine,
        site: &str,
        token: &Zeroizing<String>,
    ) -> Result<Self, KeyError> {
        let roots = post::authorities(&engine.authority).map_err(|source| KeyError::File {
            path: engine.authority.display().to_string(),
            source,
        })?;
        let line = Line {
            address: engine.address.clone(),
            roots,
            token: Zeroizing::new(token.trim().to_owned()),
            open: None,
        };
        let (orders, received) = tokio::sync::mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| refused(error.to_string()))?;
        std::thread::Builder::new()
            .name("transit".to_owned())
            .spawn(move || runtime.block_on(serve(line, received)))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            connection: Arc::new(Connection {
                orders,
                mount: engine.mount.clone(),
            }),
            site: site.to_owned(),
        })
    }
}

impl KeyProvider for Transit {
    fn create(&self, version: u32) -> Result<Zeroizing<String>, KeyError> {
        let name = format!("sallyport-{}-{version}", self.site);
        match self
            .connection
            .ask(Method::GET, "keys", &name, Value::Null)?
        {
            (404, _) => {}
            (200, _) => {
                return Err(refused(format!(
                    "it holds a key '{name}' already; another installation of this site uses it. Use another engine"
                )));
            }
            (status, _) => return Err(status_error(status, &name)),
        }
        let made = self.connection.ask(
            Method::POST,
            "keys",
            &name,
            json!({ "type": "aes256-gcm96", "exportable": false, "allow_plaintext_backup": false }),
        )?;
        match made {
            (200 | 204, _) => Ok(Zeroizing::new(name)),
            (status, _) => Err(status_error(status, &name)),
        }
    }

    fn open(&self, _: u32, text: &str) -> Result<Box<dyn KeyEncryptionKey>, KeyError> {
        match self
            .connection
            .ask(Method::GET, "keys", text, Value::Null)?
        {
            (200, said)
                if said.pointer("/data/type").and_then(Value::as_str) == Some("aes256-gcm96") =>
            {
                Ok(Box::new(TransitKey {
                    connection: self.connection.clone(),
                    name: text.to_owned(),
                }))
            }
            (200, _) => Err(refused(format!("its key '{text}' is of another kind"))),
            (status, _) => Err(status_error(status, text)),
        }
    }

    fn destroy(&self, _: u32, text: &str) -> Result<(), KeyError> {
        let allowed = self.connection.ask(
            Method::POST,
            "keys",
            &format!("{text}/config"),
            json!({ "deletion_allowed": true }),
        )?;
        if !matches!(allowed.0, 200 | 204) {
            return Err(status_error(allowed.0, text));
        }
        match self
            .connection
            .ask(Method::DELETE, "keys", text, Value::Null)?
        {
            (200 | 204, _) => Ok(()),
            (status, _) => Err(status_error(status, text)),
        }
    }
}

struct TransitKey {
    connection: Arc<Connection>,
    name: String,
}

impl KeyEncryptionKey for TransitKey {
    /// The engine chooses its own nonce; what it returns stands in place of the ciphertext.
    fn encrypt(&self, _: &[u8; 12], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let body =
            json!({ "plaintext": STANDARD.encode(plain), "associated_data": STANDARD.encode(aad) });
        match self
            .connection
            .ask(Method::POST, "encrypt", &self.name, body)?
        {
            (200, said) => said
                .pointer("/data/ciphertext")
                .and_then(Value::as_str)
                .filter(|text| text.starts_with("vault:v"))
                .map(|text| text.as_bytes().to_vec())
                .ok_or_else(|| refused("its answer holds no ciphertext")),
            (status, _) => Err(status_error(status, &self.name)),
        }
    }

    fn decrypt(
        &self,
        _: &[u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let text = std::str::from_utf8(ciphertext)
            .map_err(|_| refused("a wrapped key is not of its form"))?;
        let body = json!({ "ciphertext": text, "associated_data": STANDARD.encode(aad) });
        match self
            .connection
            .ask(Method::POST, "decrypt", &self.name, body)?
        {
            (200, mut said) => {
                let Some(Value::String(text)) = said.pointer_mut("/data/plaintext") else {
                    return Err(refused("its answer holds no plaintext"));
                };
                let plain = STANDARD.decode(text.as_bytes()).map(Zeroizing::new);
                text.zeroize();
                plain.map_err(|_| refused("its answer is not base64"))
            }
            (400, _) => Err(crate::sealing::SealError::Refused.into()),
            (status, _) => Err(status_error(status, &self.name)),
        }
    }
}
