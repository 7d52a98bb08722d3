//! A code beside each entry of the log that only the server's key can make. Tree, witnesses and checkpoints show that nothing was taken out
//! or changed; they would carry an entry on that somebody who has the database *appends*. What has no code is not believed: it opens no
//! account, approves nothing, lifts no ban, and raises an alarm.
//!
//! Entries of before there were codes end at a number that is sealed in the database and remembered in the data folder, so that nobody
//! moves it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sallyport_transparency::{Hash, leaf_hash};

use crate::enrolments::ledger;
use crate::rights;
use crate::state::AppState;

/// Name of the sealed setting: from which entry on every one has a code.
pub(crate) const SETTING: &str = "log-codes-from";

fn memory(data: &Path) -> PathBuf {
    data.join("log-codes")
}

/// The code of an entry at this place.
pub(crate) fn code(state: &AppState, index: u64, leaf: &Hash) -> String {
    let text = format!("{index}\0{}", hex::encode(leaf.0));
    state.keys.site.lookup("log.entry", &text)
}

/// Did the server write this entry here? Those of before there were codes count as written; others than these have none.
pub(crate) fn is_ours(state: &AppState, index: u64, bytes: &[u8], stored: Option<&str>) -> bool {
    match stored {
        None => index < state.log_codes_from(),
        Some(stored) => {
            index >= state.log_codes_from()
                && rights::same(stored, &code(state, index, &leaf_hash(bytes)))
        }
    }
}

/// Finds out from which entry on there are codes; the first time it is from the next one on. Called once, when an installation is opened.
///
/// # Errors
/// Somebody changed it, or the database or the data folder cannot be used.
pub(crate) async fn begin(state: &AppState) -> anyhow::Result<()> {
    let path = memory(&state.data);
    let remembered: Option<u64> = match std::fs::read_to_string(&path) {
        Ok(text) => Some(
            text.trim()
                .parse()
                .ok()
                .with_context(|| format!("{} is not a number", path.display()))?,
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(format!("reading {}", path.display())),
    };
    let stored = match stored(state).await? {
        None if remembered.is_none() && !state.store.log_has_codes().await? => {
            let from = state.store.log_size().await?;
            // Of two processes one stores it.
            if let Err(error) = crate::installation::add_number(state, SETTING, from).await {
                stored(state).await?.ok_or(error)?
            } else {
                from
            }
        }
        None => bail!(
            "the database does not say any more from which entry of the audit log on every one carries the server's code. Somebody took that out: keep the database as it is for the investigation"
        ),
        Some(stored) => stored,
    };
    match remembered {
        Some(remembered) if remembered != stored => bail!(
            "the database says that entries of the audit log carry the server's code from number {stored} on, {} says {remembered}. Somebody changed one of them: keep both for the investigation",
            path.display()
        ),
        Some(_) => {}
        None => remember(&path, stored)?,
    }
    state.set_log_codes_from(stored);
    Ok(())
}

async fn stored(state: &AppState) -> anyhow::Result<Option<u64>> {
    crate::installation::number(state, SETTING).await
}

fn remember(path: &Path, from: u64) -> anyhow::Result<()> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(mut file) => file
            .write_all(format!("{from}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .with_context(|| format!("writing {}", path.display())),
        // Another process was first.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("creating {}", path.display())),
    }
}

/// Raises the alarm about entries without the server's code, each once. Not while an entry is being written: it takes the writer's seat.
///
/// # Errors
/// The alarm could not be stored.
pub(crate) async fn tell(state: &AppState) -> Result<(), crate::audit::AuditError> {
    for index in ledger::forged(state).await {
        let wrong = "it lacks the server's code: somebody appended it";
        ledger::alarm(state, "entry of the audit log", &index.to_string(), wrong).await?;
    }
    Ok(())
}
