//! `import`: enrolment from existing pictures.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sallyport_domain::SubjectCategory;
use sallyport_vision::QualityPolicy;

use super::{ModelFlags, say};
use crate::config::VisionConfig;
use crate::deps::Deps;
use crate::import::{ImportEvent, Importer, prepare_picture, read_input};
use crate::seal::SealingKey;
use crate::state::StateFolder;
use crate::tls;
use crate::uplink::Uplink;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Folder with one sub-folder a person, or CSV file with the columns path,person,category.
    input: PathBuf,
    /// State folder of the joined station.
    #[arg(long)]
    state: PathBuf,
    /// Category of people for whom the list names none.
    #[arg(long, default_value = "visitor", value_parser = category)]
    category: SubjectCategory,
    /// Report file, for going on and for what was refused. [default: INPUT.import.jsonl]
    #[arg(long)]
    report: Option<PathBuf>,
    #[command(flatten)]
    models: ModelFlags,
}

fn category(text: &str) -> Result<SubjectCategory, String> {
    SubjectCategory::from_code(text).ok_or_else(|| {
        let known: Vec<&str> = SubjectCategory::ALL.iter().map(|c| c.code()).collect();
        format!("use one of {}", known.join(", "))
    })
}

pub(super) fn import(args: &ImportArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    let people = read_input(&args.input, args.category)?;
    let identity = StateFolder::existing(&args.state).identity()?;
    let mut pipeline = args
        .models
        .pipeline(&VisionConfig::default(), QualityPolicy::enrolment())?;
    let uplink = Uplink::new(
        &identity.server,
        tls::joined(&identity)?,
        deps.clock.clone(),
    );
    let report = args.report.clone().unwrap_or_else(|| {
        let mut name = args.input.components().as_path().as_os_str().to_owned();
        name.push(".import.jsonl");
        name.into()
    });
    let bar = ProgressBar::new(u64::try_from(people.len()).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} people, {eta} left") {
        bar.set_style(style);
    }
    let mut prepare = |bytes: &[u8]| prepare_picture(&mut pipeline, deps.clock.wall(), bytes);
    let mut tell = |event: ImportEvent| match event {
        ImportEvent::PersonDone => bar.inc(1),
        ImportEvent::PictureRefused { path, sentence } => {
            bar.suspend(|| drop(say(&format!("refused {}: {sentence}", path.display()))));
        }
        ImportEvent::PersonRefused { person, sentence } => {
            bar.suspend(|| drop(say(&format!("not enrolled: {person}: {sentence}"))));
        }
    };
    let summary = Importer {
        station: identity.gate.clone(),
        sealing: SealingKey::from_base64(&identity.answer.sealing_key)?,
        random: &*deps.random,
        prepare: &mut prepare,
        send: &|submission| uplink.enrol(submission),
        tell: &mut tell,
    }
    .run(&people, &report)?;
    bar.finish_and_clear();
    say(&format!(
        "{} enrolled, {} dealt with before, {} people and {} pictures refused; the report is {}",
        summary.enrolled,
        summary.done_before,
        summary.refused_people,
        summary.refused_pictures,
        report.display()
    ))?;
    Ok(
        if summary.refused_people == 0 && summary.refused_pictures == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        },
    )
}
