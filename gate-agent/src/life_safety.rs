//! Release for life safety: the fire alarm's input frees the doors, with no grant, no server, no network, no log and no free disk. So do
//! an officer at the gate machine and, through the server, a supervisor ([`crate::release_order`]).
//!
//! The doors of a real site are freed by hardware, with this software dead. What is here reads the same input, sets its own doors free,
//! says so at once, and then writes it down: begin and end reach the audit log as soon as the server is there. It never invents a grant.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sallyport_domain::{Timestamp, TransactionId};
use sallyport_protocol::{DegradedCause, GateEventBody, LifeSafetySource, SpotDecision};
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Mono, Stop};
use crate::door::DoorFault;
use crate::durable;
use crate::event::AgentEvent;
use crate::journal::Journal;

/// Pause between looks at the input.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Pause between attempts at a disk that fails.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// The file in the state folder by which an officer at the gate machine asks for a release.
const REQUEST_FILE: &str = "release.request";
/// The folder in the state folder for officers' notes.
const NOTES_FOLDER: &str = "notes";

/// The input cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the fire input {path} cannot be read: {what}; check the wiring and the input's file")]
pub struct InputFault {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub what: String,
}

/// The line from the fire alarm system.
pub trait FireInput: Send {
    /// Is there an alarm now?
    ///
    /// # Errors
    /// The line cannot be read.
    fn active(&mut self) -> Result<bool, InputFault>;
}

/// An input that is a file with `0` or `1`, such as a GPIO line's `value` under `/sys/class/gpio`.
#[derive(Debug, Clone)]
pub struct FileInput {
    path: PathBuf,
    active_low: bool,
}

impl FileInput {
    /// `active_low`: 0 is the alarm, so that a cut wire is one.
    #[must_use]
    pub fn new(path: &Path, active_low: bool) -> Self {
        Self {
            path: path.to_owned(),
            active_low,
        }
    }
}

impl FireInput for FileInput {
    fn active(&mut self) -> Result<bool, InputFault> {
        let fault = |what: String| InputFault {
            path: self.path.clone(),
            what,
        };
        let text = fs::read_to_string(&self.path).map_err(|error| fault(error.to_string()))?;
        match text.trim() {
            "0" => Ok(self.active_low),
            "1" => Ok(!self.active_low),
            _ => Err(fault("it says neither 0 nor 1".to_owned())),
        }
    }
}

/// What stays true for a while is taken as true.
#[derive(Debug, Clone)]
pub struct Debounce<T> {
    hold: Duration,
    settled: T,
    candidate: Option<(T, Mono)>,
}

impl<T: PartialEq + Copy> Debounce<T> {
    /// Begins with a settled value; another one must hold this long.
    #[must_use]
    pub const fn new(settled: T, hold: Duration) -> Self {
        Self {
            hold,
            settled,
            candidate: None,
        }
    }

    /// Takes a sample; the settled value.
    pub fn sample(&mut self, value: T, now: Mono) -> T {
        if value == self.settled {
            self.candidate = None;
            return self.settled;
        }
        let since = match self.candidate {
            Some((candidate, since)) if candidate == value => since,
            Some(_) | None => {
                self.candidate = Some((value, now));
                now
            }
        };
        if now.since(since) >= self.hold {
            self.settled = value;
            self.candidate = None;
        }
        self.settled
    }
}

/// Doors that can be freed for life safety. What a door keeps of it must outlive the agent, where the door can.
pub trait LifeSafetyDoor: Send {
    /// Names of the doors.
    fn names(&self) -> Vec<String>;
    /// Frees the doors.
    ///
    /// # Errors
    /// A relay did not confirm.
    fn free(&mut self, release: TransactionId, at: Timestamp) -> Result<(), DoorFault>;
    /// Lets the doors obey grants again.
    ///
    /// # Errors
    /// A relay did not confirm.
    fn restore(&mut self, release: TransactionId, at: Timestamp) -> Result<(), DoorFault>;
    /// The release that the doors stand in, as they themselves know it.
    fn standing(&self) -> Option<(TransactionId, Timestamp)>;
}

/// What a broken input means. There is no default: the site decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFault {
    /// An alarm and an entry of the log; the doors go on as they are.
    Alarm,
    /// The same, and the doors are freed.
    Release,
}

/// What asks for a release now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Quiet,
    Alarm,
    Broken,
}

/// The parts that watch over life safety.
pub struct LifeSafetyParts {
    /// The input, where there is one.
    pub input: Option<Box<dyn FireInput>>,
    /// What a broken input means.
    pub on_fault: OnFault,
    /// A change must hold this long.
    pub debounce: Duration,
    /// The doors.
    pub doors: Box<dyn LifeSafetyDoor>,
}

/// An officer's request at the gate machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The officer, as he names himself.
    pub officer: String,
    /// Why.
    pub reason: String,
}

