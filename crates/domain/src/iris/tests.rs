use proptest::prelude::*;

use super::*;

const ENCODER: ModelDigest = ModelDigest::from_bytes([7; 32]);

/// Rings that depend on the seed only (xorshift).
fn rings(seed: u64) -> [u128; IRIS_RINGS] {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u128::from(state.wrapping_mul(0x2545_f491_4f6c_dd1d))
    };
    std::array::from_fn(|_| next() << 64 | next())
}

fn template(code: [u128; IRIS_RINGS], mask: [u128; IRIS_RINGS]) -> IrisTemplate {
    IrisTemplate::new(ENCODER, Eye::Left, 80, 400, code, mask).unwrap()
}

/// About three quarters of the bits valid.
fn partly_masked(seed: u64) -> IrisTemplate {
    let (a, b) = (rings(seed ^ 0xaaaa), rings(seed ^ 0x5555_0000));
    template(rings(seed), std::array::from_fn(|i| a[i] | b[i]))
}

fn whole(seed: u64) -> IrisTemplate {
    template(rings(seed), [u128::MAX; IRIS_RINGS])
}

fn score(a: &IrisTemplate, b: &IrisTemplate) -> f32 {
    let compared = compare(a, b, IrisRotation::Normal).unwrap();
    compared.dissimilarity().unwrap().value()
}

#[test]
fn the_normalisation_is_the_stated_formula() {
    let at = |disagreeing, common| {
        IrisDissimilarity::from_counts(disagreeing, common).map(IrisDissimilarity::value)
    };
    assert_eq!(at(1_024, 4_096), Some(0.25));
    assert_eq!(at(2_048, 4_096), Some(0.5));
    // 0.5 - 0.25 * sqrt(2000 / 4096)
    assert!((at(500, 2_000).unwrap() - 0.325_308).abs() < 1e-5);
    assert_eq!(at(0, 8_192), Some(0.0), "clamped");
    assert_eq!(at(8_192, 8_192), Some(1.0), "clamped");
    assert_eq!(at(0, IRIS_MINIMUM_COMMON_BITS - 1), None);
    assert!(at(0, IRIS_MINIMUM_COMMON_BITS).is_some());
    assert_eq!(at(3_001, 3_000), None, "impossible counts are no score");
}

#[test]
fn too_few_common_bits_are_neither_match_nor_non_match() {
    // Each has 4,096 valid bits, but hardly any in common.
    let upper: [u128; IRIS_RINGS] = std::array::from_fn(|i| if i < 32 { u128::MAX } else { 0 });
    let lower: [u128; IRIS_RINGS] = std::array::from_fn(|i| if i < 32 { 0 } else { u128::MAX });
    let (a, b) = (template(rings(1), upper), template(rings(1), lower));
    assert_eq!(
        compare(&a, &b, IrisRotation::Wide),
        Ok(IrisComparison::TooFewBits)
    );
}

#[test]
fn other_eyes_and_other_encoders_are_refused() {
    let a = whole(1);
    let other_eye =
        IrisTemplate::new(ENCODER, Eye::Right, 80, 400, rings(1), [u128::MAX; 64]).unwrap();
    let other_encoder = IrisTemplate::new(
        ModelDigest::from_bytes([8; 32]),
        Eye::Left,
        80,
        400,
        rings(1),
        [u128::MAX; 64],
    )
    .unwrap();
    let refused = |b| compare(&a, b, IrisRotation::Normal).unwrap_err();
    assert_eq!(refused(&other_eye), IrisError::OtherEye);
    assert_eq!(refused(&other_encoder), IrisError::OtherEncoder);
}

#[test]
fn impossible_values_are_refused() {
    let make = |quality, dilation, mask| {
        IrisTemplate::new(ENCODER, Eye::Left, quality, dilation, rings(1), mask).map(|_| ())
    };
    let full = [u128::MAX; IRIS_RINGS];
    assert_eq!(make(100, 999, full), Ok(()));
    assert_eq!(make(101, 400, full), Err(IrisError::QualityOutOfRange));
    assert_eq!(make(80, 0, full), Err(IrisError::DilationOutOfRange));
    assert_eq!(make(80, 1_000, full), Err(IrisError::DilationOutOfRange));
    assert_eq!(
        make(80, 400, [0; IRIS_RINGS]),
        Err(IrisError::TooFewValidBits(0))
    );
}

#[test]
fn the_byte_form_is_fixed() {
    let template = partly_masked(3);
    let bytes = template.to_bytes();
    assert_eq!(bytes.len(), 2_090);
    assert_eq!(bytes[..10], *b"SPIT\x01\x00\x50\x00\x01\x90");
    assert_eq!(bytes[10..42], [7; 32]);
    assert_eq!(bytes[42..58], template.code()[0].to_le_bytes());
    assert_eq!(
        bytes[42 + 1_024..42 + 1_040],
        template.mask()[0].to_le_bytes()
    );
}

#[test]
fn damaged_bytes_are_told_apart() {
    let good = whole(1).to_bytes();
    let with = |at: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = value;
        IrisTemplate::from_bytes(&bytes).unwrap_err()
    };
    assert_eq!(with(0, b'X'), IrisError::NotAnIrisTemplate);
    assert_eq!(with(4, 2), IrisError::UnknownVersion(2));
    assert_eq!(with(5, 2), IrisError::BadHeader);
    assert_eq!(with(6, 101), IrisError::QualityOutOfRange);
    assert_eq!(with(7, 1), IrisError::BadHeader);
    assert_eq!(with(8, 0xff), IrisError::DilationOutOfRange);
    for length in 0..good.len() {
        assert_eq!(
            IrisTemplate::from_bytes(&good[..length]),
            Err(IrisError::WrongLength(length))
        );
    }
}

