//! A running agent with a camera and an observer that need no models.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sallyport_domain::{
    Eye, FaceTemplate, IrisTemplate, ModelDigest, PadAssessment, QualityDefect,
};
use sallyport_gate::agent::{Agent, AgentParts, IrisParts};
use sallyport_gate::camera::{
    Camera, CameraError, CameraOpener, Stage, SupervisorPolicy, WatchdogPolicy,
};
use sallyport_gate::capture::CapturePolicy;
use sallyport_gate::clock::{Clock, Stop};
use sallyport_gate::config::Profile;
use sallyport_gate::door::SimulatedDoor;
use sallyport_gate::event::{AgentEvent, EventSink};
use sallyport_gate::eyes::{EyeReader, EyeSample, Eyes};
use sallyport_gate::life_safety::{FileInput, LifeSafetyParts, OnFault};
use sallyport_gate::observe::{Observed, Observer};
use sallyport_gate::spool::FileDisk;
use sallyport_gate::state::StateFolder;
use sallyport_vision::{Capture, Frame, VisionError};

use crate::support::{Behaviour, FakeServer, Tls, deps, wall};

/// A camera whose frames' grey value says who is there: 0 nobody, else a track number.
pub(crate) struct GreyCamera {
    pub(crate) who: Arc<AtomicU64>,
    pub(crate) unplugged: Arc<AtomicBool>,
}

struct OpenGrey(Arc<AtomicU64>, Arc<AtomicBool>, Arc<dyn Clock>);

impl Camera for OpenGrey {
    fn next_frame(&mut self) -> Result<Option<Frame>, CameraError> {
        self.2.wait(&Stop::default(), Duration::from_millis(10));
        if self.1.load(Ordering::SeqCst) {
            return Err(CameraError("unplugged".to_owned()));
        }
        let grey = u8::try_from(self.0.load(Ordering::SeqCst)).unwrap();
        Ok(Some(
            Frame::from_bgr("grey", wall(), 4, 4, &[grey; 48]).unwrap(),
        ))
    }
}

impl CameraOpener for GreyCamera {
    fn name(&self) -> &str {
        "grey"
    }
    fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        if self.unplugged.load(Ordering::SeqCst) {
            return Err(CameraError("unplugged".to_owned()));
        }
        Ok(Box::new(OpenGrey(
            self.who.clone(),
            self.unplugged.clone(),
            deps().clock,
        )))
    }
}

/// Sees whom the grey value names; persons from 100 on are blurred.
#[derive(Default)]
pub(crate) struct GreyObserver {
    samples: VecDeque<u8>,
}

impl Observer for GreyObserver {
    fn observe(&mut self, frame: &Arc<Frame>) -> Result<Observed, VisionError> {
        let who = frame.bgr()?.first().copied().unwrap_or(0);
        if who == 0 {
            self.samples.clear();
            return Ok(Observed::default());
        }
        let good = who < 100;
        if good {
            self.samples.push_back(who);
        }
        Ok(Observed {
            track: Some(u64::from(who)),
            people: 1,
            samples: u8::try_from(self.samples.len().min(5)).unwrap(),
            defects: if good {
                Vec::new()
            } else {
                vec![sallyport_domain::QualityDefect::Blurred]
            },
        })
    }

    fn capture(&mut self) -> Result<Option<Capture>, VisionError> {
        let mut values = vec![0.0; 512];
        values[0] = 1.0;
        Ok(Some(Capture {
            template: FaceTemplate::new(values).unwrap(),
            quality: 80.0,
            samples: 5,
            pad: PadAssessment::default(),
            best_frame_jpeg: b"jpeg".to_vec(),
            captured_at: wall(),
            defects: Vec::new(),
            people_in_view: 1,
            aligned: Vec::new(),
        }))
    }

    fn picture(&self) -> Option<Vec<u8>> {
        Some(b"jpeg".to_vec())
    }

    fn reset(&mut self) {
        self.samples.clear();
    }

    fn model(&self) -> ModelDigest {
        ModelDigest::from_bytes([1; 32])
    }
}

