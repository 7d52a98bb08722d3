//! A running gate: the threads around the capture machine, started and stopped as one.
//!
//! `worker` owns pipeline, machine and door; each camera has a supervisor; requests and reviews run
//! in short-lived threads; `delivery` empties the spool; `heartbeat` tells the server about health.

mod background;
mod worker;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sallyport_domain::Timestamp;
use sallyport_protocol::{DegradedCause, GateEventBody};

use crate::camera::{
    CameraHealth, CameraOpener, HealthBoard, Stage, Supervised, SupervisorPolicy, supervise,
};
use crate::capture::CapturePolicy;
use crate::clock::Stop;
use crate::deps::Deps;
use crate::door::{Door, DoorGuard, GuardError, UsedNonces};
use crate::event::{AgentEvent, EventSink};
use crate::eyes::Eyes;
use crate::inbox::Inbox;
use crate::journal::Journal;
use crate::life_safety::{self, LifeSafetyParts, Ongoing};
use crate::observe::Observer;
use crate::release_order::{ReleaseOrderError, ReleaseOrders};
use crate::renewal::Renewer;
use crate::rules::Rules;
use crate::seal::{SealError, SealingKey};
use crate::spool::{Spool, SpoolDisk, SpoolError, SpoolLimits};
use crate::state::{Identity, StateFolder};
use crate::tls::{self, TlsError};
use crate::uplink::Uplink;
use crate::witness::{GateWitness, WitnessError};

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The door guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Orders to free the doors.
    #[error(transparent)]
    ReleaseOrder(#[from] ReleaseOrderError),
    /// The sealing key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The gate's memory of the audit log.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// No camera.
    #[error("no camera is configured; add a [[camera]] to the configuration")]
    NoCamera,
    /// A thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The iris camera of a gate.
pub struct IrisParts {
    /// The camera.
    pub camera: (Arc<dyn CameraOpener>, SupervisorPolicy),
    /// What reads its frames.
    pub eyes: Eyes,
}

/// Everything a gate consists of.
pub struct AgentParts {
    /// Who it is.
    pub identity: Identity,
    /// Where it keeps what must survive.
    pub state: StateFolder,
    /// The gate's own setting of a jurisdiction profile.
    pub profile: Option<crate::config::Profile>,
    /// Disk of the spool.
    pub disk: Arc<dyn SpoolDisk>,
    /// Time and randomness.
    pub deps: Deps,
    /// Time-outs of capture.
    pub policy: CapturePolicy,
    /// Cameras, the preferred one first.
    pub cameras: Vec<(Arc<dyn CameraOpener>, SupervisorPolicy)>,
    /// The face pipeline.
    pub observer: Box<dyn Observer>,
    /// The iris camera, where there is one.
    pub iris: Option<IrisParts>,
    /// The relay.
    pub door: Box<dyn Door>,
    /// What frees doors for life safety.
    pub life_safety: LifeSafetyParts,
    /// Shared with replay cameras.
    pub stage: Arc<Stage>,
    /// Shared with replay cameras.
    pub stop: Stop,
    /// Where events go.
    pub events: EventSink,
    /// Pause between heartbeats.
    pub heartbeat_every: Duration,
    /// End when all replays have ended, every passage is answered and every report delivered.
    pub once: bool,
}

/// What the worker is told by other threads.
pub(crate) enum Note {
    /// A request or review was answered, or not.
    Decision {
        transaction: sallyport_domain::TransactionId,
        result: Result<sallyport_protocol::PassageDecision, crate::uplink::UplinkError>,
        reviewed: bool,
    },
}

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) deps: Deps,
    pub(crate) uplink: Arc<Uplink>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) witness: GateWitness,
    /// Which pictures may be written.
    pub(crate) rules: Rules,
    pub(crate) journal: Journal,
    /// The release for life safety that goes on.
    pub(crate) ongoing: Ongoing,
    /// Orders of a supervisor to free the doors.
    pub(crate) release_orders: ReleaseOrders,
    pub(crate) inbox: Arc<Inbox<Note>>,
    pub(crate) board: Arc<HealthBoard>,
    pub(crate) stage: Arc<Stage>,
    pub(crate) stop: Stop,
    pub(crate) events: EventSink,
    pub(crate) gate: sallyport_domain::GateId,
    pub(crate) direction: sallyport_domain::Direction,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) troubles: AtomicU64,
    /// What is wrong with the iris camera's pictures although they come.
    pub(crate) iris_alarm: Mutex<Option<String>>,
    /// The iris camera's place among the cameras.
    pub(crate) iris_camera: Option<usize>,
}

