//! Backup and restore.
//!
//! A backup is one file, encrypted with age for its custodians' public keys, made from a view of one moment while the server runs.
//! It holds what the database holds, wrapped keys among it, but no key-encryption key: `registry.key` is backed up apart from it.
//! Sessions and unused one-time tokens are left out. A restored log must continue the last checkpoint that is known from elsewhere;
//! if it does not, the restored installation is not opened unless somebody takes that upon himself, and the log says so.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use age::x25519::{Identity, Recipient};
use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::Config;
use crate::keys::key_path;
use crate::state::AppState;
use crate::store::Store;
use crate::store::copy::{Kind, Table, Value};
use crate::{audit, installation};

const FORMAT: u32 = 1;

/// Of no use after a restore, or dangerous.
const TRANSIENT: &[&str] = &["session", "setup_token", "join_token", "ceremony"];

/// Longest line of a backup: a row with a sealed picture.
const MAX_LINE: u64 = 256 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    sallyport_backup: u32,
    schema: Vec<i64>,
    config: String,
    log_size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Table(Table),
    Row(Vec<Json>),
    End { rows: u64 },
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Rows of all tables.
    pub rows: u64,
    /// Entries of the log.
    pub log_size: u64,
}

fn to_json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Text(text) => Json::String(text),
        Value::Integer(number) => number.into(),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
    }
}

fn from_json(value: Json, kind: Kind) -> Option<Value> {
    match (value, kind) {
        (Json::Null, _) => Some(Value::Null),
        (Json::String(text), Kind::Text) => Some(Value::Text(text)),
        (Json::String(text), Kind::Bytes) => STANDARD.decode(text).ok().map(Value::Bytes),
        (Json::Number(number), Kind::Integer) => number.as_i64().map(Value::Integer),
        (
            Json::String(_) | Json::Number(_) | Json::Bool(_) | Json::Array(_) | Json::Object(_),
            _,
        ) => None,
    }
}

/// Makes a custodian's key pair: the private half into a new file, the public half is returned.
///
/// # Errors
/// The file exists or the disk refuses.
pub fn new_custodian(path: &Path) -> anyhow::Result<String> {
    use age::secrecy::ExposeSecret as _;
    let identity = Identity::generate();
    let public = identity.to_public().to_string();
    let mut file = new_file(path)?;
    writeln!(
        file,
        "# Opens backups made for {public}. Keep it away from the server.\n{}",
        identity.to_string().expose_secret()
    )
    .and_then(|()| file.sync_all())
    .with_context(|| format!("writing {}", path.display()))?;
    Ok(public)
}

fn new_file(path: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| {
            format!(
                "creating {}; an existing file is never written over",
                path.display()
            )
        })
}

/// Writes a backup to a new file for these custodians (`age1…`).
///
/// # Errors
/// A recipient is not valid, or database or disk refuse; no file is left then.
pub async fn backup(
    state: &AppState,
    path: &Path,
    recipients: &[String],
    actor: &str,
) -> anyhow::Result<Copied> {
    let recipients: Vec<Recipient> = recipients
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|error| anyhow::anyhow!("'{text}' is not a recipient (age1…): {error}"))
        })
        .collect::<Result<_, _>>()?;
    ensure!(
        !recipients.is_empty(),
        "name at least one custodian: --recipient age1…; make a key pair with: sallyport-server backup-key FILE"
    );
    // In the log first, so that the backup holds its own entry.
    let entry = Entry {
        actor: Some(actor.to_owned()),
        decision: Some("made".to_owned()),
        ..audit::entry("backup", state.clock.now())?
    };
    audit::record(state, entry).await?;
    audit::publish(state).await?;
    let part = path.with_extension("part");
    let file = new_file(&part)?;
    let written = write_to(state, file, &recipients).await;
    match written {
        Ok(copied) => {
            // Not over an existing file.
            std::fs::hard_link(&part, path)
                .with_context(|| format!("naming {}", path.display()))
                .inspect_err(|_| remove(&part))?;
            remove(&part);
            Ok(copied)
        }
        Err(error) => {
            remove(&part);
            Err(error)
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "a temporary file is left");
    }
}

