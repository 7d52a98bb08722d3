//! Sealing of personal data: AES-256-GCM under a subject's own key, which the key-encryption key wraps.
//!
//! Blob: `suite u8 | key version u32 | nonce 12 | ciphertext | tag 16`. The associated data names the place of the ciphertext, so
//! that no two can be exchanged (`security.md` section 4).

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::clock::random;

const SUITE_AES_256_GCM: u8 = 1;
const HEADER: usize = 1 + 4 + 12;

/// Why something could not be sealed or opened. Carries no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Another suite or key version, or too short.
    #[error("sealed with an unknown suite or key version")]
    Unknown,
    /// Wrong key, wrong place, or changed.
    #[error("sealed data was changed, moved to another place, or belongs to another key")]
    Refused,
    /// No randomness.
    #[error("the operating system gives no random numbers")]
    Random,
}

/// A 256-bit key, zeroed on drop. `Debug` hides it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key([sealed])")
    }
}

impl Key {
    /// Wraps key bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh random key.
    ///
    /// # Errors
    /// No randomness.
    pub fn generate() -> Result<Self, SealError> {
        random().map(Self).map_err(|_| SealError::Random)
    }

    /// The bytes, for key files only.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Keyed hash for exact look-ups of sealed text, hexadecimal.
    #[must_use]
    pub fn lookup(&self, label: &str, text: &str) -> String {
        hex::encode(self.keyed_hash(label, text))
    }

    /// Another key out of this one, for one purpose; whoever has it learns nothing of this one.
    #[must_use]
    pub fn derive(&self, label: &str, text: &str) -> Self {
        Self(self.keyed_hash(label, text))
    }

    fn keyed_hash(&self, label: &str, text: &str) -> [u8; 32] {
        let inner = Sha256::new()
            .chain_update(b"sallyport/lookup/1")
            .chain_update(self.0)
            .chain_update(label)
            .chain_update([0])
            .chain_update(text)
            .finalize();
        Sha256::new()
            .chain_update(self.0)
            .chain_update(inner)
            .finalize()
            .into()
    }
}

/// Where a ciphertext lives. Every field is bound.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Site.
    pub site: &'a str,
    /// Table.
    pub table: &'a str,
    /// Column.
    pub column: &'a str,
    /// Primary key of the row.
    pub row: &'a str,
    /// Subject, or empty.
    pub subject: &'a str,
    /// Modality, or empty.
    pub modality: &'a str,
    /// SHA-256 of the model, or empty.
    pub model: &'a str,
}

impl<'a> Place<'a> {
    /// A place without subject, modality and model.
    #[must_use]
    pub const fn new(site: &'a str, table: &'a str, column: &'a str, row: &'a str) -> Self {
        Self {
            site,
            table,
            column,
            row,
            subject: "",
            modality: "",
            model: "",
        }
    }

    fn associated_data(&self, purpose: &str, version: u32, suite: u8) -> Vec<u8> {
        let version = version.to_be_bytes();
        let suite = [suite];
        let fields: [&[u8]; 10] = [
            purpose.as_bytes(),
            self.site.as_bytes(),
            self.table.as_bytes(),
            self.column.as_bytes(),
            self.row.as_bytes(),
            self.subject.as_bytes(),
            self.modality.as_bytes(),
            self.model.as_bytes(),
            &version,
            &suite,
        ];
        let mut data = Vec::new();
        for field in fields {
            data.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            data.extend_from_slice(field);
        }
        data
    }
}

const VALUE: &str = "sallyport/tpl/1";
const DATA_KEY: &str = "sallyport/dek/1";

/// What is bound to a wrapped data key.
pub(crate) fn data_key_associated_data(place: &Place<'_>, version: u32) -> Vec<u8> {
    place.associated_data(DATA_KEY, version, SUITE_AES_256_GCM)
}

/// Seals `plaintext` for a place.
///
/// # Errors
/// No randomness.
pub fn seal(
    key: &Key,
    version: u32,
    place: &Place<'_>,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    let nonce: [u8; 12] = random().map_err(|_| SealError::Random)?;
    let aad = place.associated_data(VALUE, version, SUITE_AES_256_GCM);
    Ok(blob(
        version,
        &nonce,
        &encrypt(key, &nonce, &aad, plaintext)?,
    ))
}

