//! The gallery: exact 1:N search over face templates in memory.
//!
//! No IO. References are kept apart by model: a probe is only ever compared with references of its own model. Every
//! reference is compared with every probe in single precision, so nobody is missed by a shortlist. Templates are zeroed
//! when they are removed and when the gallery is dropped.

use std::collections::{BTreeMap, BTreeSet};

use numkong::Dot;
use sallyport_domain::{
    Candidate, CandidateList, FACE_TEMPLATE_DIMENSIONS, FaceSimilarity, FaceTemplate, ModelDigest,
    ReferenceId, SubjectId,
};
use zeroize::Zeroize;

/// The references of one model, in insertion order.
#[derive(Default)]
struct Block {
    /// Rows of [`FACE_TEMPLATE_DIMENSIONS`] numbers, one after the other.
    rows: Vec<f32>,
    owners: Vec<(ReferenceId, SubjectId)>,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.rows.zeroize();
    }
}

/// All references that a search compares with. `Debug` shows counts only.
#[derive(Default)]
pub struct Gallery {
    blocks: BTreeMap<ModelDigest, Block>,
    /// Which references are there, so that inserting a new one need not look through all.
    known: BTreeSet<ReferenceId>,
}

impl std::fmt::Debug for Gallery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gallery({} references)", self.len())
    }
}

/// What a search brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Search {
    /// Candidates of each probe, and how many references were compared.
    Found {
        /// One list per probe, in the probes' order.
        candidates: Vec<CandidateList>,
        /// References compared with each probe.
        compared: usize,
    },
    /// There are references, but none of the probes' model: somebody must be re-enrolled.
    OtherModel,
}

impl Gallery {
    /// An empty gallery.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of references of all models.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.values().map(|block| block.owners.len()).sum()
    }

    /// Is nobody enrolled?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a reference, or replaces the one with the same id.
    pub fn insert(
        &mut self,
        model: ModelDigest,
        reference: ReferenceId,
        subject: SubjectId,
        template: &FaceTemplate,
    ) {
        if !self.known.insert(reference) {
            self.remove(reference);
            self.known.insert(reference);
        }
        let block = self.blocks.entry(model).or_default();
        if block.rows.len() + FACE_TEMPLATE_DIMENSIONS > block.rows.capacity() {
            // Growing a vector would leave a copy of the templates in freed memory.
            let mut larger =
                Vec::with_capacity((block.rows.capacity() * 2).max(FACE_TEMPLATE_DIMENSIONS * 64));
            larger.extend_from_slice(&block.rows);
            std::mem::swap(&mut larger, &mut block.rows);
            larger.zeroize();
        }
        block.rows.extend_from_slice(template.as_slice());
        block.owners.push((reference, subject));
    }

    /// Removes a reference; `true` when it was there.
    pub fn remove(&mut self, reference: ReferenceId) -> bool {
        if !self.known.remove(&reference) {
            return false;
        }
        for block in self.blocks.values_mut() {
            let Some(at) = block.owners.iter().position(|(id, _)| *id == reference) else {
                continue;
            };
            let last = block.owners.len() - 1;
            block.owners.swap_remove(at);
            let (start, from) = (
                at * FACE_TEMPLATE_DIMENSIONS,
                last * FACE_TEMPLATE_DIMENSIONS,
            );
            block
                .rows
                .copy_within(from..from + FACE_TEMPLATE_DIMENSIONS, start);
            if let Some(freed) = block.rows.get_mut(from..) {
                freed.zeroize();
            }
            block.rows.truncate(from);
            return true;
        }
        false
    }

    /// Removes all references of a subject; returns how many.
    pub fn remove_subject(&mut self, subject: SubjectId) -> usize {
        let references: Vec<ReferenceId> = self
            .blocks
            .values()
            .flat_map(|block| &block.owners)
            .filter(|(_, owner)| *owner == subject)
            .map(|(reference, _)| *reference)
            .collect();
        references
            .into_iter()
            .filter(|reference| self.remove(*reference))
            .count()
    }

    /// Compares every probe with every reference of the probes' model, in one pass over the gallery, and keeps the `k`
    /// best people of each probe.
    #[must_use]
    pub fn search(&self, model: ModelDigest, probes: &[&FaceTemplate], k: usize) -> Search {
        let Some(block) = self
            .blocks
            .get(&model)
            .filter(|block| !block.owners.is_empty())
        else {
            return if self.is_empty() {
                Search::Found {
                    candidates: vec![CandidateList::default(); probes.len()],
                    compared: 0,
                }
            } else {
                Search::OtherModel
            };
        };
        let mut best: Vec<BTreeMap<SubjectId, FaceSimilarity>> =
            vec![BTreeMap::new(); probes.len()];
        for (row, (_, subject)) in block
            .rows
            .chunks_exact(FACE_TEMPLATE_DIMENSIONS)
            .zip(&block.owners)
        {
            for (probe, people) in probes.iter().zip(&mut best) {
                let Some(similarity) = similarity(probe.as_slice(), row) else {
                    continue;
                };
                keep(people, *subject, similarity, k);
            }
        }
        let candidates = best
            .into_iter()
            .map(|people| {
                CandidateList::new(
                    people
                        .into_iter()
                        .map(|(subject, similarity)| Candidate {
                            subject,
                            similarity,
                        })
                        .collect(),
                )
            })
            .collect();
        Search::Found {
            candidates,
            compared: block.owners.len(),
        }
    }
}

