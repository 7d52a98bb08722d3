#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "tests pick out the variants they are about"
)]

use super::*;
use crate::door::ReleasePermit;
use crate::eyes::EyesSeen;
use proptest::prelude::*;
use sallyport_domain::ReasonCode;

const POLICY: CapturePolicy = CapturePolicy {
    samples_wanted: 3,
    acquire_timeout: Duration::from_secs(8),
    decide_timeout: Duration::from_secs(5),
    review_wait: Duration::from_secs(60),
    show: Duration::from_secs(3),
    leave_after: Duration::from_secs(2),
    review_leave_after: Duration::from_secs(4),
    cue_interval: Duration::from_secs(1),
    iris_wait: Duration::from_millis(1_500),
};

fn id(n: u8) -> TransactionId {
    TransactionId::new(Timestamp::from_micros(1_795_428_420_000_000), [n; 10])
}

/// Drives the machine with a hand on both clocks.
struct Drive {
    state: State,
    mono_ms: u64,
    wall_ms: i64,
    fresh: u8,
    eyes: EyesSeen,
}

impl Drive {
    fn new() -> Self {
        Self {
            state: State::Idle,
            mono_ms: 0,
            wall_ms: 1_000_000,
            fresh: 0,
            eyes: EyesSeen::default(),
        }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let now = Now {
            mono: Mono::from_origin(Duration::from_millis(self.mono_ms)),
            wall: Timestamp::from_micros(self.wall_ms * 1_000),
        };
        let (state, actions) = step(std::mem::take(&mut self.state), event, now, &POLICY);
        self.state = state;
        actions
    }

    fn pass(&mut self, ms: u64) {
        self.mono_ms += ms;
        self.wall_ms += ms as i64;
    }

    fn see(&mut self, track: Option<u64>, samples: u8, defects: &[QualityDefect]) -> Vec<Action> {
        self.pass(100);
        self.fresh = self.fresh.wrapping_add(1);
        let sighting = Sighting {
            track,
            people: u8::from(track.is_some()),
            samples,
            defects: defects.to_vec(),
            eyes: self.eyes.clone(),
            fresh: id(self.fresh),
        };
        self.step(Event::Seen(sighting))
    }

    /// A person comes and is captured; the transaction.
    fn capture(&mut self) -> TransactionId {
        for samples in 1..3 {
            assert!(self.see(Some(1), samples, &[]).is_empty());
        }
        let actions = self.see(Some(1), 3, &[]);
        actions
            .iter()
            .find_map(|action| match action {
                Action::Submit { transaction, .. } => Some(*transaction),
                _ => None,
            })
            .expect("three samples make a request")
    }

    fn answer(&mut self, transaction: TransactionId, answer: Answer) -> Vec<Action> {
        self.step(Event::Answered {
            transaction,
            answer,
        })
    }

    fn grant(&mut self, transaction: TransactionId) -> Vec<Action> {
        self.answer(
            transaction,
            Answer::Granted(ReleasePermit::for_test(transaction)),
        )
    }
}

fn opens(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| matches!(action, Action::OpenDoor(_)))
        .count()
}

fn shows(actions: &[Action]) -> Vec<Message> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Show(message) => Some(*message),
            _ => None,
        })
        .collect()
}

#[test]
fn a_granted_person_passes_once_and_the_next_one_begins_afresh() {
    let mut drive = Drive::new();
    let transaction = drive.capture();
    assert_eq!(opens(&drive.grant(transaction)), 1);
    assert_eq!(
        opens(&drive.grant(transaction)),
        0,
        "a second permit is discarded"
    );
    let shown = drive.step(Event::Door {
        transaction,
        released: true,
    });
    assert_eq!(shows(&shown), [Message::Granted]);
    // Standing there does not begin another passage.
    for _ in 0..100 {
        assert!(drive.see(Some(1), 3, &[]).is_empty());
    }
    drive.pass(2_500);
    let actions = drive.step(Event::Tick);
    assert!(actions.iter().any(|action| matches!(action, Action::Reset)));
    assert!(matches!(drive.state, State::Idle));
    assert_ne!(drive.capture(), transaction);
}