/// AES-256-GCM: ciphertext and tag.
pub(crate) fn encrypt(
    key: &Key,
    nonce: &[u8; 12],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, SealError> {
    Aes256Gcm::new_from_slice(&key.0)
        .map_err(|_| SealError::Unknown)?
        .encrypt(&Nonce::from(*nonce), Payload { msg: plain, aad })
        .map_err(|_| SealError::Refused)
}

/// The opposite of [`encrypt`].
pub(crate) fn decrypt(
    key: &Key,
    nonce: &[u8; 12],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Vec<u8>, SealError> {
    Aes256Gcm::new_from_slice(&key.0)
        .map_err(|_| SealError::Unknown)?
        .decrypt(
            &Nonce::from(*nonce),
            Payload {
                msg: ciphertext,
                aad,
            },
        )
        .map_err(|_| SealError::Refused)
}

/// Puts suite, key version and nonce before a ciphertext.
pub(crate) fn blob(version: u32, nonce: &[u8; 12], ciphertext: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(HEADER + ciphertext.len());
    blob.push(SUITE_AES_256_GCM);
    blob.extend_from_slice(&version.to_be_bytes());
    blob.extend_from_slice(nonce);
    blob.extend_from_slice(ciphertext);
    blob
}

/// Nonce and ciphertext of a blob of this version; any other suite or version is refused.
pub(crate) fn split(version: u32, blob: &[u8]) -> Result<(&[u8; 12], &[u8]), SealError> {
    let (suite, rest) = blob.split_first().ok_or(SealError::Unknown)?;
    let (stored, rest) = rest.split_first_chunk::<4>().ok_or(SealError::Unknown)?;
    let (nonce, ciphertext) = rest.split_first_chunk::<12>().ok_or(SealError::Unknown)?;
    if *suite != SUITE_AES_256_GCM || u32::from_be_bytes(*stored) != version {
        return Err(SealError::Unknown);
    }
    Ok((nonce, ciphertext))
}

/// Opens a blob that was sealed for exactly this place.
///
/// # Errors
/// Unknown suite or version, wrong key, wrong place, or changed.
pub fn open(key: &Key, version: u32, place: &Place<'_>, blob: &[u8]) -> Result<Vec<u8>, SealError> {
    let (nonce, ciphertext) = split(version, blob)?;
    let aad = place.associated_data(VALUE, version, SUITE_AES_256_GCM);
    decrypt(key, nonce, &aad, ciphertext)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any two ciphertexts exchanged between places are refused, and so is any other suite, version or key.
    #[test]
    fn nothing_can_be_moved_changed_or_opened_with_another_key() {
        let key = Key::generate().unwrap();
        let base = Place {
            site: "site-a",
            table: "reference",
            column: "template_sealed",
            row: "1",
            subject: "s",
            modality: "face",
            model: "m",
        };
        let places = [
            base,
            Place {
                site: "site-b",
                ..base
            },
            Place {
                table: "subject",
                ..base
            },
            Place {
                column: "photograph_sealed",
                ..base
            },
            Place { row: "2", ..base },
            Place {
                subject: "t",
                ..base
            },
            Place {
                modality: "iris_left",
                ..base
            },
            Place { model: "n", ..base },
            // Fields are length-prefixed: moving a letter from one to the next is another place.
            Place {
                row: "1s",
                subject: "",
                ..base
            },
        ];
        let blobs: Vec<_> = places
            .iter()
            .map(|place| seal(&key, 1, place, b"canary").unwrap())
            .collect();
        for (a, place) in places.iter().enumerate() {
            for (b, blob) in blobs.iter().enumerate() {
                assert_eq!(
                    open(&key, 1, place, blob).is_ok(),
                    a == b,
                    "place {a}, blob {b}"
                );
            }
        }
        assert_eq!(open(&key, 2, &base, &blobs[0]), Err(SealError::Unknown));
        assert_eq!(
            open(&Key::generate().unwrap(), 1, &base, &blobs[0]),
            Err(SealError::Refused)
        );
        for at in 0..blobs[0].len() {
            let mut changed = blobs[0].clone();
            changed[at] ^= 1;
            assert!(open(&key, 1, &base, &changed).is_err(), "byte {at}");
            assert!(
                open(&key, 1, &base, &blobs[0][..at]).is_err(),
                "cut at {at}"
            );
        }
        assert!(!blobs[0].windows(6).any(|window| window == b"canary"));
    }
}