async fn write_to(
    state: &AppState,
    file: std::fs::File,
    recipients: &[Recipient],
) -> anyhow::Result<Copied> {
    let encryptor = age::Encryptor::with_recipients(
        recipients
            .iter()
            .map(|recipient| recipient as &dyn age::Recipient),
    )
    .context("encrypting for the custodians")?;
    let mut out = encryptor.wrap_output(std::io::BufWriter::new(file))?;
    let mut snapshot = state.store.snapshot().await?;
    let tables = snapshot.tables().await?;
    let mut line = |line: &Line| -> anyhow::Result<()> {
        serde_json::to_writer(&mut out, line)?;
        Ok(out.write_all(b"\n")?)
    };
    let header = Header {
        sallyport_backup: FORMAT,
        schema: Store::schema(),
        config: state.config.text()?,
        log_size: 0,
    };
    line(&Line::Row(vec![serde_json::to_value(header)?]))?;
    let (mut rows, mut log_size) = (0, 0);
    for table in tables {
        if TRANSIENT.contains(&table.name.as_str()) {
            continue;
        }
        line(&Line::Table(table.clone()))?;
        let mut stream = snapshot.rows(&table);
        while let Some(row) = stream.try_next().await? {
            line(&Line::Row(row.into_iter().map(to_json).collect()))?;
            rows += 1;
            log_size += u64::from(table.name == "log_entry");
        }
    }
    line(&Line::End { rows })?;
    let buffered = out.finish().context("ending the encryption")?;
    let file = buffered
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(Copied { rows, log_size })
}

/// What is needed to restore.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The backup.
    pub backup: &'a Path,
    /// Custodian's private key file.
    pub identity: &'a Path,
    /// The installation's `registry.key`, from its own backup.
    pub key_file: &'a Path,
    /// What opens the key file, where it needs something.
    pub secret: Option<&'a Zeroizing<String>>,
    /// Addresses of a new PostgreSQL database and of its owner; without them SQLite in the data folder.
    pub database: Option<(&'a str, &'a str)>,
    /// The newest checkpoint known: the `checkpoint` file of the lost server, or a gate's copy. None: nothing is left.
    pub checkpoint: Option<&'a Path>,
    /// Go on although the backup is older than the checkpoint; recorded in the log.
    pub accept_lost_entries: bool,
}

/// Restores into a new data folder and checks everything before it may be served.
///
/// # Errors
/// Wrong key, damaged file, or a log that does not continue the known checkpoint. The sentence says what to do.
pub async fn restore(
    data: &Path,
    from: &Restore<'_>,
    clock: Arc<dyn Clock>,
    actor: &str,
) -> anyhow::Result<Copied> {
    installation::check_new_folder(data)?;
    let mut lines = open_backup(from.backup, from.identity)?;
    let header = lines.header()?;
    let mut config = Config::parse(&header.config)?;
    config.database.clear();
    if let Some((database, owner)) = from.database {
        database.clone_into(&mut config.database);
        Store::install(owner, database)
            .await
            .context("making the tables")?;
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("creating {}", data.display()))?;
    copy_private(from.key_file, &key_path(data))?;
    let store = Store::open(&config.database_url(data, true))
        .await
        .context("creating the database")?;
    let mut filling = store.fill().await?;
    let copied = lines.pour(&mut filling).await?;
    filling.commit().await?;
    store.close().await;
    let kept = audit::checkpoint_file(data);
    if let Some(checkpoint) = from.checkpoint {
        copy_private(checkpoint, &kept)?;
    }
    config.create(data)?;
    let opened = match check(data, from, clock.clone()).await {
        Err(error) if from.accept_lost_entries && from.checkpoint.is_some() => {
            let lost = data.join("checkpoint.lost");
            std::fs::rename(&kept, &lost)
                .with_context(|| format!("keeping {} as evidence", lost.display()))?;
            tracing::warn!("{error:#}");
            check(data, from, clock).await.map(|state| (state, true))
        }
        checked => checked.map(|state| (state, false)),
    };
    let (state, lost) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // Nobody can serve it so.
            let config = data.join("server.toml");
            std::fs::remove_file(&config)
                .with_context(|| format!("removing {}", config.display()))?;
            return Err(error.context(
                "the restored database is not accepted. If the entries after the backup are lost for good, restore again into a new folder with --accept-lost-entries; the log and the gates will say so",
            ));
        }
    };
    let entry = Entry {
        actor: Some(actor.to_owned()),
        decision: Some(if lost { "entries_lost" } else { "complete" }.to_owned()),
        about: Some(format!("backup of {} entries", copied.log_size)),
        ..audit::entry("restored", state.clock.now())?
    };
    audit::record(&state, entry).await?;
    audit::publish(&state).await?;
    state.store.close().await;
    Ok(copied)
}

