//! The log as it grows, to other systems: syslog over TLS (RFC 5424, 5425) and signed webhooks.
//!
//! Streams stand in `streams.toml` of the data folder. Each has a place in the log that is kept in the database and moves only when the
//! receiver has taken what was sent, so that nothing is skipped: not when the receiver is away for a week, and not when this server
//! ends at any moment. What was sent may then come again; every message carries its index. Only entries under a signed checkpoint go out.

mod deliver;
mod format;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use sallyport_domain::Timestamp;
use sallyport_transparency::{Checkpoint, Entry};
use serde::Deserialize;
use tokio::sync::watch;

use crate::audit::{self, AuditError};
use crate::state::AppState;

pub use deliver::{Undelivered, webhook_key};
pub use format::{Event, Format};

/// Configuration in the data folder.
pub const FILE: &str = "streams.toml";
/// Entries in one delivery.
const BATCH: u32 = 256;
/// Pause when there is nothing to send.
const IDLE: Duration = Duration::from_secs(1);
/// Pauses after failures: one second, doubled each time, to a minute.
const LONGEST_PAUSE_S: u64 = 60;
/// Another server of the same database takes a stream over when this one was silent for so long.
const LEASE_MS: i64 = 30_000;
/// A receiver that failed for so long is an entry.
pub const LOST_MS: i64 = 60_000;

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name; the place in the log is kept under it.
    pub name: String,
    /// Where to.
    pub target: Target,
    /// What each entry looks like.
    pub format: Format,
    /// Certificates of the authorities of the receiver, PEM. Without it no HTTPS and no syslog is trusted.
    pub authorities: Option<PathBuf>,
}

/// Where a stream goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Syslog over TLS, RFC 5425.
    Syslog {
        /// `host:port`; the certificate must be for the host.
        address: String,
    },
    /// HTTP POST with a signature.
    Webhook {
        /// `https://…`, or `http://` to this machine only.
        url: String,
    },
}

impl Target {
    /// For people and the log: without anything secret.
    fn shown(&self) -> String {
        match self {
            Self::Syslog { address } => format!("syslog {address}"),
            // A query may hold a token.
            Self::Webhook { url } => {
                format!("webhook {}", url.split('?').next().unwrap_or_default())
            }
        }
    }
}

/// A stream as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    syslog: Option<String>,
    webhook: Option<String>,
    #[serde(default)]
    format: Format,
    authorities: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    stream: Vec<Written>,
}

/// The streams of the installation.
///
/// # Errors
/// The file is there and is not right.
pub fn configured(state: &AppState) -> Result<Vec<Stream>, AuditError> {
    let path = state.data.join(FILE);
    let failed = |source| AuditError::File {
        path: path.display().to_string(),
        source,
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    written(&text).map_err(|what| failed(std::io::Error::other(what)))
}

/// The streams of a file's text.
///
/// # Errors
/// It is not right: what, in a sentence.
pub fn written(text: &str) -> Result<Vec<Stream>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut names = BTreeSet::new();
    let mut streams = Vec::new();
    for stream in file.stream {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name = stream.name;
        if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
            return Err(format!(
                "'{name}' is no name of a stream: use letters, digits and '-'"
            ));
        }
        if !names.insert(name.clone()) {
            return Err(format!("two streams are named {name}"));
        }
        let target = match (stream.syslog, stream.webhook) {
            (Some(address), None) => Target::Syslog { address },
            (None, Some(url)) => Target::Webhook { url },
            (None, None) | (Some(_), Some(_)) => {
                return Err(format!(
                    "stream {name} needs either syslog = \"HOST:PORT\" or webhook = \"https://…\""
                ));
            }
        };
        streams.push(Stream {
            name,
            target,
            format: stream.format,
            authorities: stream.authorities,
        });
    }
    Ok(streams)
}

/// Runs all streams until the server stops; a change of the file is taken up by a restart.
pub async fn run(state: AppState, stop: watch::Receiver<bool>) {
    let streams = match configured(&state) {
        Ok(streams) => streams,
        Err(error) => {
            tracing::error!(error = %error, "no stream runs");
            return;
        }
    };
    let mut running = tokio::task::JoinSet::new();
    for stream in streams {
        running.spawn(follow(state.clone(), stream, stop.clone()));
    }
    running.join_all().await;
}

