//! Error rates from mated and non-mated scores. Scores are dissimilarities; a comparison that could not be made counts
//! as the worst score, 1, on both sides.

use serde::Serialize;

/// Mean and standard deviation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// False non-matches at one false match rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OperatingPoint {
    /// The false match rate that is not exceeded.
    pub fmr: f64,
    /// The largest dissimilarity that matches.
    pub threshold: f64,
    /// Non-mated pairs that match.
    pub false_matches: usize,
    /// Mated pairs that do not match.
    pub false_non_matches: usize,
    /// The share of those.
    pub fnmr: f64,
    /// Fewer than ten non-mated pairs are expected above this rate, so it cannot be measured with this data.
    pub too_few_pairs: bool,
}

/// Everything measured on one set of scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorRates {
    /// Comparisons of the same eye.
    pub mated_pairs: usize,
    /// Comparisons of different eyes.
    pub non_mated_pairs: usize,
    /// Mated pairs that could not be compared.
    pub mated_not_compared: usize,
    /// Non-mated pairs that could not be compared.
    pub non_mated_not_compared: usize,
    /// Compared mated scores.
    pub mated: Spread,
    /// Compared non-mated scores.
    pub non_mated: Spread,
    /// Distance of the two means in pooled standard deviations.
    pub d_prime: f64,
    /// Where both error rates are equal.
    pub eer: f64,
    /// At false match rates of 1e-2 to 1e-5.
    pub points: Vec<OperatingPoint>,
}

/// Dissimilarity of pairs; none where the pair could not be compared.
pub type Score = Option<f32>;

/// The rates, or none without pairs of both kinds.
#[must_use]
pub fn error_rates(mated: &[Score], non_mated: &[Score]) -> Option<ErrorRates> {
    if mated.is_empty() || non_mated.is_empty() {
        return None;
    }
    let sorted = |scores: &[Score]| {
        let mut values: Vec<f32> = scores.iter().map(|score| score.unwrap_or(1.0)).collect();
        values.sort_by(f32::total_cmp);
        values
    };
    let (own, other) = (sorted(mated), sorted(non_mated));
    let (mated_spread, other_spread) = (spread(mated), spread(non_mated));
    let pooled = f64::midpoint(
        mated_spread.deviation.powi(2),
        other_spread.deviation.powi(2),
    )
    .sqrt();
    Some(ErrorRates {
        mated_pairs: mated.len(),
        non_mated_pairs: non_mated.len(),
        mated_not_compared: mated.iter().filter(|score| score.is_none()).count(),
        non_mated_not_compared: non_mated.iter().filter(|score| score.is_none()).count(),
        mated: mated_spread,
        non_mated: other_spread,
        d_prime: (other_spread.mean - mated_spread.mean) / pooled.max(1e-9),
        eer: equal_error_rate(&own, &other),
        points: [1e-2, 1e-3, 1e-4, 1e-5]
            .into_iter()
            .map(|fmr| operating_point(&own, &other, fmr))
            .collect(),
    })
}

fn spread(scores: &[Score]) -> Spread {
    let values: Vec<f64> = scores
        .iter()
        .flatten()
        .map(|score| f64::from(*score))
        .collect();
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count;
    Spread {
        mean,
        deviation: variance.sqrt(),
    }
}

/// How many of the sorted scores are at most `threshold`.
fn at_most(sorted: &[f32], threshold: f32) -> usize {
    sorted.partition_point(|score| *score <= threshold)
}

fn operating_point(own: &[f32], other: &[f32], fmr: f64) -> OperatingPoint {
    let allowed = (fmr * other.len() as f64).floor() as usize;
    // The score of the first pair that may no longer match; anything below it keeps the rate.
    let threshold = other
        .get(allowed)
        .map_or(1.0, |score| score.next_down().max(0.0));
    let false_matches = at_most(other, threshold);
    let false_non_matches = own.len() - at_most(own, threshold);
    OperatingPoint {
        fmr,
        threshold: f64::from(threshold),
        false_matches,
        false_non_matches,
        fnmr: false_non_matches as f64 / own.len() as f64,
        too_few_pairs: fmr * (other.len() as f64) < 10.0,
    }
}

fn equal_error_rate(own: &[f32], other: &[f32]) -> f64 {
    let mut best = (f64::INFINITY, 1.0);
    for threshold in own.iter().chain(other) {
        let fmr = at_most(other, *threshold) as f64 / other.len() as f64;
        let fnmr = (own.len() - at_most(own, *threshold)) as f64 / own.len() as f64;
        let apart = (fmr - fnmr).abs();
        if apart < best.0 {
            best = (apart, f64::midpoint(fmr, fnmr));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_a_worked_example() {
        // 10 mated from 0.05 to 0.5, 1,000 non-mated from 0.4 to 0.4999.
        let mated: Vec<Score> = (1_u8..=10).map(|n| Some(f32::from(n) * 0.05)).collect();
        let non_mated: Vec<Score> = (0_u16..1000)
            .map(|n| Some(0.4 + f32::from(n) * 0.0001))
            .collect();
        let rates = error_rates(&mated, &non_mated).expect("both kinds are there");
        assert!((rates.mated.mean - 0.275).abs() < 1e-6);
        assert!((rates.non_mated.mean - 0.44995).abs() < 1e-6);
        // At 0.41 (1 %) two of ten mated pairs, 0.45 and 0.5, are above.
        assert_eq!(rates.points[0].false_matches, 10);
        assert_eq!(rates.points[0].false_non_matches, 2);
        assert!(!rates.points[0].too_few_pairs && rates.points[1].too_few_pairs);
        assert!((0.1..=0.2).contains(&rates.eer), "{}", rates.eer);
    }

    #[test]
    fn pairs_that_could_not_be_compared_are_non_matches() {
        let rates = error_rates(&[Some(0.1), None], &[Some(0.45), None]).expect("both kinds");
        assert_eq!(
            (rates.mated_not_compared, rates.non_mated_not_compared),
            (1, 1)
        );
        assert_eq!(rates.points[0].false_non_matches, 1);
        assert_eq!(rates.points[0].false_matches, 0);
    }

    #[test]
    fn no_pairs_no_rates() {
        assert_eq!(error_rates(&[], &[Some(0.4)]), None);
        assert_eq!(error_rates(&[Some(0.4)], &[]), None);
    }
}
