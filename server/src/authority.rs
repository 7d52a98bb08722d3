//! The private certificate authority: it signs this server's certificate and the gates' 24-hour client certificates.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sallyport_domain::{GateId, SiteId, Timestamp};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{ASN1Time, FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::clock::random;

/// Life of a gate's certificate.
pub const GATE_CERTIFICATE_HOURS: i64 = 24;
const SERVER_CERTIFICATE_HOURS: i64 = 24 * 365;
const CA_CERTIFICATE_HOURS: i64 = 24 * 365 * 20;
/// Certificates begin a little earlier, so that a gate whose clock lags accepts them.
const LEEWAY_MS: i64 = 5 * 60 * 1_000;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The request is not a signing request for an ECDSA P-256 key, or its own signature is wrong.
    #[error(
        "the certificate signing request is not acceptable; it must be PKCS#10 in PEM for an ECDSA P-256 key"
    )]
    BadRequest,
    /// The CA's own material is damaged.
    #[error("the certificate authority's key or certificate is damaged: {0}")]
    Damaged(String),
    /// No randomness, or a time outside what certificates can say.
    #[error("a certificate could not be made: {0}")]
    Failed(&'static str),
}

fn damaged(error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Damaged(error.to_string())
}

/// The CA with its key. `Debug` hides it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
    site: SiteId,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority([sealed])")
    }
}

/// A server's certificate chain and key.
pub struct ServerIdentity {
    /// The server's certificate, then the CA's, so that a joining gate can pin it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// A gate's new certificate.
#[derive(Debug)]
pub struct GateCertificate {
    /// PEM.
    pub pem: String,
    /// SHA-256 of its subject public key info, hexadecimal.
    pub spki_sha256: String,
    /// End of its life.
    pub not_after: Timestamp,
}

fn params(
    now: Timestamp,
    hours: i64,
    name: &str,
) -> Result<(CertificateParams, Timestamp), AuthorityError> {
    let not_after = now.plus_millis(hours * 3_600_000);
    let time = |at: Timestamp| {
        ASN1Time::from_timestamp(at.as_micros().div_euclid(1_000_000))
            .map(|time| time.to_datetime())
            .map_err(|_| AuthorityError::Failed("the time is out of range"))
    };
    let mut params = CertificateParams::default();
    params.not_before = time(now.plus_millis(-LEEWAY_MS))?;
    params.not_after = time(not_after)?;
    let mut serial: [u8; 16] = random().map_err(|_| AuthorityError::Failed("no random numbers"))?;
    // Serial numbers are positive (RFC 5280 section 4.1.2.2).
    if let Some(first) = serial.first_mut() {
        *first &= 0x7f;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    params.distinguished_name = distinguished;
    Ok((params, not_after))
}

impl Authority {
    /// Makes a new CA; returns key and certificate as PEM.
    ///
    /// # Errors
    /// No randomness.
    pub fn generate(
        site: &SiteId,
        now: Timestamp,
    ) -> Result<(Zeroizing<String>, String), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(damaged)?;
        let (mut params, _) = params(now, CA_CERTIFICATE_HOURS, &format!("Sallyport {site}"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(damaged)?;
        Ok((Zeroizing::new(key.serialize_pem()), certificate.pem()))
    }

    /// Loads a CA.
    ///
    /// # Errors
    /// Damaged.
    pub fn load(
        site: &SiteId,
        key_pem: &str,
        certificate_pem: &str,
    ) -> Result<Self, AuthorityError> {
        use rustls::pki_types::pem::PemObject as _;
        let key = KeyPair::from_pem(key_pem).map_err(damaged)?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(damaged)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate_pem, key).map_err(damaged)?,
            pem: certificate_pem.to_owned(),
            der,
            site: site.clone(),
        })
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The CA's certificate, DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of the CA's certificate, hexadecimal, for join tokens.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }

    /// A new key and certificate for this server; made at every start, so it never grows old.
    ///
    /// # Errors
    /// No randomness, or a host name that cannot stand in a certificate.
    pub fn server_identity(
        &self,
        hostnames: &[String],
        now: Timestamp,
    ) -> Result<ServerIdentity, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(damaged)?;
        let (mut params, _) = params(now, SERVER_CERTIFICATE_HOURS, "Sallyport server")?;
        for name in hostnames {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.as_str()
                        .try_into()
                        .map_err(|_| AuthorityError::Failed("a host name is not ASCII"))?,
                ),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(damaged)?;
        Ok(ServerIdentity {
            chain: vec![certificate.der().clone(), self.der.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// Signs a gate's certificate. What the request says about itself is ignored; only its key counts.
    ///
    /// # Errors
    /// A request that is not acceptable.
    pub fn gate_certificate(
        &self,
        gate: &GateId,
        csr_pem: &str,
        now: Timestamp,
    ) -> Result<GateCertificate, AuthorityError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|_| AuthorityError::BadRequest)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(AuthorityError::BadRequest);
        }
        let (mut params, not_after) = params(now, GATE_CERTIFICATE_HOURS, gate.as_str())?;
        params.subject_alt_names = vec![SanType::URI(
            self.gate_uri(gate)
                .as_str()
                .try_into()
                .map_err(|_| AuthorityError::Failed("the gate's name"))?,
        )];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(damaged)?;
        let (_, parsed) = X509Certificate::from_der(certificate.der()).map_err(damaged)?;
        Ok(GateCertificate {
            pem: certificate.pem(),
            spki_sha256: hex::encode(Sha256::digest(parsed.public_key().raw)),
            not_after,
        })
    }

    fn gate_uri(&self, gate: &GateId) -> String {
        format!("spiffe://{}/gate/{gate}", self.site)
    }

    /// What a verified client certificate says: the SHA-256 of its key, and the gate in its only URI name.
    #[must_use]
    pub fn peer(&self, certificate: &CertificateDer<'_>) -> Option<(String, GateId)> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return None;
        };
        let gate: GateId = uri.rsplit('/').next()?.parse().ok()?;
        (*uri == self.gate_uri(&gate))
            .then(|| (hex::encode(Sha256::digest(parsed.public_key().raw)), gate))
    }
}
