//! Sealed detail for somebody entitled to it, encrypted for his key alone.

use std::collections::BTreeMap;
use std::io::Write as _;

use age::stream::StreamWriter;
use age::x25519::Recipient;
use sallyport_transparency::{DetailLine, Entry};

use super::output::{Growing, Output, age_failed};
use super::{PAGE, Wanted, missing};
use crate::audit::{self, AuditError};
use crate::keys::{self, Opening};
use crate::state::AppState;

/// Name of the file in an export.
pub(super) const FILE: &str = "details.jsonl.age";

/// How many details an export gives, and how many it has to leave out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Details {
    /// Given.
    pub given: u64,
    /// Left out: the subject was erased, or the detail was sealed in an earlier way.
    pub withheld: u64,
}

/// Reads a recipient's public key.
///
/// # Errors
/// It is none.
pub fn recipient(text: &str) -> Result<Recipient, String> {
    text.parse().map_err(|error| {
        format!("'{text}' is not a public key of a recipient (age1…): {error}. He makes one with: age-keygen, or sallyport-server backup-key FILE")
    })
}

/// What the log keeps of the recipient.
#[must_use]
pub fn fingerprint(recipient: &Recipient) -> String {
    use sha2::{Digest as _, Sha256};
    format!(
        "sha256:{}",
        hex::encode(Sha256::digest(recipient.to_string()))
    )
}

/// Counts what an export of these entries below `size` gives. Opens every one, so that a damaged one is found before anything is
/// written.
///
/// # Errors
/// The database failed, or a detail was changed.
pub(super) async fn count(
    state: &AppState,
    wanted: &Wanted,
    size: u64,
) -> Result<Details, AuditError> {
    let (mut next, mut counted) = (0, Details::default());
    while next < size {
        let rows = state.store.log_entries(next, PAGE).await?;
        let Some((last, _)) = rows.last() else {
            return Err(missing(next));
        };
        let end = last + 1;
        let mut sealed = state.store.log_details(next, end.min(size)).await?;
        for (index, bytes) in rows.iter().take_while(|(index, _)| *index < size) {
            match line(state, wanted, *index, bytes, &mut sealed).await? {
                None => {}
                Some(DetailLine::Given { .. }) => counted.given += 1,
                Some(DetailLine::Withheld { .. }) => counted.withheld += 1,
            }
        }
        next = end;
    }
    Ok(counted)
}

/// The line about one entry's detail; `None` when it has none, or is not wanted.
async fn line(
    state: &AppState,
    wanted: &Wanted,
    index: u64,
    bytes: &[u8],
    sealed: &mut BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
) -> Result<Option<DetailLine>, AuditError> {
    let changed = || AuditError::Damaged(format!("the sealed detail of entry {index} was changed"));
    let entry = Entry::from_bytes(bytes).map_err(audit::refused)?;
    if entry.detail_hash.is_none() || !wanted.takes(&entry) {
        return Ok(None);
    }
    let (salt, sealed) = sealed.remove(&index).ok_or_else(changed)?;
    let withheld = |why: &str| DetailLine::Withheld {
        index,
        why: why.to_owned(),
    };
    let opening = keys::detail_opening(state, entry.subject.as_deref(), index, &sealed).await;
    Ok(Some(match opening {
        Ok(Opening::Key(key)) => DetailLine::Given {
            index,
            salt: salt.try_into().map_err(|_| changed())?,
            sealed,
            key: *key.expose(),
        },
        Ok(Opening::Erased) => withheld("erased"),
        Ok(Opening::OlderSuite) => withheld("older_suite"),
        Err(keys::DataKeyError::Key(keys::KeyError::Seal(_))) => return Err(changed()),
        Err(error) => return Err(error.into()),
    }))
}

/// The file, growing.
pub(super) struct Writer {
    out: StreamWriter<Growing>,
    page: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    pub(super) written: Details,
}

impl Writer {
    pub(super) fn new(output: &Output, recipient: &Recipient) -> Result<Self, AuditError> {
        let to = std::iter::once(recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(to).map_err(age_failed)?;
        let out = encryptor
            .wrap_output(output.open(FILE)?)
            .map_err(age_failed)?;
        Ok(Self {
            out,
            page: BTreeMap::new(),
            written: Details::default(),
        })
    }

    pub(super) async fn page(
        &mut self,
        state: &AppState,
        from: u64,
        to: u64,
    ) -> Result<(), AuditError> {
        self.page = state.store.log_details(from, to).await?;
        Ok(())
    }

    pub(super) async fn push(
        &mut self,
        state: &AppState,
        wanted: &Wanted,
        index: u64,
        bytes: &[u8],
    ) -> Result<(), AuditError> {
        let Some(line) = line(state, wanted, index, bytes, &mut self.page).await? else {
            return Ok(());
        };
        match line {
            DetailLine::Given { .. } => self.written.given += 1,
            DetailLine::Withheld { .. } => self.written.withheld += 1,
        }
        let text = zeroize::Zeroizing::new(line.to_line() + "\n");
        self.out.write_all(text.as_bytes()).map_err(age_failed)
    }

    pub(super) fn done(self) -> Result<Growing, AuditError> {
        self.out.finish().map_err(age_failed)
    }
}
