//! Keys of the registry: key-encryption keys (KEK) in versions, and the data keys that they wrap.
//!
//! The KEKs are outside the database: in the key file itself; sealed in it under a passphrase, under any two of three custodians'
//! passphrases or by the machine's TPM; or in a PKCS#11 token or a Transit engine that never gives them out. Everything in the database is sealed under a data key: one of each subject for registry and templates, one of each
//! subject for the details of log entries, and two of the installation. Rotation wraps the data keys anew and touches nothing else;
//! destroying a subject's two keys is erasure.

mod data_keys;
mod file;
mod passphrase;
mod pkcs11;
mod protect;
mod rewrap;
mod rooted;
mod tpm;
mod transit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use zeroize::Zeroizing;

use crate::clock::random;
use crate::sealing::{self, Key, Place, SealError};

pub use data_keys::{
    DataKeyError, DataKeyRow, Opening, Purpose, SITE, audit_detail, audit_key, detail_opening,
    new_subject_keys, open_audit_detail, subject_key,
};
pub use file::KeyFile;
pub use passphrase::{MIN_MEMORY_KIB, MIN_PASSES};
pub use protect::{RecoveryKey, protect};
pub use rewrap::{RewrapError, Rewrapped, prepare, retire, rewrap};

/// Why a key is not to be had. Carries no key, passphrase or PIN.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key file is open to others.
    #[error("{path} can be read by others (mode {mode:o}). Run: chmod 600 {path}")]
    Permissions {
        /// Which file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The key file is not one, or of another version.
    #[error(
        "{path} is damaged or not a key file of this version ({what}); restore it from its own backup"
    )]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The passphrase or PIN is needed and was not given.
    #[error(
        "the registry's keys are protected by a passphrase or PIN; name a file that holds it with --key-secret-file (or SALLYPORT_KEY_SECRET_FILE)"
    )]
    SecretMissing,
    /// The passphrase is wrong, or the file was changed.
    #[error("the passphrase does not open the key file (or the file was changed)")]
    WrongSecret,
    /// The passphrase is too short to be worth anything.
    #[error("the passphrase needs at least 20 characters; six random words make a good one")]
    WeakSecret,
    /// The derivation in the file is weaker than allowed.
    #[error(
        "the key file asks for a weaker key derivation than argon2id with 256 MiB and 3 passes; somebody changed it, or it is not ours"
    )]
    WeakDerivation,
    /// A version of the KEK that is not in the file.
    #[error("key version {0} is not in the key file; copy the current registry.key to this server")]
    Unknown(u32),
    /// A version below the minimum, after a rotation.
    #[error("key version {0} was replaced by a rotation and is refused")]
    Retired(u32),
    /// The last key cannot go.
    #[error("key version {0} is still in use; run registry rewrap first")]
    InUse(u32),
    /// Not the custodians that are needed.
    #[error(
        "two of the three custodians are needed (all three to set it up): write their lines into the secret file, each as number, space, passphrase, for example '1 six random words…'; --key-secret-file may be given several times"
    )]
    Custodians,
    /// Two custodians chose the same.
    #[error("each custodian needs a passphrase of their own")]
    SamePassphrase,
    /// The TPM refused or is away.
    #[error("the TPM refused: {0}")]
    Tpm(String),
    /// Vault or OpenBao refused or is away.
    #[error("the key service refused: {0}")]
    Transit(String),
    /// A KEK that cannot leave where it is.
    #[error(
        "keys in a token or key service cannot be taken out or brought in; only keys of the key file can be protected in another way"
    )]
    NotInFile,
    /// The recovery key is none, or of another installation.
    #[error(
        "the recovery key does not open this key file; it belongs to another installation, or one of the two was changed"
    )]
    Recovery,
    /// The token (HSM) refused or is away.
    #[error("the key token refused: {0}")]
    Token(String),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Opens and makes KEKs. What `create` returns stands in the key file, after the version.
trait KeyProvider: Send + Sync {
    /// Makes the KEK of a version; returns what the key file must remember.
    fn create(&self, version: u32) -> Result<Zeroizing<String>, KeyError>;
    /// Opens a KEK by what the key file remembers.
    fn open(&self, version: u32, text: &str) -> Result<Box<dyn KeyEncryptionKey>, KeyError>;
    /// Destroys a KEK where it lives outside the key file.
    fn destroy(&self, version: u32, text: &str) -> Result<(), KeyError>;
    /// The KEK itself, where it can be had, to protect it in another way.
    fn export(&self, _version: u32, _text: &str) -> Result<Key, KeyError> {
        Err(KeyError::NotInFile)
    }
    /// Takes a KEK that was made elsewhere; as `create` otherwise.
    fn import(&self, _version: u32, _key: &Key) -> Result<Zeroizing<String>, KeyError> {
        Err(KeyError::NotInFile)
    }
}

