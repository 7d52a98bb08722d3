//! The tables on the screen and the JSON beside them. Names of people never leave: only counts and rates are written,
//! and with `--pairs` the paths of the worst mated pairs, for whoever has to look at them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::attacks::exact_interval;
use crate::run::Sample;
use crate::scores::ErrorRates;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which segmenter.
    pub segmenter: String,
    /// SHA-256 of the models used.
    pub models: BTreeMap<String, String>,
    /// Pictures with a label.
    pub pictures: usize,
    /// Pictures without one, not counted.
    pub unlabelled: usize,
    /// Different eyes.
    pub eyes: usize,
    /// Iris radii that were expected, pixels.
    pub radius_px: [f32; 2],
    /// No template could be made.
    pub failures_to_acquire: usize,
    /// Pictures that passed the quality gate.
    pub passed_gate: usize,
    /// How often each defect was named.
    pub defects: BTreeMap<String, usize>,
    /// How often each attack vote suspected a single picture: false alarms, if every picture is of a living eye.
    pub suspected: BTreeMap<String, usize>,
    /// Every picture counts.
    pub every_picture: Option<ErrorRates>,
    /// Pictures that passed the gate.
    pub gated: Option<ErrorRates>,
    /// Mean of both eyes, every picture.
    pub both_eyes: Option<ErrorRates>,
    /// Mean of both eyes, both passed the gate.
    pub both_eyes_gated: Option<ErrorRates>,
    /// Milliseconds of each stage: median and 95th percentile.
    pub times_ms: BTreeMap<&'static str, [f64; 2]>,
}

/// Median and 95th percentile of the stages.
#[must_use]
pub fn times(samples: &[Sample]) -> BTreeMap<&'static str, [f64; 2]> {
    let of = |stage: fn(&Sample) -> Duration| {
        let mut values: Vec<f64> = samples
            .iter()
            .map(|sample| stage(sample).as_secs_f64() * 1e3)
            .collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (values.len().saturating_sub(1) as f64 * share) as usize;
            values.get(index).copied().unwrap_or(0.0)
        };
        [at(0.5), at(0.95)]
    };
    BTreeMap::from([
        ("1 classical", of(|sample| sample.times.classical)),
        ("2 network", of(|sample| sample.times.network)),
        ("3 unroll", of(|sample| sample.times.unroll)),
        ("4 quality", of(|sample| sample.times.quality)),
        ("5 encode", of(|sample| sample.encode)),
    ])
}

impl Report {
    /// The report as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let share = |part: usize| 100.0 * part as f64 / self.pictures.max(1) as f64;
        let _ = writeln!(
            text,
            "segmenter {}: {} pictures of {} eyes ({} without a label left out), iris radius {:.0} to {:.0} px expected",
            self.segmenter,
            self.pictures,
            self.eyes,
            self.unlabelled,
            self.radius_px[0],
            self.radius_px[1]
        );
        for (role, sha256) in &self.models {
            let _ = writeln!(text, "model {role}: {sha256}");
        }
        let _ = writeln!(
            text,
            "failure to acquire: {} ({:.2} %); passed the gate: {} ({:.1} %)",
            self.failures_to_acquire,
            share(self.failures_to_acquire),
            self.passed_gate,
            share(self.passed_gate)
        );
        for (defect, count) in &self.defects {
            let _ = writeln!(text, "  {defect}: {count}");
        }
        for (vote, count) in &self.suspected {
            let (low, high) = exact_interval(*count, self.pictures);
            let _ = writeln!(
                text,
                "  attack vote {vote}: {count} ({:.2} %, 95 % interval {:.2} to {:.2})",
                share(*count),
                100.0 * low,
                100.0 * high
            );
        }
        for (name, rates) in [
            ("every picture", &self.every_picture),
            ("with the gate", &self.gated),
            ("both eyes, every picture", &self.both_eyes),
            ("both eyes, with the gate", &self.both_eyes_gated),
        ] {
            match rates {
                Some(rates) => table(&mut text, name, rates),
                None => {
                    let _ = writeln!(text, "{name}: no pairs of both kinds");
                }
            }
        }
        let _ = writeln!(text, "milliseconds, median and 95th percentile:");
        for (stage, [median, high]) in &self.times_ms {
            let _ = writeln!(text, "  {stage:<12} {median:7.2} {high:7.2}");
        }
        text
    }
}

fn table(text: &mut String, name: &str, rates: &ErrorRates) {
    let _ = writeln!(
        text,
        "{name}: EER {:.2} %, d' {:.2}; mated {:.3} +- {:.3} ({} pairs, {} not compared), non-mated {:.3} +- {:.3} ({} pairs, {} not compared)",
        100.0 * rates.eer,
        rates.d_prime,
        rates.mated.mean,
        rates.mated.deviation,
        rates.mated_pairs,
        rates.mated_not_compared,
        rates.non_mated.mean,
        rates.non_mated.deviation,
        rates.non_mated_pairs,
        rates.non_mated_not_compared
    );
    for point in &rates.points {
        let _ = writeln!(
            text,
            "  FMR {:.0e}: FNMR {:6.2} % ({} of {}) at <= {:.4}, {} false matches{}",
            point.fmr,
            100.0 * point.fnmr,
            point.false_non_matches,
            rates.mated_pairs,
            point.threshold,
            point.false_matches,
            if point.too_few_pairs {
                "; too few pairs to rely on"
            } else {
                ""
            }
        );
    }
}
