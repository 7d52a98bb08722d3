//! Sealed detail of entries, and how it is handed to somebody entitled to it so that he can prove what it belongs to.
//!
//! The entry carries `SHA-256(salt || blob)`. The blob is `suite 2 | key version u32 | nonce 12 | commitment 32 | ciphertext and tag`
//! of AES-256-GCM under a key of this one detail. The commitment is a hash of that key: the entry thereby fixes the key too, and no
//! second key can open the same bytes to another text, which AES-GCM alone would not rule out. Handing out salt, blob and key of one
//! detail opens that detail and no other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Longest line of a file of details, in bytes.
pub const MAX_DETAIL_LINE: usize = 4 * 1024 * 1024;

const SUITE: u8 = 2;
const NONCE: usize = 12;
const COMMITMENT: usize = 32;
const TAG: usize = 16;

/// Why something is not a detail, or not this entry's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DetailError {
    /// Not a line of a file of details.
    #[error("it is not a line of a file of details")]
    Malformed,
    /// Another suite or version.
    #[error("it is sealed in a way that this program does not know")]
    Unknown,
    /// The entry names another detail.
    #[error("it is not the detail that the entry names by its hash")]
    Another,
    /// The key is not the one that was committed to.
    #[error("the key with it is not the one that the entry fixes")]
    Key,
}

/// What an entry carries of its detail, hexadecimal.
#[must_use]
pub fn detail_hash(salt: &[u8], sealed: &[u8]) -> String {
    let hash = Sha256::new().chain_update(salt).chain_update(sealed);
    hex::encode(hash.finalize())
}

/// The commitment to a detail's key.
#[must_use]
pub fn detail_commitment(key: &[u8; 32]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(b"sallyport/log-detail/key/1\n");
    hash.chain_update(key).finalize().into()
}

/// What is bound to a detail's ciphertext: the log and the entry's place in it.
#[must_use]
pub fn detail_associated_data(origin: &str, index: u64) -> Vec<u8> {
    format!("sallyport/log-detail/2\n{origin}\n{index}\n").into_bytes()
}

/// The parts of a sealed detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedDetail<'a> {
    /// Nonce of AES-256-GCM.
    pub nonce: &'a [u8; NONCE],
    /// Hash of the key.
    pub commitment: &'a [u8; COMMITMENT],
    /// Ciphertext and tag.
    pub ciphertext: &'a [u8],
}

impl<'a> SealedDetail<'a> {
    /// Is this blob of the suite that can be handed out one by one?
    #[must_use]
    pub fn is_one(blob: &[u8]) -> bool {
        blob.first() == Some(&SUITE)
    }

    /// Takes a blob apart.
    ///
    /// # Errors
    /// Another suite or version, or too short.
    pub fn parse(blob: &'a [u8]) -> Result<Self, DetailError> {
        let rest = blob
            .strip_prefix(&[SUITE, 0, 0, 0, 1])
            .ok_or(DetailError::Unknown)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(DetailError::Unknown)?;
        let (commitment, ciphertext) = rest.split_first_chunk().ok_or(DetailError::Unknown)?;
        if ciphertext.len() < TAG {
            return Err(DetailError::Unknown);
        }
        Ok(Self {
            nonce,
            commitment,
            ciphertext,
        })
    }

    /// Puts the parts together.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut blob = vec![SUITE, 0, 0, 0, 1];
        blob.extend_from_slice(self.nonce);
        blob.extend_from_slice(self.commitment);
        blob.extend_from_slice(self.ciphertext);
        blob
    }
}

/// One line of a file of details: about one entry that has a detail.
#[derive(Clone, PartialEq, Eq)]
pub enum DetailLine {
    /// Salt, blob and key of the detail.
    Given {
        /// Index of the entry.
        index: u64,
        /// Salt of the entry's hash.
        salt: [u8; 32],
        /// The blob.
        sealed: Vec<u8>,
        /// The key of this detail alone.
        key: [u8; 32],
    },
    /// The detail is not there.
    Withheld {
        /// Index of the entry.
        index: u64,
        /// Why: `erased` or `older_suite`.
        why: String,
    },
}

/// Without the key.
impl std::fmt::Debug for DetailLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DetailLine({})", self.index())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    withheld: Option<String>,
}

