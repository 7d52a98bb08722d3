//! The jurisdiction profile, as the server tells it to its gates.

use serde::{Deserialize, Serialize};

/// The profile that the server says holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileWord {
    /// Its text, TOML. Name, version and rules are read from it, and its SHA-256 is what the log names.
    pub text: String,
    /// Proof that the log names it; none where the server's own holds, or where the gate's checkpoint is older than the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_by: Option<ProfileEntry>,
}

/// The entry `profile_change` that names a text, proved to be in the log that the gate watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileEntry {
    /// Its index.
    pub index: u64,
    /// Its bytes, which are text.
    pub entry: String,
    /// Size of the checkpoint that the proof is for: the one that the gate said it keeps.
    pub size: u64,
    /// Inclusion proof, base64 hashes.
    pub proof: Vec<String>,
}

/// What a gate says when it asks for the profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileQuery {
    /// Entries of the checkpoint that it keeps; 0 when none.
    pub size: u64,
    /// SHA-256 of the text that it knows, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The entry that it knows to name that text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}
