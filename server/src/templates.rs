//! The installation's template secret, at the server's door: what a gate sends is brought under it before anything is stored
//! or compared, so that templates of two installations have nothing to do with each other, and a new secret makes leaked ones
//! worthless without a new capture (see [`TemplateSecret`]).
//!
//! A secret is a data key of the owner `templates/VERSION`, wrapped and rotated like all others. Version 0 is none: references of
//! installations made before there were secrets. A server works in the secret that was the newest at its start, and brings whatever
//! it reads or writes of another version over; so a renewal needs no pause, and is complete with the next start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sallyport_domain::Template;
use sallyport_matching::{NotTurned, TemplateSecret};
use sallyport_transparency::Entry;
use zeroize::Zeroizing;

use crate::audit;
use crate::keys::{DataKeyRow, KeyError, Purpose, Ring};
use crate::registry::{self, RegistryError};
use crate::state::AppState;
use crate::store::registry::ReferenceRow;
use crate::store::{Store, StoreError, Write};

/// References in one transaction of a renewal: gates wait for no more than this.
const BATCH: u32 = 100;

const OWNER: &str = "templates/";

fn owner(version: u32) -> String {
    format!("{OWNER}{version}")
}

/// The version that an owner of a data key names.
pub(crate) fn version_of(owner: &str) -> Option<u32> {
    owner.strip_prefix(OWNER)?.parse().ok()
}

#[derive(Clone)]
struct Secret {
    version: u32,
    /// None for version 0.
    turn: Option<Arc<TemplateSecret>>,
}

impl Secret {
    const NONE: Self = Self {
        version: 0,
        turn: None,
    };

    fn open(ring: &Ring, row: &DataKeyRow) -> Result<Self, KeyError> {
        let key = ring.open_row(row)?;
        Ok(Self {
            version: version_of(&row.owner).unwrap_or(0),
            turn: Some(Arc::new(TemplateSecret::new(key.expose()))),
        })
    }

    fn protect(&self, template: &Template) -> Result<Template, NotTurned> {
        match &self.turn {
            Some(secret) => secret.protect(template),
            None => Ok(template.clone()),
        }
    }

    fn over(&self, template: Template, to: &Self) -> Result<Template, NotTurned> {
        if self.version == to.version {
            return Ok(template);
        }
        match &self.turn {
            Some(secret) => to.protect(&secret.unprotect(&template)?),
            None => to.protect(&template),
        }
    }
}

/// The secrets that this process knows. `Debug` hides them.
pub struct Templates {
    /// Under which the gallery in memory is.
    base: Secret,
    known: Mutex<BTreeMap<u32, Secret>>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Templates([sealed])")
    }
}

/// Gives a new installation its first secret.
///
/// # Errors
/// Keys or database.
pub(crate) async fn create(write: &mut Write<'_>, ring: &Ring) -> anyhow::Result<()> {
    let (_, row) = ring.new_data_key(&owner(1), Purpose::Registry)?;
    Ok(write.data_key_insert(&row).await?)
}

impl Templates {
    /// The newest secret, or none for an installation that has none yet.
    ///
    /// # Errors
    /// Keys or database.
    pub(crate) async fn load(store: &Store, ring: &Ring) -> anyhow::Result<Self> {
        let newest = store.template_secrets().await?.pop();
        let base = match newest {
            Some(row) => Secret::open(ring, &row)?,
            None => Secret::NONE,
        };
        Ok(Self {
            base,
            known: Mutex::default(),
        })
    }

    /// A template as a gate sends it, brought under the secret in which this server works.
    ///
    /// # Errors
    /// The template is none.
    pub(crate) fn enter(&self, template: &Template) -> Result<Template, NotTurned> {
        self.base.protect(template)
    }

    async fn secret(&self, state: &AppState, version: u32) -> Result<Secret, RegistryError> {
        if version == self.base.version {
            return Ok(self.base.clone());
        }
        if version == 0 {
            return Ok(Secret::NONE);
        }
        let known = |known: &Mutex<BTreeMap<u32, Secret>>| {
            known
                .lock()
                .ok()
                .and_then(|known| known.get(&version).cloned())
        };
        if let Some(secret) = known(&self.known) {
            return Ok(secret);
        }
        let row = state
            .store
            .data_key(&owner(version), Purpose::Registry)
            .await?
            .ok_or(StoreError::Corrupt("reference.secret_version"))?;
        let secret = Secret::open(&state.keys.ring, &row)?;
        if let Ok(mut known) = self.known.lock() {
            known.insert(version, secret.clone());
        }
        Ok(secret)
    }

