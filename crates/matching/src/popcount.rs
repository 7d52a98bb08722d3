//! Counting bits: the iris comparison over many references.
//!
//! One compiled copy of the same loop for each instruction set, chosen at run time.

#![expect(
    unsafe_code,
    reason = "a function compiled for an instruction set may be called only after the processor was asked for it"
)]

/// 64-bit words of a template's code, and of its mask.
pub(crate) const WORDS: usize = 128;

/// Words of a row: code, then mask.
pub(crate) const ROW_WORDS: usize = 2 * WORDS;

/// Code and mask of a template.
pub(crate) type Row = [u64; ROW_WORDS];

/// Disagreeing and common valid bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) disagreeing: u32,
    pub(crate) common: u32,
}

impl Counts {
    /// Is the normalised dissimilarity smaller? With n common and d disagreeing bits it falls as (n - 2d) / sqrt(n) rises
    /// (biometrics.md I.4), which whole numbers compare without root and division: at most 2^39.
    pub(crate) fn closer_than(self, other: Self) -> bool {
        let key = |counts: Self| {
            let agreeing = i64::from(counts.common) - 2 * i64::from(counts.disagreeing);
            agreeing * agreeing.abs()
        };
        key(self) * i64::from(other.common) > key(other) * i64::from(self.common)
    }
}

