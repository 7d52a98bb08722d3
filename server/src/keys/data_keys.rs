//! Data keys of subjects and of the installation.

use sallyport_domain::SubjectId;
use sallyport_transparency::{SealedDetail, detail_associated_data, detail_commitment};
use zeroize::Zeroizing;

use super::{KeyError, Ring};
use crate::clock::random;
use crate::sealing::{self, Key, Place, SealError};
use crate::state::AppState;
use crate::store::{StoreError, Write};

/// Owner of the installation's own data keys.
pub const SITE: &str = "site";

/// What a data key is for; each has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Record, templates; of the installation: private keys, officers' names.
    Registry,
    /// Details of log entries.
    Audit,
}

impl Purpose {
    /// As it is stored.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Audit => "audit",
        }
    }

    /// From what is stored.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Registry, Self::Audit]
            .into_iter()
            .find(|purpose| purpose.code() == code)
    }
}

/// A data key's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKeyRow {
    /// Subject, or [`SITE`].
    pub owner: String,
    /// What for.
    pub purpose: Purpose,
    /// Version of the KEK that wraps it.
    pub version: u32,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

impl Ring {
    /// Makes a data key and its row.
    ///
    /// # Errors
    /// File, token or randomness.
    pub fn new_data_key(
        &self,
        owner: &str,
        purpose: Purpose,
    ) -> Result<(Key, DataKeyRow), KeyError> {
        let key = Key::generate()?;
        let (version, wrapped) = self.wrap(owner, purpose, &key)?;
        let row = DataKeyRow {
            owner: owner.to_owned(),
            purpose,
            version,
            wrapped,
        };
        Ok((key, row))
    }

    /// Unwraps a row.
    ///
    /// # Errors
    /// As [`Ring::unwrap`].
    pub fn open_row(&self, row: &DataKeyRow) -> Result<Key, KeyError> {
        self.unwrap(&row.owner, row.purpose, row.version, &row.wrapped)
    }
}

/// Both keys of a new subject: the one for the registry, opened, and both rows.
///
/// # Errors
/// File, token or randomness.
pub fn new_subject_keys(
    ring: &Ring,
    subject: SubjectId,
) -> Result<(Key, [DataKeyRow; 2]), KeyError> {
    let owner = subject.to_string();
    let (key, registry) = ring.new_data_key(&owner, Purpose::Registry)?;
    let (_, audit) = ring.new_data_key(&owner, Purpose::Audit)?;
    Ok((key, [registry, audit]))
}

/// A subject's key; `None` when there is none (any more).
///
/// # Errors
/// Database, file or token.
pub async fn subject_key(
    state: &AppState,
    subject: SubjectId,
    purpose: Purpose,
) -> Result<Option<Key>, DataKeyError> {
    let row = state.store.data_key(&subject.to_string(), purpose).await?;
    Ok(row.map(|row| state.keys.ring.open_row(&row)).transpose()?)
}

/// Why a data key is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum DataKeyError {
    /// Database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// KEK.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The key for the detail of an entry about this subject, inside the entry's transaction: the subject's own, or the installation's
