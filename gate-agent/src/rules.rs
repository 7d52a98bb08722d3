//! Which pictures this gate may write at all: the strictest of its own setting and of the jurisdiction profile.
//!
//! The server's word alone only ever makes this stricter. What permits more than the gate knew must be proved from the audit log that the
//! gate itself watches, by an entry no older than the last. Nothing known means that no picture is written. The state folder keeps what is
//! known (`profile.json`), so that a silent server changes nothing.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use sallyport_domain::{GateRules, Profile};
use sallyport_protocol::{ProfileEntry, ProfileQuery, ProfileWord};
use sallyport_transparency::{Checkpoint, Entry, Hash, leaf_hash, verify_inclusion};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config;
use crate::durable;
use crate::state::StateFolder;

/// The file in the state folder.
const FILE: &str = "profile.json";
/// Longest text of a profile.
const TEXT: usize = 256 * 1_024;
/// What an unproved word may permit at most to a gate that knows nothing: what the strictest shipped profile does, which is also the one
/// that a server has before anybody set one.
const FLOOR: &str = include_str!("../../profiles/nsw-2014.toml");

/// Why the server's word is not obeyed; what was known before stays.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not a profile.
    #[error("the server's jurisdiction profile is none, so the known one stays: {0}")]
    NotAProfile(String),
    /// The proof is none.
    #[error(
        "the server's proof that the audit log names its jurisdiction profile is wrong ({0}), so the known one stays"
    )]
    BadProof(&'static str),
    /// An older one.
    #[error(
        "the server shows the jurisdiction profile of log entry {shown}, but that of entry {known} is known here, so that one stays"
    )]
    Older {
        /// Shown now.
        shown: u64,
        /// Known.
        known: u64,
    },
    /// It is obeyed until the agent ends, and cannot be written down.
    #[error("{path}: the jurisdiction profile cannot be written down: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is known of the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    name: String,
    version: u32,
    sha256: String,
    /// The newest log entry that was proved to name one.
    proved: Option<u64>,
    /// Is it that entry which names this one?
    by_log: bool,
    rules: GateRules,
}

/// The rules of this gate; shared by threads.
#[derive(Debug)]
pub struct Rules {
    path: Option<PathBuf>,
    own: GateRules,
    own_name: Option<&'static str>,
    known: Mutex<Option<Known>>,
}

