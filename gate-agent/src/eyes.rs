//! The eyes of the person at the gate: from near-infrared frames to iris templates.
//!
//! A near-infrared frame belongs to a colour frame when both were captured within a stated time of
//! each other and the colour frame showed one person alone. Its eyes then join that person's burst.
//! A frame lives in memory only and only while it is analysed: what stays are templates, scores and
//! the numbers of the attack checks. Nothing here can write a picture.
//!
//! Whatever goes wrong here, the passage goes on without irises; the server's policy decides what a
//! face alone is worth.

use std::time::Duration;

use sallyport_domain::{
    Eye, IrisTemplate, PadAssessment, PadVerdict, PadVote, QualityDefect, Timestamp,
};
use sallyport_protocol::Probe;
use sallyport_vision::{
    BURST_FRAMES, EyeObservation, Frame, IrisAttackSample, IrisPipeline, VisionError, assess_iris,
    find_eyes,
};

/// Attack measurements kept of one eye.
const KEPT_ATTACK_SAMPLES: usize = 30;
/// After this many near-infrared frames without one that belongs to a colour frame, the pairing
/// itself is taken to be wrong.
const UNPAIRED_ALARM: u32 = 20;

/// One eye of one near-infrared frame. `Debug` shows no template.
#[derive(Debug, Clone)]
pub struct EyeSample {
    /// Which eye.
    pub eye: Eye,
    /// Quality score, 0 to 100.
    pub score: u8,
    /// What speaks against it.
    pub defects: Vec<QualityDefect>,
    /// The template; only without defects.
    pub template: Option<IrisTemplate>,
    /// The template by the encoder that comes next, while models change.
    pub successor: Option<IrisTemplate>,
    /// For the attack checks over several frames.
    pub attack: Option<IrisAttackSample>,
}

/// Reads both eyes out of a frame; replaced in tests that need no models.
pub trait EyeReader: Send {
    /// Both eyes of a frame; empty when no pair is seen.
    ///
    /// # Errors
    /// The pipeline failed on this frame.
    fn read(&mut self, frame: &Frame) -> Result<Vec<EyeSample>, VisionError>;
}

/// The real reader.
pub struct IrisReader {
    pipeline: IrisPipeline,
    mirrored: bool,
}

impl IrisReader {
    /// Owns the pipeline. `mirrored`: the camera delivers mirror images, so that left and right
    /// change places.
    #[must_use]
    pub const fn new(pipeline: IrisPipeline, mirrored: bool) -> Self {
        Self { pipeline, mirrored }
    }
}

impl EyeReader for IrisReader {
    fn read(&mut self, frame: &Frame) -> Result<Vec<EyeSample>, VisionError> {
        let mut seen: Vec<EyeObservation> = Vec::with_capacity(2);
        for region in find_eyes(frame, self.mirrored)? {
            seen.push(self.pipeline.analyse(&region.frame, &region.prior)?);
        }
        let all: Vec<&EyeObservation> = seen.iter().collect();
        let templates = self.pipeline.encode(&all)?;
        let successors = self.pipeline.encode_by_successor(&all)?;
        Ok(seen
            .into_iter()
            .zip(templates.into_iter().zip(successors))
            .map(|(eye, (template, successor))| EyeSample {
                eye: eye.eye,
                score: eye.quality.score,
                defects: eye.defects,
                template,
                successor,
                attack: eye.attack,
            })
            .collect())
    }
}

/// How far the eyes of the person at the gate are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EyeProgress {
    /// There is no iris camera, or it gives nothing that could be waited for.
    #[default]
    NotExpected,
    /// More frames would help.
    Collecting,
    /// Enough of both eyes.
    Complete,
}

/// What one look at the eyes showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EyesSeen {
    /// How far the burst is.
    pub progress: EyeProgress,
    /// What is wrong with an eye of which nothing usable was seen yet.
    pub defects: Vec<QualityDefect>,
}

