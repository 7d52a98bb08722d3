//! An installation moves from SQLite to PostgreSQL, log and all.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use futures_util::TryStreamExt as _;
use sallyport_transparency::Entry;
use zeroize::Zeroizing;

use crate::backup::{Copied, copy_private};
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::key_path;
use crate::store::Store;
use crate::{audit, installation};

/// Moves an installation from SQLite to an empty PostgreSQL database, log and all; the old file is renamed. The server must be stopped.
///
/// # Errors
/// A server runs, the database is not empty, or the copy is not equal; the installation stays as it was then.
pub async fn migrate_store(
    data: &Path,
    database: &str,
    owner: &str,
    clock: Arc<dyn Clock>,
    secret: Option<&Zeroizing<String>>,
    actor: &str,
) -> anyhow::Result<Copied> {
    let _alone = installation::lock(data)?;
    let old = installation::open_with(data, clock.clone(), secret).await?;
    ensure!(
        old.config.database.is_empty(),
        "this installation is on PostgreSQL already"
    );
    audit::check(&old).await?;
    audit::publish(&old).await?;
    Store::install(owner, database)
        .await
        .context("making the tables")?;
    let new = Store::open(database)
        .await
        .context("opening the new database")?;
    let mut frozen = old.store.frozen().await?;
    let mut filling = new.fill().await?;
    let tables = frozen.tables().await?;
    let there = filling.tables().await?;
    let mut copied = Copied {
        rows: 0,
        log_size: 0,
    };
    for table in &tables {
        ensure!(
            there.contains(table),
            "the new database lacks {}",
            table.name
        );
        let mut stream = frozen.rows(table);
        while let Some(row) = stream.try_next().await? {
            filling.insert(table, row).await?;
            copied.rows += 1;
            copied.log_size += u64::from(table.name == "log_entry");
        }
    }
    filling.commit().await?;
    new.close().await;
    let config = Config {
        database: database.to_owned(),
        ..old.config.clone()
    };
    // Checked in a folder of its own before the installation is switched over.
    let trial = data.join("migrating");
    check_copy(&trial, data, &config, clock.clone(), secret).await?;
    config.replace(data)?;
    // Until here the old database took no entry from anybody; from here on it never will.
    frozen.seal_off().await?;
    old.store.close().await;
    for suffix in ["", "-wal", "-shm"] {
        let from = data.join(format!("sallyport.db{suffix}"));
        if from.exists() {
            let to = data.join(format!("sallyport.db.moved{suffix}"));
            std::fs::rename(&from, &to).with_context(|| format!("renaming {}", from.display()))?;
        }
    }
    let state = installation::open_with(data, clock, secret).await?;
    let entry = Entry {
        actor: Some(actor.to_owned()),
        decision: Some("moved".to_owned()),
        about: Some(format!("{} entries to PostgreSQL", copied.log_size)),
        ..audit::entry("store_moved", state.clock.now())?
    };
    audit::record(&state, entry).await?;
    audit::publish(&state).await?;
    state.store.close().await;
    Ok(copied)
}

async fn check_copy(
    trial: &Path,
    data: &Path,
    config: &Config,
    clock: Arc<dyn Clock>,
    secret: Option<&Zeroizing<String>>,
) -> anyhow::Result<()> {
    let remove = || std::fs::remove_dir_all(trial);
    if trial.exists() {
        remove().with_context(|| format!("removing {}", trial.display()))?;
    }
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(trial)
        .with_context(|| format!("creating {}", trial.display()))?;
    let checked = async {
        copy_private(&key_path(data), &key_path(trial))?;
        let checkpoint = audit::checkpoint_file(data);
        if checkpoint.exists() {
            copy_private(&checkpoint, &audit::checkpoint_file(trial))?;
        }
        config.create(trial)?;
        let state = installation::open_with(trial, clock, secret).await?;
        audit::check(&state).await?;
        state.store.close().await;
        anyhow::Ok(())
    }
    .await;
    remove().with_context(|| format!("removing {}", trial.display()))?;
    checked.context("the copy is not equal to the original; the installation was not switched over")
}
