//! The slip for the person at the gate: a QR code with the log's signed promise that the decision stands in the log, to be printed.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use qrcode::{Color, EcLevel, QrCode};
use sallyport_transparency::Entry;

use super::guard::Officer;
use super::pages::Trouble;
use super::passage::find;
use super::view::{date_and_time, is_fresh, word};
use crate::state::AppState;
use crate::{audit, evidence};

/// Light modules around the code, as ISO/IEC 18004 asks for.
const QUIET: usize = 4;

struct Line {
    y: usize,
    text: String,
}

#[derive(Template)]
#[template(path = "slip.svg", escape = "html")]
struct Slip {
    width: usize,
    height: usize,
    index: u64,
    modules: String,
    lines: Vec<Line>,
}

/// The slip of a fresh passage: of the officer's decision where there is one, otherwise of the machine's.
pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let failed = |error: &dyn std::error::Error| Trouble::server(&state, error).into_response();
    let passage = find(&state, &id).await?;
    if !is_fresh(&state, &passage) {
        let refused = (
            StatusCode::FORBIDDEN,
            "A slip is printed at the gate, within a quarter of an hour. Later the administrator makes one: sallyport-server audit receipt\n",
        );
        return Err(refused.into_response());
    }
    let (index, verdict, at) = match &passage.review {
        Some(review) => (review.log_index, review.verdict, review.decided_at),
        None => (passage.log_index, passage.verdict, passage.decided_at),
    };
    let text = evidence::slip(&state, index)
        .await
        .map_err(|error| failed(&error))?;
    let (modules, width) = matrix(&text).map_err(|error| failed(&error))?;
    let mut entry = audit::entry("receipt", state.clock.now()).map_err(|error| failed(&error))?;
    entry = Entry {
        actor: Some(session.officer.to_string()),
        gate: Some(passage.gate.to_string()),
        about: Some(index.to_string()),
        ..entry
    };
    audit::record(&state, entry)
        .await
        .map_err(|error| failed(&error))?;
    let said = [
        state.config.site.to_string(),
        passage.gate.to_string(),
        date_and_time(&state, at),
        word(verdict).0.to_owned(),
        format!("Entry {index} of the audit log"),
        "Keep this slip. Any inspector can check".to_owned(),
        "that the entry is there and unchanged.".to_owned(),
    ];
    let lines = (0..)
        .zip(said)
        .map(|(line, text)| Line {
            y: width + 4 * line,
            text,
        })
        .collect::<Vec<_>>();
    let slip = Slip {
        width,
        height: width + 4 * lines.len(),
        index,
        modules,
        lines,
    };
    let svg = slip.render().map_err(|error| failed(&error))?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}

/// The dark modules as one path of unit squares, and the width with the quiet zone.
pub(super) fn matrix(text: &str) -> Result<(String, usize), qrcode::types::QrError> {
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M)?;
    let width = code.width();
    let mut path = String::new();
    for (at, module) in code.to_colors().into_iter().enumerate() {
        if module == Color::Dark {
            let (x, y) = (at % width + QUIET, at / width + QUIET);
            path.push_str(&format!("M{x} {y}h1v1h-1z"));
        }
    }
    Ok((path, width + 2 * QUIET))
}
