//! The gate's certificate: how long it lives, and how it gets a new one before it ends.
//!
//! A certificate lives a day and is renewed at half its life, over a connection that shows the
//! present one. The new one is tried against the server before anything else changes; only then do
//! requests use it, and only then does the state folder hold it. Requests under way keep their
//! connection. The device key stays for thirty days: the server knows the gate by it. Then the renewal is for a new key, which
//! the present one vouches for; it is on disk before anybody uses it, and with its first sign of life the server ends the old one.
//!
//! The wall clock only tells when to ask; whether a certificate counts is the server's business.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sallyport_domain::Timestamp;
use sallyport_protocol::{JoinAnswer, PROTOCOL_VERSION, RenewRequest};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::state::{Identity, StateError, StateFolder, certifies};
use crate::tls::{self, TlsError};
use crate::uplink::{Uplink, UplinkError};

/// First pause after a failed attempt; doubled after each.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// How often the clock is looked at: it may be set while the gate runs.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Least time between two renewals that worked, so that a wrong clock does not ask for one after
/// the other.
const LEAST_BETWEEN: Duration = Duration::from_secs(60 * 60);

/// A device key is exchanged at the first renewal after this many milliseconds (`security.md` 1.4).
pub const KEY_LIFETIME_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Why there is no new certificate. The old one stays in use.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The request could not be made.
    #[error("the request for a new certificate could not be made: {0}")]
    Request(#[from] rcgen::Error),
    /// The server refused or did not answer.
    #[error("no new certificate: {0}")]
    Uplink(#[from] UplinkError),
    /// The answer is not a certificate for this gate's key from the authority that it joined.
    #[error(
        "the server answered with a certificate that is not usable ({0}); the present one stays in use"
    )]
    NotOurs(&'static str),
    /// TLS refuses the new certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server does not accept what it just signed.
    #[error("the server does not accept the new certificate ({0}); the present one stays in use")]
    NotAccepted(UplinkError),
    /// It works, but the state folder does not take it.
    #[error("the new certificate works until this program ends, but could not be kept: {0}")]
    NotKept(#[from] StateError),
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its beginning.
    pub not_before: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
}

/// How far a certificate's life has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// More than half is left.
    Fresh,
    /// Due for renewal.
    Due,
    /// Less than a quarter is left: an operator should look.
    Ending,
    /// Over: the server refuses it.
    Ended,
}

impl Life {
    /// Of the first certificate in a PEM text.
    ///
    /// # Errors
    /// Not a certificate.
    pub fn of_pem(pem: &str) -> Result<Self, TlsError> {
        let damaged = || TlsError::Damaged("certificate");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged())?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| damaged())?;
        let at = |seconds: i64| Timestamp::from_micros(seconds.saturating_mul(1_000_000));
        let validity = certificate.validity();
        Ok(Self {
            not_before: at(validity.not_before.timestamp()),
            not_after: at(validity.not_after.timestamp()),
        })
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self, now: Timestamp) -> Phase {
        let whole = self.not_after.millis_since(self.not_before).max(0);
        let left = self.not_after.millis_since(now);
        if left <= 0 {
            Phase::Ended
        } else if left < whole / 4 {
            Phase::Ending
        } else if left <= whole / 2 {
            Phase::Due
        } else {
            Phase::Fresh
        }
    }

    /// A sentence for people: how long it still lives, and what to do when that is little.
    #[must_use]
    pub fn sentence(&self, now: Timestamp) -> String {
        let until = self.not_after.to_rfc3339();
        let minutes = self.not_after.millis_since(now) / 60_000;
        match self.phase(now) {
            Phase::Fresh => format!("certificate: valid until {until}"),
            Phase::Due => format!("certificate: valid until {until}, being renewed"),
            Phase::Ending => format!(
                "WARNING: the gate's certificate ends in {} h {} min ({until}) and was not renewed; check that the agent runs and that the server answers",
                minutes / 60,
                minutes % 60
            ),
            Phase::Ended => format!(
                "the gate's certificate ended at {until}, so the server refuses this gate; stop the agent, get a new token with `sallyport-server gate token`, and join again with `sallyport-gate join --again`"
            ),
        }
    }
}

