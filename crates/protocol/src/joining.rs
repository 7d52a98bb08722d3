//! How a gate joins, and its heartbeat.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use sallyport_domain::{Direction, GateId, Timestamp};

/// What an officer gives to a gate: `sallyport-join-v1.<gate>.<secret hex>.<CA SHA-256 hex>`.
/// `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The gate it is bound to.
    pub gate: GateId,
    /// 32 random bytes in hexadecimal; one use.
    pub secret: String,
    /// SHA-256 of the CA certificate's DER in hexadecimal: pins the first connection.
    pub ca_sha256: String,
}

/// The text is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinTokenError;

impl fmt::Display for JoinTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a join token; copy the whole line printed by `sallyport-server gate token`",
        )
    }
}

impl std::error::Error for JoinTokenError {}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, [sealed])", self.gate)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sallyport-join-v1.{}.{}.{}",
            self.gate, self.secret, self.ca_sha256
        )
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;
    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let is_hex = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = text.trim().split('.');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some("sallyport-join-v1"), Some(gate), Some(secret), Some(ca), None)
                if is_hex(secret) && is_hex(ca) =>
            {
                Ok(Self {
                    gate: gate.parse().map_err(|_| JoinTokenError)?,
                    secret: secret.to_owned(),
                    ca_sha256: ca.to_owned(),
                })
            }
            _ => Err(JoinTokenError),
        }
    }
}

/// A device key as people compare it on two screens: the first 16 bytes of the SHA-256 (hexadecimal) of its public key (SubjectPublicKeyInfo,
/// DER), in groups of four digits. An attacker would need some 2^128 tries for a key with the same.
#[must_use]
pub fn key_fingerprint(spki_sha256: &str) -> String {
    let digits: Vec<char> = spki_sha256.chars().take(32).collect();
    let groups: Vec<String> = digits
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    groups.join(" ")
}

/// A new gate asks for its certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// The token's gate.
    pub gate: GateId,
    /// The token's secret.
    pub secret: String,
    /// PKCS#10 certificate signing request, PEM, for a key that never leaves the device.
    pub csr_pem: String,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinRequest({}, [sealed])", self.gate)
    }
}

/// A joined gate asks for a new certificate, over a connection that shows the present one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Which gate; must equal the client certificate's.
    pub gate: GateId,
    /// PKCS#10 certificate signing request, PEM, for the present key or a new one.
    pub csr_pem: String,
}

/// What the gate keeps after joining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinAnswer {
    /// The gate's certificate, PEM.
    pub certificate_pem: String,
    /// The private CA's certificate, PEM.
    pub ca_pem: String,
    /// Ed25519 public key that signs door orders, base64.
    pub door_key: String,
    /// X25519 public key for which pictures are sealed, base64.
    pub sealing_key: String,
    /// The audit log's vkey.
    pub log_vkey: String,
    /// Which way this gate leads.
    pub direction: Direction,
}

/// The agent is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Which gate.
    pub gate: GateId,
    /// The agent's clock.
    pub now: Timestamp,
    /// Health of each camera, by name: `ok` or what is wrong.
    pub cameras: Vec<(String, String)>,
    /// Reports waiting in the spool.
    pub spooled: u64,
    /// What the gate knows of the audit log, which it watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSeen>,
}

/// What a gate, as a witness, knows of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSeen {
    /// Entries of the checkpoint that the gate keeps; 0 when it keeps none. The answer must prove consistency from there.
    pub size: u64,
    /// The gate's witness key, a vkey of type 0x04.
    pub witness: String,
    /// The gate's signature line over the checkpoint that it keeps.
    pub cosignature: Option<String>,
    /// Set once the log betrayed the gate, until people have looked into it.
    pub alarm: Option<LogAlarm>,
}

/// A log that does not continue what was seen before, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogAlarm {
    /// What is wrong, a sentence for people.
    pub what: String,
    /// The gate's clock when it found out.
    pub at: Timestamp,
    /// The signed checkpoint that the gate kept.
    pub kept: Option<String>,
    /// The checkpoint that the server showed.
    pub shown: Option<String>,
}

/// The server's answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatAnswer {
    /// The server's clock.
    pub now: Timestamp,
    /// A published checkpoint (signed note), the same for all gates during some seconds so that they cosign the same one.
    pub checkpoint: Option<String>,
    /// Consistency proof (base64 hashes) from [`LogSeen::size`] to the checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<String>,
    /// The server itself found its log changed, a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_fault: Option<String>,
    /// A supervisor's order to free the doors for life safety, or to end that; the same in each answer until it is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<crate::SignedReleaseOrder>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_survives_printing_and_hides_in_debug() {
        let text = format!(
            "sallyport-join-v1.front-in.{}.{}",
            "a".repeat(64),
            "0".repeat(64)
        );
        let token: JoinToken = text.parse().unwrap();
        assert_eq!(token.to_string(), text);
        assert!(!format!("{token:?}").contains("aaaa"));
        for bad in [
            "",
            "sallyport-join-v1.x.y.z",
            &text[..text.len() - 1],
            &format!("{text}.x"),
        ] {
            assert_eq!(bad.parse::<JoinToken>(), Err(JoinTokenError));
        }
    }
}
