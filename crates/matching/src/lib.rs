//! The gallery: exact 1:N search over face and iris templates in memory.
//!
//! No IO. References are kept apart by model and modality: a probe is only ever compared with references of its own
//! model, and an iris only with irises of the same eye. Every reference is compared with every probe, so nobody is missed
//! by a shortlist that could leave somebody out. Templates lie in locked memory that is left out of core dumps, and are zeroised when they are removed
//! and when the gallery is dropped. Scores leave as domain types only; the gallery decides nothing.

mod block;
mod faces;
mod identify;
mod locked;
mod popcount;
mod renewable;
mod top;

use std::collections::BTreeMap;

use sallyport_domain::{
    Candidate, CandidateList, Eye, FaceSimilarity, FaceTemplate, IrisTemplate, ModelDigest,
    ReferenceId, SubjectId, Template,
};

use block::{Block, Owner};
use faces::{FaceProbe, Faces};
pub use identify::{Captured, Identification};
pub use locked::Protection;
use popcount::{Kernel, ROW_WORDS};
pub use renewable::{NotTurned, TemplateSecret};

type Irises = Block<u64, ROW_WORDS>;

/// Probes that share one pass over the faces; more would keep too many scores at a time.
const PROBES_AT_ONCE: usize = 16;

/// A template to be stored.
#[derive(Debug, Clone, Copy)]
pub enum TemplateRef<'a> {
    /// A face.
    Face(&'a FaceTemplate),
    /// An iris.
    Iris(&'a IrisTemplate),
}

impl<'a> From<&'a FaceTemplate> for TemplateRef<'a> {
    fn from(face: &'a FaceTemplate) -> Self {
        Self::Face(face)
    }
}

impl<'a> From<&'a IrisTemplate> for TemplateRef<'a> {
    fn from(iris: &'a IrisTemplate) -> Self {
        Self::Iris(iris)
    }
}

impl<'a> From<&'a Template> for TemplateRef<'a> {
    fn from(template: &'a Template) -> Self {
        match template {
            Template::Face(face) => Self::Face(face),
            Template::Iris(iris) => Self::Iris(iris),
        }
    }
}

/// Where a reference lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    block: BlockKey,
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockKey {
    Face(ModelDigest),
    Iris(Eye, ModelDigest),
}

/// All references that a search compares with. `Debug` shows counts only.
pub struct Gallery {
    faces: BTreeMap<ModelDigest, Faces>,
    irises: BTreeMap<(Eye, ModelDigest), Irises>,
    places: BTreeMap<ReferenceId, Place>,
    people: People,
    kernel: Kernel,
    threads: usize,
}

impl Default for Gallery {
    fn default() -> Self {
        Self {
            faces: BTreeMap::new(),
            irises: BTreeMap::new(),
            places: BTreeMap::new(),
            people: People::default(),
            kernel: Kernel::best(),
            threads: 1,
        }
    }
}

impl std::fmt::Debug for Gallery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Gallery({} references of {} people)",
            self.len(),
            self.people.count()
        )
    }
}

/// Subjects by small numbers, so that a search can keep its scores in plain arrays.
#[derive(Default)]
struct People {
    slots: Vec<Option<SubjectId>>,
    free: Vec<u32>,
    known: BTreeMap<SubjectId, (u32, Vec<ReferenceId>)>,
}

impl People {
    fn count(&self) -> usize {
        self.known.len()
    }

    /// The subject's slot, which now has one reference more.
    fn add(&mut self, subject: SubjectId, reference: ReferenceId) -> u32 {
        let (slot, references) = self.known.entry(subject).or_insert_with(|| {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1)
                    .expect("fewer than four thousand million people are enrolled")
            });
            (slot, Vec::new())
        });
        if let Some(place) = self.slots.get_mut(*slot as usize) {
            *place = Some(subject);
        }
        references.push(reference);
        *slot
    }

    fn forget(&mut self, slot: u32, reference: ReferenceId) {
        let Some(subject) = self.slots.get(slot as usize).copied().flatten() else {
            return;
        };
        let Some((_, references)) = self.known.get_mut(&subject) else {
            return;
        };
        references.retain(|known| *known != reference);
        if references.is_empty() {
            self.known.remove(&subject);
            if let Some(place) = self.slots.get_mut(slot as usize) {
                *place = None;
            }
            self.free.push(slot);
        }
    }
}