/// A running agent before a fake server.
pub(crate) struct Gate {
    pub(crate) server: FakeServer,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) who: Arc<AtomicU64>,
    pub(crate) unplugged: Arc<AtomicBool>,
    pub(crate) events: Receiver<AgentEvent>,
    pub(crate) agent: Option<Agent>,
    /// A camera that comes before the grey one.
    pub(crate) preferred: Option<Arc<dyn CameraOpener>>,
    /// The iris camera.
    pub(crate) iris: Option<IrisCamera>,
    /// Its own setting.
    pub(crate) profile: Option<Profile>,
}

/// An iris camera whose frames carry [`CANARY`], and what is seen in them.
#[derive(Clone)]
pub(crate) struct IrisCamera {
    pub(crate) unplugged: Arc<AtomicBool>,
    /// Milliseconds by which its frames come too late to belong to the colour camera's.
    pub(crate) late_ms: i64,
    /// What is wrong with every eye.
    pub(crate) defect: Option<QualityDefect>,
    /// Frames that were read.
    pub(crate) read: Arc<AtomicU64>,
}

/// Pixels that must be found nowhere but in memory.
pub(crate) const CANARY: [u8; 12] = *b"EYE-PICTURE!";

impl IrisCamera {
    pub(crate) fn new() -> Self {
        Self {
            unplugged: Arc::default(),
            late_ms: 0,
            defect: None,
            read: Arc::default(),
        }
    }

    fn parts(&self, supervision: SupervisorPolicy) -> IrisParts {
        let reader = CanaryReader(self.defect, self.read.clone());
        IrisParts {
            camera: (Arc::new(self.clone()), supervision),
            eyes: Eyes::new(Box::new(reader), Duration::from_millis(200)),
        }
    }
}

impl CameraOpener for IrisCamera {
    fn name(&self) -> &str {
        "iris"
    }
    fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        if self.unplugged.load(Ordering::SeqCst) {
            return Err(CameraError("unplugged".to_owned()));
        }
        Ok(Box::new(OpenIris(self.clone(), deps().clock)))
    }
}

struct OpenIris(IrisCamera, Arc<dyn Clock>);

impl Camera for OpenIris {
    fn next_frame(&mut self) -> Result<Option<Frame>, CameraError> {
        self.1.wait(&Stop::default(), Duration::from_millis(10));
        if self.0.unplugged.load(Ordering::SeqCst) {
            return Err(CameraError("unplugged".to_owned()));
        }
        let captured_at = wall().plus_millis(self.0.late_ms);
        let pixels = CANARY.repeat(64 * 64 * 3 / CANARY.len());
        Ok(Some(
            Frame::from_bgr("iris", captured_at, 64, 64, &pixels).unwrap(),
        ))
    }
}

struct CanaryReader(Option<QualityDefect>, Arc<AtomicU64>);

impl EyeReader for CanaryReader {
    fn read(&mut self, frame: &Frame) -> Result<Vec<EyeSample>, VisionError> {
        assert!(frame.bgr()?.starts_with(&CANARY));
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok([Eye::Left, Eye::Right]
            .map(|eye| EyeSample {
                eye,
                score: 70,
                defects: self.0.into_iter().collect(),
                template: self.0.is_none().then(|| {
                    let encoder = ModelDigest::from_bytes([2; 32]);
                    IrisTemplate::new(encoder, eye, 70, 400, [5; 64], [u128::MAX; 64]).unwrap()
                }),
                successor: None,
                attack: None,
            })
            .into())
    }
}

pub(crate) fn policy() -> CapturePolicy {
    CapturePolicy {
        samples_wanted: 3,
        acquire_timeout: Duration::from_millis(600),
        // Long enough for a machine that does other work beside: only a server that never answers reaches it.
        decide_timeout: Duration::from_secs(6),
        review_wait: Duration::from_secs(20),
        show: Duration::from_millis(50),
        leave_after: Duration::from_millis(300),
        review_leave_after: Duration::from_secs(1),
        cue_interval: Duration::from_millis(100),
        iris_wait: Duration::from_millis(400),
    }
}

