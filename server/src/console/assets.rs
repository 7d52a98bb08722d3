//! Style and script, embedded in the program under names that carry their SHA-256.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

struct Asset {
    path: String,
    kind: &'static str,
    body: &'static str,
}

fn asset(stem: &str, ending: &str, kind: &'static str, body: &'static str) -> Asset {
    let digest = hex::encode(Sha256::digest(body));
    Asset {
        path: format!(
            "/assets/{stem}-{}.{ending}",
            digest.get(..16).unwrap_or(&digest)
        ),
        kind,
        body,
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "console",
        "css",
        "text/css; charset=utf-8",
        include_str!("../../assets/console.css"),
    )
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "live",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../../assets/live.js"),
    )
});

static KEYS: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "keys",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../../assets/keys.js"),
    )
});

static ALARMS: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "alarms",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../../assets/alarms.js"),
    )
});

/// Path of the script that tells an open page of a new alarm.
pub(super) fn alarms() -> &'static str {
    &ALARMS.path
}

/// Path of the script that speaks with hardware keys.
pub(super) fn keys() -> &'static str {
    &KEYS.path
}

/// Path of the style sheet.
pub(super) fn style() -> &'static str {
    &STYLE.path
}

/// Path of the live page's script.
pub(super) fn script() -> &'static str {
    &SCRIPT.path
}

/// Serves an asset; its name changes with its content, so it may be kept for ever.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let wanted = format!("/assets/{name}");
    match [&*STYLE, &*SCRIPT, &*KEYS, &*ALARMS]
        .into_iter()
        .find(|asset| asset.path == wanted)
    {
        Some(asset) => (
            [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            asset.body,
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