impl DetailLine {
    /// Index of its entry.
    #[must_use]
    pub const fn index(&self) -> u64 {
        match self {
            Self::Given { index, .. } | Self::Withheld { index, .. } => *index,
        }
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// Not such a line.
    pub fn parse(line: &str) -> Result<Self, DetailError> {
        let bad = DetailError::Malformed;
        let line: Line = serde_json::from_str(line).map_err(|_| bad)?;
        let index = line.index;
        let hash = |text: String| -> Result<[u8; 32], DetailError> {
            let bytes = STANDARD.decode(text).map_err(|_| bad)?;
            bytes.try_into().map_err(|_| bad)
        };
        match (line.salt, line.sealed, line.key, line.withheld) {
            (Some(salt), Some(sealed), Some(key), None) => Ok(Self::Given {
                index,
                salt: hash(salt)?,
                sealed: STANDARD.decode(sealed).map_err(|_| bad)?,
                key: hash(key)?,
            }),
            (None, None, None, Some(why)) => Ok(Self::Withheld { index, why }),
            _ => Err(bad),
        }
    }

    /// As a line without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let line = match self {
            Self::Given {
                index,
                salt,
                sealed,
                key,
            } => Line {
                index: *index,
                salt: Some(STANDARD.encode(salt)),
                sealed: Some(STANDARD.encode(sealed)),
                key: Some(STANDARD.encode(key)),
                withheld: None,
            },
            Self::Withheld { index, why } => Line {
                index: *index,
                salt: None,
                sealed: None,
                key: None,
                withheld: Some(why.clone()),
            },
        };
        serde_json::to_string(&line).expect("text and numbers are always JSON")
    }
}

/// The parts of a given detail, once the entry is known to name exactly this detail and this key.
///
/// # Errors
/// It is another entry's, or the key is another.
pub fn detail_bound<'a>(
    entry_hash: &str,
    salt: &[u8; 32],
    sealed: &'a [u8],
    key: &[u8; 32],
) -> Result<SealedDetail<'a>, DetailError> {
    if detail_hash(salt, sealed) != entry_hash {
        return Err(DetailError::Another);
    }
    let parts = SealedDetail::parse(sealed)?;
    if detail_commitment(key) != *parts.commitment {
        return Err(DetailError::Key);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_bound_to_its_entry_and_its_key() {
        let (salt, key) = ([3; 32], [4; 32]);
        let commitment = detail_commitment(&key);
        let sealed = SealedDetail {
            nonce: &[5; 12],
            commitment: &commitment,
            ciphertext: &[6; 40],
        }
        .to_bytes();
        let hash = detail_hash(&salt, &sealed);
        let parts = detail_bound(&hash, &salt, &sealed, &key).unwrap();
        assert_eq!(parts.ciphertext, [6; 40]);
        assert_eq!(
            detail_bound(&hash, &salt, &sealed, &[9; 32]),
            Err(DetailError::Key)
        );
        assert_eq!(
            detail_bound(&hash, &[9; 32], &sealed, &key),
            Err(DetailError::Another)
        );
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(
                detail_bound(&hash, &salt, &changed, &key).is_err(),
                "byte {at}"
            );
            // Even where somebody made the entry anew for a cut or changed blob, suite and key must fit.
            let short = &sealed[..at];
            let again = detail_bound(&detail_hash(&salt, short), &salt, short, &key);
            assert_eq!(again.is_ok(), at >= 5 + 12 + 32 + 16, "cut at {at}");
        }
    }

    #[test]
    fn lines_come_back_and_nonsense_is_refused() {
        for line in [
            DetailLine::Given {
                index: 7,
                salt: [1; 32],
                sealed: vec![2; 70],
                key: [3; 32],
            },
            DetailLine::Withheld {
                index: u64::MAX,
                why: "erased".to_owned(),
            },
        ] {
            assert_eq!(DetailLine::parse(&line.to_line()), Ok(line));
        }
        for text in [
            "",
            "{}",
            "{\"index\":1}",
            "{\"index\":-1,\"withheld\":\"erased\"}",
            "{\"index\":1,\"withheld\":\"erased\",\"key\":\"AA==\"}",
            "{\"index\":1,\"salt\":\"AA==\",\"sealed\":\"AA==\",\"key\":\"AA==\"}",
        ] {
            assert_eq!(DetailLine::parse(text), Err(DetailError::Malformed));
        }
    }
}