impl Gate {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        Self::start_behind(behaviour, None)
    }

    pub(crate) fn start_behind(
        behaviour: Behaviour,
        preferred: Option<Arc<dyn CameraOpener>>,
    ) -> Self {
        let server = FakeServer::start(behaviour, Tls::Good);
        let folder = tempfile::tempdir().unwrap();
        server.join(&folder.path().join("state"));
        let mut gate = Self::before(server, folder);
        gate.preferred = preferred;
        gate.restart(policy());
        gate
    }

    /// A gate that has joined with its state in `state`, and does not run yet.
    pub(crate) fn before(server: FakeServer, folder: tempfile::TempDir) -> Self {
        let gate = Self {
            server,
            folder,
            who: Arc::default(),
            unplugged: Arc::default(),
            events: channel().1,
            agent: None,
            preferred: None,
            iris: None,
            profile: None,
        };
        gate.fire(false);
        gate
    }

    pub(crate) fn restart(&mut self, policy: CapturePolicy) {
        self.end();
        let state = StateFolder::existing(&self.folder.path().join("state"));
        let identity = state.identity().unwrap();
        let (sender, events) = channel();
        let sender = Mutex::new(sender);
        self.events = events;
        let camera = GreyCamera {
            who: self.who.clone(),
            unplugged: self.unplugged.clone(),
        };
        let supervision = SupervisorPolicy {
            watchdog: WatchdogPolicy {
                stalled_after: Duration::from_secs(5),
                frozen_after: None,
            },
            backoff_first: Duration::from_millis(20),
            look_every: Duration::from_millis(10),
            ..SupervisorPolicy::default()
        };
        let grey: Arc<dyn CameraOpener> = Arc::new(camera);
        let cameras = self
            .preferred
            .iter()
            .cloned()
            .chain([grey])
            .map(|opener| (opener, supervision))
            .collect();
        let door = SimulatedDoor::new(
            identity.gate.clone(),
            &self.folder.path().join("door"),
            false,
        );
        let doors = SimulatedDoor::new(
            identity.gate.clone(),
            &self.folder.path().join("door"),
            false,
        );
        self.agent = Some(
            Agent::start(AgentParts {
                life_safety: LifeSafetyParts {
                    input: Some(Box::new(FileInput::new(&self.fire_line(), true))),
                    on_fault: OnFault::Alarm,
                    debounce: Duration::from_millis(20),
                    doors: Box::new(doors.unwrap()),
                },
                identity,
                state,
                profile: self.profile,
                disk: Arc::new(FileDisk),
                deps: deps(),
                policy,
                cameras,
                observer: Box::new(GreyObserver::default()),
                iris: self.iris.as_ref().map(|camera| camera.parts(supervision)),
                door: Box::new(door.unwrap()),
                stage: Arc::new(Stage::default()),
                stop: Stop::default(),
                events: EventSink::new(move |event| drop(sender.lock().unwrap().send(event))),
                heartbeat_every: Duration::from_millis(200),
                once: false,
            })
            .unwrap(),
        );
    }

    /// The file that stands for the fire alarm's line; 0 is the alarm.
    pub(crate) fn fire_line(&self) -> PathBuf {
        self.folder.path().join("fire-line")
    }

    /// Raises or ends the fire alarm.
    pub(crate) fn fire(&self, alarm: bool) {
        let new = self.folder.path().join("fire-line.new");
        std::fs::write(&new, if alarm { "0\n" } else { "1\n" }).unwrap();
        std::fs::rename(&new, self.fire_line()).unwrap();
    }

    /// Waits for the first event that is wanted; everything seen until then.
    pub(crate) fn until(&self, wanted: impl Fn(&AgentEvent) -> bool) -> Vec<AgentEvent> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                panic!("never came; seen: {seen:?}");
            };
            let found = wanted(&event);
            seen.push(event);
            if found {
                return seen;
            }
        }
    }

    pub(crate) fn person(&self, number: u64) {
        self.who.store(number, Ordering::SeqCst);
    }

    /// Lines of the door's log: releases.
    pub(crate) fn releases(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("door/door.log"))
            .map_or(0, |text| text.lines().count())
    }

    pub(crate) fn end(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.stop();
            let _ = agent.join();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.end();
    }
}
