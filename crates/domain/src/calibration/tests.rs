use proptest::prelude::*;

use super::*;

fn default_pair() -> FusionCalibration {
    FusionCalibration::default_pair()
}

fn changed(change: impl FnOnce(&mut Measured)) -> Result<ScoreCalibration, CalibrationError> {
    let mut measured = default_pair().iris.measured().clone();
    change(&mut measured);
    ScoreCalibration::new(measured)
}

#[test]
fn the_evidence_is_the_ratio_of_the_measured_shares() {
    let FusionCalibration { face, iris, .. } = default_pair();
    let near = |calibration: &ScoreCalibration, score, expected: f64| {
        let got = calibration.evidence(score).log10();
        assert!((got - expected).abs() < 0.01, "{score}: {got}");
    };
    // (2.48 % - 1.26 %) of mated against (1e-3 - 1e-4) of non-mated pairs lie between 0.335 and 0.411.
    near(&face, 0.411, (0.0122_f64 / 9e-4).log10());
    near(&face, 0.475, (0.0338_f64 / 9e-5).log10());
    near(&face, 0.9, 4.97);
    near(&face, -0.2, (0.0062_f64 / 0.9938).log10());
    near(&iris, 0.34, (0.0066_f64 / (270.0 / 1_405_050.0)).log10());
    near(&iris, 0.1, 5.45);
    near(&iris, 0.45, (0.005_84_f64 / 0.994_16).log10());
    assert!(iris.speaks_against(0.392) && !iris.speaks_against(0.39));
    assert!(face.speaks_against(0.26) && !face.speaks_against(0.263));
    assert!(face.speaks_against(f64::NAN));
    assert!(face.evidence(f64::NAN).log10() < 0.0);
}

/// The same curve as the one that enrolment and 1:1 comparison use.
#[test]
fn face_thresholds_agree_with_the_face_calibration() {
    let (all, face) = (default_pair(), FaceCalibration::default_face());
    let derived = all.face_calibration().unwrap();
    for exponent in [-1.5, -2.0, -2.6, -3.0, -3.5, -4.0, -5.0, -6.0, -8.0] {
        let fmr = 10_f64.powf(exponent);
        let expected = f64::from(face.verification_threshold(fmr).value());
        assert!((all.face.score_at(fmr) - expected).abs() < 2e-3, "{fmr}");
        let derived = f64::from(derived.verification_threshold(fmr).value());
        assert!((derived - expected).abs() < 2e-3, "{fmr}");
    }
    // The measured 1:N point of F.6: 1 % false positive identifications among 1,559.
    assert!((all.face.score_at(1e-2 / 1_559.0) - 0.487).abs() < 5e-3);
    assert!((all.iris.score_at(7.0 / 1_405_050.0) - 0.32).abs() < 1e-9);
    assert!(
        all.iris.score_at(1e-9) < 0.2,
        "stricter beyond the last point"
    );
    assert!(all.iris.score_at(f64::NAN).is_nan());
}

/// The claim in the type's documentation: averaged over non-mated comparisons the likelihood ratio is at most one.
/// Mass is spread log-linearly between the measured points and by the last slope beyond.
#[test]
fn non_mated_comparisons_average_to_at_most_one() {
    for calibration in [default_pair().face, default_pair().iris] {
        let mut total = 0.0;
        let steps = 20_000;
        for step in 0..steps {
            let rate = |step: i32| 10_f64.powf(-12.0 * f64::from(step) / f64::from(steps));
            let (upper, lower) = (rate(step), rate(step + 1));
            // The closest score of the slice: the most that any comparison in it can be worth.
            let ratio = 10_f64.powf(
                calibration
                    .evidence(calibration.score_at(lower.min(0.99)))
                    .log10(),
            );
            total += (upper - lower) * ratio;
        }
        assert!(total <= 1.0, "{total}");
        assert!(
            total > 0.02,
            "{total}: not merely because everything is worthless"
        );
    }
}

#[test]
fn calibrations_that_cannot_be_are_refused() {
    assert!(changed(|_| ()).is_ok());
    let refused = |change: &dyn Fn(&mut Measured)| changed(change).unwrap_err();
    assert_eq!(
        refused(&|m| m.points.truncate(1)),
        CalibrationError::TooFewPoints
    );
    assert_eq!(
        refused(&|m| m.points.clear()),
        CalibrationError::TooFewPoints
    );
    assert_eq!(
        refused(&|m| m.points.reverse()),
        CalibrationError::OutOfOrder
    );
    assert_eq!(
        refused(&|m| m.points[0].fmr = 1.5),
        CalibrationError::OutOfOrder
    );
    assert_eq!(
        refused(&|m| m.points[1].fnmr = f64::NAN),
        CalibrationError::OutOfOrder
    );
    assert_eq!(
        refused(&|m| m.points[2].score = f64::INFINITY),
        CalibrationError::OutOfOrder
    );
    assert_eq!(
        refused(&|m| m.kind = ScoreKind::Similarity),
        CalibrationError::OutOfOrder
    );
    assert_eq!(
        refused(&|m| m.nonmated_pairs = 100_000),
        CalibrationError::BeyondData
    );
    assert_eq!(refused(&|m| m.limit = 0.0), CalibrationError::BadLimits);
    assert_eq!(
        refused(&|m| m.limit = f64::NAN),
        CalibrationError::BadLimits
    );
    assert_eq!(
        refused(&|m| m.strongest_at = 0.29),
        CalibrationError::BadLimits
    );
    // Many mated pairs in a stretch of ordinary scores, few in the closer ones.
    assert_eq!(
        refused(&|m| {
            m.points[1].fnmr = 0.5;
            for (at, fnmr) in [(2, 0.501), (3, 0.502), (4, 0.503), (5, 0.504)] {
                m.points[at].fnmr = fnmr;
            }
        }),
        CalibrationError::NotConcave(1, 2)
    );
}

#[test]
fn the_artefact_survives_json_and_is_checked_when_read() {
    let calibration = default_pair();
    let json = serde_json::to_string(&calibration).unwrap();
    assert_eq!(
        serde_json::from_str::<FusionCalibration>(&json).unwrap(),
        calibration
    );
    let broken = json.replacen("\"limit\":4.97", "\"limit\":-1.0", 1);
    assert!(serde_json::from_str::<FusionCalibration>(&broken).is_err());
    let surplus = json.replacen("\"version\":1", "\"version\":1,\"note\":\"x\"", 1);
    assert!(serde_json::from_str::<FusionCalibration>(&surplus).is_err());
}

proptest! {
    #[test]
    fn closer_is_never_weaker(a in -1.0_f64..1.0, b in -1.0_f64..1.0) {
        let FusionCalibration { face, iris, .. } = default_pair();
        for calibration in [face, iris] {
            let (near, far) = if calibration.closeness(a) >= calibration.closeness(b) { (a, b) } else { (b, a) };
            prop_assert!(calibration.evidence(near) >= calibration.evidence(far));
            let limit = calibration.measured().limit;
            prop_assert!(calibration.evidence(near).log10().abs() <= limit);
        }
    }
}
