//! The gate's worker: takes frames and answers, steps the capture machine, does what it says.

mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sallyport_domain::{Timestamp, TransactionId, Verdict};
use sallyport_protocol::{
    DegradedCause, DoorOutcome, FailedAcquisition, GateEventBody, PROTOCOL_VERSION, Probe,
};
use sallyport_vision::Frame;

use super::{Note, Shared};
use crate::camera::{CameraHealth, Phase};
use crate::capture::{Action, Answer, CapturePolicy, Event, Message, Now, Sighting, State, step};
use crate::clock::Mono;
use crate::door::{Door, DoorGuard, Expected, ReleasePermit};
use crate::event::AgentEvent;
use crate::eyes::{Companion, Eyes, EyesSeen};
use crate::observe::{Observed, Observer};
use crate::seal::SealingKey;

/// How long the worker sleeps when nothing comes; time-outs are noticed this late at most.
const TICK: Duration = Duration::from_millis(20);
/// After a replay has ended, reports get this long to be delivered.
const ONCE_PATIENCE: Duration = Duration::from_secs(30);

/// A request that waits for its order.
struct Open {
    expected: Expected,
    /// What the next encoder made of the same eyes, while models change.
    successors: Vec<Probe>,
    /// Nobody but the models decided.
    by_models: bool,
    /// Ends the review thread.
    cancel: Arc<AtomicBool>,
}