/// What a burst comes to.
#[derive(Debug, Default)]
pub struct EyeCapture {
    /// The best template of each eye that gave one.
    pub probes: Vec<Probe>,
    /// The same samples by the encoder that comes next, while models change.
    pub successors: Vec<Probe>,
    /// Votes on attacks: of each kind the worse of both eyes.
    pub votes: Vec<PadVote>,
}

/// One colour frame, as far as the eyes care.
#[derive(Debug, Clone, Copy)]
pub struct Companion {
    /// The person followed.
    pub track: Option<u64>,
    /// Whether nobody else was seen.
    pub alone: bool,
    /// When it was captured.
    pub captured_at: Timestamp,
}

/// A template without defects.
struct Usable {
    score: u8,
    template: IrisTemplate,
    successor: Option<IrisTemplate>,
}

#[derive(Default)]
struct OneEye {
    usable: Vec<Usable>,
    attack: Vec<IrisAttackSample>,
}

impl OneEye {
    fn take(&mut self, sample: EyeSample) {
        if let Some(attack) = sample.attack
            && self.attack.len() < KEPT_ATTACK_SAMPLES
        {
            self.attack.push(attack);
        }
        if let Some(template) = sample.template
            && sample.defects.is_empty()
            && self.usable.len() < BURST_FRAMES
        {
            self.usable.push(Usable {
                score: sample.score,
                template,
                successor: sample.successor,
            });
        }
    }

    fn is_complete(&self) -> bool {
        self.usable.len() >= BURST_FRAMES
    }

    fn best(&self) -> Option<&Usable> {
        self.usable.iter().max_by_key(|usable| usable.score)
    }

    fn probe(&self) -> Option<Probe> {
        let best = self.best()?;
        self.probe_of(best, &best.template)
    }

    /// Of the same sample as [`Self::probe`].
    fn successor(&self) -> Option<Probe> {
        let best = self.best()?;
        self.probe_of(best, best.successor.as_ref()?)
    }

    fn probe_of(&self, usable: &Usable, template: &IrisTemplate) -> Option<Probe> {
        let samples = u8::try_from(self.usable.len()).unwrap_or(u8::MAX);
        Probe::new(
            template.encoder(),
            template.clone(),
            f32::from(usable.score),
            samples,
        )
        .ok()
    }
}

#[derive(Default)]
struct Burst {
    track: u64,
    left: OneEye,
    right: OneEye,
}

impl Burst {
    fn eye(&mut self, eye: Eye) -> &mut OneEye {
        match eye {
            Eye::Left => &mut self.left,
            Eye::Right => &mut self.right,
        }
    }

    fn is_complete(&self) -> bool {
        self.left.is_complete() && self.right.is_complete()
    }
}

/// The burst of the person at the gate.
pub struct Eyes {
    reader: Box<dyn EyeReader>,
    pair_within: Duration,
    burst: Option<Burst>,
    unpaired: u32,
}

impl Eyes {
    /// Frames of both cameras belong together when captured within `pair_within` of each other.
    #[must_use]
    pub fn new(reader: Box<dyn EyeReader>, pair_within: Duration) -> Self {
        Self {
            reader,
            pair_within,
            burst: None,
            unpaired: 0,
        }
    }

