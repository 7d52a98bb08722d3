//! The key file: which provider, the oldest version accepted, and a line for each version.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::passphrase::{Derivation, MIN_PASSPHRASE, Split};
use super::pkcs11::Token;
use super::rooted::Rooted;
use super::tpm::SealedRoot;
use super::transit::{Engine, Transit};
use super::{KeyEncryptionKey, KeyError, KeyProvider, KeySetup};
use crate::sealing::Key;

const HEADER: &str = "sallyport-registry-keys-v2";

/// Has the file been replaced?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Result<Self, KeyError> {
        let metadata = std::fs::metadata(path).map_err(|source| file_error(path, source))?;
        Ok(Self {
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// How the KEKs are protected.
#[derive(Debug, Clone)]
pub(super) enum Protection {
    /// By the file's permissions.
    File,
    /// By a passphrase.
    Passphrase(Derivation),
    /// By any two of three passphrases.
    TwoOfThree(Split),
    /// By the machine's TPM.
    Tpm(SealedRoot),
    /// By a key service.
    Transit(Engine),
    /// By a token.
    Pkcs11 {
        /// Library.
        module: PathBuf,
        /// Label.
        token: String,
    },
}

impl Protection {
    /// Sets up a new protection, with the provider that goes with it.
    pub(super) fn new(
        site: &str,
        setup: &KeySetup,
    ) -> Result<(Self, Arc<dyn KeyProvider>), KeyError> {
        let rooted = |root: Key| -> Arc<dyn KeyProvider> { Arc::new(Rooted::new(site, root)) };
        Ok(match setup {
            KeySetup::File => (Self::File, Arc::new(PlainFile)),
            KeySetup::Passphrase { secret, memory_kib } => {
                if secret.chars().count() < MIN_PASSPHRASE {
                    return Err(KeyError::WeakSecret);
                }
                let derivation = Derivation::new(*memory_kib)?;
                (
                    Self::Passphrase(derivation),
                    rooted(derivation.derive(secret)?),
                )
            }
            KeySetup::TwoOfThree { secret, memory_kib } => {
                let root = Key::generate()?;
                let split = Split::new(site, *memory_kib, secret, &root)?;
                (Self::TwoOfThree(split), rooted(root))
            }
            KeySetup::Tpm { tcti, pcrs } => {
                let root = Key::generate()?;
                let sealed = SealedRoot::new(tcti, pcrs, &root)?;
                // A TPM that seals and does not unseal would be found out at the next start.
                let root = sealed.open()?;
                (Self::Tpm(sealed), rooted(root))
            }
            KeySetup::Transit {
                address,
                mount,
                authority,
                secret,
            } => {
                let engine = Engine::new(address, mount, authority)?;
                let provider = Transit::open(&engine, site, secret)?;
                (Self::Transit(engine), Arc::new(provider))
            }
            KeySetup::Pkcs11 {
                module,
                token,
                secret,
            } => (
                Self::Pkcs11 {
                    module: module.clone(),
                    token: token.clone(),
                },
                Arc::new(Token::open(module, token, site, secret)?),
            ),
        })
    }

    pub(super) fn provider(
        &self,
        site: &str,
        secret: Option<&Zeroizing<String>>,
    ) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let needed = || secret.ok_or(KeyError::SecretMissing);
        let rooted = |root: Key| -> Arc<dyn KeyProvider> { Arc::new(Rooted::new(site, root)) };
        Ok(match self {
            Self::File => Arc::new(PlainFile),
            Self::Passphrase(derivation) => rooted(derivation.derive(needed()?)?),
            Self::TwoOfThree(split) => rooted(split.open(site, needed()?)?),
            Self::Tpm(sealed) => rooted(sealed.open()?),
            Self::Transit(engine) => Arc::new(Transit::open(engine, site, needed()?)?),
            Self::Pkcs11 { module, token } => {
                Arc::new(Token::open(module, token, site, needed()?)?)
            }
        })
    }

    fn line(&self) -> String {
        match self {
            Self::File => "file".to_owned(),
            Self::Passphrase(derivation) => format!("passphrase {}", derivation.line()),
            Self::TwoOfThree(split) => format!("two-of-three {}", split.line()),
            Self::Tpm(sealed) => format!("tpm {}", sealed.line()),
            Self::Transit(engine) => format!("transit {}", engine.line()),
            Self::Pkcs11 { module, token } => {
                format!("pkcs11 {} {}", hex::encode(token), module.display())
            }
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "file" => Some(Self::File),
            "passphrase" => Derivation::parse(rest).map(Self::Passphrase),
            "two-of-three" => Split::parse(rest).map(Self::TwoOfThree),
            "tpm" => SealedRoot::parse(rest).map(Self::Tpm),
            "transit" => Engine::parse(rest).map(Self::Transit),
            "pkcs11" => {
                let (token, module) = rest.split_once(' ')?;
                Some(Self::Pkcs11 {
                    module: module.into(),
                    token: String::from_utf8(hex::decode(token).ok()?).ok()?,
                })
            }
            _ => None,
        }
    }
}

/// KEKs in clear in the file.
struct PlainFile;

impl KeyProvider for PlainFile {
    fn create(&self, version: u32) -> Result<Zeroizing<String>, KeyError> {
        self.import(version, &Key::generate()?)
    }

    fn open(&self, version: u32, text: &str) -> Result<Box<dyn KeyEncryptionKey>, KeyError> {
        Ok(Box::new(self.export(version, text)?))
    }

    fn destroy(&self, _: u32, _: &str) -> Result<(), KeyError> {
        Ok(())
    }

    fn export(&self, _: u32, text: &str) -> Result<Key, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, bytes.as_mut_slice()).map_err(|_| KeyError::Damaged {
            // There is one of this name in a data folder.
            path: "registry.key".to_owned(),
            what: "a key is not 64 hexadecimal digits",
        })?;
        Ok(Key::from_bytes(*bytes))
    }

    fn import(&self, _: u32, key: &Key) -> Result<Zeroizing<String>, KeyError> {
        Ok(Zeroizing::new(hex::encode(key.expose())))
    }
}

