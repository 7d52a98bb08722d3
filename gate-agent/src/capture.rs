//! Presence and capture as a state machine without IO: events and time in, actions out.
//!
//! One person is one pass through `Idle -> Acquiring -> Deciding -> (Referred) -> Opening ->
//! Showing -> Idle`. The machine opens a door only by handing on a [`crate::door::ReleasePermit`]
//! for the very
//! transaction it waits for, while the person who was captured still stands there. All durations
//! are monotonic; the wall clock is only written into reports.

mod types;

use std::collections::BTreeMap;
use std::time::Duration;

use sallyport_domain::{QualityDefect, Timestamp, TransactionId};

use crate::clock::Mono;
use crate::eyes::EyeProgress;
pub use types::{Action, Answer, CapturePolicy, Event, Message, Now, Sighting};

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
    /// Since when the face is complete.
    complete: Option<Mono>,
    eyes: EyeProgress,
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
                    complete: None,
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
            complete: None,
            eyes: EyeProgress::NotExpected,
        }
    }

    /// Whether a request can be made: the face is complete, and the eyes are, or took too long. A
    /// dead or blind iris camera costs that long at most and decides nothing.
    fn is_ready(&self, now: Mono, policy: &CapturePolicy) -> bool {
        self.complete.is_some_and(|since| {
            self.eyes != EyeProgress::Collecting || now.since(since) >= policy.iris_wait
        })
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
        // First the face, then the eyes: two cues at once help nobody.
        .chain(
            sighting
                .eyes
                .defects
                .iter()
                .copied()
                .filter(|_| sighting.defects.is_empty() && !several),
        )
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
    acquiring.eyes = sighting.eyes.progress;
    let alone = acquiring.people(now.mono) <= 1;
    if acquiring.samples >= policy.samples_wanted.max(1) && alone {
        acquiring.complete.get_or_insert(now.mono);
    } else {
        acquiring.complete = None;
    }
    if acquiring.is_ready(now.mono, policy) {
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
        track: acquiring.track,
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
            let ready = acquiring.is_ready(now.mono, policy);
            if (timed_out || ready) && !gone && acquiring.samples > 0 {
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
