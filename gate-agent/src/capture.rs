//! Presence and capture as a state machine without IO: events and time in, actions out.
//!
//! One person is one pass through `Idle -> Acquiring -> Deciding -> (Referred) -> Opening ->
//! Showing -> Idle`. The machine opens a door only by handing on a [`ReleasePermit`] for the very
//! transaction it waits for, while the person who was captured still stands there. All durations
//! are monotonic; the wall clock is only written into reports.

use std::collections::BTreeMap;
use std::time::Duration;

use sallyport_domain::{QualityDefect, ReasonCode, Timestamp, TransactionId};

use crate::clock::Mono;
use crate::door::ReleasePermit;

/// Time-outs and limits of capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturePolicy {
    /// Good samples that make a request at once.
    pub samples_wanted: u8,
    /// After this long a request is made from what there is, or the attempt fails.
    pub acquire_timeout: Duration,
    /// After this long without the server's answer an officer is called.
    pub decide_timeout: Duration,
    /// How long a referred person waits for an officer before being told to call one.
    pub review_wait: Duration,
    /// How long the outcome stays shown at least.
    pub show: Duration,
    /// A person not seen for this long has left.
    pub leave_after: Duration,
    /// The same while an officer looks at the request: people turn around when they wait.
    pub review_leave_after: Duration,
    /// A cue stays at least this long before another replaces it.
    pub cue_interval: Duration,
}

impl Default for CapturePolicy {
    fn default() -> Self {
        Self {
            samples_wanted: 5,
            acquire_timeout: Duration::from_secs(8),
            decide_timeout: Duration::from_secs(5),
            review_wait: Duration::from_secs(120),
            show: Duration::from_secs(3),
            leave_after: Duration::from_secs(2),
            review_leave_after: Duration::from_secs(8),
            cue_interval: Duration::from_secs(1),
        }
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For durations.
    pub mono: Mono,
    /// For records.
    pub wall: Timestamp,
}

/// What one analysed frame showed.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The person followed; the same number means the same person over frames.
    pub track: Option<u64>,
    /// People near enough to be the one at the gate.
    pub people: u8,
    /// Usable samples collected of this track.
    pub samples: u8,
    /// What is wrong with this frame; empty when it gave a sample.
    pub defects: Vec<QualityDefect>,
    /// A fresh id, used if this frame completes a capture.
    pub fresh: TransactionId,
}

/// What came of a request.
#[derive(Debug)]
pub enum Answer {
    /// Granted, and the guard admitted the order.
    Granted(ReleasePermit),
    /// Refused by server or officer.
    Refused(ReasonCode),
    /// An officer must look.
    Referred(ReasonCode),
    /// No usable answer: network, server, order not obeyed, capture failed.
    Failed,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A frame was analysed.
    Seen(Sighting),
    /// A request or review was answered.
    Answered {
        /// Of which passage.
        transaction: TransactionId,
        /// How.
        answer: Answer,
    },
    /// The door was told to open.
    Door {
        /// For which passage.
        transaction: TransactionId,
        /// Whether it did.
        released: bool,
    },
    /// Time passed.
    Tick,
}

/// What the person sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// How to stand.
    Cue(QualityDefect),
    /// The request is on its way.
    Wait,
    /// The door is open.
    Granted,
    /// The door stays shut.
    Refused(ReasonCode),
    /// An officer looks at it.
    Referred(ReasonCode),
    /// Nothing works: an officer must be called.
    CallOfficer,
    /// No usable picture; with the cue that would have helped.
    NotAcquired(Option<QualityDefect>),
    /// Nobody is there.
    Clear,
}

