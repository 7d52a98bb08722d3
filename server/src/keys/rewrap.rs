//! Rotation of the KEK while the server runs: every data key is wrapped anew, nothing else is touched.
//!
//! It can be killed at any moment. Until the last step both versions are accepted; running it again goes on where it stopped. The
//! last step looks once more with the writer's seat taken, so that no enrolment slips in with the old version, and only then raises
//! the minimum in the key file. The old KEK itself stays in the file for backups made before, until it is retired.

use sallyport_transparency::Entry;

use super::data_keys::DataKeyError;
use super::{DataKeyRow, KeyError};
use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::store::{StoreError, Write};

/// Rows in one transaction: gates wait for no more than this.
const BATCH: u32 = 100;

/// Why a rotation stopped; running it again goes on.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// Database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// KEK.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<DataKeyError> for RewrapError {
    fn from(error: DataKeyError) -> Self {
        match error {
            DataKeyError::Store(error) => error.into(),
            DataKeyError::Key(error) => error.into(),
        }
    }
}

/// What a rotation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrapped {
    /// The version that wraps everything now.
    pub version: u32,
    /// Keys wrapped by this run.
    pub keys: u64,
    /// Was an earlier run's rotation continued?
    pub continued: bool,
}

/// Makes the next KEK beforehand, so that other servers can be given the key file; returns its version.
///
/// # Errors
/// File, token or log.
pub async fn prepare(state: &AppState, actor: &str) -> Result<u32, RewrapError> {
    let version = state.keys.ring.add_version()?;
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some(format!("key version {version}")),
        decision: Some("made".to_owned()),
        ..audit::entry("keys_rotated", state.clock.now())?
    };
    audit::record(state, entry).await?;
    Ok(version)
}

/// Rotates the KEK. `progress` is told the number of keys done after each batch.
///
/// # Errors
/// It stopped in between; run it again.
pub async fn rewrap(
    state: &AppState,
    actor: &str,
    mut progress: impl FnMut(u64),
) -> Result<Rewrapped, RewrapError> {
    let ring = &state.keys.ring;
    let newest = ring.newest()?;
    // A version that nothing may rely on yet: made by an earlier run, or beforehand so that other servers could be given the file.
    let continued = newest > ring.minimum()?;
    let version = if continued {
        newest
    } else {
        ring.add_version()?
    };
    let mut keys = 0;
    loop {
        let old = state.store.data_keys_older(version, BATCH).await?;
        if old.is_empty() {
            break;
        }
        let fresh = wrap_anew(state, &old)?;
        let mut write = state.store.write().await?;
        keys += replace(&mut write, &old, fresh).await?;
        write.commit().await?;
        progress(keys);
    }
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    loop {
        let old = write.data_keys_older(version, BATCH).await?;
        if old.is_empty() {
            break;
        }
        let fresh = wrap_anew(state, &old)?;
        keys += replace(&mut write, &old, fresh).await?;
    }
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some(format!("key version {version}")),
        decision: Some("rewrapped".to_owned()),
        ..audit::entry("keys_rotated", now)?
    };
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    ring.set_minimum(version)?;
    Ok(Rewrapped {
        version,
        keys,
        continued,
    })
}

fn wrap_anew(state: &AppState, old: &[DataKeyRow]) -> Result<Vec<(u32, Vec<u8>)>, KeyError> {
    let ring = &state.keys.ring;
    old.iter()
        .map(|row| {
            let key = ring.open_row(row)?;
            ring.wrap(&row.owner, row.purpose, &key)
        })
        .collect()
}

async fn replace(
    write: &mut Write<'_>,
    old: &[DataKeyRow],
    fresh: Vec<(u32, Vec<u8>)>,
) -> Result<u64, StoreError> {
    let mut done = 0;
    for (row, (version, wrapped)) in old.iter().zip(fresh) {
        done += u64::from(write.data_key_replace(row, version, wrapped).await?);
    }
    Ok(done)
}

/// Destroys an old KEK. Backups made before its rotation cannot be opened any more, unless the custodian kept the old key file.
///
/// # Errors
/// It is in use, or unknown.
pub async fn retire(state: &AppState, version: u32, actor: &str) -> Result<(), RewrapError> {
    let ring = &state.keys.ring;
    if version >= ring.minimum()? {
        return Err(KeyError::InUse(version).into());
    }
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some(format!("key version {version}")),
        decision: Some("destroyed".to_owned()),
        ..audit::entry("keys_rotated", state.clock.now())?
    };
    audit::record(state, entry).await?;
    Ok(ring.destroy(version)?)
}