/// How to count on this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Popcnt,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// The fastest that this processor can.
    pub(crate) fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::Portable)
    }

    /// All that this processor can, slowest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut kernels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("popcnt") {
                kernels.push(Self::Popcnt);
            }
            if is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("avx2") {
                kernels.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq") {
                kernels.push(Self::Avx512);
            }
        }
        kernels
    }

    /// Compares one probe position with one reference.
    pub(crate) fn count(self, probe: &Row, reference: &Row) -> Counts {
        match self {
            Self::Portable => count(probe, reference),
            // SAFETY: `available` offers a kernel only when the processor has its instructions, and nothing else makes one.
            #[cfg(target_arch = "x86_64")]
            Self::Popcnt => unsafe { count_popcnt(probe, reference) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { count_avx2(probe, reference) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { count_avx512(probe, reference) },
        }
    }
}

#[inline(always)]
fn count(probe: &Row, reference: &Row) -> Counts {
    let (probe_code, probe_mask) = probe.split_at(WORDS);
    let (code, mask) = reference.split_at(WORDS);
    let (mut disagreeing, mut common) = (0_u64, 0_u64);
    for (((a, ma), b), mb) in probe_code.iter().zip(probe_mask).zip(code).zip(mask) {
        let both = ma & mb;
        common += u64::from(both.count_ones());
        disagreeing += u64::from(((a ^ b) & both).count_ones());
    }
    counts(disagreeing, common)
}

#[expect(clippy::cast_possible_truncation, reason = "at most 8,192 each")]
const fn counts(disagreeing: u64, common: u64) -> Counts {
    Counts {
        disagreeing: disagreeing as u32,
        common: common as u32,
    }
}

/// Four words at a time, as a 256-bit register holds.
type Lanes = [u64; 4];

/// Adds three bits in every place: carry and sum.
#[expect(clippy::indexing_slicing, reason = "four lanes are four lanes")]
#[inline(always)]
fn add(a: Lanes, b: Lanes, c: Lanes) -> (Lanes, Lanes) {
    let at = |lane: usize| {
        let (a, b, c) = (a[lane], b[lane], c[lane]);
        let half = a ^ b;
        ((a & b) | (half & c), half ^ c)
    };
    let both = [at(0), at(1), at(2), at(3)];
    (both.map(|one| one.0), both.map(|one| one.1))
}

/// Set bits of a stream of words, counted in columns first (Harley and Seal): only every eighth word is counted bit by
/// bit.
#[derive(Default)]
struct Columns {
    ones: Lanes,
    twos: Lanes,
    fours: Lanes,
    total: u64,
}

impl Columns {
    #[inline(always)]
    fn eight(&mut self, words: [Lanes; 8]) {
        let [a, b, c, d, e, f, g, h] = words;
        let (twos_a, ones) = add(self.ones, a, b);
        let (twos_b, ones) = add(ones, c, d);
        let (fours_a, twos) = add(self.twos, twos_a, twos_b);
        let (twos_a, ones) = add(ones, e, f);
        let (twos_b, ones) = add(ones, g, h);
        let (fours_b, twos) = add(twos, twos_a, twos_b);
        let (eights, fours) = add(self.fours, fours_a, fours_b);
        (self.ones, self.twos, self.fours) = (ones, twos, fours);
        self.total += bits(eights);
    }

    #[inline(always)]
    fn sum(&self) -> u64 {
        8 * self.total + 4 * bits(self.fours) + 2 * bits(self.twos) + bits(self.ones)
    }
}

#[inline(always)]
fn bits(lanes: Lanes) -> u64 {
    lanes.iter().map(|lane| u64::from(lane.count_ones())).sum()
}

/// As [`count`], in columns: twice as fast with 256-bit registers and no instruction that counts in them.
#[expect(
    clippy::indexing_slicing,
    reason = "both loops run over the arrays' own lengths"
)]
#[inline(always)]
fn count_in_columns(probe: &Row, reference: &Row) -> Counts {
    let (probe, _) = probe.as_chunks::<4>();
    let (reference, _) = reference.as_chunks::<4>();
    let (probe_code, probe_mask) = probe.split_at(WORDS / 4);
    let (code, mask) = reference.split_at(WORDS / 4);
    let (mut disagreeing, mut common) = (Columns::default(), Columns::default());
    let eights = probe_code
        .as_chunks::<8>()
        .0
        .iter()
        .zip(probe_mask.as_chunks::<8>().0)
        .zip(code.as_chunks::<8>().0)
        .zip(mask.as_chunks::<8>().0);
    for (((a, ma), b), mb) in eights {
        let mut both = [[0; 4]; 8];
        let mut differing = [[0; 4]; 8];
        for word in 0..8 {
            for lane in 0..4 {
                both[word][lane] = ma[word][lane] & mb[word][lane];
                differing[word][lane] = (a[word][lane] ^ b[word][lane]) & both[word][lane];
            }
        }
        common.eight(both);
        disagreeing.eight(differing);
    }
    counts(disagreeing.sum(), common.sum())
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn count_popcnt(probe: &Row, reference: &Row) -> Counts {
    count(probe, reference)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt,avx2")]
fn count_avx2(probe: &Row, reference: &Row) -> Counts {
    count_in_columns(probe, reference)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn count_avx512(probe: &Row, reference: &Row) -> Counts {
    count(probe, reference)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn closer_is_the_smaller_score(
            n in 1_500_u32..8_192, d in 0.0..1.0, m in 1_500_u32..8_192, e in 0.0..1.0,
        ) {
            let counts = |common: u32, share: f64| Counts {
                common,
                disagreeing: (f64::from(common) * share) as u32,
            };
            let score = |counts: Counts| {
                let raw = f64::from(counts.disagreeing) / f64::from(counts.common);
                0.5 - (0.5 - raw) * (f64::from(counts.common) / 4_096.0).sqrt()
            };
            let (a, b) = (counts(n, d), counts(m, e));
            prop_assume!((score(a) - score(b)).abs() > 1e-12);
            prop_assert_eq!(a.closer_than(b), score(a) < score(b));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_kernel_counts_the_same(
            probe in proptest::collection::vec(any::<u64>(), ROW_WORDS),
            reference in proptest::collection::vec(any::<u64>(), ROW_WORDS),
        ) {
            let (probe, reference): (Row, Row) =
                (probe.try_into().unwrap(), reference.try_into().unwrap());
            let mut expected = Counts { disagreeing: 0, common: 0 };
            for bit in 0..WORDS * 64 {
                let at = |row: &Row, offset: usize| row[offset + bit / 64] >> (bit % 64) & 1;
                if at(&probe, WORDS) == 1 && at(&reference, WORDS) == 1 {
                    expected.common += 1;
                    expected.disagreeing += u32::from(at(&probe, 0) != at(&reference, 0));
                }
            }
            for kernel in Kernel::available() {
                prop_assert_eq!(kernel.count(&probe, &reference), expected, "{:?}", kernel);
            }
        }
    }
}