impl Message {
    /// The sentence shown. It names no person and no score, and to the person in front of the gate
    /// a refusal says no more than that.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Cue(defect) => defect.cue(),
            Self::Wait => "Thank you. One moment, please.",
            Self::Granted => "Please go through.",
            Self::Refused(_) => "Access is not possible. Please speak to an officer.",
            Self::Referred(_) => "An officer is looking at your request. Please wait.",
            Self::CallOfficer => "The gate cannot decide. Please call an officer.",
            Self::NotAcquired(Some(defect)) => defect.cue(),
            Self::NotAcquired(None) => "No picture could be taken. Please call an officer.",
            Self::Clear => "",
        }
    }
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Show this.
    Show(Message),
    /// Make a request from the track's samples and send it.
    Submit {
        /// Its id.
        transaction: TransactionId,
        /// People seen during the last moments.
        people: u8,
        /// Defects of samples passed over, most frequent first.
        defects: Vec<QualityDefect>,
    },
    /// Record that no usable sample could be made.
    ReportFailure {
        /// A fresh id.
        transaction: TransactionId,
        /// When the person came.
        began_at: Timestamp,
        /// Now.
        ended_at: Timestamp,
        /// Most frequent first.
        defects: Vec<QualityDefect>,
    },
    /// Ask the server for the officer's answer until cancelled.
    AwaitReview {
        /// Of which passage.
        transaction: TransactionId,
    },
    /// Stop asking.
    CancelReview {
        /// Of which passage.
        transaction: TransactionId,
    },
    /// Release the door; answered with [`Event::Door`].
    OpenDoor(ReleasePermit),
    /// A permit came for a person who is not there any more, or for another passage: record that
    /// the order was not obeyed.
    DiscardOrder {
        /// Of which passage.
        transaction: TransactionId,
    },
    /// Forget samples and track: the next person begins afresh.
    Reset,
}

/// A person being acquired.
#[derive(Debug, Clone)]
pub struct Acquiring {
    track: u64,
    began: Mono,
    began_at: Timestamp,
    last_seen: Mono,
    samples: u8,
    fresh: TransactionId,
    defects: BTreeMap<QualityDefect, u32>,
    cue: Option<(QualityDefect, Mono)>,
    crowd: Option<(u8, Mono)>,
}

/// Someone who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    transaction: TransactionId,
    track: u64,
    last_seen: Mono,
    until: Mono,
}

/// Where the gate stands.
#[derive(Debug, Clone, Default)]
pub enum State {
    /// Nobody is there.
    #[default]
    Idle,
    /// Collecting samples of one person.
    Acquiring(Acquiring),
    /// Waiting for the server.
    Deciding(Waiting),
    /// Waiting for an officer.
    Referred(Waiting),
    /// Waiting for the door.
    Opening(Waiting),
    /// Showing the outcome, then waiting for the person to leave.
    Showing(Waiting),
}

impl State {
    /// The passage whose answer is awaited.
    #[must_use]
    pub const fn awaiting(&self) -> Option<TransactionId> {
        match self {
            Self::Deciding(waiting) | Self::Referred(waiting) => Some(waiting.transaction),
            Self::Idle | Self::Acquiring(_) | Self::Opening(_) | Self::Showing(_) => None,
        }
    }
}

/// People seen longer ago than this do not count as present.
const CROWD_MEMORY: Duration = Duration::from_secs(1);

/// One step. The state is replaced; the actions are to be done in their order.
#[must_use]
pub fn step(state: State, event: Event, now: Now, policy: &CapturePolicy) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    let state = match event {
        Event::Seen(sighting) => seen(state, &sighting, now, policy, &mut actions),
        Event::Answered {
            transaction,
            answer,
        } => answered(state, transaction, answer, now, policy, &mut actions),
        Event::Door {
            transaction,
            released,
        } => door(state, transaction, released, now, policy, &mut actions),
        Event::Tick => state,
    };
    let state = expire(state, now, policy, &mut actions);
    (state, actions)
}

