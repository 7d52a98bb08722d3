//! A provider's public keys (JWK, RFC 7517), each bound to the one algorithm that its type allows. A token's header chooses among these
//! keys and never brings one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

use super::Refusal;

/// More keys than this no provider has in use.
const MOST: usize = 64;

/// Signatures that count. `none` and everything with a shared secret (HS256) is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

#[derive(Debug, Clone)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Uncompressed point.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl Material {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }
}

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    material: Material,
}

/// The keys that count.
#[derive(Debug, Clone)]
pub struct KeySet(Vec<Key>);

#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<Written>,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private half, or a shared secret: nothing that is published is one.
    d: Option<String>,
    k: Option<String>,
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

impl Written {
    /// The key, if it is of a kind that counts and meant for signatures.
    fn key(self) -> Option<Key> {
        if self.d.is_some() || self.k.is_some() {
            tracing::warn!(kid = ?self.kid, "the sign-in provider publishes a secret key; it is not used");
            return None;
        }
        let signs = self.purpose.as_deref().is_none_or(|word| word == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|words| words.iter().any(|word| word == "verify"));
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Material::Rsa {
                modulus: bytes(self.n.as_ref())?,
                exponent: bytes(self.e.as_ref())?,
            },
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(self.x.as_ref())?, bytes(self.y.as_ref())?);
                let halves: ([u8; 32], [u8; 32]) = (x.try_into().ok()?, y.try_into().ok()?);
                let mut point = [4; 65];
                point
                    .iter_mut()
                    .skip(1)
                    .zip(halves.0.into_iter().chain(halves.1))
                    .for_each(|(to, from)| *to = from);
                Material::P256(point)
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(self.x.as_ref())?.try_into().ok()?),
            _ => return None,
        };
        let named = self
            .alg
            .as_deref()
            .is_none_or(|name| name == material.algorithm().name());
        (signs && named).then_some(Key {
            id: self.kid,
            material,
        })
    }
}

impl KeySet {
    /// Reads a published set; kinds of keys that do not count are passed over.
    ///
    /// # Errors
    /// It is no key set.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let set: WrittenSet =
            serde_json::from_slice(text).map_err(|_| Refusal::Malformed("key set"))?;
        if set.keys.len() > MOST {
            return Err(Refusal::Malformed("key set"));
        }
        let keys = set.keys.into_iter().filter_map(Written::key);
        Ok(Self(keys.collect()))
    }

    /// Checks a signature with the one key that the header can mean. Without a key id there must be one key only of this kind; two keys
    /// under one id are none.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Refusal> {
        let mut fitting = self.0.iter().filter(|key| {
            key.material.algorithm() == algorithm && (id.is_none() || key.id.as_deref() == id)
        });
        let (Some(key), None) = (fitting.next(), fitting.next()) else {
            return Err(Refusal::UnknownKey);
        };
        let right = match &key.material {
            Material::Rsa { modulus, exponent } => RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
        };
        right.map_err(|_| Refusal::Signature)
    }
}
