//! `run`: the gate itself.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use sallyport_vision::QualityPolicy;

use super::ModelFlags;
use crate::agent::{Agent, AgentParts, IrisParts};
use crate::camera::{
    CameraOpener, FollowOpener, ReplayOpener, RtspOpener, Stage, SupervisorPolicy, V4l2Opener,
};
use crate::clock::Stop;
use crate::config::{CameraConfig, Config, DoorConfig, FireInputConfig, IrisCameraConfig};
use crate::deps::Deps;
use crate::door::{Door, SimulatedDoor};
use crate::event::{AgentEvent, EventSink};
use crate::eyes::{Eyes, IrisReader};
use crate::life_safety::{FileInput, FireInput, LifeSafetyParts, OnFault};
use crate::observe::FaceObserver;
use crate::spool::FileDisk;
use crate::state::StateFolder;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Configuration file.
    #[arg(long)]
    config: PathBuf,
    /// End when all replays are over and everything is answered and delivered.
    #[arg(long)]
    once: bool,
    /// Print events as JSON lines instead of sentences.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    models: ModelFlags,
}

/// The iris camera of a configuration.
pub(super) fn iris_opener(
    iris: &IrisCameraConfig,
    deps: &Deps,
    stage: &Arc<Stage>,
    stop: &Stop,
) -> (Arc<dyn CameraOpener>, SupervisorPolicy) {
    let supervision = iris.camera.supervision();
    match &iris.camera {
        CameraConfig::Replay(replay) if replay.path.is_dir() => {
            let opener = FollowOpener::new(
                &replay.name,
                replay.path.clone(),
                replay.rate_fps,
                stage.clone(),
                deps.clock.clone(),
                stop.clone(),
            );
            (Arc::new(opener), supervision)
        }
        camera @ (CameraConfig::Replay(_) | CameraConfig::V4l2(_) | CameraConfig::Rtsp(_)) => {
            opener(camera, deps, stage, stop)
        }
    }
}

/// Opens the face cameras of a configuration.
pub(super) fn openers(
    config: &Config,
    deps: &Deps,
    stage: &Arc<Stage>,
    stop: &Stop,
) -> Vec<(Arc<dyn CameraOpener>, SupervisorPolicy)> {
    config
        .cameras
        .iter()
        .map(|camera| opener(camera, deps, stage, stop))
        .collect()
}

fn opener(
    camera: &CameraConfig,
    deps: &Deps,
    stage: &Arc<Stage>,
    stop: &Stop,
) -> (Arc<dyn CameraOpener>, SupervisorPolicy) {
    let opener: Arc<dyn CameraOpener> = match camera {
        CameraConfig::Replay(replay) => Arc::new(ReplayOpener::new(
            &replay.name,
            replay.settings(),
            stage.clone(),
            deps.clock.clone(),
            stop.clone(),
        )),
        CameraConfig::V4l2(camera) => Arc::new(V4l2Opener::new(
            &camera.name,
            camera.device,
            deps.clock.clone(),
        )),
        CameraConfig::Rtsp(camera) => Arc::new(RtspOpener::new(
            &camera.name,
            &camera.url,
            camera.timeout_ms(),
            deps.clock.clone(),
        )),
    };
    (opener, camera.supervision())
}

