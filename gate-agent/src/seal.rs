//! Sealing of pictures for the registry: HPKE (RFC 9180) base mode with X25519, HKDF-SHA256 and
//! AES-256-GCM. The agent cannot open what it sealed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpke::{
    Deserializable as _, OpModeS, Serializable as _, aead::AesGcm256, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use sallyport_protocol::Sealed;

use crate::deps::{Random, RandomError};

/// The `info` of every attachment.
pub const ATTACHMENT_INFO: &[u8] = b"sallyport/attachment/1";

/// Why a picture was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key from the server is not an X25519 public key.
    #[error("the registry's sealing key is damaged; join the gate again with a new token")]
    BadKey,
    /// HPKE refused.
    #[error("the picture could not be sealed for the registry")]
    Hpke,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The registry's public key, for which pictures are sealed.
#[derive(Clone)]
pub struct SealingKey(<X25519HkdfSha256 as hpke::Kem>::PublicKey);

impl SealingKey {
    /// From the base64 text of the join answer.
    ///
    /// # Errors
    /// Not 32 bytes of base64, or not a usable key.
    pub fn from_base64(text: &str) -> Result<Self, SealError> {
        let bytes = STANDARD.decode(text).map_err(|_| SealError::BadKey)?;
        if bytes.len() != 32 || bytes.iter().all(|byte| *byte == 0) {
            return Err(SealError::BadKey);
        }
        <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| SealError::BadKey)
    }

    /// Seals a JPEG. `aad` is the transaction or subject id as lower-case text.
    ///
    /// # Errors
    /// No randomness, or HPKE refused.
    pub fn seal_jpeg(
        &self,
        jpeg: &[u8],
        aad: &str,
        random: &dyn Random,
    ) -> Result<Sealed, SealError> {
        let mut seed = [0; 32];
        random.fill(&mut seed)?;
        let mut rng = SeedOnce::new(seed);
        let (enc, ciphertext) =
            hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256, _>(
                &OpModeS::Base,
                &self.0,
                ATTACHMENT_INFO,
                jpeg,
                aad.as_bytes(),
                &mut rng,
            )
            .map_err(|_| SealError::Hpke)?;
        if rng.exhausted() {
            return Err(SealError::Hpke);
        }
        Ok(Sealed {
            media_type: "image/jpeg".to_owned(),
            enc: STANDARD.encode(enc.to_bytes()),
            ciphertext: STANDARD.encode(ciphertext),
        })
    }
}

/// Hands out one seed: HPKE draws exactly 32 bytes for its ephemeral key. A fallible source cannot
/// implement the infallible trait, so the bytes are drawn before and counted here.
struct SeedOnce {
    seed: zeroize::Zeroizing<[u8; 32]>,
    used: usize,
}

impl SeedOnce {
    fn new(seed: [u8; 32]) -> Self {
        Self {
            seed: zeroize::Zeroizing::new(seed),
            used: 0,
        }
    }

    /// More was drawn than there was randomness; what was made with it must be thrown away.
    fn exhausted(&self) -> bool {
        self.used > self.seed.len()
    }
}

impl hpke::rand_core::RngCore for SeedOnce {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, target: &mut [u8]) {
        let left = self.seed.get(self.used..).unwrap_or(&[]);
        target
            .iter_mut()
            .zip(left)
            .for_each(|(byte, seed)| *byte = *seed);
        self.used = self.used.saturating_add(target.len());
    }
}

impl hpke::rand_core::CryptoRng for SeedOnce {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deps::OsRandom;
    use hpke::Kem as _;

    fn keys() -> (<X25519HkdfSha256 as hpke::Kem>::PrivateKey, String) {
        let (private, public) = X25519HkdfSha256::derive_keypair(&[7; 32]);
        (private, STANDARD.encode(public.to_bytes()))
    }

    fn open(
        private: &<X25519HkdfSha256 as hpke::Kem>::PrivateKey,
        sealed: &Sealed,
        aad: &str,
    ) -> Option<Vec<u8>> {
        let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(
            &STANDARD.decode(&sealed.enc).unwrap(),
        )
        .unwrap();
        hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &hpke::OpModeR::Base,
            private,
            &enc,
            ATTACHMENT_INFO,
            &STANDARD.decode(&sealed.ciphertext).unwrap(),
            aad.as_bytes(),
        )
        .ok()
    }

    #[test]
    fn a_sealed_picture_opens_only_for_its_own_transaction() {
        let (private, public) = keys();
        let key = SealingKey::from_base64(&public).unwrap();
        let sealed = key
            .seal_jpeg(b"picture", "transaction-1", &OsRandom)
            .unwrap();
        assert_eq!(
            open(&private, &sealed, "transaction-1").as_deref(),
            Some(&b"picture"[..])
        );
        assert_eq!(open(&private, &sealed, "transaction-2"), None);
        let again = key
            .seal_jpeg(b"picture", "transaction-1", &OsRandom)
            .unwrap();
        assert_ne!(sealed.enc, again.enc, "every picture has its own key");
    }

    #[test]
    fn damaged_keys_are_refused() {
        for bad in ["", "AAAA", "not base64 !", &STANDARD.encode([0; 32])] {
            assert!(SealingKey::from_base64(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_randomness_nothing_is_sealed() {
        struct Broken;
        impl Random for Broken {
            fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
                Err(RandomError)
            }
        }
        let key = SealingKey::from_base64(&keys().1).unwrap();
        assert!(key.seal_jpeg(b"picture", "t", &Broken).is_err());
    }
}