/// What the worker sees with.
pub(super) struct Seeing {
    pub(super) observer: Box<dyn Observer>,
    pub(super) eyes: Option<Eyes>,
    pub(super) face_cameras: usize,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    policy: CapturePolicy,
    observer: Box<dyn Observer>,
    /// The eyes, where the gate has an iris camera.
    eyes: Option<Eyes>,
    /// How many cameras show faces; the iris camera comes after them.
    face_cameras: usize,
    door: Box<dyn Door>,
    guard: DoorGuard,
    sealing: SealingKey,
    once: bool,
    state: State,
    open: Option<Open>,
    camera: Option<usize>,
    outcomes: u64,
    blind: bool,
    eyes_blind: bool,
    ended_since: Option<Mono>,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        policy: CapturePolicy,
        seeing: Seeing,
        door: Box<dyn Door>,
        guard: DoorGuard,
        sealing: SealingKey,
        once: bool,
    ) -> Self {
        Self {
            shared,
            policy,
            observer: seeing.observer,
            eyes: seeing.eyes,
            face_cameras: seeing.face_cameras,
            door,
            guard,
            sealing,
            once,
            state: State::Idle,
            open: None,
            camera: None,
            outcomes: 0,
            blind: false,
            eyes_blind: false,
            ended_since: None,
        }
    }

    pub(super) fn run(mut self) {
        self.publish();
        while !self.shared.stop.is_set() {
            self.shared.inbox.wait(TICK);
            for note in self.shared.inbox.take_notes() {
                self.note(note);
            }
            match self.newest_frame() {
                Some(frame) => {
                    // Taken at the same moment as the colour frame, before its analysis takes time.
                    let infrared = self.shared.inbox.take_frame(self.face_cameras);
                    self.look(&frame, infrared.as_ref());
                    self.publish();
                    self.shared.stage.frame_analysed();
                }
                None => self.step(Event::Tick),
            }
            self.publish();
            if self.once && self.has_ended() {
                return;
            }
        }
        if let Some(open) = &self.open {
            open.cancel.store(true, Ordering::SeqCst);
        }
    }

    /// The newest frame of the preferred camera that works.
    fn newest_frame(&mut self) -> Option<Arc<Frame>> {
        let working = self.shared.board.first_working(self.face_cameras)?;
        if self.camera != Some(working) {
            if self.camera.is_some() {
                // Another camera sees other boxes: tracks do not carry over.
                self.observer.reset();
            }
            self.camera = Some(working);
        }
        self.shared.inbox.take_frame(working)
    }

    fn look(&mut self, frame: &Arc<Frame>, infrared: Option<&Arc<Frame>>) {
        let observed = match self.observer.observe(frame) {
            Ok(observed) => observed,
            Err(error) => {
                if !self.blind {
                    self.blind = true;
                    self.shared.degraded(DegradedCause::Model, true);
                    self.trouble(&format!(
                        "pictures cannot be analysed: {error}; run `sallyport-gate probe` on one"
                    ));
                }
                return self.step(Event::Tick);
            }
        };
        if self.blind {
            self.blind = false;
            self.shared.degraded(DegradedCause::Model, false);
        }
        let fresh = match self
            .shared
            .deps
            .new_transaction(self.shared.deps.clock.wall())
        {
            Ok((transaction, _)) => transaction,
            Err(error) => {
                self.trouble(&error.to_string());
                return self.step(Event::Tick);
            }
        };
        let eyes = self.look_at_eyes(&observed, frame.captured_at, infrared);
        self.step(Event::Seen(Sighting {
            eyes,
            track: observed.track,
            people: observed.people,
            samples: observed.samples,
            defects: observed.defects,
            fresh,
        }));
    }

    /// The eyes of the person in a colour frame. Whatever fails here, the passage goes on without.
    fn look_at_eyes(
        &mut self,
        observed: &Observed,
        captured_at: Timestamp,
        infrared: Option<&Arc<Frame>>,
    ) -> EyesSeen {
        let wanted = matches!(self.state, State::Idle | State::Acquiring(_));
        let hoped_for = self.shared.board.may_give_frames(self.face_cameras);
        let Some(eyes) = self.eyes.as_mut().filter(|_| wanted && hoped_for) else {
            return EyesSeen::default();
        };
        let companion = Companion {
            track: observed.track,
            alone: observed.people <= 1,
            captured_at,
        };
        let seen = eyes.look(companion, infrared.map(|frame| &**frame));
        let alarm = eyes.alarm();
        self.shared.set_iris_alarm(alarm.map(str::to_owned));
        match seen {
            Ok(seen) => {
                self.eyes_blind = false;
                seen
            }
            Err(error) => {
                let problem = format!(
                    "iris pictures cannot be analysed: {error}; run `sallyport-gate probe --iris` on one"
                );
                if !self.eyes_blind {
                    self.eyes_blind = true;
                    self.trouble(&problem);
                }
                self.shared.set_iris_alarm(Some(problem));
                EyesSeen::default()
            }
        }
    }

    fn step(&mut self, event: Event) {
        let now = Now {
            mono: self.shared.deps.clock.mono(),
            wall: self.shared.deps.clock.wall(),
        };
        let was_shown = matches!(self.state, State::Showing(_));
        let (state, actions) = step(std::mem::take(&mut self.state), event, now, &self.policy);
        self.state = state;
        if !was_shown && matches!(self.state, State::Showing(_)) {
            self.outcomes += 1;
        }
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Show(message) => self.show(message),
            Action::Submit {
                transaction,
                track,
                people,
                defects,
            } => {
                if let Err(problem) = self.submit(transaction, track, people, defects) {
                    self.undecided(transaction, problem);
                }
            }
            Action::ReportFailure {
                transaction,
                began_at,
                ended_at,
                defects,
            } => {
                self.shared.came_during_release(transaction);
                // The spool is on this machine's disk, and who it was is not known: only where everybody's picture may be kept.
                let kept = self.shared.rules.in_force().photograph(None);
                let picture = self.observer.picture().filter(|_| kept);
                let attachment = picture.and_then(|jpeg| {
                    self.sealing
                        .seal_jpeg(&jpeg, &transaction.to_string(), &*self.shared.deps.random)
                        .ok()
                });
                let report = FailedAcquisition {
                    version: PROTOCOL_VERSION,
                    transaction,
                    gate: self.shared.gate.clone(),
                    direction: self.shared.direction,
                    began_at,
                    ended_at,
                    defects: defects.clone(),
                    attachment,
                };
                if let Err(error) = self.shared.spool.failed_acquisition(&report) {
                    self.trouble(&error.to_string());
                }
                self.shared.emit(AgentEvent::FailedToAcquire {
                    transaction,
                    defects,
                });
            }
            Action::AwaitReview { transaction } => self.await_review(transaction),
            Action::CancelReview { transaction } => {
                if let Some(open) = &self.open {
                    open.cancel.store(true, Ordering::SeqCst);
                }
                tracing::info!(transaction.id = %transaction, "nobody waits for the review any more");
            }
            Action::OpenDoor(permit) => self.open_door(permit),
            Action::DiscardOrder { transaction } => {
                self.not_released(transaction, "nobody waits for this order any more");
                self.reject(transaction);
            }
            Action::Reset => {
                self.observer.reset();
                if let Some(eyes) = &mut self.eyes {
                    eyes.reset();
                }
                self.open = None;
                self.shared.emit(AgentEvent::Idle);
            }
        }
    }

    fn show(&self, message: Message) {
        if let Message::Cue(defect) = message {
            self.shared.emit(AgentEvent::Cue { defect });
        }
        self.shared.emit(AgentEvent::Shown {
            sentence: message.sentence().to_owned(),
        });
    }

    fn note(&mut self, note: Note) {
        let Note::Decision {
            transaction,
            result,
            reviewed,
        } = note;
        let decision = match result {
            Ok(decision) => decision,
            Err(error) => {
                if let Some(cause) = error.cause() {
                    self.shared.degraded(cause, true);
                }
                if self.state.awaiting() == Some(transaction) {
                    self.undecided(transaction, error.to_string());
                }
                return;
            }
        };
        // A decision stands in the log: the server is there and can write.
        for cause in [
            DegradedCause::Network,
            DegradedCause::Server,
            DegradedCause::LogNotWritable,
        ] {
            self.shared.degraded(cause, false);
        }
        self.shared.emit(AgentEvent::Decided {
            transaction,
            verdict: decision.verdict,
            reason: decision.reason,
            reviewed,
            log_index: decision.log_index,
        });
        let expected = self
            .open
            .as_ref()
            .map(|open| open.expected.clone())
            .filter(|expected| {
                expected.transaction == transaction && self.state.awaiting() == Some(transaction)
            });
        let Some(expected) = expected else {
            if decision.door_order.is_some() {
                self.not_released(transaction, "the answer came when nobody waited for it");
                self.reject(transaction);
            }
            return;
        };
        if reviewed && let Some(open) = &mut self.open {
            // An officer decided, not the models: nothing follows for them.
            open.successors.clear();
            open.by_models = false;
        }
        let answer = match (decision.verdict, &decision.door_order) {
            (Verdict::Grant, Some(_)) if self.shared.witness.alarm().is_some() => {
                self.not_released(
                    transaction,
                    "the audit log is not trustworthy; an officer must decide at the gate",
                );
                self.reject(transaction);
                Answer::Failed
            }
            (Verdict::Grant, Some(order)) => {
                let now = self.shared.deps.clock.mono();
                let server_time = self.shared.uplink.server_time();
                match self.guard.admit(order, &expected, now, server_time) {
                    Ok(permit) => Answer::Granted(permit),
                    Err(rejection) => {
                        self.not_released(transaction, &rejection.to_string());
                        self.reject(transaction);
                        Answer::Failed
                    }
                }
            }
            (Verdict::Refuse, None) => Answer::Refused(decision.reason),
            (Verdict::Refer, None) => Answer::Referred(decision.reason),
            (Verdict::Grant, None) | (Verdict::Refuse | Verdict::Refer, Some(_)) => {
                let problem = "the server's verdict and its door order contradict each other";
                return self.undecided(transaction, problem.to_owned());
            }
        };
        self.step(Event::Answered {
            transaction,
            answer,
        });
    }

    fn open_door(&mut self, permit: ReleasePermit) {
        let transaction = permit.transaction();
        let at = self.shared.deps.clock.wall();
        // Written before the relay moves: a release that cannot be recorded does not happen.
        let released = match self
            .shared
            .spool
            .intend_release(&self.shared.gate, transaction, at)
        {
            Err(error) => {
                self.not_released(transaction, &error.to_string());
                false
            }
            Ok(intent) => {
                let (outcome, released) = match self.door.release(permit, at) {
                    Ok(()) => {
                        self.shared.emit(AgentEvent::DoorReleased { transaction });
                        (DoorOutcome::Released, true)
                    }
                    Err(fault) => {
                        self.not_released(transaction, &fault.to_string());
                        (DoorOutcome::Fault, false)
                    }
                };
                if let Err(error) = self.shared.spool.settle(intent, outcome) {
                    self.trouble(&error.to_string());
                }
                released
            }
        };
        self.step(Event::Door {
            transaction,
            released,
        });
        if released {
            self.send_successors(transaction);
        }
    }

    fn reject(&self, transaction: TransactionId) {
        let at = self.shared.deps.clock.wall();
        let kept = self
            .shared
            .spool
            .reject_order(&self.shared.gate, transaction, at);
        if let Err(error) = kept {
            self.trouble(&error.to_string());
        }
    }

    fn undecided(&mut self, transaction: TransactionId, problem: String) {
        tracing::warn!(transaction.id = %transaction, "no decision: {problem}");
        let undecided = GateEventBody::Undecided { transaction };
        self.shared.journal.record(undecided);
        self.shared.emit(AgentEvent::Undecided {
            transaction,
            problem,
        });
        self.step(Event::Answered {
            transaction,
            answer: Answer::Failed,
        });
    }

    fn not_released(&self, transaction: TransactionId, problem: &str) {
        tracing::warn!(transaction.id = %transaction, "the door stayed shut: {problem}");
        self.shared.emit(AgentEvent::DoorNotReleased {
            transaction,
            problem: problem.to_owned(),
        });
    }

    fn trouble(&self, problem: &str) {
        tracing::error!("{problem}");
        self.shared.emit(AgentEvent::Trouble {
            problem: problem.to_owned(),
        });
    }

    /// Tells replay cameras where the gate stands.
    fn publish(&self) {
        let (phase, idle) = match &self.state {
            State::Idle => (Phase::Open, true),
            State::Acquiring(_) => (Phase::Open, false),
            State::Deciding(_) | State::Referred(_) | State::Opening(_) => {
                (Phase::Answering, false)
            }
            State::Showing(_) => (Phase::Shown, false),
        };
        self.shared.stage.set(phase, idle, self.outcomes);
    }

    fn has_ended(&mut self) -> bool {
        let replays = self.shared.board.all();
        let over = replays
            .iter()
            .all(|(_, health)| *health == CameraHealth::Finished);
        if !over || !matches!(self.state, State::Idle) {
            return false;
        }
        let now = self.shared.deps.clock.mono();
        let since = *self.ended_since.get_or_insert(now);
        // Notes are looked at last: a thread puts its note before it counts itself out.
        let quiet = self.shared.in_flight.load(Ordering::SeqCst) == 0
            && self.shared.journal.is_written()
            && self.shared.spool.waiting() == 0
            && !self.shared.inbox.has_notes();
        let out_of_patience = now.since(since) > ONCE_PATIENCE;
        if !quiet && !out_of_patience {
            return false;
        }
        if !quiet {
            self.trouble("reports could not be delivered in time; they stay in the spool");
        }
        self.shared.emit(AgentEvent::Finished);
        self.shared.stop.set();
        true
    }
}