/// Renews the certificate of one gate.
pub struct Renewer {
    identity: Identity,
    state: StateFolder,
    uplink: Arc<Uplink>,
    clock: Arc<dyn Clock>,
    life: Life,
    /// A certificate in use that the state folder does not hold yet.
    unkept: bool,
}

impl Renewer {
    /// For a joined gate whose requests go through `uplink`.
    ///
    /// # Errors
    /// The present certificate is damaged.
    pub fn new(
        identity: Identity,
        state: StateFolder,
        uplink: Arc<Uplink>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            life: Life::of_pem(&identity.answer.certificate_pem)?,
            identity,
            state,
            uplink,
            clock,
            unkept: false,
        })
    }

    /// Life of the certificate in use.
    #[must_use]
    pub const fn life(&self) -> Life {
        self.life
    }

    /// Whether there is something to do.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.unkept || self.life.phase(now) != Phase::Fresh
    }

    /// Gets, tries, uses and keeps a new certificate.
    ///
    /// # Errors
    /// See [`RenewalError`]; the certificate that was in use still is, except for `NotKept`.
    pub fn renew(&mut self) -> Result<(), RenewalError> {
        if !self.unkept && self.is_key_old() {
            match self.exchange_key() {
                // The disk takes no new key: at least the certificate.
                Err(RenewalError::NotKept(error)) => {
                    tracing::error!(%error, "the device key could not be exchanged; it stays in use");
                }
                done => return done,
            }
        }
        if !self.unkept {
            let key = KeyPair::from_pem(&self.identity.device_key_pem)?;
            let answer = self.ask(&key)?;
            let life = self.check(&answer, &self.identity.device_key_pem)?;
            let mut candidate = self.identity.answer.clone();
            candidate.certificate_pem = answer.certificate_pem;
            let tls = tls::client(
                &candidate.ca_pem,
                &candidate.certificate_pem,
                &self.identity.device_key_pem,
            )?;
            Uplink::new(&self.identity.server, tls.clone(), self.clock.clone())
                .ping()
                .map_err(RenewalError::NotAccepted)?;
            self.uplink.use_tls(tls);
            self.identity.answer = candidate;
            self.life = life;
            self.unkept = true;
        }
        self.state.keep_joined(
            &self.identity.gate,
            &self.identity.server,
            &self.identity.answer,
            self.identity.key_since,
        )?;
        self.unkept = false;
        Ok(())
    }

    /// Whether the device key has been in use for thirty days, or nobody knows for how long.
    #[must_use]
    pub fn is_key_old(&self) -> bool {
        let now = self.clock.wall();
        self.identity
            .key_since
            .is_none_or(|since| now.millis_since(since) >= KEY_LIFETIME_MS)
    }

    /// Gets a certificate for a new device key, tries it, keeps both and uses them, in this order: whatever happens in between, what is
    /// on disk works.
    fn exchange_key(&mut self) -> Result<(), RenewalError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let pem = Zeroizing::new(key.serialize_pem());
        self.state.prepare_device_key(&pem)?;
        let answer = self.ask(&key)?;
        let life = self.check(&answer, &pem)?;
        let mut candidate = self.identity.answer.clone();
        candidate.certificate_pem = answer.certificate_pem;
        let tls = tls::client(&candidate.ca_pem, &candidate.certificate_pem, &pem)?;
        Uplink::new(&self.identity.server, tls.clone(), self.clock.clone())
            .ping()
            .map_err(RenewalError::NotAccepted)?;
        let since = Some(self.clock.wall());
        self.state.keep_joined(
            &self.identity.gate,
            &self.identity.server,
            &candidate,
            since,
        )?;
        // From here on a start finishes it.
        self.uplink.use_tls(tls);
        self.identity.answer = candidate;
        self.identity.device_key_pem = pem;
        self.identity.key_since = since;
        self.life = life;
        if let Err(error) = self.state.adopt_device_key() {
            tracing::error!(%error, "the new device key has not taken the old one's place yet; the next start does it");
        }
        Ok(())
    }

    fn ask(&self, key: &KeyPair) -> Result<JoinAnswer, RenewalError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, self.identity.gate.as_str());
        Ok(self.uplink.renew(&RenewRequest {
            version: PROTOCOL_VERSION,
            gate: self.identity.gate.clone(),
            csr_pem: params.serialize_request(key)?.pem()?,
        })?)
    }

    /// Only the certificate is taken from the answer. What the gate trusts (authority, door key,
    /// audit log) was fixed when it joined, and an answer that says otherwise is not followed.
    fn check(&self, answer: &JoinAnswer, key_pem: &str) -> Result<Life, RenewalError> {
        let kept = &self.identity.answer;
        if answer.ca_pem != kept.ca_pem {
            return Err(RenewalError::NotOurs("another certificate authority"));
        }
        if answer.door_key != kept.door_key || answer.log_vkey != kept.log_vkey {
            return Err(RenewalError::NotOurs(
                "another key for door orders or for the audit log; join the gate again if that was intended",
            ));
        }
        let life =
            Life::of_pem(&answer.certificate_pem).map_err(|_| RenewalError::NotOurs("damaged"))?;
        if !certifies(&answer.certificate_pem, key_pem) {
            return Err(RenewalError::NotOurs("for another key"));
        }
        if life.not_after <= self.life.not_after {
            return Err(RenewalError::NotOurs(
                "ending no later than the present one",
            ));
        }
        Ok(life)
    }
}

