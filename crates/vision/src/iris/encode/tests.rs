//! The committed graph against the plain Rust reference.

use std::f32::consts::TAU;
use std::path::Path;

use super::reference::{
    CODE_ROWS, FRAGILE_SHARE, MIN_SHOWN, Responses, WAVELENGTHS, bits, gabor, responses,
};
use super::*;
use crate::Provider;

/// A strip of smooth noise with masked patches; always the same for one seed.
fn strip(seed: u64) -> Strip {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from((state >> 48) as u16) / 65_536.0
    };
    let mut values = vec![110.0; STRIP_ROWS * STRIP_COLUMNS];
    for _ in 0..90 {
        let (waves, rows, phase, height) = (
            (1.0 + next() * 40.0).round(),
            next() * 0.5,
            next() * TAU,
            next() * 12.0,
        );
        for (at, value) in values.iter_mut().enumerate() {
            let (row, column) = (at / STRIP_COLUMNS, at % STRIP_COLUMNS);
            *value += height
                * (TAU * waves * column as f32 / STRIP_COLUMNS as f32 + rows * row as f32 + phase)
                    .sin();
        }
    }
    let mut mask = vec![1.0; values.len()];
    let (from, wide) = ((next() * 400.0) as usize, 40 + (next() * 90.0) as usize);
    for (at, shown) in mask.iter_mut().enumerate() {
        let (row, column) = (at / STRIP_COLUMNS, at % STRIP_COLUMNS);
        if column >= from && column < from + wide && row >= 20 {
            *shown = 0.0;
        }
    }
    Strip { values, mask }
}

fn encoder() -> Encoder {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let runtime = Runtime::load(&root.join(".cache/lib/libonnxruntime.so"), Provider::Cpu, 1)
        .expect("ONNX Runtime loads; run deploy/setup");
    let manifest =
        ModelManifest::load(&root.join("models/manifest.toml")).expect("the manifest is valid");
    Encoder::new(&runtime, &manifest, &root.join(".cache/models")).expect("the encoder loads")
}

/// Whether a component is so near to zero or to its group's fragile limit that rounding may decide.
fn unsure(responses: &Responses, ring: usize, column: usize) -> bool {
    let group = ring / CODE_ROWS;
    let shown_row = group / 2 * CODE_ROWS + ring % CODE_ROWS;
    let value = responses.components[ring][column];
    let mut sizes = Vec::new();
    for row in 0..CODE_ROWS {
        for at in 0..CODE_COLUMNS {
            if responses.shown[group / 2 * CODE_ROWS + row][at] > MIN_SHOWN {
                sizes.push(responses.components[group * CODE_ROWS + row][at].abs());
            }
        }
    }
    let limit = crate::iris::plane::quantile(&mut sizes, FRAGILE_SHARE);
    let near = 1e-4 * limit.max(0.1);
    let shown = responses.shown[shown_row][column];
    (shown - MIN_SHOWN).abs() < 1e-4
        || (shown > MIN_SHOWN && (value.abs() < near || (value.abs() - limit).abs() < near))
}

#[test]
fn the_graph_gives_the_reference_bits() {
    let strips: Vec<Strip> = (1..=3).map(strip).collect();
    let batch: Vec<&Strip> = strips.iter().collect();
    let mut encoder = encoder();
    let rings = encoder.rings(&batch).expect("the graph runs");
    let (mut differing, mut unsure_bits, mut valid) = (0, 0, 0);
    for (strip, (code, mask)) in strips.iter().zip(&rings) {
        let responses = responses(strip);
        let (expected_code, expected_mask) = bits(&responses);
        for ring in 0..64 {
            valid += mask[ring].count_ones();
            for column in 0..CODE_COLUMNS {
                let bit = |rings: &[u128; 64]| rings[ring] >> column & 1;
                if unsure(&responses, ring, column) {
                    unsure_bits += 1;
                    continue;
                }
                // A code bit outside the mask means nothing; templates clear it.
                let same_code = bit(mask) == 0 || bit(code) == bit(&expected_code);
                if !same_code || bit(mask) != bit(&expected_mask) {
                    differing += 1;
                }
            }
        }
    }
    assert_eq!(differing, 0);
    // The comparison means something: nearly every bit took part, and most are valid.
    assert!(unsure_bits < 3 * 8192 / 200, "{unsure_bits} bits left out");
    assert!(valid > 3 * 8192 / 2, "{valid} valid bits");
}

#[test]
fn a_batch_gives_what_single_strips_give() {
    let strips: Vec<Strip> = (4..=6).map(strip).collect();
    let batch: Vec<&Strip> = strips.iter().collect();
    let mut encoder = encoder();
    let together = encoder.rings(&batch).expect("the graph runs");
    for (strip, expected) in strips.iter().zip(&together) {
        let alone = encoder.rings(&[strip]).expect("the graph runs");
        assert!(alone.first() == Some(expected));
    }
    assert!(together[0] != together[1]);
}

#[test]
fn turning_the_strip_turns_the_rings() {
    let mut encoder = encoder();
    let upright = strip(7);
    let turn = |values: &[f32]| -> Vec<f32> {
        let mut turned = values.to_vec();
        for row in turned.chunks_exact_mut(STRIP_COLUMNS) {
            row.rotate_right(3 * STRIP_COLUMNS / CODE_COLUMNS);
        }
        turned
    };
    let turned = Strip {
        values: turn(&upright.values),
        mask: turn(&upright.mask),
    };
    let rings = encoder.rings(&[&upright, &turned]).expect("the graph runs");
    let (one, other) = (&rings[0], &rings[1]);
    let disagreeing: u32 = one
        .0
        .iter()
        .zip(&other.0)
        .map(|(one, other)| (one.rotate_left(3) ^ other).count_ones())
        .sum();
    // Sums in another order may flip a bit whose component is zero to rounding.
    assert!(disagreeing <= 4, "{disagreeing} bits differ");
}

#[test]
fn a_strip_that_shows_nothing_has_no_valid_bits() {
    let mut encoder = encoder();
    let nothing = Strip {
        values: vec![128.0; STRIP_ROWS * STRIP_COLUMNS],
        mask: vec![0.0; STRIP_ROWS * STRIP_COLUMNS],
    };
    let rings = encoder.rings(&[&nothing]).expect("the graph runs");
    assert!(rings[0].1.iter().all(|ring| *ring == 0));
}

#[test]
fn gabor_taps_ignore_brightness_and_see_their_wavelength() {
    for wavelength in WAVELENGTHS {
        let taps = gabor(wavelength);
        let sum: f32 = taps.iter().map(|tap| tap.0).sum();
        assert!(sum.abs() < 1e-5, "{sum}");
        let response: f32 = taps
            .iter()
            .enumerate()
            .map(|(at, tap)| {
                let x = at as f32 - wavelength as f32;
                tap.0 * (TAU * x / wavelength as f32).cos()
            })
            .sum();
        assert!(response > 0.3, "{response}");
    }
}
