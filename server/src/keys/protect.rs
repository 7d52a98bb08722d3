//! The same KEKs, protected in another way: from the bare key file to a passphrase, to custodians, to a TPM, and back to life on a new
//! machine with the recovery key.

use std::path::Path;

use zeroize::Zeroizing;

use super::file::{KeyFile, Protection};
use super::rooted::Rooted;
use super::{KeyError, KeyProvider, KeySetup};
use crate::sealing::Key;

const RECOVERY: &str = "sallyport-recovery-key-v1";

/// Opens a key file that only one TPM opens. To be printed and kept in a safe, never on the server. `Debug` hides it.
pub struct RecoveryKey {
    site: String,
    root: Key,
}

impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKey([sealed])")
    }
}

impl RecoveryKey {
    /// The recovery key of an installation whose keys a TPM protects.
    ///
    /// # Errors
    /// Not protected by a TPM, or the TPM refuses.
    pub fn of(path: &Path, site: &str) -> Result<Self, KeyError> {
        let (file, _) = KeyFile::read(path)?;
        match &file.protection {
            Protection::Tpm(sealed) => Ok(Self {
                site: site.to_owned(),
                root: sealed.open()?,
            }),
            Protection::File
            | Protection::Passphrase(_)
            | Protection::TwoOfThree(_)
            | Protection::Transit(_)
            | Protection::Pkcs11 { .. } => Err(KeyError::Tpm(
                "it does not protect the keys of this installation".to_owned(),
            )),
        }
    }

    /// One line, for the safe.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(hex::encode(self.root.expose()));
        Zeroizing::new(format!("{RECOVERY} {} {}\n", self.site, digits.as_str()))
    }

    /// Reads that line.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut fields = text.split_whitespace();
        let (Some(RECOVERY), Some(site), Some(digits), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(KeyError::Recovery);
        };
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, bytes.as_mut_slice()).map_err(|_| KeyError::Recovery)?;
        Ok(Self {
            site: site.to_owned(),
            root: Key::from_bytes(*bytes),
        })
    }
}

/// Protects the KEKs of a key file in another way; the KEKs and all that they wrap stay. Servers that run must be restarted.
///
/// # Errors
/// The old secret or recovery key does not open the file, the new protection refuses, or the KEKs are in a token or key service. The old
/// file stays then.
pub fn protect(
    path: &Path,
    site: &str,
    secret: Option<&Zeroizing<String>>,
    recovery: Option<&RecoveryKey>,
    setup: &KeySetup,
) -> Result<(), KeyError> {
    // Before anything is set up somewhere that then stays unused.
    if matches!(setup, KeySetup::Pkcs11 { .. } | KeySetup::Transit { .. }) {
        return Err(KeyError::NotInFile);
    }
    let (file, _) = KeyFile::read(path)?;
    let old: std::sync::Arc<dyn KeyProvider> = match recovery {
        Some(key) if key.site == site => {
            std::sync::Arc::new(Rooted::new(site, Key::from_bytes(*key.root.expose())))
        }
        Some(_) => return Err(KeyError::Recovery),
        None => file.protection.provider(site, secret)?,
    };
    let mut keys = Vec::new();
    for (version, text) in &file.versions {
        let key = old.export(*version, text).map_err(|error| {
            if recovery.is_some() && matches!(error, KeyError::WrongSecret) {
                KeyError::Recovery
            } else {
                error
            }
        })?;
        keys.push((*version, key));
    }
    let (protection, provider) = Protection::new(site, setup)?;
    let versions = keys
        .iter()
        .map(|(version, key)| Ok((*version, provider.import(*version, key)?)))
        .collect::<Result<_, KeyError>>()?;
    KeyFile {
        protection,
        minimum: file.minimum,
        versions,
    }
    .replace(path)
}
