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
    #[expect(clippy::cast_possible_truncation, reason = "at most 8,192 each")]
    Counts {
        disagreeing: disagreeing as u32,
        common: common as u32,
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn count_popcnt(probe: &Row, reference: &Row) -> Counts {
    count(probe, reference)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt,avx2")]
fn count_avx2(probe: &Row, reference: &Row) -> Counts {
    count(probe, reference)
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