/// An officer's note of what he decided on the spot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpotNote {
    /// The passage that could not be decided, where one is meant.
    pub transaction: Option<TransactionId>,
    /// What was decided.
    pub decision: SpotDecision,
    /// The officer, as he names himself.
    pub officer: String,
    /// Why.
    pub reason: String,
    /// When the note was written.
    pub at: Timestamp,
}

/// Asks the running gate to free its doors, or (`None`) to let them obey grants again.
///
/// # Errors
/// The state folder cannot be written.
pub fn ask(state: &Path, request: Option<&ReleaseRequest>) -> io::Result<()> {
    let path = state.join(REQUEST_FILE);
    match request {
        Some(request) => durable::replace(&path, &serde_json::to_vec(request)?, 0o600),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => durable::sync_folder(state),
        },
    }
}

/// Leaves a note for the running gate, or for its next start.
///
/// # Errors
/// The state folder cannot be written.
pub fn leave_note(state: &Path, name: TransactionId, note: &SpotNote) -> io::Result<()> {
    let folder = state.join(NOTES_FOLDER);
    fs::create_dir_all(&folder)?;
    durable::replace(
        &folder.join(format!("{name}.json")),
        &serde_json::to_vec(note)?,
        0o600,
    )
}

/// What the threads tell each other: the release that goes on, and what an officer asked for.
#[derive(Debug, Default)]
pub struct Ongoing {
    release: Mutex<Option<TransactionId>>,
    request: Mutex<Option<ReleaseRequest>>,
    ordered: Mutex<Option<ReleaseRequest>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ongoing {
    /// What stood when the agent ended: an officer's request in the state folder, and what a supervisor ordered.
    #[must_use]
    pub fn taken_up(state: &Path, ordered: Option<ReleaseRequest>) -> Self {
        Self {
            release: Mutex::default(),
            request: Mutex::new(read_request(state)),
            ordered: Mutex::new(ordered),
        }
    }

    /// A supervisor orders a release through the console, or (`None`) its end.
    pub fn order(&self, request: Option<ReleaseRequest>) {
        *locked(&self.ordered) = request;
    }

    /// What a supervisor ordered and did not end.
    #[must_use]
    pub fn ordered(&self) -> Option<ReleaseRequest> {
        locked(&self.ordered).clone()
    }

    /// The release that goes on now.
    #[must_use]
    pub fn release(&self) -> Option<TransactionId> {
        *locked(&self.release)
    }
}

/// Everything about life safety that needs the disk, on a thread of its own: makes the journal durable and reads officers' requests
/// and notes from the state folder.
pub fn keep_journal(
    state: &Path,
    journal: &Journal,
    ongoing: &Ongoing,
    clock: &dyn Clock,
    stop: &Stop,
) {
    let mut failing = false;
    loop {
        *locked(&ongoing.request) = read_request(state);
        let stopped = stop.is_set();
        match journal.flush() {
            Ok(()) => {
                failing = false;
                take_notes(state, journal);
            }
            Err(error) if !failing => {
                failing = true;
                tracing::error!("the gate's journal waits: {error}");
            }
            Err(_) => {}
        }
        if stopped {
            return;
        }
        // When it was stopped meanwhile, one more round writes what is left.
        clock.wait(stop, if failing { RETRY_EVERY } else { LOOK_EVERY });
    }
}

/// Watches the input until stopped. Waits for nothing else.
pub struct Watch<'a> {
    parts: LifeSafetyParts,
    clock: &'a dyn Clock,
    journal: &'a Journal,
    events: &'a dyn Fn(AgentEvent),
    ongoing: &'a Ongoing,
    line: Debounce<Line>,
    fault_told: bool,
}

impl<'a> Watch<'a> {
    /// Takes up what the door and the journal remember.
    pub fn begin(
        parts: LifeSafetyParts,
        clock: &'a dyn Clock,
        journal: &'a Journal,
        events: &'a dyn Fn(AgentEvent),
        ongoing: &'a Ongoing,
    ) -> Self {
        let mut watch = Self {
            line: Debounce::new(Line::Quiet, parts.debounce),
            parts,
            clock,
            journal,
            events,
            ongoing,
            fault_told: false,
        };
        watch.take_up();
        watch
    }

    /// The agent may have ended at any moment of a release.
    fn take_up(&mut self) {
        let known = self.journal.chain().release;
        let standing = self.parts.doors.standing();
        if let Some(known) = &known
            && standing.map(|(release, _)| release) != Some(known.release)
        {
            self.journal.record(GateEventBody::LifeSafetyEnded {
                release: known.release,
                found: true,
            });
        }
        if let Some((release, at)) = standing {
            *locked(&self.ongoing.release) = Some(release);
            if known.map(|known| known.release) != Some(release) {
                self.journal.record_at(
                    GateEventBody::LifeSafetyBegan {
                        release,
                        source: LifeSafetySource::FireInput,
                        doors: self.parts.doors.names(),
                        officer: String::new(),
                        reason: String::new(),
                        found: true,
                    },
                    at,
                );
            }
            (self.events)(AgentEvent::LifeSafety {
                released: true,
                problem: None,
            });
        }
    }