async fn follow(state: AppState, stream: Stream, mut stop: watch::Receiver<bool>) {
    let mut trouble = Trouble::default();
    let mut failures = 0_u32;
    loop {
        let pause = match step(&state, &stream, &mut trouble).await {
            Ok(Step::Sent(_)) => {
                failures = 0;
                Duration::ZERO
            }
            Ok(Step::UpToDate | Step::Elsewhere) => {
                failures = 0;
                IDLE
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(stream = stream.name, error = %error, "a stream cannot be delivered; it is tried again");
                }
                failures = failures.saturating_add(1);
                Duration::from_secs((1 << (failures - 1).min(6)).min(LONGEST_PAUSE_S))
            }
        };
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Why a step was not made; it is made again.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The receiver did not take it.
    #[error(transparent)]
    Undelivered(#[from] Undelivered),
    /// Database or log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<crate::store::StoreError> for StreamError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Audit(error.into())
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many entries were taken by the receiver.
    Sent(u64),
    /// There is nothing to send.
    UpToDate,
    /// Another server of this database runs the stream.
    Elsewhere,
}

/// Since when a stream fails, and whether the log says so.
#[derive(Debug, Default)]
pub struct Trouble {
    since: Option<Timestamp>,
    logged: bool,
}

/// Sends the next entries, at most 256, and moves the stream's place behind them.
///
/// # Errors
/// Nothing moved; the same entries are sent again.
pub async fn step(
    state: &AppState,
    stream: &Stream,
    trouble: &mut Trouble,
) -> Result<Step, StreamError> {
    let now = state.clock.now();
    let Some(note) = state.store.checkpoint().await? else {
        return Ok(Step::UpToDate);
    };
    let checkpoint = Checkpoint::open(note.as_bytes(), state.keys.log.verifier())
        .map_err(crate::audit::refused)?;
    let known = state.store.streams().await?;
    // Nothing is written while there is nothing to send.
    if known
        .iter()
        .any(|(name, next)| *name == stream.name && *next >= checkpoint.size)
    {
        return Ok(Step::UpToDate);
    }
    let mut write = state.store.write().await?;
    let taken = write
        .stream_take(
            &stream.name,
            state.store.name(),
            now,
            now.plus_millis(LEASE_MS),
        )
        .await?;
    let Some((next, new)) = taken else {
        return Ok(Step::Elsewhere);
    };
    if new {
        let entry = Entry {
            about: Some(format!("{}: {}", stream.name, stream.target.shown())),
            ..audit::entry("stream_added", now)?
        };
        audit::append(state, &mut write, entry, None).await?;
    }
    write.commit().await?;
    let rows = state.store.log_entries(next, BATCH).await?;
    let mut events = Vec::new();
    for (index, bytes) in rows {
        if index >= checkpoint.size {
            break;
        }
        // A gap is not passed over: somebody took an entry away.
        if index != next + events.len() as u64 {
            let missing = next + events.len() as u64;
            return Err(AuditError::Damaged(format!("entry {missing} is missing")).into());
        }
        events.push(Event { index, bytes });
    }
    let sent = events.len() as u64;
    if sent == 0 {
        return Ok(Step::UpToDate);
    }
    let delivered = deliver::deliver(state, stream, events, &note, now).await;
    noted(state, stream, trouble, delivered.is_ok()).await?;
    delivered?;
    let mut write = state.store.write().await?;
    write
        .stream_moved(&stream.name, state.store.name(), next, next + sent)
        .await?;
    write.commit().await?;
    Ok(Step::Sent(sent))
}

/// A receiver that is away for a minute, and its return, are entries.
async fn noted(
    state: &AppState,
    stream: &Stream,
    trouble: &mut Trouble,
    good: bool,
) -> Result<(), AuditError> {
    let now = state.clock.now();
    let kind = if good {
        trouble.since = None;
        if !std::mem::take(&mut trouble.logged) {
            return Ok(());
        }
        "stream_back"
    } else {
        let since = *trouble.since.get_or_insert(now);
        if trouble.logged || now.millis_since(since) < LOST_MS {
            return Ok(());
        }
        trouble.logged = true;
        "stream_lost"
    };
    let entry = Entry {
        about: Some(stream.name.clone()),
        ..audit::entry(kind, now)?
    };
    audit::record(state, entry).await.map(drop)
}
