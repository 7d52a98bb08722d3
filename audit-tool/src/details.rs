//! Sealed details of an export for somebody entitled to them: opened with his key, each proved to belong to its entry.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use age::x25519::Identity;
use sallyport_transparency::{
    DetailError, DetailLine, Entry, MAX_DETAIL_LINE, detail_associated_data, detail_bound,
};
use zeroize::Zeroizing;

use crate::Failure;
use crate::place::Place;

/// Name of the file in an export.
pub(crate) const FILE: &str = "details.jsonl.age";

/// What is known of one entry's detail.
pub(crate) enum Detail {
    /// The entry has none.
    None,
    /// Opened.
    Text(Zeroizing<Vec<u8>>),
    /// The export does not hold it, and says why.
    Withheld(String),
}

/// Goes through the file of details beside the entries.
pub(crate) struct Details {
    lines: BufReader<Box<dyn Read>>,
    next: Option<DetailLine>,
    origin: String,
}

fn tampered(why: impl std::fmt::Display) -> Failure {
    Failure::Tampered(format!("{FILE}: {why}"))
}

impl Details {
    /// Opens them with the private key in a file (AGE-SECRET-KEY-…).
    pub(crate) fn open(place: &Place, identity: &Path, origin: &str) -> Result<Self, Failure> {
        let unable = |why: String| Failure::Unable(why);
        let text = std::fs::read_to_string(identity)
            .map(Zeroizing::new)
            .map_err(|error| unable(format!("{}: {error}", identity.display())))?;
        let identity: Identity = text
            .lines()
            .find(|line| line.starts_with("AGE-SECRET-KEY-"))
            .and_then(|line| line.trim().parse().ok())
            .ok_or_else(|| {
                unable(format!(
                    "{} holds no private key (AGE-SECRET-KEY-…)",
                    identity.display()
                ))
            })?;
        let part = place
            .part(FILE)
            .map_err(|error| unable(format!("{FILE} could not be read: {error}")))?
            .ok_or_else(|| {
                unable(
                    "this export holds no sealed details; ask for one that was made for your key (audit export --details-for)"
                        .to_owned(),
                )
            })?;
        let reader = age::Decryptor::new_buffered(BufReader::new(part))
            .map_err(|error| tampered(format!("it is not what the server wrote: {error}")))?
            .decrypt(std::iter::once(&identity as &dyn age::Identity))
            .map_err(|error| {
                unable(format!(
                    "the details were not made for this key, or were changed: {error}"
                ))
            })?;
        let mut details = Self {
            lines: BufReader::new(Box::new(reader)),
            next: None,
            origin: origin.to_owned(),
        };
        details.read()?;
        Ok(details)
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut line = Zeroizing::new(String::new());
        (&mut self.lines)
            .take(MAX_DETAIL_LINE as u64)
            .read_line(&mut line)
            .map_err(|error| tampered(format!("it was cut off or changed: {error}")))?;
        self.next = if line.is_empty() {
            None
        } else {
            let text = line
                .strip_suffix('\n')
                .ok_or_else(|| tampered("a line ends early"))?;
            Some(DetailLine::parse(text).map_err(tampered)?)
        };
        Ok(())
    }

    /// The detail of the next entry of the export. Every entry must be asked for, in order.
    pub(crate) fn of(&mut self, index: u64, bytes: &[u8]) -> Result<Detail, Failure> {
        let named = Entry::from_bytes(bytes)
            .ok()
            .and_then(|entry| entry.detail_hash);
        let Some(hash) = named else {
            return Ok(Detail::None);
        };
        let line = match self.next.take() {
            Some(line) if line.index() == index => line,
            Some(_) | None => {
                return Err(tampered(format!(
                    "the detail of entry {index} is missing, and it does not say why"
                )));
            }
        };
        self.read()?;
        match line {
            DetailLine::Withheld { why, .. } => Ok(Detail::Withheld(why)),
            DetailLine::Given {
                salt, sealed, key, ..
            } => {
                let key = Zeroizing::new(key);
                opened(&self.origin, index, &hash, &salt, &sealed, &key)
                    .map(Detail::Text)
                    .map_err(|error| tampered(format!("entry {index}: {error}")))
            }
        }
    }

    /// After the last entry: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.next {
            None => Ok(()),
            Some(line) => Err(tampered(format!(
                "it holds a detail of entry {}, which is not in this export or has none",
                line.index()
            ))),
        }
    }
}

fn opened(
    origin: &str,
    index: u64,
    hash: &str,
    salt: &[u8; 32],
    sealed: &[u8],
    key: &[u8; 32],
) -> Result<Zeroizing<Vec<u8>>, DetailError> {
    let parts = detail_bound(hash, salt, sealed, key)?;
    let aad = detail_associated_data(origin, index);
    Aes256Gcm::new_from_slice(key)
        .map_err(|_| DetailError::Key)?
        .decrypt(
            &Nonce::from(*parts.nonce),
            Payload {
                msg: parts.ciphertext,
                aad: &aad,
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| DetailError::Another)
}

/// Why a detail is not there, for people.
pub(crate) fn withheld(why: &str) -> String {
    match why {
        "erased" => "the person was erased from the registry (or was never in it): the key that opened this detail does not exist any more".to_owned(),
        "older_suite" => "it was sealed by an earlier version of the server, which could not hand out one detail alone".to_owned(),
        other => format!("the site says: {other}"),
    }
}
