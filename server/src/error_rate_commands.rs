//! `sallyport-server error-rates …`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use sallyport_server::error_rates;

use super::{ACTOR, Data, open};

/// Measured error rates, which evidence and the monthly report carry:
///   1. Whoever measures makes a key with `sallyport-evaluate key NAME FILE`; its public half is a line of `measurement-keys` in the data
///      folder.
///   2. `sallyport-evaluate iris … --sign FILE` writes the signed measurement.
///   3. `error-rates set` loads it, if it was made with the models in use.
#[derive(Subcommand)]
#[command(verbatim_doc_comment)]
pub(super) enum ErrorRates {
    /// Load a signed measurement; it takes the place of an earlier one of the same modality.
    Set {
        /// The signed measurement.
        file: PathBuf,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        data: Data,
    },
    /// Say what holds now.
    Show(Data),
    /// Withdraw what holds, without another in its place.
    Withdraw {
        /// Which.
        modality: Measured,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        data: Data,
    },
}

/// What is measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Measured {
    /// Face.
    Face,
    /// Iris.
    Iris,
}

pub(super) async fn run(command: ErrorRates) -> anyhow::Result<()> {
    match command {
        ErrorRates::Set { file, reason, data } => {
            let state = open(&data).await?;
            let note = std::fs::read_to_string(&file)
                .with_context(|| format!("reading {}", file.display()))?;
            let index = error_rates::set(&state, &note, &reason, ACTOR).await?;
            println!("These error rates hold from log entry {index} on.");
            say(&state).await
        }
        ErrorRates::Show(data) => say(&open(&data).await?).await,
        ErrorRates::Withdraw {
            modality,
            reason,
            data,
        } => {
            let state = open(&data).await?;
            let modality = match modality {
                Measured::Face => "face",
                Measured::Iris => "iris",
            };
            let index = error_rates::withdraw(&state, modality, &reason, ACTOR).await?;
            println!("No {modality} error rates hold from log entry {index} on.");
            Ok(())
        }
    }
}

async fn say(state: &sallyport_server::state::AppState) -> anyhow::Result<()> {
    for line in error_rates::list(state).await? {
        println!("{line}");
    }
    Ok(())
}