impl Shared {
    /// The later of our wall clock and the server's, where that one is known.
    pub(crate) fn clock_for_certificates(&self) -> Timestamp {
        let wall = self.deps.clock.wall();
        self.uplink
            .server_time()
            .and_then(|time| time.at(self.deps.clock.mono()))
            .map_or(wall, |(_, latest)| latest.max(wall))
    }

    /// Notes what is wrong with the iris camera's pictures, and says it once.
    pub(crate) fn set_iris_alarm(&self, alarm: Option<String>) {
        let mut known = self
            .iris_alarm
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *known == alarm {
            return;
        }
        match &alarm {
            Some(alarm) => tracing::warn!("iris camera: {alarm}"),
            None => tracing::info!("iris camera: its pictures are used again"),
        }
        known.clone_from(&alarm);
    }

    /// Health of each camera in words: `ok`, or what is wrong.
    pub(crate) fn camera_texts(&self) -> Vec<(String, String)> {
        let alarm = self
            .iris_alarm
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let all = self.board.all().into_iter().enumerate();
        all.map(|(index, (name, health))| {
            let text = match &alarm {
                Some(alarm) if Some(index) == self.iris_camera && health == CameraHealth::Ok => {
                    alarm.clone()
                }
                Some(_) | None => health.text(),
            };
            (name, text)
        })
        .collect()
    }

    /// Notes that something is missing that decisions need, or there again.
    pub(crate) fn degraded(&self, cause: DegradedCause, missing: bool) {
        self.journal.degraded(cause, missing);
    }

    /// Whether no camera shows faces; `None` while that is not known.
    pub(crate) fn no_camera(&self) -> Option<bool> {
        let all = self.board.all();
        let faces = all.iter().take(self.iris_camera.unwrap_or(all.len()));
        let mut opening = false;
        for (_, health) in faces {
            match health {
                CameraHealth::Ok | CameraHealth::Finished => return Some(false),
                CameraHealth::Opening => opening = true,
                CameraHealth::Failed(_)
                | CameraHealth::Stalled
                | CameraHealth::Frozen
                | CameraHealth::Stuck => {}
            }
        }
        (!opening).then_some(true)
    }

    /// Somebody came while doors are free for life safety.
    pub(crate) fn came_during_release(&self, transaction: sallyport_domain::TransactionId) {
        if let Some(release) = self.ongoing.release() {
            self.journal.record(GateEventBody::LifeSafetyPassage {
                release,
                transaction,
            });
        }
    }

    /// Sends an event and counts what `run --once` reports as trouble.
    pub(crate) fn emit(&self, event: AgentEvent) {
        let trouble = matches!(
            event,
            AgentEvent::Undecided { .. }
                | AgentEvent::DoorNotReleased { .. }
                | AgentEvent::Trouble { .. }
        );
        if trouble {
            self.troubles.fetch_add(1, Ordering::SeqCst);
        }
        self.events.send(event);
    }
}

