//! HTTP to another body's server: an outside witness, a receiver of events, a sign-in provider. HTTPS only from authorities that are named; no
//! redirects, no proxy, a limit for the time and for the answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::{Scheme, Uri};
use axum::http::{HeaderValue, Method, Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Answers are a few lines.
const ANSWER_BYTES: usize = 64 * 1024;

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The address.
    #[error("it is no address: write https://HOST:PORT/PATH, or http://… where that is allowed")]
    Address,
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The other side could not be reached, or is not whom we trust.
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    /// The other side broke off or does not speak HTTP.
    #[error("the exchange failed: {0}")]
    Exchange(String),
    /// Too late.
    #[error("the other side took longer than {} seconds", .0.as_secs())]
    Slow(Duration),
}

fn exchange(error: impl std::fmt::Display) -> PostError {
    PostError::Exchange(error.to_string())
}

/// Certificates of authorities out of a PEM file.
///
/// # Errors
/// It cannot be read, or holds anything but certificates.
pub fn authorities(path: &Path) -> std::io::Result<Vec<CertificateDer<'static>>> {
    let wrong = |what: &str| std::io::Error::other(what.to_owned());
    let pem = std::fs::read_to_string(path)?;
    // A key has no business in this file; better said than ignored.
    if pem.contains("PRIVATE KEY") {
        return Err(wrong(
            "only certificates belong into this file, and there is a private key in it",
        ));
    }
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it"));
    }
    Ok(found)
}

/// Opens TLS to a host whose certificate one of `roots` vouches for.
///
/// # Errors
/// See [`PostError`].
pub async fn open_tls(
    host: &str,
    port: u16,
    roots: &[CertificateDer<'static>],
) -> Result<TlsStream<TcpStream>, PostError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| PostError::Address)?;
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    let stream = TcpStream::connect((host, port)).await?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}

/// Sends `body` and returns status and body of the answer.
///
/// # Errors
/// See [`PostError`].
pub async fn post(
    url: &str,
    roots: &[CertificateDer<'static>],
    headers: &[(&'static str, String)],
    body: String,
    patience: Duration,
) -> Result<(u16, Vec<u8>), PostError> {
    send(Method::POST, url, roots, headers, body, patience).await
}

/// Asks for JSON and returns status and body of the answer.
///
/// # Errors
/// See [`PostError`].
#[cfg(feature = "oidc")]
pub(crate) async fn get(
    url: &str,
    roots: &[CertificateDer<'static>],
    patience: Duration,
) -> Result<(u16, Vec<u8>), PostError> {
    let headers = [("accept", "application/json".to_owned())];
    send(Method::GET, url, roots, &headers, String::new(), patience).await
}

async fn send(
    method: Method,
    url: &str,
    roots: &[CertificateDer<'static>],
    headers: &[(&'static str, String)],
    body: String,
    patience: Duration,
) -> Result<(u16, Vec<u8>), PostError> {
    let sent = async {
        let uri: Uri = url.parse().map_err(|_| PostError::Address)?;
        let host = uri.host().ok_or(PostError::Address)?;
        let authority = uri.authority().ok_or(PostError::Address)?;
        // A name and password in the address would be sent along as a host.
        if authority.as_str().contains('@') {
            return Err(PostError::Address);
        }
        let mut request = Request::builder()
            .method(method)
            .uri(
                uri.path_and_query()
                    .map_or("/", axum::http::uri::PathAndQuery::as_str),
            )
            .header(header::HOST, authority.as_str())
            .header(
                header::USER_AGENT,
                concat!("sallyport-server/", env!("CARGO_PKG_VERSION")),
            )
            .body(Body::from(body))
            .map_err(|_| PostError::Address)?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|_| PostError::Address)?;
            request.headers_mut().insert(*name, value);
        }
        if uri.scheme() == Some(&Scheme::HTTPS) {
            let stream = open_tls(host, uri.port_u16().unwrap_or(443), roots).await?;
            ask(stream, request).await
        } else if uri.scheme() == Some(&Scheme::HTTP) {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(80))).await?;
            ask(stream, request).await
        } else {
            Err(PostError::Address)
        }
    };
    tokio::time::timeout(patience, sent)
        .await
        .unwrap_or(Err(PostError::Slow(patience)))
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<(u16, Vec<u8>), PostError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(exchange)?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(exchange)?;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), ANSWER_BYTES)
            .await
            .map_err(exchange)?;
        Ok((status, body.to_vec()))
    };
    tokio::pin!(connection, asked);
    // The connection must be driven while the answer comes, and ends with it.
    tokio::select! {
        biased;
        done = &mut asked => done,
        ended = &mut connection => match ended {
            Ok(()) => asked.await,
            Err(error) => Err(exchange(error)),
        },
    }
}