fn seen(
    state: State,
    sighting: &Sighting,
    now: Now,
    policy: &CapturePolicy,
    actions: &mut Vec<Action>,
) -> State {
    let touch = |mut waiting: Waiting| {
        if sighting.track == Some(waiting.track) {
            waiting.last_seen = now.mono;
        }
        waiting
    };
    match state {
        State::Idle => match sighting.track {
            Some(track) => acquire(
                Acquiring::begin(track, sighting.fresh, now),
                sighting,
                now,
                policy,
                actions,
            ),
            None => State::Idle,
        },
        State::Acquiring(acquiring) => match sighting.track {
            Some(track) if track == acquiring.track => {
                acquire(acquiring, sighting, now, policy, actions)
            }
            // Somebody else stepped in, or the track broke: samples of two people never mix. The
            // attempt's beginning and its defects stay, so that it still ends.
            Some(track) => acquire(
                Acquiring {
                    track,
                    samples: 0,
                    ..acquiring
                },
                sighting,
                now,
                policy,
                actions,
            ),
            None => State::Acquiring(acquiring),
        },
        State::Deciding(waiting) => State::Deciding(touch(waiting)),
        State::Referred(waiting) => State::Referred(touch(waiting)),
        State::Opening(waiting) => State::Opening(touch(waiting)),
        State::Showing(waiting) => State::Showing(touch(waiting)),
    }
}

impl Acquiring {
    fn begin(track: u64, fresh: TransactionId, now: Now) -> Self {
        Self {
            track,
            began: now.mono,
            began_at: now.wall,
            last_seen: now.mono,
            samples: 0,
            fresh,
            defects: BTreeMap::new(),
            cue: None,
            crowd: None,
        }
    }

    /// Defects, most frequent first.
    fn frequent(&self) -> Vec<QualityDefect> {
        let mut counted: Vec<(QualityDefect, u32)> =
            self.defects.iter().map(|(d, n)| (*d, *n)).collect();
        counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counted.into_iter().map(|(defect, _)| defect).collect()
    }

    fn people(&self, now: Mono) -> u8 {
        match self.crowd {
            Some((people, at)) if now.since(at) <= CROWD_MEMORY => people,
            Some(_) | None => 1,
        }
    }
}

fn acquire(
    mut acquiring: Acquiring,
    sighting: &Sighting,
    now: Now,
    policy: &CapturePolicy,
    actions: &mut Vec<Action>,
) -> State {
    acquiring.last_seen = now.mono;
    acquiring.samples = sighting.samples;
    acquiring.fresh = sighting.fresh;
    if sighting.people > 1 {
        acquiring.crowd = Some((sighting.people, now.mono));
    }
    let several = sighting.people > 1 && !sighting.defects.contains(&QualityDefect::SeveralFaces);
    for defect in sighting
        .defects
        .iter()
        .copied()
        .chain(several.then_some(QualityDefect::SeveralFaces))
    {
        *acquiring.defects.entry(defect).or_default() += 1;
        let due = acquiring
            .cue
            .is_none_or(|(shown, at)| shown != defect && now.mono.since(at) >= policy.cue_interval);
        if due {
            acquiring.cue = Some((defect, now.mono));
            actions.push(Action::Show(Message::Cue(defect)));
        }
    }
    let alone = acquiring.people(now.mono) <= 1;
    if acquiring.samples >= policy.samples_wanted.max(1) && alone {
        return submit(&acquiring, now, policy, actions);
    }
    State::Acquiring(acquiring)
}

fn submit(
    acquiring: &Acquiring,
    now: Now,
    policy: &CapturePolicy,
    actions: &mut Vec<Action>,
) -> State {
    actions.push(Action::Show(Message::Wait));
    actions.push(Action::Submit {
        transaction: acquiring.fresh,
        people: acquiring.people(now.mono),
        defects: acquiring.frequent(),
    });
    State::Deciding(Waiting {
        transaction: acquiring.fresh,
        track: acquiring.track,
        last_seen: acquiring.last_seen,
        until: now.mono.plus(policy.decide_timeout),
    })
}