#[test]
fn nobody_waits_for_an_absent_person() {
    let mut drive = Drive::new();
    let transaction = drive.capture();
    drive.pass(2_100);
    let actions = drive.grant(transaction);
    assert_eq!(opens(&actions), 0);
    assert!(matches!(actions[0], Action::DiscardOrder { .. }));
}

#[test]
fn a_swap_after_capture_opens_nothing() {
    let mut drive = Drive::new();
    let transaction = drive.capture();
    for _ in 0..25 {
        drive.see(Some(2), 1, &[]);
    }
    assert_eq!(opens(&drive.grant(transaction)), 0);
}

#[test]
fn samples_of_two_people_never_make_one_request() {
    let mut drive = Drive::new();
    drive.see(Some(1), 2, &[]);
    assert!(drive.see(Some(2), 1, &[]).is_empty());
    let State::Acquiring(acquiring) = &drive.state else {
        panic!("still acquiring");
    };
    assert_eq!((acquiring.track, acquiring.samples), (2, 1));
}

#[test]
fn without_an_answer_an_officer_is_called_and_a_late_grant_opens_nothing() {
    let mut drive = Drive::new();
    let transaction = drive.capture();
    for _ in 0..49 {
        assert!(drive.see(Some(1), 3, &[]).is_empty());
    }
    let mut shown = drive.see(Some(1), 3, &[]);
    shown.extend(drive.see(Some(1), 3, &[]));
    assert_eq!(shows(&shown), [Message::CallOfficer]);
    let actions = drive.grant(transaction);
    assert_eq!(opens(&actions), 0);
    assert!(matches!(actions[0], Action::DiscardOrder { .. }));
}

#[test]
fn a_review_can_open_and_leaving_cancels_it() {
    let mut drive = Drive::new();
    let transaction = drive.capture();
    let actions = drive.answer(transaction, Answer::Referred(ReasonCode::NotRecognised));
    assert!(matches!(actions[1], Action::AwaitReview { .. }));
    for _ in 0..200 {
        drive.see(Some(1), 3, &[]);
    }
    assert_eq!(opens(&drive.grant(transaction)), 1);

    let mut drive = Drive::new();
    let transaction = drive.capture();
    drive.answer(transaction, Answer::Referred(ReasonCode::NotRecognised));
    drive.pass(3_900);
    assert!(
        drive.step(Event::Tick).is_empty(),
        "looking round is not leaving"
    );
    drive.pass(200);
    let actions = drive.step(Event::Tick);
    assert!(matches!(actions[0], Action::CancelReview { .. }));
    assert_eq!(opens(&drive.grant(transaction)), 0);
}

#[test]
fn a_blurred_person_fails_with_the_cue_that_would_have_helped() {
    let mut drive = Drive::new();
    let mut shown = Vec::new();
    let mut failure = None;
    for n in 0..82 {
        let defects: &[_] = if n % 4 == 0 {
            &[QualityDefect::TooSmall]
        } else {
            &[QualityDefect::Blurred]
        };
        for action in drive.see(Some(1), 0, defects) {
            match action {
                Action::Show(message) => shown.push(message),
                Action::ReportFailure {
                    defects,
                    began_at,
                    ended_at,
                    ..
                } => {
                    failure = Some((defects, ended_at.millis_since(began_at)));
                }
                _ => panic!("nothing else may happen"),
            }
        }
    }
    let (defects, lasted) = failure.expect("the attempt ends");
    assert_eq!(defects, [QualityDefect::Blurred, QualityDefect::TooSmall]);
    assert_eq!(lasted, 8_000);
    assert_eq!(
        shown.last(),
        Some(&Message::NotAcquired(Some(QualityDefect::Blurred)))
    );
    // Cues do not flicker: at most one a second.
    assert!(shown.len() <= 10, "{shown:?}");
}

#[test]
fn a_wall_clock_set_back_by_a_year_changes_nothing_but_records() {
    let mut drive = Drive::new();
    let transaction = drive.capture();
    drive.wall_ms -= 365 * 86_400_000;
    assert_eq!(opens(&drive.grant(transaction)), 1);
    let mut drive = Drive::new();
    drive.see(Some(1), 0, &[QualityDefect::Blurred]);
    drive.wall_ms -= 365 * 86_400_000;
    drive.pass(1_900);
    assert!(matches!(drive.state, State::Acquiring(_)));
    drive.step(Event::Tick);
    assert!(matches!(drive.state, State::Acquiring(_)));
    drive.pass(200);
    drive.step(Event::Tick);
    assert!(matches!(drive.state, State::Showing(_)));
}