/// A running gate.
pub struct Agent {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How a gate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentEnd {
    /// Things that went wrong: undecided passages, doors that stayed shut against an order, replays
    /// that could not be shown, threads that broke down.
    pub troubles: u64,
    /// Reports not delivered.
    pub undelivered: usize,
}

impl Agent {
    /// Starts all threads.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(parts: AgentParts) -> Result<Self, StartError> {
        if parts.cameras.is_empty() {
            return Err(StartError::NoCamera);
        }
        let identity = &parts.identity;
        let clock = parts.deps.clock.clone();
        let uplink = Arc::new(Uplink::new(
            &identity.server,
            tls::joined(identity)?,
            clock.clone(),
        ));
        let spool = Arc::new(Spool::open(
            &parts.state.spool(),
            SpoolLimits::default(),
            parts.disk.clone(),
        )?);
        let nonces = UsedNonces::open(&parts.state.door_nonces()).map_err(GuardError::from)?;
        let guard = DoorGuard::new(identity.gate.clone(), &identity.answer.door_key, nonces)?;
        let release_orders = ReleaseOrders::open(
            parts.state.root(),
            &identity.gate,
            &identity.answer.door_key,
        )?;
        let sealing = SealingKey::from_base64(&identity.answer.sealing_key)?;
        let face_cameras = parts.cameras.len();
        let mut cameras = parts.cameras;
        let eyes = parts.iris.map(|iris| {
            cameras.push(iris.camera);
            iris.eyes
        });
        let shared = Arc::new(Shared {
            uplink,
            journal: Journal::open(
                parts.state.root(),
                &identity.gate,
                spool.clone(),
                parts.deps.clone(),
            )?,
            ongoing: Ongoing::taken_up(parts.state.root(), release_orders.standing()),
            release_orders,
            spool,
            rules: Rules::open(Some(&parts.state), parts.profile),
            witness: GateWitness::open(
                &parts.state.witness(),
                &identity.gate,
                &identity.answer.log_vkey,
                &*parts.deps.random,
            )?,
            inbox: Arc::new(Inbox::new(face_cameras, usize::from(eyes.is_some()))),
            board: Arc::new(HealthBoard::new(
                cameras.iter().map(|(opener, _)| opener.name().to_owned()),
            )),
            stage: parts.stage.clone(),
            stop: parts.stop.clone(),
            events: parts.events.clone(),
            gate: identity.gate.clone(),
            direction: identity.answer.direction,
            in_flight: AtomicUsize::new(0),
            troubles: AtomicU64::new(0),
            iris_alarm: Mutex::new(None),
            iris_camera: eyes.is_some().then_some(face_cameras),
            deps: parts.deps.clone(),
        });
        let mut agent = Self {
            shared: shared.clone(),
            threads: Vec::new(),
        };
        // First of all: what frees doors for life safety waits for nothing else.
        let own = shared.clone();
        let life_safety = parts.life_safety;
        agent.spawn("life-safety", move || {
            let events = |event| own.emit(event);
            life_safety::Watch::begin(
                life_safety,
                &*own.deps.clock,
                &own.journal,
                &events,
                &own.ongoing,
            )
            .run(&own.stop);
        })?;
        let own = shared.clone();
        let folder = parts.state.root().to_owned();
        agent.spawn("journal", move || {
            life_safety::keep_journal(
                &folder,
                &own.journal,
                &own.ongoing,
                &*own.deps.clock,
                &own.stop,
            );
        })?;
        for (index, (opener, policy)) in cameras.iter().enumerate() {
            let supervised = Supervised {
                index,
                opener: opener.clone(),
                policy: *policy,
                clock: clock.clone(),
                inbox: shared.inbox.clone(),
                board: shared.board.clone(),
                events: shared.events.clone(),
                stop: shared.stop.clone(),
            };
            agent.spawn(&format!("supervisor-{}", opener.name()), move || {
                supervise(&supervised);
            })?;
        }
        let own = shared.clone();
        agent.spawn("delivery", move || background::deliver(&own))?;
        let renewal_state = parts.state.clone();
        let renewer = Renewer::new(
            parts.identity,
            parts.state,
            shared.uplink.clone(),
            shared.deps.clock.clone(),
        )?;
        let own = shared.clone();
        agent.spawn("renewal", move || background::renewals(&own, renewer))?;
        let own = shared.clone();
        let every = parts.heartbeat_every;
        let state = renewal_state;
        agent.spawn("heartbeat", move || {
            background::heartbeats(&own, &state, every)
        })?;
        let worker = worker::Worker::new(
            shared,
            parts.policy,
            worker::Seeing {
                observer: parts.observer,
                eyes,
                face_cameras,
            },
            parts.door,
            guard,
            sealing,
            parts.once,
        );
        agent.spawn("worker", move || worker.run())?;
        Ok(agent)
    }

    /// Asks all threads to end; does not wait.
    pub fn stop(&self) {
        self.shared.stop.set();
    }

    /// Health of the cameras.
    #[must_use]
    pub fn health(&self) -> Arc<HealthBoard> {
        self.shared.board.clone()
    }

    /// Waits until the gate has ended.
    #[must_use]
    pub fn join(self) -> AgentEnd {
        let mut broken = 0;
        for thread in self.threads {
            if thread.join().is_err() {
                broken += 1;
            }
        }
        // The threads are gone; what they left is written.
        if let Err(error) = self.shared.journal.flush() {
            tracing::error!("events of the gate are lost: {error}");
            broken += 1;
        }
        AgentEnd {
            troubles: self.shared.troubles.load(Ordering::SeqCst)
                + self.shared.stage.trouble()
                + broken,
            undelivered: self.shared.spool.waiting(),
        }
    }

    /// Starts a thread whose end by panic stops the whole gate: a gate without one of its parts
    /// must not look alive.
    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let stop = self.shared.stop.clone();
        let result = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut fuse = Fuse(stop);
            body();
            fuse.0 = Stop::default();
        });
        match result {
            Ok(thread) => {
                self.threads.push(thread);
                Ok(())
            }
            Err(error) => {
                self.shared.stop.set();
                Err(error.into())
            }
        }
    }
}

/// Stops the gate when it is dropped by a panic.
struct Fuse(Stop);

impl Drop for Fuse {
    fn drop(&mut self) {
        self.0.set();
    }
}