impl Rules {
    /// Reads what is known in a state folder. A damaged file is as good as none: no picture is written until the server has spoken.
    #[must_use]
    pub fn open(state: Option<&StateFolder>, own: Option<config::Profile>) -> Self {
        let path = state.map(|state| state.root().join(FILE));
        let known = path.as_deref().and_then(|path| match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .inspect_err(|_| {
                    tracing::error!(file = %path.display(), "what was known of the jurisdiction profile is damaged; no picture is written until the server tells it again");
                })
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::error!(file = %path.display(), "the jurisdiction profile cannot be read: {error}; no picture is written");
                None
            }
        });
        Self {
            path,
            own: own.map_or_else(GateRules::unrestricted, config::Profile::rules),
            own_name: own.map(config::Profile::name),
            known: Mutex::new(known),
        }
    }

    /// What may be written now.
    #[must_use]
    pub fn in_force(&self) -> GateRules {
        let known = self.lock();
        let known = known.as_ref().map(|known| &known.rules);
        known.map_or(GateRules::STRICTEST, |rules| self.own.and(rules))
    }

    /// What the server is asked; `size` is that of the checkpoint which the gate keeps.
    #[must_use]
    pub fn query(&self, size: u64) -> ProfileQuery {
        let known = self.lock();
        ProfileQuery {
            size,
            sha256: known.as_ref().map(|known| known.sha256.clone()),
            index: known
                .as_ref()
                .and_then(|known| known.proved.filter(|_| known.by_log)),
        }
    }

    /// In a sentence, for `status` and refusals.
    #[must_use]
    pub fn sentence(&self) -> String {
        let known = self.lock();
        let known = match known.as_ref() {
            None => {
                "nothing is known of the server's jurisdiction profile, so no picture is written"
                    .to_owned()
            }
            Some(known) => {
                let proved = known.proved.filter(|_| known.by_log).map_or_else(
                    || "by the server's word".to_owned(),
                    |index| format!("log entry {index}"),
                );
                format!(
                    "jurisdiction profile {} version {}, {proved}, SHA-256 {}",
                    known.name, known.version, known.sha256
                )
            }
        };
        match self.own_name {
            Some(own) => format!("{known}; this gate's own setting {own} holds beside it"),
            None => known,
        }
    }

    /// Takes the server's word; `true` when the rules or what is known of them changed. `kept` is the gate's own checkpoint of the log.
    ///
    /// # Errors
    /// See [`RulesError`]; nothing became weaker.
    pub fn take(&self, word: &ProfileWord, kept: Option<&Checkpoint>) -> Result<bool, RulesError> {
        let profile = parse(&word.text)?;
        let sha256 = hex::encode(Sha256::digest(&word.text));
        let proved = match &word.named_by {
            Some(entry) => Some(prove(entry, &profile, &sha256, kept)?),
            None => None,
        };
        let mut known = self.lock();
        let rules = GateRules::of(&profile);
        let before = known.as_ref().and_then(|known| known.proved);
        let new = match (proved, before) {
            (Some(shown), Some(known)) if shown < known => {
                return Err(RulesError::Older { shown, known });
            }
            (Some(index), _) => Known {
                name: profile.name().to_owned(),
                version: profile.version(),
                sha256,
                proved: Some(index),
                by_log: true,
                rules,
            },
            // A mere word: it may make the rules stricter.
            (None, before) => {
                let most = match known.as_ref() {
                    Some(known) => known.rules.clone(),
                    None => GateRules::of(&parse(FLOOR)?),
                };
                let rules = rules.and(&most);
                if known.as_ref().is_some_and(|known| known.rules == rules) {
                    return Ok(false);
                }
                Known {
                    name: profile.name().to_owned(),
                    version: profile.version(),
                    sha256,
                    proved: before,
                    by_log: false,
                    rules,
                }
            }
        };
        if known.as_ref() == Some(&new) {
            return Ok(false);
        }
        // Obeyed whatever the disk does: only after a restart the older one would hold again, until the next heartbeat.
        let written = self.write(&new);
        *known = Some(new);
        written.map(|()| true)
    }

    fn write(&self, known: &Known) -> Result<(), RulesError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        serde_json::to_vec_pretty(known)
            .map_err(io::Error::from)
            .and_then(|bytes| durable::replace(path, &bytes, 0o600))
            .map_err(|source| RulesError::Io {
                path: path.clone(),
                source,
            })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(text: &str) -> Result<Profile, RulesError> {
    if text.len() > TEXT {
        return Err(RulesError::NotAProfile(format!("{} bytes", text.len())));
    }
    toml::from_str(text).map_err(|error| RulesError::NotAProfile(error.message().to_owned()))
}

/// The entry's index, when the log that this gate watches holds it and it names exactly this text.
fn prove(
    named_by: &ProfileEntry,
    profile: &Profile,
    sha256: &str,
    kept: Option<&Checkpoint>,
) -> Result<u64, RulesError> {
    let wrong = |what| Err(RulesError::BadProof(what));
    let Some(kept) = kept.filter(|kept| kept.size == named_by.size) else {
        return wrong("it is for another checkpoint than the one that this gate keeps");
    };
    let bytes = named_by.entry.as_bytes();
    let Ok(entry) = Entry::from_bytes(bytes) else {
        return wrong("the entry is none");
    };
    let names = format!("{}@{}", profile.name(), profile.version());
    if entry.kind != "profile_change"
        || entry.content.as_deref() != Some(sha256)
        || entry.decision.as_deref() != Some(&names)
    {
        return wrong("the entry does not name this text");
    }
    let proof: Option<Vec<Hash>> = named_by
        .proof
        .iter()
        .map(|hash| Hash::from_base64(hash))
        .collect();
    let (index, leaf) = (named_by.index, leaf_hash(bytes));
    match proof {
        Some(proof) if verify_inclusion(index, kept.size, leaf, &proof, kept.root).is_ok() => {
            Ok(index)
        }
        Some(_) | None => wrong("the log does not hold the entry there"),
    }
}

#[cfg(test)]
mod tests;