#[test]
fn a_door_that_does_not_answer_calls_an_officer() {
    let mut drive = Drive::new();
    let transaction = drive.capture();
    drive.grant(transaction);
    let actions = drive.step(Event::Door {
        transaction,
        released: false,
    });
    assert_eq!(shows(&actions), [Message::CallOfficer]);
}

#[derive(Debug, Clone)]
enum Move {
    See(Option<u64>, u8, u8, bool),
    Grant(u8),
    GrantCurrent,
    Refer,
    Refuse,
    Fail,
    Door(bool),
    Pass(u64),
    WallBack(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (prop::option::of(1_u64..4), 0_u8..3, 0_u8..5, any::<bool>())
            .prop_map(|(t, p, s, d)| Move::See(t, p, s, d)),
        1 => any::<u8>().prop_map(Move::Grant),
        3 => Just(Move::GrantCurrent),
        1 => Just(Move::Refer),
        1 => Just(Move::Refuse),
        1 => Just(Move::Fail),
        1 => any::<bool>().prop_map(Move::Door),
        2 => (0_u64..9_000).prop_map(Move::Pass),
        1 => (0_i64..1_000_000_000).prop_map(Move::WallBack),
    ];
    prop::collection::vec(one, 0..200)
}

fn current(state: &State) -> Option<TransactionId> {
    match state {
        State::Deciding(waiting)
        | State::Referred(waiting)
        | State::Opening(waiting)
        | State::Showing(waiting) => Some(waiting.transaction),
        State::Idle | State::Acquiring(_) => None,
    }
}

#[test]
fn the_eyes_get_a_little_time_and_a_blind_iris_camera_blocks_nobody() {
    let submitted = |actions: &[Action]| {
        actions
            .iter()
            .any(|action| matches!(action, Action::Submit { track: 7, .. }))
    };
    let policy = POLICY;
    let wait = u64::try_from(policy.iris_wait.as_millis()).unwrap();

    // Complete eyes: at once.
    let mut drive = Drive::new();
    drive.eyes.progress = EyeProgress::Complete;
    assert!(submitted(&drive.see(Some(7), policy.samples_wanted, &[])));

    // Eyes still being collected: the cue is theirs, and the time is bounded.
    let mut drive = Drive::new();
    drive.eyes = EyesSeen {
        progress: EyeProgress::Collecting,
        defects: vec![QualityDefect::EyesClosed],
    };
    let actions = drive.see(Some(7), policy.samples_wanted, &[]);
    assert!(!submitted(&actions));
    assert!(actions.iter().any(|action| matches!(
        action,
        Action::Show(Message::Cue(QualityDefect::EyesClosed))
    )));
    let mut waited = 0;
    while !submitted(&drive.see(Some(7), policy.samples_wanted, &[])) {
        waited += 100;
        assert!(waited <= wait + 100, "the eyes blocked the passage");
    }
    assert!(waited + 100 >= wait);

    // The same when no more frames come: the clock alone ends it.
    let mut drive = Drive::new();
    drive.eyes.progress = EyeProgress::Collecting;
    assert!(!submitted(&drive.see(Some(7), policy.samples_wanted, &[])));
    drive.pass(wait);
    assert!(submitted(&drive.step(Event::Tick)));

    // The iris camera dies while the eyes are collected.
    let mut drive = Drive::new();
    drive.eyes.progress = EyeProgress::Collecting;
    assert!(!submitted(&drive.see(Some(7), policy.samples_wanted, &[])));
    drive.eyes.progress = EyeProgress::NotExpected;
    assert!(submitted(&drive.see(Some(7), policy.samples_wanted, &[])));

    // Eyes alone make no request: the face is needed.
    let mut drive = Drive::new();
    drive.eyes.progress = EyeProgress::Complete;
    assert!(!submitted(&drive.see(
        Some(7),
        0,
        &[QualityDefect::Blurred]
    )));
}