    /// Watches until stopped.
    pub fn run(mut self, stop: &Stop) {
        loop {
            self.look();
            if !self.clock.wait(stop, LOOK_EVERY) {
                return;
            }
        }
    }

    /// One look at input and requests.
    pub fn look(&mut self) {
        let now = self.clock.mono();
        let sampled = self.sample();
        let line = self.line.sample(sampled, now);
        if sampled != Line::Broken {
            self.fault_told = false;
        }
        self.journal
            .degraded(DegradedCause::FireInput, line == Line::Broken);
        let here = locked(&self.ongoing.request).clone();
        let request = here
            .map(|request| (LifeSafetySource::Officer, request))
            .or_else(|| Some((LifeSafetySource::Console, self.ongoing.ordered()?)));
        let wanted = match (line, request) {
            (Line::Alarm, _) => Some((LifeSafetySource::FireInput, None)),
            (_, Some((source, request))) => Some((source, Some(request))),
            (Line::Broken, None) if self.parts.on_fault == OnFault::Release => {
                Some((LifeSafetySource::InputFault, None))
            }
            (Line::Broken | Line::Quiet, None) => None,
        };
        match (self.ongoing.release(), wanted) {
            (None, Some((source, request))) => self.free(source, request),
            // A line that is broken is no all-clear: what was freed stays free.
            (Some(release), None) if line == Line::Quiet && sampled == Line::Quiet => {
                self.restore(release);
            }
            (None, None) | (Some(_), _) => {}
        }
    }

    fn sample(&mut self) -> Line {
        match self.parts.input.as_mut().map(|input| input.active()) {
            None | Some(Ok(false)) => Line::Quiet,
            Some(Ok(true)) => Line::Alarm,
            Some(Err(fault)) => {
                if !self.fault_told {
                    tracing::error!("{fault}");
                    (self.events)(AgentEvent::Trouble {
                        problem: fault.to_string(),
                    });
                    self.fault_told = true;
                }
                Line::Broken
            }
        }
    }

    /// The doors first; everything else comes after and may fail.
    fn free(&mut self, source: LifeSafetySource, request: Option<ReleaseRequest>) {
        let (release, at) = (self.journal.new_release(), self.clock.wall());
        let problem = self
            .parts
            .doors
            .free(release, at)
            .err()
            .map(|fault| fault.to_string());
        *locked(&self.ongoing.release) = Some(release);
        match &problem {
            None => tracing::error!(source = source.code(), "DOORS RELEASED FOR LIFE SAFETY"),
            Some(problem) => tracing::error!(
                source = source.code(),
                "life safety: the doors did not confirm their release: {problem}"
            ),
        }
        (self.events)(AgentEvent::LifeSafety {
            released: true,
            problem,
        });
        let request = request.unwrap_or_else(|| ReleaseRequest {
            officer: String::new(),
            reason: String::new(),
        });
        self.journal.record_at(
            GateEventBody::LifeSafetyBegan {
                release,
                source,
                doors: self.parts.doors.names(),
                officer: request.officer,
                reason: request.reason,
                found: false,
            },
            at,
        );
    }

    fn restore(&mut self, release: TransactionId) {
        let at = self.clock.wall();
        let problem = self
            .parts
            .doors
            .restore(release, at)
            .err()
            .map(|fault| fault.to_string());
        *locked(&self.ongoing.release) = None;
        tracing::warn!("the release for life safety has ended");
        (self.events)(AgentEvent::LifeSafety {
            released: false,
            problem,
        });
        self.journal.record_at(
            GateEventBody::LifeSafetyEnded {
                release,
                found: false,
            },
            at,
        );
    }
}

/// Officers' notes become events; a note goes only when its event is durable.
fn take_notes(state: &Path, journal: &Journal) {
    let Ok(entries) = fs::read_dir(state.join(NOTES_FOLDER)) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    // Their names begin with the time.
    paths.sort();
    for path in paths {
        let note = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<SpotNote>(&bytes).ok());
        let Some(note) = note else {
            let aside = path.with_extension("damaged");
            tracing::error!(file = %aside.display(), "an officer's note is damaged; it is set aside and must be looked at");
            // If it cannot be moved either, the next look says so again.
            let _ = fs::rename(&path, &aside);
            continue;
        };
        let body = GateEventBody::OfficerDecided {
            transaction: note.transaction,
            decision: note.decision,
            officer: note.officer,
            reason: note.reason,
        };
        journal.record_at(body, note.at);
        let kept = journal
            .flush()
            .map_err(|error| error.to_string())
            .and_then(|()| fs::remove_file(&path).map_err(|error| error.to_string()));
        if let Err(problem) = kept {
            tracing::error!(file = %path.display(), "an officer's note may be recorded twice: {problem}");
            return;
        }
    }
}

/// A request that cannot be read is none: only its owner can write it, and the command that writes it checks.
fn read_request(state: &Path) -> Option<ReleaseRequest> {
    let bytes = fs::read(state.join(REQUEST_FILE)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
#[path = "life_safety/tests.rs"]
mod tests;
