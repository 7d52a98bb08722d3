//! TLS 1.3 listeners. The gate port asks for a client certificate of our own authority; the console port does not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::authority::ServerIdentity;
use crate::rights;
use crate::state::AppState;

/// Connections at once, per port. Further ones wait in the operating system's queue.
/// All ports together stay below the usual limit of 1,024 open files.
const MAX_CONNECTIONS: usize = 400;
/// Connections at once on the port for monitors.
const MAX_MONITORS: usize = 64;
/// A handshake that takes longer is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's header that takes longer to arrive is dropped.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// The verified client certificate of a connection.
#[derive(Debug, Clone)]
pub struct PeerCertificate(pub Option<CertificateDer<'static>>);

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refuses key, certificate or protocol.
    #[error("TLS could not be set up")]
    Rustls(#[from] rustls::Error),
    /// The client verifier could not be built.
    #[error("the client certificate check could not be set up")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// TLS for the gate port; `authority` is the only root that client certificates may have.
///
/// # Errors
/// See [`TlsError`].
pub fn gate_config(
    identity: &ServerIdentity,
    authority: &CertificateDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    Ok(Arc::new(config))
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub std::net::IpAddr);

/// TLS for the console port.
///
/// # Errors
/// See [`TlsError`].
pub fn console_config(identity: &ServerIdentity) -> Result<Arc<ServerConfig>, TlsError> {
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    Ok(Arc::new(config))
}

/// Serves a router until `stop` says so; open requests then get a moment to end.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    serve_up_to(MAX_CONNECTIONS, listener, config, router, stop, None).await;
}

/// As [`serve`], for gates: a connection whose key the log says to have ended is cut at once, in the middle of whatever it does.
pub async fn serve_gates(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    stop: watch::Receiver<bool>,
    state: AppState,
) {
    serve_up_to(MAX_CONNECTIONS, listener, config, router, stop, Some(state)).await;
}

/// As [`serve`], for few connections at once.
pub async fn serve_few(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    serve_up_to(MAX_MONITORS, listener, config, router, stop, None).await;
}

async fn serve_up_to(
    seats: usize,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    mut stop: watch::Receiver<bool>,
    gates: Option<AppState>,
) {
    let acceptor = TlsAcceptor::from(config);
    let free = Arc::new(Semaphore::new(seats));
    loop {
        let Ok(seat) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, for one: pause instead of spinning.
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        let gates = gates.clone();
        tokio::spawn(async move {
            connection(stream, peer, acceptor, router, stop, gates).await;
            drop(seat);
        });
    }
}

/// Returns when the log says that the key of this certificate has ended.
async fn key_ends(
    state: &AppState,
    certificate: &CertificateDer<'_>,
    mut ended: watch::Receiver<u64>,
) {
    let Some((key, gate)) = state.authority.peer(certificate) else {
        // No gate's: it is refused at every request.
        return std::future::pending().await;
    };
    loop {
        if ended.changed().await.is_err() {
            return std::future::pending().await;
        }
        if rights::key_ended(state, &gate, &key) {
            return;
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    mut stop: watch::Receiver<bool>,
    gates: Option<AppState>,
) {
    // Before the handshake: a key that ends during it is noticed as well.
    let ended = gates.as_ref().map(|state| state.keys_ended.subscribe());
    let tls = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::info!(%peer, error = %error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificate = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[CertificateDer<'static>]>::first)
        .map(|certificate| certificate.clone().into_owned());
    let cut = async {
        match (&gates, ended, &certificate) {
            (Some(state), Some(ended), Some(certificate)) => {
                key_ends(state, certificate, ended).await;
            }
            _ => std::future::pending().await,
        }
    };
    let peer_certificate = PeerCertificate(certificate.clone());
    let peer_address = PeerAddress(peer.ip());
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer_certificate.clone());
        request.extensions_mut().insert(peer_address);
        router.clone().oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64);
    let serving = builder.serve_connection(TokioIo::new(tls), service);
    tokio::pin!(serving);
    tokio::select! {
        // What it asked for and was not answered is undone or stands in the log; the door gets no order.
        () = cut => tracing::warn!(%peer, "a gate's key ended; its connection is cut"),
        result = serving.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%peer, error = %error, "a connection ended with an error");
            }
        }
        _ = stop.changed() => {
            serving.as_mut().graceful_shutdown();
            // Live pages and long polls never end by themselves.
            let _ = tokio::time::timeout(Duration::from_secs(2), serving).await;
        }
    }
}
