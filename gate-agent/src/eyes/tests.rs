use super::*;
use sallyport_domain::ModelDigest;
use std::collections::VecDeque;

/// Gives prepared samples, one list a frame.
struct Script(VecDeque<Result<Vec<EyeSample>, VisionError>>);

impl EyeReader for Script {
    fn read(&mut self, _: &Frame) -> Result<Vec<EyeSample>, VisionError> {
        self.0.pop_front().expect("an unexpected frame was read")
    }
}

fn template(eye: Eye, quality: u8) -> IrisTemplate {
    IrisTemplate::new(
        ModelDigest::from_bytes([3; 32]),
        eye,
        quality,
        400,
        [u128::from(quality) + 1; 64],
        [u128::MAX; 64],
    )
    .unwrap()
}

fn good(eye: Eye, score: u8) -> EyeSample {
    EyeSample {
        eye,
        score,
        defects: Vec::new(),
        template: Some(template(eye, score)),
        successor: None,
        attack: None,
    }
}

fn bad(eye: Eye, defect: QualityDefect) -> EyeSample {
    EyeSample {
        eye,
        score: 0,
        defects: vec![defect],
        template: None,
        successor: None,
        attack: None,
    }
}

fn both(score: u8) -> Result<Vec<EyeSample>, VisionError> {
    Ok(vec![good(Eye::Left, score), good(Eye::Right, score)])
}

fn eyes(script: Vec<Result<Vec<EyeSample>, VisionError>>) -> Eyes {
    Eyes::new(Box::new(Script(script.into())), Duration::from_millis(200))
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_micros(ms * 1_000)
}

fn infrared(ms: i64) -> Frame {
    Frame::from_bgr("iris", at(ms), 4, 4, &[9; 48]).unwrap()
}

fn colour(track: u64, ms: i64) -> Companion {
    Companion {
        track: Some(track),
        alone: true,
        captured_at: at(ms),
    }
}

#[test]
fn the_best_of_five_is_taken_and_then_nothing_more_is_read() {
    let mut eyes = eyes([10, 50, 30, 20, 40].map(both).into());
    for frame in 0..5 {
        let seen = eyes
            .look(colour(1, frame * 100), Some(&infrared(frame * 100 + 30)))
            .unwrap();
        let complete = seen.progress == EyeProgress::Complete;
        assert_eq!(complete, frame == 4);
    }
    // A sixth frame would panic in the script.
    eyes.look(colour(1, 600), Some(&infrared(600))).unwrap();
    let capture = eyes.capture(1);
    assert_eq!(capture.probes.len(), 2);
    for probe in &capture.probes {
        assert_eq!(probe.quality, 50.0);
        assert_eq!(probe.samples, 5);
    }
    assert!(eyes.capture(2).probes.is_empty());
    eyes.reset();
    assert!(eyes.capture(1).probes.is_empty());
}

#[test]
fn eyes_of_two_people_never_mix() {
    let mut eyes = eyes(vec![both(80), both(20)]);
    eyes.look(colour(1, 0), Some(&infrared(0))).unwrap();
    eyes.look(colour(2, 100), Some(&infrared(100))).unwrap();
    assert!(eyes.capture(1).probes.is_empty());
    assert_eq!(eyes.capture(2).probes[0].quality, 20.0);
    // The first one comes back: what was seen before is gone.
    eyes.look(colour(1, 200), None).unwrap();
    assert!(eyes.capture(1).probes.is_empty());
}

#[test]
fn frames_beyond_the_window_and_of_several_people_are_not_read() {
    let mut eyes = eyes(vec![both(70)]);
    for (colour_ms, infrared_ms) in [(1_000, 1_201), (1_000, 799), (0, 86_400_000)] {
        let seen = eyes.look(colour(1, colour_ms), Some(&infrared(infrared_ms)));
        assert_eq!(seen.unwrap().progress, EyeProgress::Collecting);
    }
    let crowd = Companion {
        alone: false,
        ..colour(1, 0)
    };
    eyes.look(crowd, Some(&infrared(0))).unwrap();
    let nobody = Companion {
        track: None,
        ..colour(1, 0)
    };
    eyes.look(nobody, Some(&infrared(0))).unwrap();
    assert!(eyes.capture(1).probes.is_empty());
    // Exactly at the window's edge.
    eyes.look(colour(1, 1_000), Some(&infrared(1_200))).unwrap();
    assert_eq!(eyes.capture(1).probes.len(), 2);
}

#[test]
fn cameras_out_of_step_raise_an_alarm_and_are_not_waited_for() {
    let mut eyes = eyes(vec![both(70)]);
    for frame in 0..i64::from(UNPAIRED_ALARM) {
        assert!(eyes.alarm().is_none());
        eyes.look(colour(1, frame * 100), Some(&infrared(frame * 100 + 5_000)))
            .unwrap();
    }
    assert!(eyes.alarm().unwrap().contains("pair_within_ms"));
    let seen = eyes.look(colour(1, 9_000), None).unwrap();
    assert_eq!(seen.progress, EyeProgress::NotExpected);
    let seen = eyes.look(colour(1, 9_000), Some(&infrared(9_000))).unwrap();
    assert_eq!(seen.progress, EyeProgress::Collecting);
    assert!(eyes.alarm().is_none());
}

#[test]
fn what_is_wrong_with_an_eye_is_said_until_it_gave_something() {
    let mut eyes = eyes(vec![
        Ok(Vec::new()),
        Ok(vec![
            good(Eye::Left, 60),
            bad(Eye::Right, QualityDefect::IrisOccluded),
        ]),
        Ok(vec![
            bad(Eye::Left, QualityDefect::GazeAverted),
            good(Eye::Right, 60),
        ]),
    ]);
    let mut defects = |ms| {
        eyes.look(colour(1, ms), Some(&infrared(ms)))
            .unwrap()
            .defects
    };
    assert_eq!(defects(0), [QualityDefect::NoEye]);
    assert_eq!(defects(100), [QualityDefect::IrisOccluded]);
    assert!(defects(200).is_empty());
    assert_eq!(eyes.capture(1).probes.len(), 2);
}

#[test]
fn an_error_leaves_the_burst_as_it_was() {
    let mut eyes = eyes(vec![both(60), Err(VisionError::Contract { stage: "iris" })]);
    eyes.look(colour(1, 0), Some(&infrared(0))).unwrap();
    assert!(eyes.look(colour(1, 100), Some(&infrared(100))).is_err());
    assert_eq!(eyes.capture(1).probes.len(), 2);
}

#[test]
fn one_suspicious_eye_outweighs_the_other() {
    let vote = |kind, verdict| PadVote {
        kind,
        verdict,
        reason: String::new(),
    };
    use PadVerdict::{AttackSuspected, BonaFide, Inconclusive};
    use sallyport_domain::PadKind::{IrisLens, IrisPrint};
    let votes = |verdicts: [PadVerdict; 2]| PadAssessment {
        votes: vec![vote(IrisPrint, verdicts[0]), vote(IrisLens, verdicts[1])],
    };
    for (left, right) in [
        ([BonaFide, AttackSuspected], [Inconclusive, BonaFide]),
        ([Inconclusive, BonaFide], [BonaFide, AttackSuspected]),
    ] {
        let all = worse(votes(left), votes(right));
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].verdict, Inconclusive);
        assert_eq!(all[1].verdict, AttackSuspected);
    }
}