/// Key bytes that came out of a seal.
fn root_from(plain: &[u8]) -> Result<Key, KeyError> {
    let bytes: Zeroizing<[u8; 32]> = plain
        .try_into()
        .map(Zeroizing::new)
        .map_err(|_| KeyError::WrongSecret)?;
    Ok(Key::from_bytes(*bytes))
}

/// A KEK in use: AES-256-GCM, wherever it is computed.
trait KeyEncryptionKey: Send + Sync {
    /// Ciphertext and tag.
    fn encrypt(&self, nonce: &[u8; 12], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError>;
    /// The plaintext.
    fn decrypt(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError>;
}

impl KeyEncryptionKey for Key {
    fn encrypt(&self, nonce: &[u8; 12], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(sealing::encrypt(self, nonce, aad, plain)?)
    }

    fn decrypt(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        Ok(Zeroizing::new(sealing::decrypt(
            self, nonce, aad, ciphertext,
        )?))
    }
}

/// How a new installation keeps its KEKs.
#[derive(Clone)]
pub enum KeySetup {
    /// In the key file, protected by its permissions only.
    File,
    /// In the key file, sealed under a passphrase.
    Passphrase {
        /// The passphrase.
        secret: Zeroizing<String>,
        /// argon2id's memory, KiB; at least [`MIN_MEMORY_KIB`].
        memory_kib: u32,
    },
    /// In the key file, sealed under any two of three custodians' passphrases.
    TwoOfThree {
        /// Three lines: number, space, passphrase.
        secret: Zeroizing<String>,
        /// argon2id's memory, KiB; at least [`MIN_MEMORY_KIB`].
        memory_kib: u32,
    },
    /// In the key file, sealed by the machine's TPM.
    Tpm {
        /// How tpm2-tools reach it, for example `device:/dev/tpmrm0`.
        tcti: String,
        /// Registers of the boot state, for example `sha256:7,11`; empty for none.
        pcrs: String,
    },
    /// In the Transit engine of Vault or OpenBao.
    Transit {
        /// `https://HOST:PORT`.
        address: String,
        /// Path of the engine.
        mount: String,
        /// PEM file with the authority of its certificate.
        authority: PathBuf,
        /// The token.
        secret: Zeroizing<String>,
    },
    /// In a PKCS#11 token.
    Pkcs11 {
        /// The token's library.
        module: PathBuf,
        /// The token's label.
        token: String,
        /// The user's PIN.
        secret: Zeroizing<String>,
    },
}

impl std::fmt::Debug for KeySetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySetup([sealed])")
    }
}

/// The KEKs of an installation, followed as the key file changes. `Debug` hides them.
pub struct Ring {
    path: PathBuf,
    site: String,
    provider: Arc<dyn KeyProvider>,
    loaded: RwLock<Loaded>,
}

struct Loaded {
    stamp: file::Stamp,
    file: KeyFile,
    keys: BTreeMap<u32, Arc<dyn KeyEncryptionKey>>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring([sealed])")
    }
}

/// Where the key file of a data folder is.
#[must_use]
pub fn key_path(data: &Path) -> PathBuf {
    data.join("registry.key")
}

impl Ring {
    /// Makes the first KEK and writes the key file.
    ///
    /// # Errors
    /// The file exists, the disk or the token refuses, or the passphrase is weak.
    pub fn create(path: &Path, site: &str, setup: &KeySetup) -> Result<Self, KeyError> {
        let (protection, provider) = file::Protection::new(site, setup)?;
        let text = provider.create(1)?;
        let file = KeyFile {
            protection,
            minimum: 1,
            versions: BTreeMap::from([(1, text)]),
        };
        file.write_new(path)?;
        Self::with(path, site, provider)
    }

    /// Opens the KEKs of a key file; `secret` is passphrase or PIN.
    ///
    /// # Errors
    /// File, passphrase or token.
    pub fn open(
        path: &Path,
        site: &str,
        secret: Option<&Zeroizing<String>>,
    ) -> Result<Self, KeyError> {
        let (file, _) = KeyFile::read(path)?;
        let provider = file.protection.provider(site, secret)?;
        Self::with(path, site, provider)
    }

    fn with(path: &Path, site: &str, provider: Arc<dyn KeyProvider>) -> Result<Self, KeyError> {
        let loaded = Self::load(path, &*provider)?;
        Ok(Self {
            path: path.to_owned(),
            site: site.to_owned(),
            provider,
            loaded: RwLock::new(loaded),
        })
    }

    fn load(path: &Path, provider: &dyn KeyProvider) -> Result<Loaded, KeyError> {
        let (file, stamp) = KeyFile::read(path)?;
        let mut keys = BTreeMap::new();
        for (version, text) in &file.versions {
            keys.insert(*version, provider.open(*version, text)?.into());
        }
        Ok(Loaded { stamp, file, keys })
    }