/// The key file's content. `Debug` hides it.
#[derive(Clone)]
pub struct KeyFile {
    pub(super) protection: Protection,
    pub(super) minimum: u32,
    pub(super) versions: BTreeMap<u32, Zeroizing<String>>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyFile([sealed])")
    }
}

fn file_error(path: &Path, source: std::io::Error) -> KeyError {
    KeyError::File {
        path: path.display().to_string(),
        source,
    }
}

impl KeyFile {
    pub(super) fn read(path: &Path) -> Result<(Self, Stamp), KeyError> {
        // Before the content: a file that is replaced in between is read once more at the next use.
        let stamp = Stamp::of(path)?;
        let metadata = std::fs::metadata(path).map_err(|source| file_error(path, source))?;
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permissions {
                path: path.display().to_string(),
                mode,
            });
        }
        let text = Zeroizing::new(
            std::fs::read_to_string(path).map_err(|source| file_error(path, source))?,
        );
        let file = Self::parse(&text).map_err(|what| KeyError::Damaged {
            path: path.display().to_string(),
            what,
        })?;
        Ok((file, stamp))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines();
        match lines.next() {
            Some(HEADER) => {}
            Some(line) if line.starts_with("sallyport-registry-key-v1") => {
                return Err(
                    "it was made by an earlier development version, whose installations must be made anew",
                );
            }
            _ => return Err("the first line is not that of a key file"),
        }
        let protection = lines
            .next()
            .and_then(|line| line.strip_prefix("provider "))
            .and_then(Protection::parse)
            .ok_or("the provider line is not valid")?;
        let minimum = lines
            .next()
            .and_then(|line| line.strip_prefix("minimum "))
            .and_then(|number| number.parse().ok())
            .ok_or("the minimum line is not valid")?;
        let mut versions = BTreeMap::new();
        for line in lines {
            let (version, text) = line
                .strip_prefix("key ")
                .and_then(|rest| rest.split_once(' '))
                .ok_or("a key line is not valid")?;
            let version = version
                .parse()
                .map_err(|_| "a key's version is not a number")?;
            if versions
                .insert(version, Zeroizing::new(text.to_owned()))
                .is_some()
            {
                return Err("a key version stands twice");
            }
        }
        if versions.is_empty() {
            return Err("it holds no key");
        }
        Ok(Self {
            protection,
            minimum,
            versions,
        })
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(format!(
            "{HEADER}\nprovider {}\nminimum {}\n",
            self.protection.line(),
            self.minimum
        ));
        for (version, key) in &self.versions {
            text.push_str("key ");
            text.push_str(&version.to_string());
            text.push(' ');
            text.push_str(key);
            text.push('\n');
        }
        text
    }

    pub(super) fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let write = || {
            let mut file = std::fs::File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| file_error(path, source))
    }

    /// After a power cut either the old or the new file is there.
    pub(super) fn replace(&self, path: &Path) -> Result<(), KeyError> {
        let temporary = path.with_extension(format!("key-new-{}", std::process::id()));
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file_error(&temporary, error));
            }
            Ok(()) | Err(_) => {}
        }
        self.write_new(&temporary)?;
        let rename = || {
            std::fs::rename(&temporary, path)?;
            match path.parent() {
                Some(folder) => std::fs::File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        rename().map_err(|source| file_error(path, source))
    }
}