fn answered(
    state: State,
    transaction: TransactionId,
    answer: Answer,
    now: Now,
    policy: &CapturePolicy,
    actions: &mut Vec<Action>,
) -> State {
    let waiting = match &state {
        State::Deciding(waiting) | State::Referred(waiting)
            if waiting.transaction == transaction =>
        {
            *waiting
        }
        State::Idle
        | State::Acquiring(_)
        | State::Deciding(_)
        | State::Referred(_)
        | State::Opening(_)
        | State::Showing(_) => {
            if let Answer::Granted(permit) = answer {
                actions.push(Action::DiscardOrder {
                    transaction: permit.transaction(),
                });
            }
            return state;
        }
    };
    match answer {
        Answer::Granted(permit) => {
            let absence = if matches!(state, State::Referred(_)) {
                policy.review_leave_after
            } else {
                policy.leave_after
            };
            let present = now.mono.since(waiting.last_seen) <= absence;
            let in_time = now.mono <= waiting.until;
            if permit.transaction() != transaction || !present || !in_time {
                actions.push(Action::DiscardOrder {
                    transaction: permit.transaction(),
                });
                return show(waiting, Message::CallOfficer, now, policy, actions);
            }
            actions.push(Action::OpenDoor(permit));
            State::Opening(Waiting {
                until: now.mono.plus(policy.decide_timeout),
                ..waiting
            })
        }
        Answer::Refused(reason) => show(waiting, Message::Refused(reason), now, policy, actions),
        Answer::Failed => show(waiting, Message::CallOfficer, now, policy, actions),
        Answer::Referred(reason) => {
            if matches!(state, State::Referred(_)) {
                return state;
            }
            actions.push(Action::Show(Message::Referred(reason)));
            actions.push(Action::AwaitReview { transaction });
            State::Referred(Waiting {
                until: now.mono.plus(policy.review_wait),
                ..waiting
            })
        }
    }
}

fn door(
    state: State,
    transaction: TransactionId,
    released: bool,
    now: Now,
    policy: &CapturePolicy,
    actions: &mut Vec<Action>,
) -> State {
    match state {
        State::Opening(waiting) if waiting.transaction == transaction => {
            let message = if released {
                Message::Granted
            } else {
                Message::CallOfficer
            };
            show(waiting, message, now, policy, actions)
        }
        State::Idle
        | State::Acquiring(_)
        | State::Deciding(_)
        | State::Referred(_)
        | State::Opening(_)
        | State::Showing(_) => state,
    }
}

fn show(
    waiting: Waiting,
    message: Message,
    now: Now,
    policy: &CapturePolicy,
    actions: &mut Vec<Action>,
) -> State {
    actions.push(Action::Show(message));
    State::Showing(Waiting {
        until: now.mono.plus(policy.show),
        ..waiting
    })
}

/// What time alone brings about.
fn expire(state: State, now: Now, policy: &CapturePolicy, actions: &mut Vec<Action>) -> State {
    let left = |last_seen: Mono| now.mono.since(last_seen) > policy.leave_after;
    match state {
        State::Acquiring(acquiring) => {
            let timed_out = now.mono.since(acquiring.began) >= policy.acquire_timeout;
            let gone = left(acquiring.last_seen);
            if timed_out && !gone && acquiring.samples > 0 {
                return submit(&acquiring, now, policy, actions);
            }
            if !timed_out && !gone {
                return State::Acquiring(acquiring);
            }
            let defects = acquiring.frequent();
            let worst = defects.first().copied();
            actions.push(Action::ReportFailure {
                transaction: acquiring.fresh,
                began_at: acquiring.began_at,
                ended_at: now.wall,
                defects,
            });
            let waiting = Waiting {
                transaction: acquiring.fresh,
                track: acquiring.track,
                last_seen: acquiring.last_seen,
                until: now.mono,
            };
            show(waiting, Message::NotAcquired(worst), now, policy, actions)
        }
        State::Deciding(waiting) | State::Opening(waiting) if now.mono > waiting.until => {
            show(waiting, Message::CallOfficer, now, policy, actions)
        }
        State::Referred(waiting)
            if now.mono.since(waiting.last_seen) > policy.review_leave_after
                || now.mono > waiting.until =>
        {
            actions.push(Action::CancelReview {
                transaction: waiting.transaction,
            });
            show(waiting, Message::CallOfficer, now, policy, actions)
        }
        State::Showing(waiting) if now.mono >= waiting.until && left(waiting.last_seen) => {
            actions.push(Action::Show(Message::Clear));
            actions.push(Action::Reset);
            State::Idle
        }
        State::Idle
        | State::Deciding(_)
        | State::Opening(_)
        | State::Referred(_)
        | State::Showing(_) => state,
    }
}

#[cfg(test)]
#[path = "capture/tests.rs"]
mod tests;