async fn check(data: &Path, from: &Restore<'_>, clock: Arc<dyn Clock>) -> anyhow::Result<AppState> {
    let state = installation::open_with(data, clock, from.secret).await?;
    audit::check(&state).await?;
    Ok(state)
}

pub(crate) fn copy_private(from: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes =
        Zeroizing::new(std::fs::read(from).with_context(|| format!("reading {}", from.display()))?);
    let mut file = new_file(to)?;
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", to.display()))
}

struct Lines {
    reader: BufReader<Box<dyn Read>>,
}

fn open_backup(path: &Path, identity: &Path) -> anyhow::Result<Lines> {
    let text = Zeroizing::new(
        std::fs::read_to_string(identity)
            .with_context(|| format!("reading {}", identity.display()))?,
    );
    let identity: Identity = text
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY-"))
        .and_then(|line| line.trim().parse().ok())
        .with_context(|| {
            format!(
                "{} holds no private key of a custodian (AGE-SECRET-KEY-…)",
                identity.display()
            )
        })?;
    let file = std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let decryptor = age::Decryptor::new(BufReader::new(file))
        .with_context(|| format!("{} is not a backup", path.display()))?;
    let reader = decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .with_context(|| {
            format!(
                "{} was not made for this custodian's key, or was changed",
                path.display()
            )
        })?;
    Ok(Lines {
        reader: BufReader::new(Box::new(reader)),
    })
}

impl Lines {
    fn next(&mut self) -> anyhow::Result<Line> {
        let mut line = Vec::new();
        (&mut self.reader)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .context("the backup is damaged or cut off")?;
        serde_json::from_slice(&line).context("the backup is damaged or cut off")
    }

    fn header(&mut self) -> anyhow::Result<Header> {
        let Line::Row(mut fields) = self.next()? else {
            bail!("this is not a backup of an installation");
        };
        let header: Header = fields
            .pop()
            .and_then(|field| serde_json::from_value(field).ok())
            .context("this is not a backup of an installation")?;
        ensure!(
            header.sallyport_backup == FORMAT && header.schema == Store::schema(),
            "the backup was made by another version of this program; restore it with that version, then update"
        );
        Ok(header)
    }

    async fn pour(&mut self, filling: &mut crate::store::copy::Filling) -> anyhow::Result<Copied> {
        let known = filling.tables().await?;
        let mut into: Option<Table> = None;
        let mut copied = Copied {
            rows: 0,
            log_size: 0,
        };
        loop {
            match self.next()? {
                Line::Table(table) => {
                    ensure!(
                        known.contains(&table),
                        "the backup's tables are not those of this version"
                    );
                    into = Some(table);
                }
                Line::Row(fields) => {
                    let table = into.as_ref().context("the backup is damaged")?;
                    ensure!(fields.len() == table.columns.len(), "the backup is damaged");
                    let row = fields
                        .into_iter()
                        .zip(&table.columns)
                        .map(|(field, (_, kind))| from_json(field, *kind))
                        .collect::<Option<Vec<_>>>()
                        .context("the backup is damaged")?;
                    filling.insert(table, row).await?;
                    copied.rows += 1;
                    copied.log_size += u64::from(table.name == "log_entry");
                }
                Line::End { rows } => {
                    ensure!(
                        rows == copied.rows,
                        "the backup is damaged: rows are missing"
                    );
                    // Decryption of the last block proves that nothing was cut off.
                    let mut rest = [0];
                    ensure!(
                        self.reader
                            .read(&mut rest)
                            .context("the backup is cut off")?
                            == 0,
                        "the backup is damaged: something follows its end"
                    );
                    return Ok(copied);
                }
            }
        }
    }
}
