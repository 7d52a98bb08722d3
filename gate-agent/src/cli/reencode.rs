//! `reencode`: photographs that may be kept, by the model that comes next.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sallyport_protocol::{
    PROTOCOL_VERSION, Probe, Reencoded, ReencodingOutcome, ReencodingRequest, ReencodingResult,
};
use sallyport_vision::{FacePipeline, Frame, QualityPolicy};

use super::{ModelFlags, say};
use crate::config::VisionConfig;
use crate::deps::Deps;
use crate::state::StateFolder;
use crate::tls;
use crate::uplink::Uplink;

#[derive(Debug, Args)]
pub(super) struct ReencodeArgs {
    /// State folder of the joined station.
    #[arg(long)]
    state: PathBuf,
    #[command(flatten)]
    models: ModelFlags,
}

pub(super) fn reencode(args: &ReencodeArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    let identity = StateFolder::existing(&args.state).identity()?;
    let models = args.models.open(&VisionConfig::default())?;
    let mut pipeline = models.face(QualityPolicy::enrolment())?;
    let model = pipeline.successor_digest().context(
        "name the manifest of the models that come next with --successor; its face model must differ from the present one",
    )?;
    let uplink = Uplink::new(
        &identity.server,
        tls::joined(&identity)?,
        deps.clock.clone(),
    );
    let request = ReencodingRequest {
        version: PROTOCOL_VERSION,
        station: identity.gate.clone(),
        model,
    };
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} photographs, {eta} left")
    {
        bar.set_style(style);
    }
    let (mut kept, mut not_kept) = (0_u64, 0_u64);
    while let Some(task) = uplink.next_photograph(&request)? {
        bar.set_length(kept + not_kept + task.waiting);
        anyhow::ensure!(
            task.from == pipeline.model_digest(),
            "the change leaves another face model than this station's; start it with the models that are in use"
        );
        let photograph = STANDARD
            .decode(&task.photograph)
            .context("the server's photograph is not base64")?;
        let result = ReencodingResult {
            version: PROTOCOL_VERSION,
            station: identity.gate.clone(),
            reference: task.reference,
            result: encode(&mut pipeline, deps, &photograph)?,
        };
        match uplink.reencoded(&result)? {
            ReencodingOutcome::Kept => kept += 1,
            ReencodingOutcome::NotKept => not_kept += 1,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    say(&format!(
        "{kept} photographs encoded, {not_kept} gave nothing; these people get their new references at the next passage"
    ))?;
    Ok(if not_kept == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// Both models' templates of one photograph.
///
/// # Errors
/// A model is broken. A picture without one usable face is [`Reencoded::Unusable`].
fn encode(
    pipeline: &mut FacePipeline,
    deps: &Deps,
    photograph: &[u8],
) -> anyhow::Result<Reencoded> {
    let Ok(frame) = Frame::decode("photograph", deps.clock.wall(), photograph) else {
        return Ok(Reencoded::Unusable);
    };
    let analysis = pipeline.analyse(&frame)?;
    let [face] = analysis.faces.as_slice() else {
        return Ok(Reencoded::Unusable);
    };
    let (own, quality) = (pipeline.model_digest(), face.quality.score);
    let old = Probe::new(own, pipeline.embed_for_enrolment(&frame, face)?, quality, 1)?;
    let next = pipeline.successor_digest();
    let new = pipeline.embed_for_enrolment_by_successor(&frame, face)?;
    let (Some(next), Some(new)) = (next, new) else {
        anyhow::bail!("there is no model that comes next");
    };
    Ok(Reencoded::Encoded {
        old: Box::new(old),
        new: Box::new(Probe::new(next, new, quality, 1)?),
    })
}
