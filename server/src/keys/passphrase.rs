//! What opens the key file's root: a key that argon2id derives from a passphrase, or any two of three custodians' passphrases.

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::KeyError;
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

    pub(super) fn derive(&self, secret: &str) -> Result<Key, KeyError> {
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

/// The shortest passphrase, characters.
pub(super) const MIN_PASSPHRASE: usize = 20;
/// The pairs of custodians, in the order of the shares.
const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (1, 2)];

/// Three custodians, any two of whom open the root: it stands three times, sealed under a key made of two derived keys each. No
/// custodian has anything but a passphrase of their own, and one alone has learnt nothing.
#[derive(Debug, Clone)]
pub(super) struct Split {
    custodians: [Derivation; 3],
    shares: [Vec<u8>; 3],
}

/// What a custodian says: number 0 to 2 and passphrase. In a secret file a line each: `1 the passphrase`.
fn custodians(secret: &str) -> Result<[Option<&str>; 3], KeyError> {
    let mut said = [None; 3];
    for line in secret
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (number, words) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let place = match number {
            "1" => said.get_mut(0),
            "2" => said.get_mut(1),
            "3" => said.get_mut(2),
            _ => None,
        }
        .ok_or(KeyError::Custodians)?;
        if place.replace(words.trim()).is_some() {
            return Err(KeyError::Custodians);
        }
    }
    Ok(said)
}

fn pair_key(first: &Key, second: &Key) -> Key {
    let digest = Sha256::new()
        .chain_update(b"sallyport/split/1")
        .chain_update(first.expose())
        .chain_update(second.expose())
        .finalize();
    Key::from_bytes(digest.into())
}

impl Split {
    /// Makes the shares of `root`; all three custodians speak.
    pub(super) fn new(
        site: &str,
        memory_kib: u32,
        secret: &str,
        root: &Key,
    ) -> Result<Self, KeyError> {
        let [Some(one), Some(two), Some(three)] = custodians(secret)? else {
            return Err(KeyError::Custodians);
        };
        if [one, two, three]
            .iter()
            .any(|words| words.chars().count() < MIN_PASSPHRASE)
        {
            return Err(KeyError::WeakSecret);
        }
        if one == two || one == three || two == three {
            return Err(KeyError::SamePassphrase);
        }
        let derivations = [
            Derivation::new(memory_kib)?,
            Derivation::new(memory_kib)?,
            Derivation::new(memory_kib)?,
        ];
        let [a, b, c] = &derivations;
        let keys = [a.derive(one)?, b.derive(two)?, c.derive(three)?];
        let share = |pair: usize| -> Result<Vec<u8>, KeyError> {
            let (first, second) = PAIRS.get(pair).ok_or(KeyError::Custodians)?;
            let (Some(first), Some(second)) = (keys.get(*first), keys.get(*second)) else {
                return Err(KeyError::Custodians);
            };
            let row = pair.to_string();
            let place = Place::new(site, "registry.key", "share", &row);
            Ok(sealing::seal(
                &pair_key(first, second),
                1,
                &place,
                root.expose(),
            )?)
        };
        Ok(Self {
            custodians: derivations,
            shares: [share(0)?, share(1)?, share(2)?],
        })
    }

    /// The root, when two custodians speak.
    pub(super) fn open(&self, site: &str, secret: &str) -> Result<Key, KeyError> {
        let said = custodians(secret)?;
        let (pair, (first, second)) = PAIRS
            .into_iter()
            .enumerate()
            .find(|(_, (first, second))| {
                said.get(*first).is_some_and(Option::is_some)
                    && said.get(*second).is_some_and(Option::is_some)
            })
            .ok_or(KeyError::Custodians)?;
        let derived = |who: usize| -> Result<Key, KeyError> {
            let words = said.get(who).copied().flatten();
            match (self.custodians.get(who), words) {
                (Some(derivation), Some(words)) => derivation.derive(words),
                _ => Err(KeyError::Custodians),
            }
        };
        let row = pair.to_string();
        let place = Place::new(site, "registry.key", "share", &row);
        let share = self.shares.get(pair).ok_or(KeyError::WrongSecret)?;
        let key = pair_key(&derived(first)?, &derived(second)?);
        super::root_from(&sealing::open(&key, 1, &place, share).map_err(|_| KeyError::WrongSecret)?)
    }

    pub(super) fn line(&self) -> String {
        let [a, b, c] = &self.custodians;
        let [x, y, z] = &self.shares;
        format!(
            "{}; {}; {}; shares {} {} {}",
            a.line(),
            b.line(),
            c.line(),
            hex::encode(x),
            hex::encode(y),
            hex::encode(z)
        )
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split("; ");
        let mut custodian = || parts.next().and_then(Derivation::parse);
        let custodians = [custodian()?, custodian()?, custodian()?];
        let mut shares = parts.next()?.strip_prefix("shares ")?.split(' ');
        let mut share = || shares.next().and_then(|text| hex::decode(text).ok());
        let shares_of = [share()?, share()?, share()?];
        (shares.next().is_none() && parts.next().is_none()).then_some(Self {
            custodians,
            shares: shares_of,
        })
    }
}
