//! A share with the interval that its count supports.

/// `hits` among `trials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    hits: u64,
    trials: u64,
}

impl Share {
    /// `None` when there are more hits than trials.
    #[must_use]
    pub const fn new(hits: u64, trials: u64) -> Option<Self> {
        if hits > trials {
            None
        } else {
            Some(Self { hits, trials })
        }
    }

    /// What was counted.
    #[must_use]
    pub const fn hits(self) -> u64 {
        self.hits
    }

    /// Out of how many.
    #[must_use]
    pub const fn trials(self) -> u64 {
        self.trials
    }

    /// The share from 0 to 1; `None` without trials.
    #[must_use]
    pub fn value(self) -> Option<f64> {
        (self.trials > 0).then(|| self.hits as f64 / self.trials as f64)
    }

    /// The exact two-sided 95 % interval (Clopper and Pearson, Biometrika 26, 1934), by bisection of the binomial tails. Without
    /// trials it is everything from 0 to 1.
    ///
    /// It holds for independent trials; several passages of one person are not quite that.
    #[must_use]
    pub fn interval95(self) -> (f64, f64) {
        if self.trials == 0 {
            return (0.0, 1.0);
        }
        let low = if self.hits == 0 {
            0.0
        } else {
            bisect(|share| 1.0 - at_most(self.hits - 1, self.trials, share) < TAIL)
        };
        let high = if self.hits == self.trials {
            1.0
        } else {
            bisect(|share| at_most(self.hits, self.trials, share) > TAIL)
        };
        (low, high)
    }
}

/// What each side leaves out.
const TAIL: f64 = 0.025;

/// How likely at most `hits` of `trials` are when each has the probability `share`, which is neither 0 nor 1.
fn at_most(hits: u64, trials: u64, share: f64) -> f64 {
    let odds = (share / (1.0 - share)).ln();
    let mut log_term = trials as f64 * (-share).ln_1p();
    let mut sum = log_term.exp();
    for hit in 1..=hits {
        log_term += ((trials - hit + 1) as f64 / hit as f64).ln() + odds;
        sum += log_term.exp();
    }
    sum
}

fn bisect(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(hits: u64, trials: u64) -> (f64, f64) {
        Share::new(hits, trials).unwrap().interval95()
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // R: binom.test(x, n)$conf.int
        for (hits, trials, low, high) in [
            (0, 10, 0.0, 0.3085),
            (1, 20, 0.0013, 0.2487),
            (5, 10, 0.1871, 0.8129),
            (10, 10, 0.6915, 1.0),
            (3, 100, 0.0062, 0.0852),
        ] {
            let (found_low, found_high) = interval(hits, trials);
            assert!((found_low - low).abs() < 6e-5, "{hits} of {trials}");
            assert!((found_high - high).abs() < 6e-5, "{hits} of {trials}");
        }
    }

    #[test]
    fn many_trials_keep_their_meaning() {
        // The rule of three, and the normal interval where it is good.
        let (low, high) = interval(0, 3_000_000);
        assert!(low == 0.0 && (high * 3_000_000.0 - 3.689).abs() < 0.01);
        let (low, high) = interval(50_000, 100_000);
        assert!((low - 0.4969).abs() < 1e-4 && (high - 0.5031).abs() < 1e-4);
        assert_eq!(interval(0, 0), (0.0, 1.0));
        assert_eq!(Share::new(2, 1), None);
        assert_eq!(Share::default().value(), None);
    }
}
