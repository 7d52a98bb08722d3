//! From frames to sightings: the only file of the agent that drives the face pipeline.

use std::sync::Arc;

use sallyport_domain::{FaceTemplate, ModelDigest, QualityDefect};
use sallyport_protocol::Probe;
use sallyport_vision::{Capture, FacePipeline, Frame, Tracker, VisionError};

/// Above this similarity a face that comes back within one passage is the one that was captured
/// (biometrics.md F.6: FMR below 1e-5). It never decides about access; it only keeps a person who
/// looked away from being taken for somebody else.
const SAME_PERSON_SIMILARITY: f32 = 0.5;

/// What one frame showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The person followed; the same number means the same person.
    pub track: Option<u64>,
    /// People near enough to be the one at the gate.
    pub people: u8,
    /// Usable samples of the person followed.
    pub samples: u8,
    /// What is wrong with this frame.
    pub defects: Vec<QualityDefect>,
}

/// Analyses frames; replaced in tests that need no models.
pub trait Observer: Send {
    /// Takes one frame in.
    ///
    /// # Errors
    /// The pipeline failed on this frame.
    fn observe(&mut self, frame: &Arc<Frame>) -> Result<Observed, VisionError>;
    /// What the person followed comes to; `None` without a usable sample.
    ///
    /// # Errors
    /// The pipeline failed.
    fn capture(&mut self) -> Result<Option<Capture>, VisionError>;
    /// What the person captured last comes to by the model that comes next; `None` while no models change.
    ///
    /// # Errors
    /// The pipeline failed.
    fn successor(&mut self) -> Result<Option<Probe>, VisionError> {
        Ok(None)
    }
    /// A JPEG of the person seen last, for the record of a failed attempt.
    fn picture(&self) -> Option<Vec<u8>>;
    /// Forgets everybody.
    fn reset(&mut self);
    /// SHA-256 of the model that makes the templates.
    fn model(&self) -> ModelDigest;
}

/// The real observer.
pub struct FaceObserver {
    pipeline: FacePipeline,
    tracker: Tracker,
    newest_track: u64,
    known: Known,
    captured: Option<(u64, FaceTemplate)>,
    /// The same, for the model that comes next; taken when that was asked.
    for_successor: Option<Capture>,
    last_seen: Option<Arc<Frame>>,
}

/// Which number the present track goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    number: u64,
    /// Whether it was compared with the captured person already.
    compared: bool,
}

impl FaceObserver {
    /// Owns the pipeline; to be used by one thread.
    #[must_use]
    pub fn new(pipeline: FacePipeline) -> Self {
        Self {
            pipeline,
            tracker: Tracker::new(),
            newest_track: 0,
            known: Known {
                number: 0,
                compared: false,
            },
            captured: None,
            for_successor: None,
            last_seen: None,
        }
    }

    /// Gives a track that broke off its number back when it is the captured person.
    fn recognise(&mut self) -> Result<(), VisionError> {
        let Some((number, template)) = &self.captured else {
            return Ok(());
        };
        let ready = self
            .tracker
            .track()
            .filter(|track| !self.known.compared && track.usable_samples() > 0);
        let Some(track) = ready else {
            return Ok(());
        };
        if let Some(capture) = track.capture()? {
            let similarity = capture.template.similarity(template).value();
            self.known.compared = true;
            if similarity >= SAME_PERSON_SIMILARITY {
                self.known.number = *number;
            }
        }
        Ok(())
    }
}

impl Observer for FaceObserver {
    fn observe(&mut self, frame: &Arc<Frame>) -> Result<Observed, VisionError> {
        let analysis = self.pipeline.analyse(frame)?;
        let before = self.tracker.track().map(sallyport_vision::Track::frames);
        self.tracker.update(&mut self.pipeline, frame, &analysis)?;
        let Some(track) = self.tracker.track() else {
            return Ok(Observed::default());
        };
        let frames = track.frames();
        let samples = u8::try_from(track.usable_samples()).unwrap_or(u8::MAX);
        if before == Some(frames) {
            // The track waits for the person to come back; this frame did not show them.
            return Ok(Observed::default());
        }
        self.last_seen = Some(frame.clone());
        if before.is_none_or(|before| frames <= before) {
            self.newest_track += 1;
            self.known = Known {
                number: self.newest_track,
                compared: false,
            };
        }
        self.recognise()?;
        Ok(Observed {
            track: Some(self.known.number),
            people: analysis.people_in_view,
            samples,
            defects: analysis
                .faces
                .first()
                .map(|face| face.defects.clone())
                .unwrap_or_default(),
        })
    }

    fn capture(&mut self) -> Result<Option<Capture>, VisionError> {
        let Some(track) = self.tracker.track() else {
            return Ok(None);
        };
        let capture = track.capture()?;
        self.captured = capture
            .as_ref()
            .map(|capture| (self.known.number, capture.template.clone()));
        self.known.compared = true;
        self.for_successor = capture
            .as_ref()
            .filter(|capture| !capture.aligned.is_empty())
            .cloned();
        Ok(capture)
    }

    fn successor(&mut self) -> Result<Option<Probe>, VisionError> {
        let (Some(capture), Some(model)) =
            (self.for_successor.take(), self.pipeline.successor_digest())
        else {
            return Ok(None);
        };
        let template = self.pipeline.embed_by_successor(&capture)?;
        Ok(template.and_then(|template| {
            Probe::new(model, template, capture.quality, capture.samples).ok()
        }))
    }

    fn picture(&self) -> Option<Vec<u8>> {
        match self.tracker.track() {
            Some(track) => track.picture().ok(),
            None => self.last_seen.as_ref()?.to_jpeg(85).ok(),
        }
    }

    fn reset(&mut self) {
        self.tracker = Tracker::new();
        self.captured = None;
        self.for_successor = None;
        self.last_seen = None;
    }

    fn model(&self) -> ModelDigest {
        self.pipeline.model_digest()
    }
}
