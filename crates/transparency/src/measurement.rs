//! Measured error rates: what somebody found with which models on which data, as a signed note, so that everybody can check who said so.
//!
//! The text is JSON of counts; rates and intervals follow from them. It names no person of the data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Note, NoteSigner, VerifierKey};

/// Format of the text.
const FORMAT: &str = "sallyport-error-rates/1";
/// Longer texts are refused before they are read.
const MAX_BYTES: usize = 256 * 1024;
/// Longer names and groups are refused.
const MAX_WORDS: usize = 200;

/// Why a measurement is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasurementError {
    /// Not of the form.
    #[error(
        "this is no signed measurement of version 1 (made by `sallyport-evaluate iris … --sign`): {0}"
    )]
    Malformed(String),
    /// Counts that cannot be.
    #[error("the measurement contradicts itself: {0}")]
    Impossible(&'static str),
    /// Nobody who is trusted signed it.
    #[error("no trusted key signed this measurement, or it was changed since")]
    Signature,
}

/// Counts at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredPoint {
    /// The score that still matches.
    pub threshold: f64,
    /// Non-mated pairs that match.
    pub false_matches: u64,
    /// Mated pairs that do not.
    pub false_non_matches: u64,
}

/// Counts of pairs, of everybody or of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredPairs {
    /// What was compared, such as "every picture", or the group.
    pub name: String,
    /// Different people or eyes.
    pub identities: u64,
    /// Pairs of samples of the same.
    pub mated_pairs: u64,
    /// Pairs of samples of different ones.
    pub non_mated_pairs: u64,
    /// At each threshold.
    pub points: Vec<MeasuredPoint>,
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Always `sallyport-error-rates/1`.
    pub format: String,
    /// `face` or `iris`.
    pub modality: String,
    /// SHA-256 of the models that made the templates, by role; hexadecimal.
    pub models: BTreeMap<String, String>,
    /// The program that measured.
    pub program: String,
    /// Name of the data.
    pub data_set: String,
    /// Whose pictures these are and how they were taken: whether they are like this site's.
    pub conditions: String,
    /// The day, such as 2026-11-24.
    pub measured: String,
    /// Pictures or captures.
    pub samples: u64,
    /// Of these, no template could be made.
    pub failures_to_acquire: u64,
    /// Everybody, under one or several conditions.
    pub pairs: Vec<MeasuredPairs>,
    /// Pairs within a group, at the thresholds of the first of `pairs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<MeasuredPairs>,
}

impl Measurement {
    /// The format's name, for whoever fills one in.
    #[must_use]
    pub fn format() -> String {
        FORMAT.to_owned()
    }

