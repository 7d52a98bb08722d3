//! KEKs sealed in the key file under a key that argon2id derives from a passphrase.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{KeyEncryptionKey, KeyError, KeyProvider};
use crate::clock::random;
use crate::sealing::{self, Key, Place, SealError};

/// The floor, 256 MiB; the default is 1 GiB (`security.md` section 4).
pub const MIN_MEMORY_KIB: u32 = 256 * 1024;
/// The floor of passes over the memory.
pub const MIN_PASSES: u32 = 3;
/// More would only stop our own server from starting.
const MAX_MEMORY_KIB: u32 = 8 * 1024 * 1024;

/// Parameters of the derivation, as they stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Derivation {
    memory_kib: u32,
    passes: u32,
    salt: [u8; 16],
}

impl Derivation {
    pub(super) fn new(memory_kib: u32) -> Result<Self, KeyError> {
        Ok(Self {
            memory_kib,
            passes: MIN_PASSES,
            salt: random().map_err(|_| SealError::Random)?,
        })
    }

    pub(super) fn line(&self) -> String {
        format!(
            "argon2id m={} t={} p=1 salt={}",
            self.memory_kib,
            self.passes,
            hex::encode(self.salt)
        )
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix("argon2id ")?.split(' ');
        let mut next = |name: &str| fields.next()?.strip_prefix(name);
        let memory_kib = next("m=")?.parse().ok()?;
        let passes = next("t=")?.parse().ok()?;
        if next("p=")? != "1" {
            return None;
        }
        let mut salt = [0; 16];
        hex::decode_to_slice(next("salt=")?, &mut salt).ok()?;
        Some(Self {
            memory_kib,
            passes,
            salt,
        })
    }

    fn derive(&self, secret: &str) -> Result<Key, KeyError> {
        if !(MIN_MEMORY_KIB..=MAX_MEMORY_KIB).contains(&self.memory_kib)
            || !(MIN_PASSES..=64).contains(&self.passes)
        {
            return Err(KeyError::WeakDerivation);
        }
        let parameters = Params::new(self.memory_kib, self.passes, 1, Some(32))
            .map_err(|_| KeyError::WeakDerivation)?;
        let mut bytes = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(secret.as_bytes(), &self.salt, bytes.as_mut_slice())
            .map_err(|_| KeyError::WeakDerivation)?;
        Ok(Key::from_bytes(*bytes))
    }
}

/// The provider; holds the derived key, not the passphrase.
pub(super) struct Passphrase {
    site: String,
    root: Key,
}

impl Passphrase {
    pub(super) fn new(
        site: &str,
        derivation: Derivation,
        secret: &Zeroizing<String>,
    ) -> Result<Self, KeyError> {
        Ok(Self {
            site: site.to_owned(),
            root: derivation.derive(secret)?,
        })
    }

    fn place<'a>(&'a self, version: &'a str) -> Place<'a> {
        Place::new(&self.site, "registry.key", "key", version)
    }
}

impl KeyProvider for Passphrase {
    fn create(&self, version: u32) -> Result<Zeroizing<String>, KeyError> {
        let row = version.to_string();
        let key = Key::generate()?;
        let sealed = sealing::seal(&self.root, version, &self.place(&row), key.expose())?;
        Ok(Zeroizing::new(hex::encode(sealed)))
    }

    fn open(&self, version: u32, text: &str) -> Result<Box<dyn KeyEncryptionKey>, KeyError> {
        let row = version.to_string();
        let sealed = hex::decode(text).map_err(|_| KeyError::WrongSecret)?;
        let plain = sealing::open(&self.root, version, &self.place(&row), &sealed)
            .map(Zeroizing::new)
            .map_err(|_| KeyError::WrongSecret)?;
        let bytes: Zeroizing<[u8; 32]> = plain
            .as_slice()
            .try_into()
            .map(Zeroizing::new)
            .map_err(|_| KeyError::WrongSecret)?;
        Ok(Box::new(Key::from_bytes(*bytes)))
    }

    fn destroy(&self, _: u32, _: &str) -> Result<(), KeyError> {
        Ok(())
    }
}
