//! One person over several frames: the best samples and all attack votes.

use sallyport_domain::{BiometricError, FaceTemplate, PadAssessment, QualityDefect, Timestamp};

use crate::{
    BoundingBox, FaceObservation, FacePipeline, Frame, FrameAnalysis, LivenessSample, VisionError,
    intersection_over_union, liveness,
};

/// A face that overlaps the last one by at least this is the same person.
const SAME_PERSON_IOU: f32 = 0.3;
/// Frames without the person after which the track ends.
const MISSES_TO_END: u8 = 3;
/// The best samples whose templates are fused.
const KEPT_SAMPLES: usize = 5;
/// Attack votes kept; the newest.
const KEPT_VOTES: usize = 30;

struct Sample {
    score: f32,
    template: FaceTemplate,
    captured_at: Timestamp,
    frame: Frame,
    /// The face alone; only while a second model is asked.
    aligned: Option<Frame>,
}

/// What a track comes to: everything a passage request needs. `Debug` shows no template and no picture.
#[derive(Clone)]
pub struct Capture {
    /// Fused template of the best samples.
    pub template: FaceTemplate,
    /// Quality score of the best sample, 0 to 100.
    pub quality: f32,
    /// How many samples were fused.
    pub samples: u8,
    /// Presentation attack votes.
    pub pad: PadAssessment,
    /// JPEG file of the best frame.
    pub best_frame_jpeg: Vec<u8>,
    /// When the best sample was captured.
    pub captured_at: Timestamp,
    /// Defects of samples that were passed over, most frequent first.
    pub defects: Vec<QualityDefect>,
    /// Most people seen at once.
    pub people_in_view: u8,
    /// The samples' faces, 112 x 112 pixels, for [`FacePipeline::embed_by_successor`]; empty where no second model is asked.
    pub aligned: Vec<Frame>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capture({} samples)", self.samples)
    }
}

/// One person over several frames.
pub struct Track {
    last_box: BoundingBox,
    misses: u8,
    frames: u32,
    samples: Vec<Sample>,
    votes: Vec<LivenessSample>,
    defects: Vec<(QualityDefect, u32)>,
    people_in_view: u8,
    last_frame: Frame,
}

impl std::fmt::Debug for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Track({} frames, {} samples)",
            self.frames,
            self.samples.len()
        )
    }
}

impl Track {
    /// Usable samples so far.
    #[must_use]
    pub fn usable_samples(&self) -> usize {
        self.samples.len()
    }

    /// Frames with attack votes so far.
    #[must_use]
    pub fn pad_frames(&self) -> usize {
        self.votes.len()
    }

    /// Frames in which the person was seen.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Defects seen so far, most frequent first.
    #[must_use]
    pub fn defects(&self) -> Vec<QualityDefect> {
        let mut counted = self.defects.clone();
        counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counted.into_iter().map(|(defect, _)| defect).collect()
    }

    /// The presentation attack votes so far, also without a usable sample.
    #[must_use]
    pub fn pad(&self) -> PadAssessment {
        liveness::assess(&self.votes)
    }

    /// The best frame so far as a JPEG file, or the last one when none was usable.
    ///
    /// # Errors
    /// OpenCV failed.
    pub fn picture(&self) -> Result<Vec<u8>, VisionError> {
        self.samples
            .first()
            .map_or(&self.last_frame, |best| &best.frame)
            .to_jpeg(85)
    }

    /// What the track comes to; `None` without a usable sample.
    ///
    /// # Errors
    /// OpenCV failed, or the templates cancel each other out.
    pub fn capture(&self) -> Result<Option<Capture>, VisionError> {
        let Some(best) = self.samples.first() else {
            return Ok(None);
        };
        let templates: Vec<FaceTemplate> = self
            .samples
            .iter()
            .map(|sample| sample.template.clone())
            .collect();
        let template = FaceTemplate::fuse(&templates)
            .map_err(|error: BiometricError| VisionError::Template(error))?;
        Ok(Some(Capture {
            template,
            quality: best.score,
            samples: u8::try_from(templates.len()).unwrap_or(u8::MAX),
            pad: self.pad(),
            best_frame_jpeg: self.picture()?,
            captured_at: best.captured_at,
            defects: self.defects(),
            people_in_view: self.people_in_view,
            aligned: self
                .samples
                .iter()
                .filter_map(|sample| sample.aligned.clone())
                .collect(),
        }))
    }