/// What a search for faces brought.
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
    /// An empty gallery that searches on one thread.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty gallery that spreads each search over so many threads, at least one.
    #[must_use]
    pub fn with_threads(threads: usize) -> Self {
        let mut gallery = Self::default();
        gallery.set_threads(threads);
        gallery
    }

    /// Spreads each later search over so many threads, at least one.
    pub fn set_threads(&mut self, threads: usize) {
        self.threads = threads.max(1);
    }

    /// Number of references of all models and modalities.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Is nobody enrolled?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Number of people with at least one reference.
    #[must_use]
    pub fn people(&self) -> usize {
        self.people.count()
    }

    /// Are all templates in memory locked and left out of core dumps?
    pub fn protection(&self) -> Protection {
        let faces: usize = self.faces.values().map(Faces::unprotected_bytes).sum();
        let irises: usize = self.irises.values().map(Block::unprotected_bytes).sum();
        match faces + irises {
            0 => Protection::Locked,
            bytes => Protection::NotLocked { bytes },
        }
    }

    /// As [`Gallery::protection`], of the memory that one more person with a face and both eyes may need.
    pub fn protection_of_growth() -> Protection {
        let mut growth = Self::default();
        growth
            .faces
            .entry(ModelDigest::from_bytes([0; 32]))
            .or_default()
            .reserve();
        for eye in [Eye::Left, Eye::Right] {
            let irises = growth.irises.entry((eye, ModelDigest::from_bytes([0; 32])));
            irises.or_default().reserve();
        }
        growth.protection()
    }

    /// Adds a reference, or replaces the one with the same id. An iris belongs to the model that its template names,
    /// whatever `model` says. Returns [`Gallery::protection`]: memory that could not be locked is used all the same, and
    /// whether that is acceptable is the caller's decision.
    pub fn insert<'a>(
        &mut self,
        model: ModelDigest,
        reference: ReferenceId,
        subject: SubjectId,
        template: impl Into<TemplateRef<'a>>,
    ) -> Protection {
        self.remove(reference);
        let slot = self.people.add(subject, reference);
        let owner = Owner { reference, slot };
        let place = match template.into() {
            TemplateRef::Face(face) => {
                let block = self.faces.entry(model).or_default();
                let at = block.push(owner, face);
                Place {
                    block: BlockKey::Face(model),
                    at,
                }
            }
            TemplateRef::Iris(iris) => {
                let key = (iris.eye(), iris.encoder());
                let block = self.irises.entry(key).or_default();
                let at = block.push(owner, |row| identify::write_row(iris, 0, row));
                Place {
                    block: BlockKey::Iris(key.0, key.1),
                    at,
                }
            }
        };
        self.places.insert(reference, place);
        self.protection()
    }

    /// Removes a reference; `true` when it was there.
    pub fn remove(&mut self, reference: ReferenceId) -> bool {
        let Some(Place { block, at }) = self.places.remove(&reference) else {
            return false;
        };
        let (owner, moved) = match block {
            BlockKey::Face(model) => self.faces.get_mut(&model).map(|block| {
                let owner = block.owners().get(at).copied();
                (owner, block.swap_remove(at))
            }),
            BlockKey::Iris(eye, model) => self.irises.get_mut(&(eye, model)).map(|block| {
                let owner = block.owners().get(at).copied();
                (owner, block.swap_remove(at))
            }),
        }
        .unwrap_or_default();
        if let Some(place) = moved.and_then(|moved| self.places.get_mut(&moved)) {
            place.at = at;
        }
        if let Some(owner) = owner {
            self.people.forget(owner.slot, reference);
        }
        true
    }

    /// Removes all references of a subject; returns how many.
    pub fn remove_subject(&mut self, subject: SubjectId) -> usize {
        let references = match self.people.known.get(&subject) {
            Some((_, references)) => references.clone(),
            None => Vec::new(),
        };
        references
            .into_iter()
            .filter(|reference| self.remove(*reference))
            .count()
    }

    /// The best exact similarity of a probe with the faces of one person.
    fn similarity(
        &self,
        block: &Faces,
        model: ModelDigest,
        probe: &FaceProbe<'_>,
        slot: usize,
    ) -> Option<FaceSimilarity> {
        let subject = self.people.slots.get(slot).copied().flatten()?;
        let (_, references) = self.people.known.get(&subject)?;
        references
            .iter()
            .filter_map(|reference| self.places.get(reference))
            .filter(|place| place.block == BlockKey::Face(model))
            .filter_map(|place| block.similarity(probe, place.at))
            .reduce(f32::max)
            .and_then(|best| FaceSimilarity::new(best).ok())
    }

    /// Compares every face probe with every face reference of the probes' model and keeps the `k` best people of each
    /// probe. For the duplicate search at enrolment; at a gate [`Gallery::identify`] uses all modalities.
    #[must_use]
    pub fn search(&self, model: ModelDigest, probes: &[&FaceTemplate], k: usize) -> Search {
        let Some(block) = self.faces.get(&model).filter(|block| block.len() > 0) else {
            return if self.faces.values().all(|block| block.len() == 0) {
                Search::Found {
                    candidates: vec![CandidateList::default(); probes.len()],
                    compared: 0,
                }
            } else {
                Search::OtherModel
            };
        };
        let probes: Vec<_> = probes.iter().map(|probe| FaceProbe::new(probe)).collect();
        let candidates = probes
            .chunks(PROBES_AT_ONCE)
            .flat_map(|probes| {
                let intervals = block.intervals(probes, self.people.slots.len(), self.threads);
                probes.iter().zip(intervals)
            })
            .map(|(probe, intervals)| {
                let mut least = top::Top::new(k);
                for (slot, interval) in intervals.iter().enumerate() {
                    least.offer((f64::from(interval.least), 0.0), slot);
                }
                let candidates = intervals
                    .iter()
                    .enumerate()
                    .filter(|(_, interval)| least.may_take((f64::from(interval.greatest), 0.0)))
                    .filter_map(|(slot, _)| {
                        Some(Candidate {
                            subject: self.people.slots.get(slot).copied().flatten()?,
                            similarity: self.similarity(block, model, probe, slot)?,
                        })
                    });
                let exact = CandidateList::new(candidates.collect());
                CandidateList::new(exact.as_slice().iter().take(k).copied().collect())
            })
            .collect();
        Search::Found {
            candidates,
            compared: block.len(),
        }
    }
}

#[cfg(test)]
mod tests;
