//! Asks outside witnesses for cosignatures (tlog-witness), some seconds apart, for as long as the server runs.
//!
//! The witnesses stand in the file `outside-witnesses` of the data folder. A witness that cannot be reached delays nobody; one that says
//! that the log does not continue what it cosigned before raises the alarm.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use sallyport_transparency::{
    AddCheckpoint, Checkpoint, PolicyWitness, WitnessAnswer, read_answer,
};
use tokio::sync::watch;

use crate::audit::AuditError;
use crate::state::AppState;
use crate::{post, witness};

/// Pause between rounds.
const EVERY: Duration = Duration::from_secs(5);
/// A witness that takes longer is asked again in the next round.
const PATIENCE: Duration = Duration::from_secs(5);
/// Certificates of the authorities of witnesses that are reached by HTTPS, PEM, in the data folder.
pub const AUTHORITIES_FILE: &str = "witness-ca.pem";

/// Runs until the server stops.
pub async fn ask_always(state: AppState, mut stop: watch::Receiver<bool>) {
    let mut round = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = round.tick() => {
                if let Err(error) = ask_all(&state).await {
                    tracing::warn!(error = %error, "outside witnesses could not be asked");
                }
            }
        }
    }
}

/// One round: every outside witness with an address is asked for the newest checkpoint.
///
/// # Errors
/// Database or configuration; a witness that does not answer is only logged.
pub async fn ask_all(state: &AppState) -> Result<(), AuditError> {
    let witnesses = witness::outside(state)?;
    if witnesses.is_empty() {
        return Ok(());
    }
    let roots = roots(&state.data)?;
    for one in witnesses {
        let Some(url) = one.url.clone() else { continue };
        if let Err(error) = ask(state, &roots, &one, &url).await {
            tracing::warn!(witness = one.name, error = %error, "an outside witness could not be asked");
        }
    }
    Ok(())
}

/// Without authorities no HTTPS is trusted; plain HTTP needs none, since the answers are signed.
fn roots(data: &Path) -> Result<Vec<CertificateDer<'static>>, AuditError> {
    let path = data.join(AUTHORITIES_FILE);
    match post::authorities(&path) {
        Ok(roots) => Ok(roots),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(AuditError::File {
            path: path.display().to_string(),
            source,
        }),
    }
}

async fn ask(
    state: &AppState,
    roots: &[CertificateDer<'static>],
    one: &PolicyWitness,
    url: &str,
) -> Result<(), AuditError> {
    let row = witness::known(state, &one.name, &one.key, None).await?;
    let Some(note) = state.store.checkpoint().await? else {
        return Ok(());
    };
    let checkpoint = Checkpoint::open(note.as_bytes(), state.keys.log.verifier())
        .map_err(crate::audit::refused)?;
    if row.size == checkpoint.size {
        return Ok(());
    }
    let mut old = row.size;
    // The second time from the size that the witness itself named.
    for _ in 0..2 {
        if old > checkpoint.size {
            let what = format!(
                "the outside witness {} cosigned {old} entries, this log has only {}: it was rolled back or is a copy",
                one.name, checkpoint.size
            );
            return witness::raise(state, "server", &what, None, Some(note)).await;
        }
        let proof = if old == 0 {
            Vec::new()
        } else {
            witness::proof(state, old, checkpoint.size)
                .await?
                .map_err(crate::audit::refused)?
        };
        let request = AddCheckpoint {
            old,
            proof,
            note: note.clone(),
        };
        let url = format!("{}/add-checkpoint", url.trim_end_matches('/'));
        let (status, body) = post::post(&url, roots, &[], request.to_text(), PATIENCE)
            .await
            .map_err(crate::audit::refused)?;
        match read_answer(&note, &one.key, status, &body) {
            Ok(WitnessAnswer::Cosigned { note: full, .. }) => {
                let line = full.get(note.len()..).unwrap_or_default().to_owned();
                return witness::cosigned(state, &row, &one.key, checkpoint.size, &note, &line)
                    .await;
            }
            Ok(WitnessAnswer::Conflict(size)) => old = size,
            Ok(WitnessAnswer::Refused(422)) => {
                let what = format!(
                    "the outside witness {} says that this log of {} entries does not continue the {old} that it cosigned",
                    one.name, checkpoint.size
                );
                return witness::raise(state, "server", &what, None, Some(note)).await;
            }
            Ok(WitnessAnswer::Refused(status)) => {
                return Err(crate::audit::refused(format!("status {status}")));
            }
            Err(error) => return Err(crate::audit::refused(error)),
        }
    }
    Err(crate::audit::refused(
        "the witness changes its mind about the size",
    ))
}