/// When to try again: pauses grow after failures and are never longer than a quarter of the life
/// that is left, until the pause is the shortest one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempts {
    failures: u32,
}

impl Attempts {
    /// Pause after a failure.
    pub fn failed(&mut self, life: Life, now: Timestamp) -> Duration {
        let doubled =
            FIRST_PAUSE.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(20);
        let left = u64::try_from(life.not_after.millis_since(now)).unwrap_or(0);
        let growing = doubled.min(LONGEST_PAUSE);
        if left == 0 {
            return growing;
        }
        growing
            .min(Duration::from_millis(left / 4))
            .max(FIRST_PAUSE)
    }

    /// Pause after a success.
    pub fn worked(&mut self) -> Duration {
        self.failures = 0;
        LEAST_BETWEEN
    }

    /// Pause while nothing is due.
    #[must_use]
    pub const fn nothing_due() -> Duration {
        LOOK_EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn life() -> Life {
        Life {
            not_before: Timestamp::from_micros(0),
            not_after: Timestamp::from_micros(24 * HOUR * 1_000),
        }
    }

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_micros(0).plus_millis(hour * HOUR)
    }

    #[test]
    fn renewal_is_due_at_half_life_and_a_warning_comes_in_the_last_quarter() {
        let phases: Vec<Phase> = [0, 11, 12, 18, 19, 23, 24, 30]
            .map(|hour| life().phase(at(hour)))
            .into();
        use Phase::{Due, Ended, Ending, Fresh};
        assert_eq!(
            phases,
            [Fresh, Fresh, Due, Due, Ending, Ending, Ended, Ended]
        );
        assert!(life().sentence(at(19)).starts_with("WARNING"));
        assert!(life().sentence(at(19)).contains("5 h 0 min"));
        assert!(life().sentence(at(25)).contains("join --again"));
    }

    #[test]
    fn pauses_grow_and_stay_shorter_than_what_is_left() {
        let mut attempts = Attempts::default();
        let pauses: Vec<u64> = (0..9)
            .map(|_| attempts.failed(life(), at(12)).as_secs())
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
        let soon = at(24).plus_millis(-120_000);
        assert_eq!(attempts.failed(life(), soon).as_secs(), 30);
        let very_soon = at(24).plus_millis(-1_000);
        assert_eq!(attempts.failed(life(), very_soon), FIRST_PAUSE);
        // Over: it goes on asking, because the clock may be wrong, but not often.
        assert_eq!(attempts.failed(life(), at(25)), LONGEST_PAUSE);
        attempts.worked();
        assert_eq!(attempts.failed(life(), at(12)), FIRST_PAUSE);
    }

    #[test]
    fn a_damaged_certificate_is_named() {
        assert!(Life::of_pem("").is_err());
        assert!(
            Life::of_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err()
        );
    }
}