/// for entries about nobody in the registry.
///
/// # Errors
/// Database, file or token.
pub async fn audit_key(
    state: &AppState,
    write: &mut Write<'_>,
    subject: Option<&str>,
) -> Result<Key, DataKeyError> {
    if let Some(subject) = subject
        && let Some(row) = write.data_key(subject, Purpose::Audit).await?
    {
        match state.keys.ring.open_row(&row) {
            Ok(key) => return Ok(key),
            // Somebody changed it in the database. What happens must be logged all the same.
            Err(KeyError::Seal(error)) => {
                tracing::error!(subject, %error, "this subject's audit key does not open; the detail is sealed for the installation");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(state.keys.site_audit.clone())
}

fn detail_place<'a>(state: &'a AppState, index: &'a str) -> Place<'a> {
    Place::new(state.config.site.as_str(), "log_detail", "sealed", index)
}

/// Seals the detail of an entry about this subject, inside the entry's transaction.
///
/// # Errors
/// Database, file, token or randomness.
pub async fn audit_detail(
    state: &AppState,
    write: &mut Write<'_>,
    subject: Option<&str>,
    index: u64,
    plain: &[u8],
) -> Result<Vec<u8>, DataKeyError> {
    let key = detail_key(state, &audit_key(state, write, subject).await?, index);
    let origin = state.config.log_origin();
    let nonce: [u8; 12] = random().map_err(|_| KeyError::from(SealError::Random))?;
    let aad = detail_associated_data(&origin, index);
    let ciphertext = sealing::encrypt(&key, &nonce, &aad, plain).map_err(KeyError::from)?;
    let sealed = SealedDetail {
        nonce: &nonce,
        commitment: &detail_commitment(key.expose()),
        ciphertext: &ciphertext,
    };
    Ok(sealed.to_bytes())
}

/// The key of one detail, which can be handed out without any other.
fn detail_key(state: &AppState, audit: &Key, index: u64) -> Key {
    audit.derive(
        "log-detail/1",
        &format!("{} {index}", state.config.log_origin()),
    )
}

/// Opens a detail with an audit key; details of before suite 2 were sealed with that key itself.
fn open_with(
    state: &AppState,
    audit: &Key,
    index: u64,
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    if !SealedDetail::is_one(sealed) {
        let row = index.to_string();
        return sealing::open(audit, 1, &detail_place(state, &row), sealed);
    }
    let parts = SealedDetail::parse(sealed).map_err(|_| SealError::Unknown)?;
    let key = detail_key(state, audit, index);
    if detail_commitment(key.expose()) != *parts.commitment {
        return Err(SealError::Refused);
    }
    let aad = detail_associated_data(&state.config.log_origin(), index);
    sealing::decrypt(&key, parts.nonce, &aad, parts.ciphertext)
}

/// What somebody entitled gets of a detail.
#[derive(Debug)]
pub enum Opening {
    /// The key of this detail alone; it was tried.
    Key(Key),
    /// The entry's subject has no key: erased, or never enrolled.
    Erased,
    /// Sealed in an earlier way, with a key that opens more than this detail.
    OlderSuite,
}

/// The key of one detail, to be handed out.
///
/// # Errors
/// Database, file or token; or the detail was changed or moved.
pub async fn detail_opening(
    state: &AppState,
    subject: Option<&str>,
    index: u64,
    sealed: &[u8],
) -> Result<Opening, DataKeyError> {
    let mut keys = vec![state.keys.site_audit.clone()];
    if let Some(subject) = subject {
        match state.store.data_key(subject, Purpose::Audit).await? {
            Some(row) => keys.insert(0, state.keys.ring.open_row(&row)?),
            // What an older key of the installation would still open about an erased person is not given out either.
            None => return Ok(Opening::Erased),
        }
    }
    if !SealedDetail::is_one(sealed) {
        return Ok(Opening::OlderSuite);
    }
    for audit in &keys {
        if let Ok(plain) = open_with(state, audit, index, sealed) {
            drop(Zeroizing::new(plain));
            return Ok(Opening::Key(detail_key(state, audit, index)));
        }
    }
    Err(KeyError::from(SealError::Refused).into())
}

/// The detail of an entry about this subject; `None` when there is none, or when the subject was erased and its key with it.
///
/// # Errors
/// Database, file or token; or the detail was changed or moved.
pub async fn open_audit_detail(
    state: &AppState,
    subject: Option<&str>,
    index: u64,
) -> Result<Option<Zeroizing<Vec<u8>>>, DataKeyError> {
    match state.store.log_detail(index).await? {
        Some(sealed) => open_detail(state, subject, index, &sealed).await,
        None => Ok(None),
    }
}

pub(super) async fn open_detail(
    state: &AppState,
    subject: Option<&str>,
    index: u64,
    sealed: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, DataKeyError> {
    // An entry may be older than its subject's key: then the installation's key sealed it.
    let mut keys = vec![state.keys.site_audit.clone()];
    let mut erased = false;
    if let Some(subject) = subject {
        match state.store.data_key(subject, Purpose::Audit).await? {
            Some(row) => keys.insert(0, state.keys.ring.open_row(&row)?),
            None => erased = true,
        }
    }
    let opened = keys
        .iter()
        .find_map(|key| open_with(state, key, index, sealed).ok());
    match opened {
        Some(plain) => Ok(Some(Zeroizing::new(plain))),
        None if erased => Ok(None),
        None => Err(KeyError::from(SealError::Refused).into()),
    }
}