    /// A stored template in the secret in which this server works.
    ///
    /// # Errors
    /// The version is unknown, or database or keys failed.
    pub(crate) async fn taken_out(
        &self,
        state: &AppState,
        version: u32,
        template: Template,
    ) -> Result<Template, RegistryError> {
        let secret = self.secret(state, version).await?;
        Ok(secret
            .over(template, &self.base)
            .map_err(|_| StoreError::Corrupt("reference.template_sealed"))?)
    }

    /// A template of this server's as it is stored under `version`.
    ///
    /// # Errors
    /// As [`Self::taken_out`].
    pub(crate) async fn put_away(
        &self,
        state: &AppState,
        version: u32,
        template: Template,
    ) -> Result<Template, RegistryError> {
        let secret = self.secret(state, version).await?;
        Ok(self
            .base
            .over(template, &secret)
            .map_err(|_| StoreError::Corrupt("reference.template_sealed"))?)
    }
}

/// The newest secret's version in the database; 0 when there is none.
pub(crate) fn newest(rows: &[DataKeyRow]) -> u32 {
    rows.last()
        .and_then(|row| version_of(&row.owner))
        .unwrap_or(0)
}

/// What a renewal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The secret that all references are under now.
    pub version: u32,
    /// References brought over by this run.
    pub references: u64,
    /// Was an earlier run's renewal continued?
    pub continued: bool,
}

/// Makes a new secret, brings all references under it and destroys the older ones. Servers may run meanwhile; each works in its
/// own secret until it is started again. `progress` is told the number of references done after each batch.
///
/// # Errors
/// It stopped in between; run it again.
pub async fn renew(
    state: &AppState,
    actor: &str,
    mut progress: impl FnMut(u64),
) -> Result<Renewed, RegistryError> {
    let rows = state.store.template_secrets().await?;
    // The last step of a finished renewal leaves one secret and nothing older.
    let continued = rows.len() > 1
        || !state
            .store
            .references_older(newest(&rows), 1)
            .await?
            .is_empty();
    let version = if continued {
        newest(&rows)
    } else {
        begin(state, newest(&rows) + 1, actor).await?
    };
    let mut references = 0;
    loop {
        let old = state.store.references_older(version, BATCH).await?;
        if old.is_empty() {
            break;
        }
        let fresh = brought_over(state, &old, version).await?;
        let mut write = state.store.write().await?;
        for (old, fresh) in old.iter().zip(&fresh) {
            references += u64::from(write.reference_replace(old, fresh).await?);
        }
        write.commit().await?;
        progress(references);
    }
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    // With the writer's seat taken: whoever enrols now sees the new version, whoever did before is above.
    if write.references_older(version, 1).await?.is_empty() {
        for row in write.template_secrets().await? {
            if version_of(&row.owner).is_some_and(|older| older < version) {
                write.data_keys_delete(&row.owner).await?;
            }
        }
    } else {
        return Err(RegistryError::Busy);
    }
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some(format!("template secret {version}")),
        decision: Some("renewed".to_owned()),
        ..audit::entry("templates_renewed", now)?
    };
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(Renewed {
        version,
        references,
        continued,
    })
}

async fn begin(state: &AppState, version: u32, actor: &str) -> Result<u32, RegistryError> {
    let (_, row) = state
        .keys
        .ring
        .new_data_key(&owner(version), Purpose::Registry)?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    // A review is bound to the templates as they are; what is submitted from now on is under the new secret.
    if write.enrolments_pending().await? {
        return Err(RegistryError::UnderReview);
    }
    write.data_key_insert(&row).await?;
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some(format!("template secret {version}")),
        decision: Some("made".to_owned()),
        ..audit::entry("templates_renewed", now)?
    };
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(version)
}

/// The rows with their templates under `version`; a person who was erased meanwhile is left as read, which replaces nothing.
async fn brought_over(
    state: &AppState,
    old: &[ReferenceRow],
    version: u32,
) -> Result<Vec<ReferenceRow>, RegistryError> {
    let templates = &state.keys.templates;
    let mut fresh = Vec::with_capacity(old.len());
    for row in old {
        let Some(subject) = state.store.subject(row.subject).await? else {
            fresh.push(row.clone());
            continue;
        };
        let key = registry::subject_key(state, &subject)?;
        let template = registry::opened(state, &key, row)?;
        let template = templates
            .taken_out(state, row.secret_version, template)
            .await?;
        let template = templates.put_away(state, version, template).await?;
        let bytes: Zeroizing<Vec<u8>> = registry::template_bytes(&template);
        let mut row = ReferenceRow {
            secret_version: version,
            ..row.clone()
        };
        row.template_sealed = registry::seal_template_bytes(state, &key, &row, &bytes)?;
        fresh.push(row);
    }
    Ok(fresh)
}
