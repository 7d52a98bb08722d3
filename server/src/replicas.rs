//! Several servers on one database, or a server and the command line: what one changes, the others take up.
//!
//! The truth is the table `registry_change` with its sequence; each server knows up to where it has followed. PostgreSQL's
//! notifications only say *now*: they may be lost with a connection, so after every gap, and twice a second in any case, the sequence
//! is read again. On SQLite there is only the latter.

use std::collections::BTreeSet;
use std::time::Duration;

use sallyport_domain::TransactionId;
use sqlx::postgres::{PgListener, PgNotification};
use tokio::sync::watch;

use crate::registry::{self, RegistryError};
use crate::state::AppState;
use crate::store::{Engine, StoreError};

/// Changes are looked for this often even when nobody gave notice.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Between attempts to reach a database that is away.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// Passages announced after a gap; the officers' pages ask for older ones themselves.
const ANNOUNCED: u32 = 200;

/// Sent by triggers of the database with each change.
const REGISTRY: &str = "sallyport_registry";
const PASSAGE: &str = "sallyport_passage";
const REVIEW: &str = "sallyport_review";

/// Takes up all changes of the registry that are committed by now; returns the sequence up to which this server has followed.
///
/// # Errors
/// The database failed; what was not taken up is taken up the next time.
pub async fn catch_up(state: &AppState) -> Result<i64, RegistryError> {
    let mut followed = state.followed.lock().await;
    let changes = state.store.registry_changes(*followed).await?;
    let Some((newest, _)) = changes.last().copied() else {
        return Ok(*followed);
    };
    let subjects: BTreeSet<_> = changes.into_iter().map(|(_, subject)| subject).collect();
    for subject in subjects {
        registry::reload(state, subject).await?;
    }
    *followed = newest;
    state.caught_up.send_replace(newest);
    // In plain text, whatever the terminal: programs that wait for it read it.
    tracing::info!("changes of the registry are taken up, followed={newest}");
    Ok(newest)
}

/// This server made change `seq` itself and its gallery has it: nothing to take up, unless others changed something before.
pub(crate) async fn own_change(state: &AppState, seq: i64) {
    let mut followed = state.followed.lock().await;
    if *followed == seq - 1 {
        *followed = seq;
        state.caught_up.send_replace(seq);
    }
}

/// Follows until the server stops. Failures are said and tried again.
pub async fn follow(state: AppState, stop: watch::Receiver<bool>) {
    let notices = notices(&state, stop.clone());
    let turns = turns(&state, stop);
    tokio::join!(notices, turns);
}

async fn turns(state: &AppState, mut stop: watch::Receiver<bool>) {
    let mut turn = tokio::time::interval(FOLLOW_EVERY);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = turn.tick() => said(catch_up(state).await),
        }
    }
}

fn said(result: Result<i64, RegistryError>) {
    if let Err(error) = result {
        tracing::error!(%error, "changes of the registry could not be read");
    }
}

async fn notices(state: &AppState, mut stop: watch::Receiver<bool>) {
    if state.store.engine() == Engine::Sqlite {
        return;
    }
    // Where the log stood when everything was known; after a gap passages from here on are announced.
    let mut known = state.store.log_size().await.unwrap_or(0);
    loop {
        let heard = tokio::select! {
            _ = stop.changed() => return,
            heard = listen(state, &mut known) => heard,
        };
        if let Err(error) = heard {
            tracing::warn!(%error, "no notices from the database; changes of other servers arrive later");
        }
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(RECONNECT_AFTER) => {}
        }
    }
}

/// Listens until the connection ends.
async fn listen(state: &AppState, known: &mut u64) -> Result<(), StoreError> {
    let url = state.config.database_url(&state.data, false);
    let mut listener = PgListener::connect(&url).await?;
    listener.eager_reconnect(false);
    listener.listen_all([REGISTRY, PASSAGE, REVIEW]).await?;
    // Only now nothing can be missed any more: take up what happened before.
    after_gap(state, known).await?;
    while let Some(notification) = listener.try_recv().await? {
        let mut more = Some(notification);
        let mut changed = false;
        while let Some(one) = more {
            changed |= one.channel() == REGISTRY;
            announce(state, &one);
            more = listener.next_buffered();
        }
        if changed {
            said(catch_up(state).await);
        }
        *known = state.store.log_size().await?;
    }
    Ok(())
}

/// Payload: name of the server that wrote, a space, the passage.
fn announce(state: &AppState, notification: &PgNotification) {
    let Some((origin, transaction)) = notification.payload().split_once(' ') else {
        return;
    };
    if origin == state.store.name() {
        return;
    }
    if let Ok(transaction) = transaction.parse::<TransactionId>() {
        state.announce(transaction);
    }
    if notification.channel() == REVIEW {
        state.reviewed.notify_waiters();
    }
}

async fn after_gap(state: &AppState, known: &mut u64) -> Result<(), StoreError> {
    said(catch_up(state).await);
    let size = state.store.log_size().await?;
    if size > *known {
        for passage in state.store.passages(None, ANNOUNCED).await? {
            let reviewed = passage.review.as_ref().map_or(0, |review| review.log_index);
            if passage.log_index >= *known || reviewed >= *known {
                state.announce(passage.transaction);
            }
        }
        state.reviewed.notify_waiters();
    }
    *known = size;
    Ok(())
}
