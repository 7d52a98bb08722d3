//! The few best of many.

/// Keeps the `k` largest keys; equal keys go to whom was offered first.
pub(crate) struct Top {
    k: usize,
    kept: Vec<((f64, f64), usize)>,
}

impl Top {
    pub(crate) fn new(k: usize) -> Self {
        Self {
            k,
            kept: Vec::with_capacity(k.min(1_024)),
        }
    }

    /// Offers a slot with a key: the first number counts, the second breaks ties. Minus infinity and what is no number
    /// are not taken.
    pub(crate) fn offer(&mut self, key: (f64, f64), slot: usize) {
        // Nearly every offer ends here.
        if self.kept.len() == self.k && self.kept.last().is_none_or(|worst| key <= worst.0) {
            return;
        }
        if key.0.is_nan() || key.0 == f64::NEG_INFINITY || key.1.is_nan() {
            return;
        }
        let at = self.kept.partition_point(|kept| kept.0 >= key);
        if self.kept.len() == self.k {
            self.kept.pop();
        }
        self.kept.insert(at, (key, slot));
    }

    /// Could somebody with this key be among the best? True for every key that is not behind all of them.
    pub(crate) fn may_take(&self, key: (f64, f64)) -> bool {
        let among = self.kept.len() < self.k || self.kept.last().is_none_or(|worst| key >= worst.0);
        self.k > 0 && among && !key.0.is_nan() && key.0 != f64::NEG_INFINITY
    }

    /// The slots, best first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> {
        self.kept.iter().map(|(_, slot)| *slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_keeps_what_sorting_would(
            keys in proptest::collection::vec((0_u8..6, 0_u8..4), 0..60),
            k in 0_usize..8,
        ) {
            let key = |pair: &(u8, u8)| match pair {
                (5, _) => (f64::NAN, 0.0),
                (4, _) => (f64::NEG_INFINITY, 0.0),
                (a, b) => (f64::from(*a), f64::from(*b)),
            };
            let mut top = Top::new(k);
            for (slot, pair) in keys.iter().enumerate() {
                top.offer(key(pair), slot);
            }
            let mut sorted: Vec<usize> = (0..keys.len()).filter(|slot| keys[*slot].0 < 4).collect();
            sorted.sort_by(|a, b| key(&keys[*b]).partial_cmp(&key(&keys[*a])).unwrap().then(a.cmp(b)));
            sorted.truncate(k);
            prop_assert_eq!(top.slots().collect::<Vec<_>>(), sorted);
        }
    }
}