    fn count_defects(&mut self, defects: &[QualityDefect]) {
        for defect in defects {
            match self.defects.iter_mut().find(|(known, _)| known == defect) {
                Some((_, count)) => *count += 1,
                None => self.defects.push((*defect, 1)),
            }
        }
    }
}

/// Follows the nearest person.
#[derive(Debug, Default)]
pub struct Tracker {
    track: Option<Track>,
}

impl Tracker {
    /// Nobody is followed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The person followed now.
    #[must_use]
    pub fn track(&self) -> Option<&Track> {
        self.track.as_ref()
    }

    /// Ends the track and hands it out.
    pub fn take(&mut self) -> Option<Track> {
        self.track.take()
    }

    /// Takes one frame in: starts, continues or ends the track. Returns `true` while a person is followed.
    ///
    /// # Errors
    /// OpenCV or ONNX Runtime failed; the track is left as it was.
    pub fn update(
        &mut self,
        pipeline: &mut FacePipeline,
        frame: &Frame,
        analysis: &FrameAnalysis,
    ) -> Result<bool, VisionError> {
        let followed = self.track.as_ref().map(|track| track.last_box);
        let face = match followed {
            Some(last) => analysis
                .faces
                .iter()
                .filter(|face| intersection_over_union(&face.face, &last) >= SAME_PERSON_IOU)
                .max_by(|a, b| {
                    intersection_over_union(&a.face, &last)
                        .total_cmp(&intersection_over_union(&b.face, &last))
                }),
            None => analysis.faces.first(),
        };
        let Some(face) = face else {
            let ended = self.track.as_mut().is_some_and(|track| {
                track.misses += 1;
                track.misses >= MISSES_TO_END
            });
            if ended {
                self.track = None;
            }
            return Ok(self.track.is_some());
        };
        // Inference first, so that an error leaves the track as it was.
        let vote = pipeline.liveness(frame, face)?;
        let sample = if face.defects.is_empty() {
            let aligned = FacePipeline::aligned(frame, face)?;
            let template = pipeline.embed_aligned(&aligned)?;
            let aligned = pipeline.successor_digest().map(|_| aligned);
            Some((template, aligned))
        } else {
            None
        };
        let track = self.track.get_or_insert_with(|| Track {
            last_box: face.face,
            misses: 0,
            frames: 0,
            samples: Vec::new(),
            votes: Vec::new(),
            defects: Vec::new(),
            people_in_view: 0,
            last_frame: frame.clone(),
        });
        track.last_box = face.face;
        track.misses = 0;
        track.frames += 1;
        track.people_in_view = track.people_in_view.max(analysis.people_in_view);
        track.last_frame = frame.clone();
        track.votes.push(vote);
        if track.votes.len() > KEPT_VOTES {
            track.votes.remove(0);
        }
        match sample {
            Some((template, aligned)) => {
                keep_best(&mut track.samples, face, template, frame, aligned);
            }
            None => track.count_defects(&face.defects),
        }
        Ok(true)
    }
}

fn keep_best(
    samples: &mut Vec<Sample>,
    face: &FaceObservation,
    template: FaceTemplate,
    frame: &Frame,
    aligned: Option<Frame>,
) {
    let score = face.quality.score;
    let place = samples
        .iter()
        .position(|kept| kept.score < score)
        .unwrap_or(samples.len());
    if place < KEPT_SAMPLES {
        samples.insert(
            place,
            Sample {
                score,
                template,
                captured_at: frame.captured_at,
                frame: frame.clone(),
                aligned,
            },
        );
        samples.truncate(KEPT_SAMPLES);
    }
}