fn similarity(probe: &[f32], row: &[f32]) -> Option<FaceSimilarity> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "scores are kept in single precision"
    )]
    let value = <f32 as Dot>::dot(probe, row)? as f32;
    // Rounding may carry a template's comparison with itself a little over one.
    FaceSimilarity::new(value.clamp(-1.0, 1.0)).ok()
}

/// Keeps a person's best score, and at most `k` people.
fn keep(
    people: &mut BTreeMap<SubjectId, FaceSimilarity>,
    subject: SubjectId,
    similarity: FaceSimilarity,
    k: usize,
) {
    if let Some(known) = people.get_mut(&subject) {
        if similarity > *known {
            *known = similarity;
        }
        return;
    }
    people.insert(subject, similarity);
    if people.len() > k {
        let worst = people
            .iter()
            .min_by(|a, b| {
                a.1.value()
                    .total_cmp(&b.1.value())
                    .then_with(|| b.0.cmp(a.0))
            })
            .map(|(subject, _)| *subject);
        if let Some(worst) = worst {
            people.remove(&worst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const MODEL: ModelDigest = ModelDigest::from_bytes([1; 32]);

    fn subject(n: u8) -> SubjectId {
        SubjectId::from_uuid(Uuid::from_bytes([n; 16]))
    }

    fn reference(n: u32) -> ReferenceId {
        ReferenceId::from_uuid(Uuid::from_u128(u128::from(n)))
    }

    /// A template that depends on the seed only (xorshift).
    fn template(seed: u64) -> FaceTemplate {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let values = (0..FACE_TEMPLATE_DIMENSIONS)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
            })
            .collect();
        FaceTemplate::normalise(values).unwrap()
    }

    fn lists(search: Search) -> Vec<CandidateList> {
        match search {
            Search::Found { candidates, .. } => candidates,
            Search::OtherModel => panic!("the model has references"),
        }
    }

    #[test]
    fn an_empty_gallery_finds_nobody_and_another_model_is_said() {
        let mut gallery = Gallery::new();
        let probe = template(1);
        assert_eq!(
            lists(gallery.search(MODEL, &[&probe], 5)),
            [CandidateList::default()]
        );
        gallery.insert(
            ModelDigest::from_bytes([2; 32]),
            reference(1),
            subject(1),
            &probe,
        );
        assert_eq!(gallery.search(MODEL, &[&probe], 5), Search::OtherModel);
    }

    #[test]
    fn removed_references_are_not_found_again() {
        let mut gallery = Gallery::new();
        for n in 0..5_u8 {
            gallery.insert(MODEL, reference(n.into()), subject(n), &template(n.into()));
        }
        assert!(gallery.remove(reference(1)));
        assert!(!gallery.remove(reference(1)));
        assert_eq!(gallery.remove_subject(subject(4)), 1);
        for n in 0..5_u8 {
            let found = lists(gallery.search(MODEL, &[&template(n.into())], 1));
            let best = found[0].best().unwrap();
            assert_eq!(best.subject == subject(n), n != 1 && n != 4);
        }
        assert_eq!(gallery.len(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_search_is_exact(
            rows in proptest::collection::vec((0_u8..12, any::<u64>()), 1..40),
            probes in proptest::collection::vec(any::<u64>(), 1..4),
            k in 1_usize..6,
        ) {
            let mut gallery = Gallery::new();
            for (index, (owner, seed)) in rows.iter().enumerate() {
                gallery.insert(MODEL, reference(index as u32), subject(*owner), &template(*seed));
            }
            let probes: Vec<_> = probes.into_iter().map(template).collect();
            let found = lists(gallery.search(MODEL, &probes.iter().collect::<Vec<_>>(), k));
            for (probe, list) in probes.iter().zip(found) {
                let brute = CandidateList::new(
                    rows.iter()
                        .map(|(owner, seed)| Candidate {
                            subject: subject(*owner),
                            similarity: probe.similarity(&template(*seed)),
                        })
                        .collect(),
                );
                prop_assert_eq!(list.as_slice().len(), k.min(brute.as_slice().len()));
                for (got, expected) in list.as_slice().iter().zip(brute.as_slice()) {
                    prop_assert!((got.similarity.value() - expected.similarity.value()).abs() < 1e-5);
                }
            }
        }
    }
}