    /// Reads the file again if it was replaced: another process may have made or retired a version.
    fn current<T>(&self, read: impl FnOnce(&Loaded) -> T) -> Result<T, KeyError> {
        let damaged = || self.damaged("the keys in memory");
        let stamp = file::Stamp::of(&self.path)?;
        {
            let loaded = self.loaded.read().map_err(|_| damaged())?;
            if loaded.stamp == stamp {
                return Ok(read(&loaded));
            }
        }
        let fresh = Self::load(&self.path, &*self.provider)?;
        let mut loaded = self.loaded.write().map_err(|_| damaged())?;
        *loaded = fresh;
        Ok(read(&loaded))
    }

    /// The key file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn damaged(&self, what: &'static str) -> KeyError {
        KeyError::Damaged {
            path: self.path.display().to_string(),
            what,
        }
    }

    fn key(&self, version: u32) -> Result<Arc<dyn KeyEncryptionKey>, KeyError> {
        self.current(|loaded| {
            if version < loaded.file.minimum {
                return Err(KeyError::Retired(version));
            }
            loaded
                .keys
                .get(&version)
                .cloned()
                .ok_or(KeyError::Unknown(version))
        })?
    }

    /// The version with which data keys are wrapped now.
    ///
    /// # Errors
    /// The key file is gone or damaged.
    pub fn newest(&self) -> Result<u32, KeyError> {
        self.current(|loaded| loaded.keys.keys().next_back().copied())?
            .ok_or_else(|| self.damaged("it holds no key"))
    }

    /// The oldest version that is accepted.
    ///
    /// # Errors
    /// The key file is gone or damaged.
    pub fn minimum(&self) -> Result<u32, KeyError> {
        self.current(|loaded| loaded.file.minimum)
    }

    /// Wraps a data key under the newest KEK; returns its version too.
    ///
    /// # Errors
    /// File, token or randomness.
    pub fn wrap(
        &self,
        owner: &str,
        purpose: Purpose,
        key: &Key,
    ) -> Result<(u32, Vec<u8>), KeyError> {
        let version = self.newest()?;
        let nonce: [u8; 12] = random().map_err(|_| SealError::Random)?;
        let aad = self.associated_data(owner, purpose, version);
        let ciphertext = self.key(version)?.encrypt(&nonce, &aad, key.expose())?;
        Ok((version, sealing::blob(version, &nonce, &ciphertext)))
    }

    /// Unwraps a data key that was wrapped for this owner and purpose.
    ///
    /// # Errors
    /// Another owner, purpose or version, changed, or the version is unknown or retired.
    pub fn unwrap(
        &self,
        owner: &str,
        purpose: Purpose,
        version: u32,
        wrapped: &[u8],
    ) -> Result<Key, KeyError> {
        let (nonce, ciphertext) = sealing::split(version, wrapped)?;
        let aad = self.associated_data(owner, purpose, version);
        let plain = self.key(version)?.decrypt(nonce, &aad, ciphertext)?;
        let bytes: Zeroizing<[u8; 32]> = plain
            .as_slice()
            .try_into()
            .map(Zeroizing::new)
            .map_err(|_| SealError::Refused)?;
        Ok(Key::from_bytes(*bytes))
    }

    fn associated_data(&self, owner: &str, purpose: Purpose, version: u32) -> Vec<u8> {
        sealing::data_key_associated_data(
            &Place {
                subject: owner,
                ..Place::new(&self.site, "data_key", "wrapped", purpose.code())
            },
            version,
        )
    }

    /// Makes the next version; data keys are wrapped with it from now on.
    ///
    /// # Errors
    /// File or token.
    pub fn add_version(&self) -> Result<u32, KeyError> {
        let (mut file, _) = KeyFile::read(&self.path)?;
        let version = file.versions.keys().next_back().map_or(1, |last| last + 1);
        file.versions
            .insert(version, self.provider.create(version)?);
        file.replace(&self.path)?;
        self.newest()
    }

    fn set_minimum(&self, minimum: u32) -> Result<(), KeyError> {
        let (mut file, _) = KeyFile::read(&self.path)?;
        file.minimum = file.minimum.max(minimum);
        file.replace(&self.path)
    }

    /// Destroys a version below the minimum, in the token and in the file.
    fn destroy(&self, version: u32) -> Result<(), KeyError> {
        let (mut file, _) = KeyFile::read(&self.path)?;
        if version >= file.minimum {
            return Err(KeyError::InUse(version));
        }
        let text = file
            .versions
            .remove(&version)
            .ok_or(KeyError::Unknown(version))?;
        self.provider.destroy(version, &text)?;
        file.replace(&self.path)
    }
}

#[cfg(test)]
mod tests;
