//! Joining: a device key is made here, the server signs its certificate in exchange for a one-time
//! token. The key never leaves the device.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sallyport_protocol::{JoinRequest, JoinToken, PROTOCOL_VERSION};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::door::{DoorGuard, GuardError, UsedNonces};
use crate::seal::{SealError, SealingKey};
use crate::state::{Identity, StateError, StateFolder};
use crate::tls::{self, TlsError};
use crate::uplink::{Uplink, UplinkError};

/// Why the gate did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server.
    #[error("joining failed: {0}")]
    Uplink(#[from] UplinkError),
    /// The key or request could not be made.
    #[error("the device key could not be made: {0}")]
    Key(#[from] rcgen::Error),
    /// The answer's CA is not the one of the token.
    #[error(
        "the server answered with another certificate authority than the token names; check that the server is the right one"
    )]
    OtherCa,
    /// The answer's sealing key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The answer's door key.
    #[error(transparent)]
    Door(#[from] GuardError),
}

/// Whether the state folder may hold a joined gate already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It may not.
    No,
    /// It may hold the very gate of the token, whose certificate ended: key, spool and used door
    /// orders stay, only the server's answer is replaced. The agent must not run meanwhile.
    SameGate,
}

/// Joins a gate and keeps what it needs in the state folder.
///
/// # Errors
/// See [`JoinError`]. Nothing is kept but the device key, so that the same folder can try again.
pub fn join(
    server: &str,
    token: &JoinToken,
    folder: &Path,
    clock: Arc<dyn Clock>,
    again: Again,
) -> Result<Identity, JoinError> {
    let state = StateFolder::create(folder)?;
    state.check_may_join((again == Again::SameGate).then_some(&token.gate))?;
    let key = match state.device_key()? {
        // Left by an attempt that did not reach the server.
        Some(pem) => KeyPair::from_pem(&pem)?,
        None => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            state.keep_device_key(&Zeroizing::new(key.serialize_pem()))?;
            key
        }
    };
    let mut params = CertificateParams::default();
    // The server decides what the certificate says; this name only helps who reads the request.
    params
        .distinguished_name
        .push(DnType::CommonName, token.gate.as_str());
    let csr_pem = params.serialize_request(&key)?.pem()?;

    let pin = pin(token);
    let now = clock.wall();
    let uplink = Uplink::new(server, tls::pinned(pin)?, clock);
    let answer = uplink.join(&JoinRequest {
        version: PROTOCOL_VERSION,
        gate: token.gate.clone(),
        secret: token.secret.clone(),
        csr_pem,
    })?;
    let ca = CertificateDer::from_pem_slice(answer.ca_pem.as_bytes())
        .map_err(|_| TlsError::Damaged("CA certificate"))?;
    if tls::certificate_sha256(&ca) != pin {
        return Err(JoinError::OtherCa);
    }
    // Everything is tried before it is kept.
    SealingKey::from_base64(&answer.sealing_key)?;
    let nonces = UsedNonces::open(&state.door_nonces()).map_err(GuardError::from)?;
    DoorGuard::new(token.gate.clone(), &answer.door_key, nonces)?;
    let identity = Identity {
        gate: token.gate.clone(),
        server: server.to_owned(),
        answer,
        device_key_pem: Zeroizing::new(key.serialize_pem()),
        key_since: Some(now),
    };
    tls::joined(&identity)?;
    state.keep_joined(&identity.gate, server, &identity.answer, identity.key_since)?;
    Ok(identity)
}

fn pin(token: &JoinToken) -> [u8; 32] {
    let mut pin = [0; 32];
    // A parsed token holds exactly 64 hexadecimal digits; anything else pins nothing that exists.
    let _ = hex::decode_to_slice(&token.ca_sha256, &mut pin);
    pin
}
