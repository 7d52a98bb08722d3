//! The log's static files for monitors, over HTTPS on a port of their own: checkpoint, tiles and entry bundles as
//! <https://c2sp.org/tlog-tiles> names them. Read only, for anybody who reaches the port; off unless `monitor_listen` is set.
//!
//! Only what the newest signed checkpoint covers is served, so every file is final: what is there never changes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sallyport_transparency::{Checkpoint, TILE_WIDTH, TilePath, TileSpot, encode_bundle};
use tokio::sync::Semaphore;

use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::{export, witness};

/// Files that are read from the database at once, so that monitors never take its connections from the gates.
const AT_ONCE: usize = 2;
/// A request that has not been served by then is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Monitored {
    state: AppState,
    seats: Arc<Semaphore>,
}

/// The routes for monitors.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .with_state(Monitored {
            state,
            seats: Arc::new(Semaphore::new(AT_ONCE)),
        })
}

async fn checkpoint(State(monitored): State<Monitored>) -> Response {
    patiently(&monitored, async |state| {
        let policy = witness::policy(state).await?;
        let (note, size) = export::chosen(state, &policy, true).await?;
        // A log without a signed checkpoint has nothing to show.
        Ok((size > 0).then(|| note.into_bytes()))
    })
    .await
    .map_or_else(
        |refused| refused,
        |bytes| {
            file(
                bytes,
                "text/plain; charset=utf-8",
                "public, max-age=1, must-revalidate",
            )
        },
    )
}

async fn tile(State(monitored): State<Monitored>, Path(path): Path<String>) -> Response {
    let Some((path, spot)) = TilePath::locate(&format!("tile/{path}")) else {
        return nothing();
    };
    patiently(&monitored, async |state| bytes_of(state, &path, spot).await)
        .await
        .map_or_else(
            |refused| refused,
            |bytes| {
                file(
                    bytes,
                    "application/octet-stream",
                    "public, max-age=31536000, immutable",
                )
            },
        )
}

/// The file, when the newest checkpoint covers all of it.
async fn bytes_of(
    state: &AppState,
    path: &TilePath,
    spot: TileSpot,
) -> Result<Option<Vec<u8>>, AuditError> {
    let Some(note) = state.store.checkpoint().await? else {
        return Ok(None);
    };
    let size = Checkpoint::open(note.as_bytes(), state.keys.log.verifier())
        .map_err(audit::refused)?
        .size;
    let width = spot.width as u64;
    let Some(start) = spot.index.checked_mul(TILE_WIDTH as u64) else {
        return Ok(None);
    };
    let level = spot.level.unwrap_or(0);
    let there = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
    let end = match start.checked_add(width) {
        Some(end) if end <= there => end,
        Some(_) | None => return Ok(None),
    };
    let missing = || AuditError::Damaged(format!("{} is not whole", path.as_str()));
    if spot.level.is_some() {
        let nodes = state.store.log_nodes_between(8 * level, start, end).await?;
        let mut bytes = Vec::with_capacity(nodes.len() * 32);
        for (expected, (index, hash)) in (start..end).zip(&nodes) {
            if *index != expected {
                return Err(missing());
            }
            bytes.extend_from_slice(&hash.0);
        }
        return if nodes.len() as u64 == width {
            Ok(Some(bytes))
        } else {
            Err(missing())
        };
    }
    let limit = u32::try_from(width).map_err(|_| missing())?;
    let entries = state.store.log_entries(start, limit).await?;
    let whole = entries.len() as u64 == width
        && (start..end)
            .zip(&entries)
            .all(|(expected, (index, _))| *index == expected);
    if !whole {
        return Err(missing());
    }
    encode_bundle(entries.iter().map(|(_, bytes)| bytes.as_slice()))
        .map(Some)
        .ok_or_else(missing)
}

async fn patiently(
    monitored: &Monitored,
    read: impl AsyncFnOnce(&AppState) -> Result<Option<Vec<u8>>, AuditError>,
) -> Result<Vec<u8>, Response> {
    let reading = async {
        let _seat = monitored.seats.acquire().await;
        read(&monitored.state).await
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(nothing()),
        Ok(Err(error)) => {
            tracing::error!(%error, "a monitor could not be served");
            Err(later())
        }
        Err(_) => Err(later()),
    }
}

fn file(bytes: Vec<u8>, kind: &'static str, cache: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, Body::from(bytes)).into_response()
}

fn nothing() -> Response {
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    let said = "not in the log as the newest checkpoint covers it\n";
    (StatusCode::NOT_FOUND, headers, said).into_response()
}

fn later() -> Response {
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    let said = "the log cannot be read now; try again\n";
    (StatusCode::SERVICE_UNAVAILABLE, headers, said).into_response()
}
