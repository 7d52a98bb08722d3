//! `import`: enrolment from existing pictures.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sallyport_domain::SubjectCategory;
use sallyport_vision::QualityPolicy;

use super::{ModelFlags, say};
use crate::config::{Config, Profile, VisionConfig};
use crate::deps::Deps;
use crate::import::{ImportEvent, Importer, prepare_eyes, prepare_picture, read_input};
use crate::rules::Rules;
use crate::seal::SealingKey;
use crate::state::{Identity, StateFolder};
use crate::tls;
use crate::uplink::Uplink;
use crate::witness::kept_checkpoint;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Folder with one sub-folder a person, or CSV file with the columns path,person,category,shows.
    ///
    /// A person's sub-folder holds pictures of the face and, if there are any, a folder "eyes" with near-infrared pictures of both eyes
    /// or iris records (ISO/IEC 19794-6) that say which eye is which. In a list, "shows" is face or eyes.
    input: PathBuf,
    /// One-time code of the enrolment or batch that an officer opened for this station, in the console or with
    /// `sallyport-server enrolment open`.
    #[arg(long)]
    enrolment: String,
    /// State folder of the joined station.
    #[arg(long)]
    state: PathBuf,
    /// Category of people for whom the list names none.
    #[arg(long, default_value = "visitor", value_parser = category)]
    category: SubjectCategory,
    /// Report file, for going on and for what was refused. [default: INPUT.import.jsonl]
    #[arg(long)]
    report: Option<PathBuf>,
    /// Configuration of the gate whose profile holds.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Profile that holds beside the server's, such as nsw-2014, which forbids keeping pictures of eyes.
    #[arg(long, env = "SALLYPORT_PROFILE")]
    profile: Option<Profile>,
    /// The people are fictional or development subjects, to whom the profile does not apply.
    #[arg(long)]
    development: bool,
    #[command(flatten)]
    models: ModelFlags,
}

fn category(text: &str) -> Result<SubjectCategory, String> {
    SubjectCategory::from_code(text).ok_or_else(|| {
        let known: Vec<&str> = SubjectCategory::ALL.iter().map(|c| c.code()).collect();
        format!("use one of {}", known.join(", "))
    })
}

fn profile(args: &ImportArgs) -> anyhow::Result<Option<Profile>> {
    Ok(match (&args.config, args.profile) {
        (_, Some(profile)) => Some(profile),
        (Some(path), None) => Config::load(path)?.profile,
        (None, None) => None,
    })
}

/// What may be kept, after asking the server, which must be there for an import anyway.
fn rules(
    args: &ImportArgs,
    state: &StateFolder,
    identity: &Identity,
    uplink: &Uplink,
) -> anyhow::Result<Rules> {
    let rules = Rules::open(Some(state), profile(args)?);
    let kept = kept_checkpoint(&state.witness(), &identity.answer.log_vkey);
    let query = rules.query(kept.as_ref().map_or(0, |kept| kept.size));
    match uplink.profile(&query) {
        Ok(Some(word)) => {
            rules.take(&word, kept.as_ref())?;
        }
        Ok(None) => {}
        // What was known before holds; nothing, if nothing was.
        Err(error) => tracing::warn!("the jurisdiction profile is not told: {error}"),
    }
    Ok(rules)
}

pub(super) fn import(args: &ImportArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    let people = read_input(&args.input, args.category)?;
    let with_eyes = people.iter().any(|person| !person.eyes.is_empty());
    let state = StateFolder::existing(&args.state);
    let identity = state.identity()?;
    let uplink = Uplink::new(
        &identity.server,
        tls::joined(&identity)?,
        deps.clock.clone(),
    );
    let rules = rules(args, &state, &identity, &uplink)?;
    let in_force = rules.in_force();
    let kept_eyes = people
        .iter()
        .any(|person| !person.eyes.is_empty() && !in_force.iris_image(Some(person.category)));
    if kept_eyes && !args.development {
        anyhow::bail!(
            "a picture of an eye may not be kept here ({}; nsw-2014: clause 321), and {} holds some; destroy them, and enrol irises at a gate's camera",
            rules.sentence(),
            args.input.display()
        );
    }
    let models = args.models.open(&VisionConfig::default())?;
    let mut pipeline = models.face(QualityPolicy::enrolment())?;
    let mut irises = with_eyes.then(|| models.iris()).transpose()?;
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
    let mut prepare_eyes = |bytes: &[u8]| match &mut irises {
        Some(irises) => prepare_eyes(irises, deps.clock.wall(), bytes),
        None => Err("the iris models are not loaded".to_owned()),
    };
    let mut tell = |event: ImportEvent| match event {
        ImportEvent::PersonDone => bar.inc(1),
        ImportEvent::PictureRefused { path, sentence } => {
            bar.suspend(|| drop(say(&format!("refused {}: {sentence}", path.display()))));
        }
        ImportEvent::PersonDoubtful { person } => {
            bar.suspend(|| {
                drop(say(&format!(
                    "under review: {person}: somebody enrolled or under review looks alike; an officer compares the pictures in the console"
                )));
            });
        }
        ImportEvent::PersonRefused { person, sentence } => {
            bar.suspend(|| drop(say(&format!("not enrolled: {person}: {sentence}"))));
        }
    };
    let summary = Importer {
        station: identity.gate.clone(),
        enrolment: args.enrolment.clone(),
        sealing: SealingKey::from_base64(&identity.answer.sealing_key)?,
        random: &*deps.random,
        prepare: &mut prepare,
        prepare_eyes: &mut prepare_eyes,
        photographs: &|category| args.development || in_force.photograph(Some(category)),
        send: &|submission| uplink.enrol(submission),
        tell: &mut tell,
    }
    .run(&people, &report)?;
    bar.finish_and_clear();
    say(&format!(
        "{} sent to a second officer for review, {} dealt with before, {} people and {} pictures refused; the report is {}",
        summary.submitted,
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