#[test]
fn json_is_base64_and_hostile_json_is_refused() {
    let template = partly_masked(9);
    let json = serde_json::to_string(&template).unwrap();
    assert_eq!(
        serde_json::from_str::<IrisTemplate>(&json).unwrap(),
        template
    );
    let refused = |json: &str| {
        serde_json::from_str::<IrisTemplate>(json)
            .unwrap_err()
            .to_string()
    };
    assert!(refused("\"????\"").contains("base64"));
    assert!(refused("\"U1BJVA==\"").contains("2090 bytes, not 4"));
    assert!(refused("[1,2,3]").contains("invalid type"));
    assert!(refused(&format!("\"{}\"", "A".repeat(100_000))).contains("not 75000"));
}

#[test]
fn debug_output_shows_neither_bits_nor_scores() {
    let template = whole(1);
    let comparison = compare(&template, &template, IrisRotation::Normal).unwrap();
    assert_eq!(format!("{template:?}"), "IrisTemplate([sealed])");
    assert_eq!(
        format!("{comparison:?}"),
        "Compared(IrisDissimilarity([hidden]))"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_comparison_is_symmetric(a in any::<u64>(), b in any::<u64>(), wide in any::<bool>()) {
        let rotation = if wide { IrisRotation::Wide } else { IrisRotation::Normal };
        let (a, b) = (partly_masked(a), partly_masked(b));
        prop_assert_eq!(compare(&a, &b, rotation), compare(&b, &a, rotation));
    }

    #[test]
    fn a_turned_eye_is_the_same_eye_up_to_four_columns(seed in any::<u64>(), turn in 0_u32..=4, back in any::<bool>()) {
        let eye = whole(seed);
        let turn = if back { IRIS_COLUMNS - turn } else { turn };
        prop_assert_eq!(score(&eye.rotated(turn), &eye), 0.0);
    }

    /// Turning the probe by `turn` shows all positions that the wide search would, so nothing closer appears and the
    /// common ones keep their score.
    #[test]
    fn the_wide_search_is_never_farther(a in any::<u64>(), b in any::<u64>()) {
        let (a, b) = (partly_masked(a), partly_masked(b));
        let wide = compare(&a, &b, IrisRotation::Wide).unwrap().dissimilarity().unwrap();
        prop_assert!(wide.value() <= score(&a, &b));
        let by_turning = [122, 124, 126, 0, 2, 4, 6].into_iter().map(|turn| {
            score(&a.rotated((turn + 4) % 128), &b).min(score(&a.rotated((turn + 124) % 128), &b))
        }).fold(1.0, f32::min);
        prop_assert!(by_turning <= wide.value(), "turned by hand at least as close");
    }

    #[test]
    fn unrelated_eyes_are_far_apart(a in any::<u64>(), b in any::<u64>()) {
        prop_assume!(a | 1 != b | 1);
        prop_assert!(score(&whole(a), &whole(b)) > 0.4);
    }

    #[test]
    fn the_bytes_round_trip(seed in any::<u64>(), right in any::<bool>(), quality in 0_u8..=100, dilation in 1_u16..1000) {
        let masked = partly_masked(seed);
        let eye = if right { Eye::Right } else { Eye::Left };
        let template =
            IrisTemplate::new(ENCODER, eye, quality, dilation, *masked.code(), *masked.mask()).unwrap();
        prop_assert_eq!(IrisTemplate::from_bytes(&template.to_bytes()), Ok(template));
    }

    #[test]
    fn garbage_never_panics_and_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2_200)) {
        prop_assert!(IrisTemplate::from_bytes(&bytes).is_err());
    }

    /// Right length and magic, anything after: whatever is accepted is written again as itself.
    #[test]
    fn what_is_accepted_is_whole(
        header in proptest::collection::vec(any::<u8>(), 6),
        body in proptest::collection::vec(any::<u8>(), 32 + 2_048),
    ) {
        let bytes = [b"SPIT".as_slice(), &header, &body].concat();
        if let Ok(template) = IrisTemplate::from_bytes(&bytes) {
            prop_assert_eq!(IrisTemplate::from_bytes(&template.to_bytes()), Ok(template));
        }
    }

    /// Whatever stands in the code outside the mask, the score is the same.
    #[test]
    fn bits_outside_the_mask_never_count(seed in any::<u64>(), noise in any::<u64>(), other in any::<u64>()) {
        let (clean, other) = (partly_masked(seed), partly_masked(other));
        let noise = rings(noise);
        let dirty: [u128; IRIS_RINGS] =
            std::array::from_fn(|i| clean.code()[i] | (noise[i] & !clean.mask()[i]));
        let dirty = template(dirty, *clean.mask());
        prop_assert_eq!(score(&dirty, &other), score(&clean, &other));
        prop_assert_eq!(score(&other, &dirty), score(&other, &clean));
        prop_assert_eq!(dirty.to_bytes(), clean.to_bytes());
    }
}