#[test]
fn a_face_defect_is_said_before_an_eye_defect() {
    let mut drive = Drive::new();
    drive.eyes = EyesSeen {
        progress: EyeProgress::Collecting,
        defects: vec![QualityDefect::NoEye],
    };
    let actions = drive.see(Some(7), 0, &[QualityDefect::TooSmall]);
    let cues: Vec<QualityDefect> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Show(Message::Cue(defect)) => Some(*defect),
            _ => None,
        })
        .collect();
    assert_eq!(cues, [QualityDefect::TooSmall]);
}

proptest! {
    /// Whatever happens, a door opens only on a permit of the transaction that is being decided,
    /// for a person seen just now, and at most once per transaction.
    #[test]
    fn no_sequence_opens_a_door_without_its_own_grant(moves in moves()) {
        let mut drive = Drive::new();
        let mut opened: Vec<TransactionId> = Vec::new();
        for one in moves {
            let before = drive.state.clone();
            let mut granted = None;
            let actions = match one {
                Move::See(track, people, samples, good) => {
                    drive.pass(50);
                    drive.fresh = drive.fresh.wrapping_add(1);
                    let fresh = TransactionId::new(
                        Timestamp::from_micros(drive.mono_ms as i64 * 1_000),
                        [drive.fresh; 10],
                    );
                    drive.step(Event::Seen(Sighting {
                        track,
                        people,
                        samples,
                        defects: if good { vec![] } else { vec![QualityDefect::Blurred] },
                        eyes: EyesSeen {
                            progress: match drive.fresh % 3 {
                                0 => EyeProgress::NotExpected,
                                1 => EyeProgress::Collecting,
                                _ => EyeProgress::Complete,
                            },
                            defects: vec![],
                        },
                        fresh,
                    }))
                }
                Move::Grant(n) => {
                    granted = Some(id(n));
                    drive.grant(id(n))
                }
                Move::GrantCurrent => match current(&drive.state) {
                    Some(transaction) => {
                        granted = Some(transaction);
                        drive.grant(transaction)
                    }
                    None => Vec::new(),
                },
                Move::Refer | Move::Refuse | Move::Fail => {
                    let answer = match one {
                        Move::Refer => Answer::Referred(ReasonCode::NotRecognised),
                        Move::Refuse => Answer::Refused(ReasonCode::Banned),
                        _ => Answer::Failed,
                    };
                    match current(&drive.state) {
                        Some(transaction) => drive.answer(transaction, answer),
                        None => Vec::new(),
                    }
                }
                Move::Door(released) => match current(&drive.state) {
                    Some(transaction) => drive.step(Event::Door { transaction, released }),
                    None => Vec::new(),
                },
                Move::Pass(ms) => {
                    drive.pass(ms);
                    drive.step(Event::Tick)
                }
                Move::WallBack(ms) => {
                    drive.wall_ms -= ms;
                    drive.step(Event::Tick)
                }
            };
            for action in &actions {
                if let Action::OpenDoor(permit) = action {
                    prop_assert_eq!(granted, Some(permit.transaction()));
                    let (State::Deciding(waiting) | State::Referred(waiting)) = before else {
                        panic!("opened without waiting for an answer");
                    };
                    prop_assert_eq!(waiting.transaction, permit.transaction());
                    let now = Mono::from_origin(Duration::from_millis(drive.mono_ms));
                    prop_assert!(now.since(waiting.last_seen) <= POLICY.review_leave_after);
                    prop_assert!(!opened.contains(&permit.transaction()));
                    opened.push(permit.transaction());
                }
            }
        }
    }

    /// No state lasts for ever: an empty gate becomes idle again.
    #[test]
    fn an_empty_gate_always_becomes_idle(moves in moves()) {
        let mut drive = Drive::new();
        for one in moves {
            match one {
                Move::See(track, _, samples, _) => { drive.see(track, samples, &[]); }
                Move::Pass(ms) => { drive.pass(ms); drive.step(Event::Tick); }
                _ => if let Some(transaction) = current(&drive.state) {
                    drive.answer(transaction, Answer::Referred(ReasonCode::NotRecognised));
                },
            }
        }
        for _ in 0..40 {
            drive.see(None, 0, &[]);
            drive.pass(2_000);
            drive.step(Event::Tick);
        }
        prop_assert!(matches!(drive.state, State::Idle));
    }
}