    /// Takes in the newest near-infrared frame beside a colour frame.
    ///
    /// # Errors
    /// The pipeline failed on this frame; the burst is left as it was.
    pub fn look(
        &mut self,
        companion: Companion,
        frame: Option<&Frame>,
    ) -> Result<EyesSeen, VisionError> {
        let Some(track) = companion.track else {
            return Ok(self.seen(Vec::new()));
        };
        if self.burst.as_ref().is_none_or(|burst| burst.track != track) {
            // Eyes of two people never mix.
            self.burst = Some(Burst {
                track,
                ..Burst::default()
            });
        }
        let Some(frame) = frame else {
            return Ok(self.seen(Vec::new()));
        };
        if !self.belongs(companion.captured_at, frame.captured_at) {
            self.unpaired = self.unpaired.saturating_add(1);
            return Ok(self.seen(Vec::new()));
        }
        self.unpaired = 0;
        let complete = self.burst.as_ref().is_some_and(Burst::is_complete);
        if !companion.alone || complete {
            return Ok(self.seen(Vec::new()));
        }
        let samples = self.reader.read(frame)?;
        let mut defects = Vec::new();
        if samples.is_empty() {
            defects.push(QualityDefect::NoEye);
        }
        if let Some(burst) = &mut self.burst {
            for sample in samples {
                let told = sample.defects.clone();
                let eye = burst.eye(sample.eye);
                eye.take(sample);
                if eye.usable.is_empty() {
                    for defect in told {
                        if !defects.contains(&defect) {
                            defects.push(defect);
                        }
                    }
                }
            }
            if !burst.left.usable.is_empty() && !burst.right.usable.is_empty() {
                defects.clear();
            }
        }
        Ok(self.seen(defects))
    }

    /// What the eyes of this person come to; nothing when they were not seen.
    #[must_use]
    pub fn capture(&self, track: u64) -> EyeCapture {
        let Some(burst) = self.burst.as_ref().filter(|burst| burst.track == track) else {
            return EyeCapture::default();
        };
        EyeCapture {
            probes: [&burst.left, &burst.right]
                .into_iter()
                .filter_map(OneEye::probe)
                .collect(),
            successors: [&burst.left, &burst.right]
                .into_iter()
                .filter_map(OneEye::successor)
                .collect(),
            votes: worse(
                assess_eye(&burst.left.attack),
                assess_eye(&burst.right.attack),
            ),
        }
    }

    /// What an operator must know: frames come, but at other times than the colour camera's.
    #[must_use]
    pub const fn alarm(&self) -> Option<&'static str> {
        if self.unpaired >= UNPAIRED_ALARM {
            Some(
                "its pictures come at other moments than the colour camera's and are not used; check both cameras' rates, or iris_camera.pair_within_ms",
            )
        } else {
            None
        }
    }

    /// Forgets everybody.
    pub fn reset(&mut self) {
        self.burst = None;
    }

    fn belongs(&self, colour: Timestamp, infrared: Timestamp) -> bool {
        let apart = colour.millis_since(infrared).unsigned_abs();
        u128::from(apart) <= self.pair_within.as_millis()
    }

    fn seen(&self, defects: Vec<QualityDefect>) -> EyesSeen {
        let progress = if self.alarm().is_some() {
            EyeProgress::NotExpected
        } else if self.burst.as_ref().is_some_and(Burst::is_complete) {
            EyeProgress::Complete
        } else {
            EyeProgress::Collecting
        };
        EyesSeen { progress, defects }
    }
}

fn assess_eye(samples: &[IrisAttackSample]) -> PadAssessment {
    if samples.is_empty() {
        return PadAssessment::default();
    }
    assess_iris(samples)
}

/// Of each kind the worse vote of both eyes: one suspicious eye is enough.
fn worse(left: PadAssessment, right: PadAssessment) -> Vec<PadVote> {
    const fn rank(verdict: PadVerdict) -> u8 {
        match verdict {
            PadVerdict::BonaFide => 0,
            PadVerdict::Inconclusive => 1,
            PadVerdict::AttackSuspected => 2,
        }
    }
    let mut votes: Vec<PadVote> = Vec::new();
    for vote in left.votes.into_iter().chain(right.votes) {
        match votes.iter_mut().find(|known| known.kind == vote.kind) {
            Some(known) if rank(known.verdict) < rank(vote.verdict) => *known = vote,
            Some(_) => {}
            None => votes.push(vote),
        }
    }
    votes
}

#[cfg(test)]
#[path = "eyes/tests.rs"]
mod tests;
