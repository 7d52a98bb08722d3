//! C2SP signed notes (<https://c2sp.org/signed-note>) with Ed25519.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Larger notes are refused before parsing.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
const MAX_SIGNATURES: usize = 64;
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Signature types of key identifiers.
pub(crate) const TYPE_ED25519: u8 = 0x01;
pub(crate) const TYPE_COSIGNATURE: u8 = 0x04;

/// Why a note or key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The note is not of the signed-note form.
    #[error("not a signed note")]
    Malformed,
    /// The note is too large.
    #[error("the note is larger than {MAX_NOTE_BYTES} bytes")]
    TooLarge,
    /// The verifier key is not `name+hash+key`.
    #[error("not a verifier key")]
    BadKey,
    /// A signature by a known key does not verify.
    #[error("a signature by a known key is wrong")]
    BadSignature,
    /// No signature by a known key.
    #[error("no signature by a known key")]
    NoKnownSignature,
}

fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && !name
            .chars()
            .any(|c| c.is_whitespace() || c == '+' || c.is_control())
}

fn key_id(name: &str, kind: u8, public: &[u8]) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind])
        .chain_update(public)
        .finalize();
    let mut id = [0; 4];
    id.iter_mut()
        .zip(digest.iter())
        .for_each(|(slot, byte)| *slot = *byte);
    id
}

/// A public key with its name: `name+hex(id)+base64(type || key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    kind: u8,
    key: VerifyingKey,
}

impl VerifierKey {
    pub(crate) fn new(name: &str, kind: u8, key: VerifyingKey) -> Result<Self, NoteError> {
        if !valid_name(name) {
            return Err(NoteError::BadKey);
        }
        Ok(Self {
            name: name.to_owned(),
            id: key_id(name, kind, key.as_bytes()),
            kind,
            key,
        })
    }

    /// Parses a verifier key of type Ed25519 (0x01) or Ed25519 cosignature (0x04).
    ///
    /// # Errors
    /// Not of that form, another type, or an identifier that does not fit.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim_end_matches('\n').splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::BadKey);
        };
        let bytes = STANDARD.decode(key).map_err(|_| NoteError::BadKey)?;
        let (kind, public) = bytes.split_first().ok_or(NoteError::BadKey)?;
        if *kind != TYPE_ED25519 && *kind != TYPE_COSIGNATURE {
            return Err(NoteError::BadKey);
        }
        let public: [u8; 32] = public.try_into().map_err(|_| NoteError::BadKey)?;
        let key = VerifyingKey::from_bytes(&public).map_err(|_| NoteError::BadKey)?;
        let parsed = Self::new(name, *kind, key)?;
        if parsed.id_hex() == id {
            Ok(parsed)
        } else {
            Err(NoteError::BadKey)
        }
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is it a log's key (type 0x01), rather than a witness's?
    #[must_use]
    pub fn is_log_key(&self) -> bool {
        self.kind == TYPE_ED25519
    }

    fn id_hex(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn key(&self) -> &VerifyingKey {
        &self.key
    }

    pub(crate) fn kind(&self) -> u8 {
        self.kind
    }

    pub(crate) fn is(&self, signature: &NoteSignature) -> bool {
        signature.name == self.name && signature.id == self.id
    }

    pub(crate) fn line(&self, payload: &[u8]) -> String {
        let mut bytes = self.id.to_vec();
        bytes.extend_from_slice(payload);
        format!(
            "{SIGNATURE_PREFIX}{} {}\n",
            self.name,
            STANDARD.encode(bytes)
        )
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = vec![self.kind];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(
            f,
            "{}+{}+{}",
            self.name,
            self.id_hex(),
            STANDARD.encode(bytes)
        )
    }
}

/// Signs notes as a log (type 0x01). `Debug` hides the key.
pub struct NoteSigner {
    key: SigningKey,
    verifier: VerifierKey,
}

impl std::fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NoteSigner({}, [sealed])", self.verifier.name)
    }
}

impl NoteSigner {
    /// From a name and an Ed25519 seed.
    ///
    /// # Errors
    /// The name is empty or holds a space or `+`.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, TYPE_ED25519, key.verifying_key())?;
        Ok(Self { key, verifier })
    }

    /// The public side.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text that ends in a newline; the result is the whole note.
    ///
    /// # Errors
    /// The text does not end in a newline or holds control characters.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        if !text.ends_with('\n') || has_control(text) {
            return Err(NoteError::Malformed);
        }
        let signature = self.key.sign(text.as_bytes());
        Ok(format!(
            "{text}\n{}",
            self.verifier.line(&signature.to_bytes())
        ))
    }
}

fn has_control(text: &str) -> bool {
    text.chars()
        .any(|c| (c < ' ' && c != '\n') || c == '\u{7f}')
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoteSignature {
    pub(crate) name: String,
    pub(crate) id: [u8; 4],
    pub(crate) payload: Vec<u8>,
}

/// A parsed, not yet verified note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    pub(crate) signatures: Vec<NoteSignature>,
}

impl Note {
    /// Parses a note. Signatures are not checked.
    ///
    /// # Errors
    /// Too large, not UTF-8 without control characters, or not of the form.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge);
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed)?;
        if has_control(whole) || !whole.ends_with('\n') {
            return Err(NoteError::Malformed);
        }
        // The separator is the last empty line.
        let at = whole.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, lines) = whole.split_at(at + 1);
        let lines = lines.strip_prefix('\n').ok_or(NoteError::Malformed)?;
        let signatures: Vec<_> = lines
            .lines()
            .map(parse_signature)
            .collect::<Option<_>>()
            .ok_or(NoteError::Malformed)?;
        if signatures.is_empty() || signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::Malformed);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The signed text, not yet verified.
    #[must_use]
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// The text, if a known log key signed it. Unknown keys are ignored; a wrong signature by a known key rejects the note.
    ///
    /// # Errors
    /// A known key's signature is wrong, or there is none.
    pub fn verify(&self, known: &[VerifierKey]) -> Result<&str, NoteError> {
        let mut verified = false;
        for key in known.iter().filter(|key| key.kind == TYPE_ED25519) {
            for signature in self.signatures.iter().filter(|signature| key.is(signature)) {
                let bytes: [u8; 64] = signature
                    .payload
                    .as_slice()
                    .try_into()
                    .map_err(|_| NoteError::BadSignature)?;
                key.key
                    .verify_strict(self.text.as_bytes(), &Signature::from_bytes(&bytes))
                    .map_err(|_| NoteError::BadSignature)?;
                verified = true;
            }
        }
        if verified {
            Ok(&self.text)
        } else {
            Err(NoteError::NoKnownSignature)
        }
    }
}

fn parse_signature(line: &str) -> Option<NoteSignature> {
    let (name, payload) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = STANDARD.decode(payload).ok()?;
    let (id, payload) = bytes.split_first_chunk::<4>()?;
    (valid_name(name) && !payload.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        id: *id,
        payload: payload.to_vec(),
    })
}