pub(super) fn run(args: &RunArgs, deps: Deps) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let endless = |camera: &CameraConfig| match camera {
        CameraConfig::Replay(replay) => replay.repeat,
        CameraConfig::V4l2(_) | CameraConfig::Rtsp(_) => true,
    };
    if args.once && config.cameras.iter().any(endless) {
        anyhow::bail!("--once needs replay cameras without `repeat`, or it would never end");
    }
    let state = StateFolder::existing(&config.state);
    let identity = state.identity()?;
    let models = args.models.open(&config.vision)?;
    let pipeline = models.face(QualityPolicy::gate())?;
    let DoorConfig::Simulated { folder, bell } = &config.door;
    let door: Box<dyn Door> = Box::new(SimulatedDoor::new(identity.gate.clone(), folder, *bell)?);
    let life_safety = LifeSafetyParts {
        input: config.fire_input.as_ref().map(|input| {
            let input: Box<dyn FireInput> =
                Box::new(FileInput::new(&input.path, input.active_low()));
            input
        }),
        on_fault: config
            .fire_input
            .as_ref()
            .map_or(OnFault::Alarm, |input| input.on_fault),
        debounce: config
            .fire_input
            .as_ref()
            .map_or(Duration::ZERO, FireInputConfig::debounce),
        doors: Box::new(SimulatedDoor::new(identity.gate.clone(), folder, *bell)?),
    };
    let stage = Arc::new(Stage::default());
    let stop = Stop::default();
    let cameras = openers(&config, &deps, &stage, &stop);
    let iris = match &config.iris_camera {
        Some(iris) => Some(IrisParts {
            camera: iris_opener(iris, &deps, &stage, &stop),
            eyes: Eyes::new(
                Box::new(IrisReader::new(models.iris()?, iris.mirrored)),
                iris.pair_within(),
            ),
        }),
        None => None,
    };
    tracing::info!(gate.id = %identity.gate, server = identity.server, "the gate starts");
    let agent = Agent::start(AgentParts {
        identity,
        state,
        profile: config.profile,
        disk: Arc::new(FileDisk),
        policy: config.capture.policy(),
        cameras,
        observer: Box::new(FaceObserver::new(pipeline)),
        iris,
        door,
        life_safety,
        stage,
        stop,
        events: printer(args.json, &deps),
        heartbeat_every: Duration::try_from_secs_f64(config.heartbeat_s)?,
        once: args.once,
        deps,
    })?;
    let end = agent.join();
    if end.undelivered > 0 {
        tracing::warn!(
            reports = end.undelivered,
            "reports wait in the spool for the next start"
        );
    }
    Ok(if end.troubles == 0 && end.undelivered == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

/// Prints each event as one line on standard output.
fn printer(json: bool, deps: &Deps) -> EventSink {
    let clock = deps.clock.clone();
    let last = Mutex::new(());
    let outage = AtomicBool::new(false);
    EventSink::new(move |event| {
        let at = clock.wall().to_rfc3339();
        let line = if json {
            match serde_json::to_value(&event) {
                Ok(mut value) => {
                    if let Some(object) = value.as_object_mut() {
                        object.insert("at".to_owned(), at.into());
                    }
                    value.to_string()
                }
                Err(_) => return,
            }
        } else {
            // An outage is told once, not with every heartbeat.
            let repeated = match &event {
                AgentEvent::HeartbeatFailed { .. } => outage.swap(true, Ordering::SeqCst),
                AgentEvent::Heartbeat => {
                    outage.store(false, Ordering::SeqCst);
                    true
                }
                AgentEvent::Camera { .. }
                | AgentEvent::Shown { .. }
                | AgentEvent::Cue { .. }
                | AgentEvent::Submitted { .. }
                | AgentEvent::Decided { .. }
                | AgentEvent::Undecided { .. }
                | AgentEvent::DoorReleased { .. }
                | AgentEvent::Successors { .. }
                | AgentEvent::DoorNotReleased { .. }
                | AgentEvent::FailedToAcquire { .. }
                | AgentEvent::Delivered { .. }
                | AgentEvent::Certificate { .. }
                | AgentEvent::LifeSafety { .. }
                | AgentEvent::Idle
                | AgentEvent::Finished
                | AgentEvent::Trouble { .. } => false,
            };
            if repeated {
                return;
            }
            match sentence(&event) {
                Some(sentence) => format!("{at}  {sentence}"),
                None => return,
            }
        };
        let _whole_lines = last.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that went away does not stop a gate.
        let _ = writeln!(std::io::stdout(), "{line}");
    })
}

/// The line for people; `None` for what would only fill the screen.
fn sentence(event: &AgentEvent) -> Option<String> {
    Some(match event {
        AgentEvent::Camera { name, health } => format!("camera {name}: {health}"),
        AgentEvent::Shown { sentence } if sentence.is_empty() => return None,
        AgentEvent::Shown { sentence } => format!("display: {sentence}"),
        AgentEvent::Submitted { transaction } => format!("request {transaction} sent"),
        AgentEvent::Decided {
            transaction,
            verdict,
            reason,
            reviewed,
            log_index,
        } => format!(
            "{} {transaction}: {} ({}), log entry {log_index}{}",
            verdict.code().to_uppercase(),
            reason.sentence(),
            reason.code(),
            if *reviewed { ", by an officer" } else { "" }
        ),
        AgentEvent::Undecided {
            transaction,
            problem,
        } => format!("UNDECIDED {transaction}: {problem}"),
        AgentEvent::DoorReleased { transaction } => format!("DOOR RELEASED for {transaction}"),
        AgentEvent::Successors { transaction, kept } => {
            format!("{kept} references of the next models from {transaction}")
        }
        AgentEvent::DoorNotReleased {
            transaction,
            problem,
        } => format!("door stays shut for {transaction}: {problem}"),
        AgentEvent::FailedToAcquire {
            transaction,
            defects,
        } => {
            let codes: Vec<&str> = defects.iter().map(|defect| defect.code()).collect();
            format!("NOT ACQUIRED {transaction}: {}", codes.join(", "))
        }
        AgentEvent::HeartbeatFailed { problem } => format!("server: {problem}"),
        AgentEvent::Certificate { until, problem } if problem.is_empty() => {
            format!("new certificate, valid until {}", until.to_rfc3339())
        }
        AgentEvent::Certificate { problem, .. } => problem.clone(),
        AgentEvent::LifeSafety { released, problem } => format!(
            "{}{}",
            if *released {
                "LIFE SAFETY: doors are free, no grant is needed"
            } else {
                "life safety: doors obey grants again"
            },
            problem
                .as_ref()
                .map(|problem| format!(" ({problem})"))
                .unwrap_or_default()
        ),
        AgentEvent::Finished => "all replays are over".to_owned(),
        AgentEvent::Trouble { problem } => format!("TROUBLE: {problem}"),
        AgentEvent::Cue { .. }
        | AgentEvent::Delivered { .. }
        | AgentEvent::Heartbeat
        | AgentEvent::Idle => return None,
    })
}
