//! KEKs sealed in the key file under a root key that is not in it.

use zeroize::Zeroizing;

use super::{KeyEncryptionKey, KeyError, KeyProvider};
use crate::sealing::{self, Key, Place};

/// The provider; holds the root, not what it came from.
pub(super) struct Rooted {
    site: String,
    root: Key,
}

impl Rooted {
    pub(super) fn new(site: &str, root: Key) -> Self {
        Self {
            site: site.to_owned(),
            root,
        }
    }

    fn place<'a>(&'a self, version: &'a str) -> Place<'a> {
        Place::new(&self.site, "registry.key", "key", version)
    }

    fn key(&self, version: u32, text: &str) -> Result<Key, KeyError> {
        let row = version.to_string();
        let sealed = hex::decode(text).map_err(|_| KeyError::WrongSecret)?;
        let plain = sealing::open(&self.root, version, &self.place(&row), &sealed)
            .map(Zeroizing::new)
            .map_err(|_| KeyError::WrongSecret)?;
        super::root_from(&plain)
    }
}

impl KeyProvider for Rooted {
    fn create(&self, version: u32) -> Result<Zeroizing<String>, KeyError> {
        self.import(version, &Key::generate()?)
    }

    fn open(&self, version: u32, text: &str) -> Result<Box<dyn KeyEncryptionKey>, KeyError> {
        Ok(Box::new(self.key(version, text)?))
    }

    fn destroy(&self, _: u32, _: &str) -> Result<(), KeyError> {
        Ok(())
    }

    fn export(&self, version: u32, text: &str) -> Result<Key, KeyError> {
        self.key(version, text)
    }

    fn import(&self, version: u32, key: &Key) -> Result<Zeroizing<String>, KeyError> {
        let row = version.to_string();
        let sealed = sealing::seal(&self.root, version, &self.place(&row), key.expose())?;
        Ok(Zeroizing::new(hex::encode(sealed)))
    }
}