    /// The signed note.
    ///
    /// # Errors
    /// The measurement contradicts itself.
    pub fn sign(&self, signer: &NoteSigner) -> Result<String, MeasurementError> {
        self.check()?;
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| MeasurementError::Malformed(error.to_string()))?;
        text.push('\n');
        signer
            .sign(&text)
            .map_err(|error| MeasurementError::Malformed(error.to_string()))
    }

    /// Reads a signed note; also gives the trusted key that signed it.
    ///
    /// # Errors
    /// See [`MeasurementError`].
    pub fn open<'a>(
        note: &[u8],
        trusted: &'a [VerifierKey],
    ) -> Result<(Self, &'a VerifierKey), MeasurementError> {
        if note.len() > MAX_BYTES {
            return Err(MeasurementError::Malformed("it is too large".to_owned()));
        }
        let parsed = Note::parse(note)
            .map_err(|_| MeasurementError::Malformed("it is not a signed note".to_owned()))?;
        let (key, text) = trusted
            .iter()
            .find_map(|key| Some((key, parsed.verify(std::slice::from_ref(key)).ok()?)))
            .ok_or(MeasurementError::Signature)?;
        let measurement: Self = serde_json::from_str(text).map_err(|error| {
            MeasurementError::Malformed(format!("fault in line {}", error.line()))
        })?;
        measurement.check()?;
        Ok((measurement, key))
    }

    /// SHA-256 of a signed note, hexadecimal.
    #[must_use]
    pub fn digest(note: &[u8]) -> String {
        hex::encode(Sha256::digest(note))
    }

    fn check(&self) -> Result<(), MeasurementError> {
        let no = |why| Err(MeasurementError::Impossible(why));
        if self.format != FORMAT {
            return Err(MeasurementError::Malformed("another format".to_owned()));
        }
        if !["face", "iris"].contains(&self.modality.as_str()) {
            return no("the modality is face or iris");
        }
        let is_digest = |text: &String| {
            text.len() == 64
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        if self.models.is_empty() || !self.models.values().all(is_digest) {
            return no(
                "each model is named by its SHA-256, 64 hexadecimal digits in small letters",
            );
        }
        let words = [&self.program, &self.data_set, &self.measured];
        let groups = self
            .pairs
            .iter()
            .chain(&self.groups)
            .map(|pairs| &pairs.name);
        for text in words.into_iter().chain(groups).chain(self.models.keys()) {
            if text.trim().is_empty() || text.chars().count() > MAX_WORDS {
                return no("a name is empty or longer than 200 characters");
            }
        }
        if self.conditions.chars().count() > 10 * MAX_WORDS {
            return no("the conditions are longer than 2000 characters");
        }
        if self.failures_to_acquire > self.samples {
            return no("there are more failures to acquire than samples");
        }
        if self.pairs.is_empty() || self.pairs.len() > 16 || self.groups.len() > 64 {
            return no("1 to 16 conditions and up to 64 groups are given");
        }
        let names: BTreeSet<&String> = self.groups.iter().map(|group| &group.name).collect();
        if names.len() != self.groups.len() {
            return no("a group is given twice");
        }
        for pairs in self.pairs.iter().chain(&self.groups) {
            if pairs.points.is_empty() || pairs.points.len() > 32 {
                return no("1 to 32 thresholds are given");
            }
            for point in &pairs.points {
                if !point.threshold.is_finite()
                    || point.false_matches > pairs.non_mated_pairs
                    || point.false_non_matches > pairs.mated_pairs
                {
                    return no("more pairs were wrong than were compared");
                }
            }
        }
        let thresholds = |pairs: &MeasuredPairs| -> Vec<f64> {
            pairs.points.iter().map(|point| point.threshold).collect()
        };
        let first = self.pairs.first().map(thresholds);
        if self
            .groups
            .iter()
            .any(|group| Some(thresholds(group)) != first)
        {
            return no("groups are compared at the thresholds of everybody");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(name: &str) -> MeasuredPairs {
        MeasuredPairs {
            name: name.to_owned(),
            identities: 4,
            mated_pairs: 20,
            non_mated_pairs: 1000,
            points: vec![MeasuredPoint {
                threshold: 0.35,
                false_matches: 1,
                false_non_matches: 2,
            }],
        }
    }

    fn measurement() -> Measurement {
        Measurement {
            format: Measurement::format(),
            modality: "iris".to_owned(),
            models: BTreeMap::from([("encoder".to_owned(), "07".repeat(32))]),
            program: "sallyport-evaluate 0.1.0".to_owned(),
            data_set: "drawn eyes".to_owned(),
            conditions: "drawn, not photographed".to_owned(),
            measured: "2026-11-24".to_owned(),
            samples: 12,
            failures_to_acquire: 1,
            pairs: vec![pairs("every picture")],
            groups: vec![pairs("a"), pairs("b")],
        }
    }

    fn signer(seed: u8) -> NoteSigner {
        NoteSigner::new("lab.example/eyes", &[seed; 32]).unwrap()
    }

    #[test]
    fn a_signed_measurement_survives_and_only_trusted_unchanged_ones_are_taken() {
        let (one, other) = (signer(1), signer(2));
        let note = measurement().sign(&one).unwrap();
        let trusted = [other.verifier().clone(), one.verifier().clone()];
        let (read, key) = Measurement::open(note.as_bytes(), &trusted).unwrap();
        assert_eq!((read, key), (measurement(), one.verifier()));
        let strangers = Measurement::open(note.as_bytes(), &trusted[..1]);
        assert_eq!(strangers, Err(MeasurementError::Signature));
        let better = note.replace("\"false_matches\": 1", "\"false_matches\": 0");
        let changed = Measurement::open(better.as_bytes(), &trusted);
        assert_eq!(changed, Err(MeasurementError::Signature));
    }

    #[test]
    fn what_contradicts_itself_is_not_even_signed() {
        let cases: [fn(&mut Measurement); 8] = [
            |m| m.modality = "gait".to_owned(),
            |m| m.models.clear(),
            |m| m.failures_to_acquire = 13,
            |m| m.pairs.clear(),
            |m| m.pairs[0].points[0].false_matches = 1001,
            |m| m.groups[1].name = "a".to_owned(),
            |m| m.groups[0].points[0].threshold = 0.36,
            |m| m.data_set = " ".to_owned(),
        ];
        for change in cases {
            let mut changed = measurement();
            change(&mut changed);
            let refused = changed.sign(&signer(1));
            assert!(matches!(refused, Err(MeasurementError::Impossible(_))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Measurement::open(&bytes, &[signer(1).verifier().clone()]);
        }
    }
}
