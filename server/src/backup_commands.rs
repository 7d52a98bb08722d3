//! `sallyport-server backup`, `restore` and `registry migrate-store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sallyport_server::clock::SystemClock;
use sallyport_server::{backup, moving};

use super::{ACTOR, Data, open};

/// `backup`.
#[derive(Args)]
pub(super) struct Backup {
    /// New file.
    file: PathBuf,
    /// Public key of a custodian (age1…); any one of several can open the backup.
    #[arg(long = "recipient", required = true)]
    recipients: Vec<String>,
    #[command(flatten)]
    data: Data,
}

/// `restore`.
#[derive(Args)]
pub(super) struct Restoration {
    /// The backup.
    file: PathBuf,
    /// The custodian's private key file.
    #[arg(long)]
    identity: PathBuf,
    /// The installation's registry.key, from its own backup.
    #[arg(long)]
    key: PathBuf,
    /// The newest checkpoint that is known: the lost server's file 'checkpoint', or a gate's copy. An older backup is refused.
    #[arg(long, required_unless_present = "no_checkpoint")]
    checkpoint: Option<PathBuf>,
    /// No checkpoint is left anywhere.
    #[arg(long, conflicts_with = "checkpoint")]
    no_checkpoint: bool,
    /// Go on although entries after the backup are lost. The log says so, and gates that remember them raise an alarm.
    #[arg(long, requires = "checkpoint")]
    accept_lost_entries: bool,
    /// Address of a new PostgreSQL database; without it SQLite.
    #[arg(long, requires = "database_owner")]
    database: Option<String>,
    /// Address of the role that owns its tables.
    #[arg(long, env = "SALLYPORT_DATABASE_OWNER", hide_env_values = true)]
    database_owner: Option<String>,
    #[command(flatten)]
    data: Data,
}

/// `registry migrate-store`.
#[derive(Args)]
pub(super) struct Move {
    /// Address of the new database, as the role that serves.
    #[arg(long)]
    database: String,
    /// Its address as the role that owns the tables. It is not stored.
    #[arg(long, env = "SALLYPORT_DATABASE_OWNER", hide_env_values = true)]
    database_owner: String,
    #[command(flatten)]
    data: Data,
}

pub(super) fn new_custodian(file: &Path) -> anyhow::Result<()> {
    println!("{}", backup::new_custodian(file)?);
    Ok(())
}

pub(super) async fn backup(arguments: Backup) -> anyhow::Result<()> {
    let state = open(&arguments.data).await?;
    let copied = backup::backup(&state, &arguments.file, &arguments.recipients, ACTOR).await?;
    println!(
        "{} rows, {} log entries in {}. It does not hold registry.key.",
        copied.rows,
        copied.log_size,
        arguments.file.display()
    );
    Ok(())
}

pub(super) async fn restore(arguments: Restoration) -> anyhow::Result<()> {
    let secret = arguments.data.secret()?;
    let from = backup::Restore {
        backup: &arguments.file,
        identity: &arguments.identity,
        key_file: &arguments.key,
        secret: secret.as_ref(),
        database: arguments
            .database
            .as_deref()
            .zip(arguments.database_owner.as_deref()),
        checkpoint: arguments.checkpoint.as_deref(),
        accept_lost_entries: arguments.accept_lost_entries,
    };
    let data = &arguments.data.data;
    let copied = backup::restore(data, &from, Arc::new(SystemClock), ACTOR).await?;
    println!(
        "{} rows and {} log entries restored and verified. Next: sallyport-server serve --data {}\n\
         Since the backup people may have been removed and gates revoked: do that again.",
        copied.rows,
        copied.log_size,
        data.display()
    );
    Ok(())
}

pub(super) async fn migrate(arguments: Move) -> anyhow::Result<()> {
    let data = &arguments.data;
    let secret = data.secret()?;
    let copied = moving::migrate_store(
        &data.data,
        &arguments.database,
        &arguments.database_owner,
        Arc::new(SystemClock),
        secret.as_ref(),
        ACTOR,
    )
    .await?;
    println!(
        "{} rows moved to PostgreSQL, {} log entries verified there. The old file is {}/sallyport.db.moved; destroy it when all is well.",
        copied.rows,
        copied.log_size,
        data.data.display()
    );
    Ok(())
}
