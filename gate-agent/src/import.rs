//! Enrolment from existing pictures: one person after the other, resumable, and a refused picture
//! never stops the rest.
//!
//! The report file holds one JSON object a line. Its first line is the batch's random seed, from
//! which every subject id follows, so that a retry after a crash names the same person to the
//! server. A person whose pictures are unchanged since the last answer is not sent again.

mod eyes;
mod people;
mod prepare;
mod report;

use std::fs;
use std::path::{Path, PathBuf};

use sallyport_domain::{
    Eye, FaceTemplate, GateId, IrisTemplate, Modality, ModelDigest, QualityDefect, SubjectCategory,
    SubjectId,
};
use sallyport_protocol::{
    EnrolmentOutcome, EnrolmentRefusal, EnrolmentSample, EnrolmentSubmission, PROTOCOL_VERSION,
    Probe,
};
use sha2::{Digest as _, Sha256};

pub use eyes::prepare_eyes;
pub use people::{InputError, Person, PicturePath, read_input};
pub use prepare::prepare_picture;
pub use report::ReportError;
use report::{Line, Report};

use crate::deps::Random;
use crate::seal::{SealError, SealingKey};
use crate::uplink::UplinkError;

/// Samples of the face and of each eye that are sent at most; the best ones.
const KEPT_SAMPLES: usize = 5;

/// What a picture gives.
pub struct PreparedPicture {
    /// Template for enrolment.
    pub template: FaceTemplate,
    /// Model that made it.
    pub model: ModelDigest,
    /// Quality score, 0 to 100.
    pub quality: f32,
    /// The picture for the officer.
    pub jpeg: Vec<u8>,
}

/// What a picture of eyes gives for one of them. The picture itself is never kept or sent.
#[derive(Debug, Clone)]
pub struct PreparedEye {
    /// Template; says which eye and which encoder.
    pub template: IrisTemplate,
    /// Quality score, 0 to 100.
    pub quality: f32,
    /// Which picture of an iris record, from 1; 0 for a file that is one picture.
    pub part: u32,
}

/// Why a picture is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PictureRefusal {
    /// Defects, the first being the most important.
    Defects(Vec<QualityDefect>),
    /// Not a picture, or not readable; says what to do.
    Unreadable(String),
}

impl PictureRefusal {
    /// What to do, in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Defects(defects) => {
                let cues: Vec<&str> = defects.iter().map(|defect| defect.cue()).collect();
                cues.join(" ")
            }
            Self::Unreadable(text) => text.clone(),
        }
    }

    fn codes(&self) -> Vec<QualityDefect> {
        match self {
            Self::Defects(defects) => defects.clone(),
            Self::Unreadable(_) => Vec::new(),
        }
    }
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Folder or list.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Report file.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Server.
    #[error("{0}; run the same command again to go on where it stopped")]
    Uplink(#[from] UplinkError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Models.
    #[error("pictures cannot be analysed: {0}")]
    Pipeline(String),
}

/// What came of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// People sent now, who wait for a second officer or were approved before.
    pub submitted: usize,
    /// Of these, people of whom somebody enrolled or under review looks alike; an officer decides each of them.
    pub doubtful: usize,
    /// People who were answered by an earlier run.
    pub done_before: usize,
    /// People refused by the server or left without a usable picture, in this run or before.
    pub refused_people: usize,
    /// Pictures refused, in this run or before.
    pub refused_pictures: usize,
}

/// What happened to one person or picture, for progress and the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportEvent {
    /// A picture was refused.
    PictureRefused {
        /// Which.
        path: PathBuf,
        /// What to do.
        sentence: String,
    },
    /// A person is dealt with.
    PersonDone,
    /// A person waits for an officer who compares with somebody alike.
    PersonDoubtful {
        /// Who.
        person: String,
    },
    /// A person was refused.
    PersonRefused {
        /// Who.
        person: String,
        /// Why.
        sentence: &'static str,
    },
}

/// Analyses the bytes of one picture file; the outer error means that the models are broken.
pub type Prepare<'a> =
    dyn FnMut(&[u8]) -> Result<Result<PreparedPicture, PictureRefusal>, String> + 'a;
/// Analyses the bytes of one file with eyes; errors as [`Prepare`].
pub type PrepareEyes<'a> =
    dyn FnMut(&[u8]) -> Result<Result<Vec<PreparedEye>, PictureRefusal>, String> + 'a;
/// Sends one person to the server.
pub type Send<'a> = dyn Fn(&EnrolmentSubmission) -> Result<EnrolmentOutcome, UplinkError> + 'a;

/// What an import works with.
pub struct Importer<'a> {
    /// The station.
    pub station: GateId,
    /// The one-time code of the enrolment or batch that an officer opened for it.
    pub enrolment: String,
    /// The registry's key for photographs.
    pub sealing: SealingKey,
    /// Randomness.
    pub random: &'a dyn Random,
    /// The face pipeline.
    pub prepare: &'a mut Prepare<'a>,
    /// The iris pipeline.
    pub prepare_eyes: &'a mut PrepareEyes<'a>,
    /// May the photograph of such a person be kept? Otherwise it is not sent.
    pub photographs: &'a dyn Fn(SubjectCategory) -> bool,
    /// The uplink.
    pub send: &'a Send<'a>,
    /// Told of each step.
    pub tell: &'a mut dyn FnMut(ImportEvent),
}

impl Importer<'_> {
    /// Imports all people, going on where `report` stopped.
    ///
    /// # Errors
    /// Only what concerns the whole batch; refused pictures and people are counted.
    pub fn run(&mut self, people: &[Person], report: &Path) -> Result<Summary, ImportError> {
        let mut report = Report::open(report, self.random)?;
        let mut summary = Summary::default();
        for person in people {
            self.person(person, &mut report, &mut summary)?;
            (self.tell)(ImportEvent::PersonDone);
        }
        Ok(summary)
    }

    fn person(
        &mut self,
        person: &Person,
        report: &mut Report,
        summary: &mut Summary,
    ) -> Result<(), ImportError> {
        let files = read_pictures(&person.pictures);
        let eye_files = read_pictures(&person.eyes);
        let mut hashes: Vec<String> = files
            .iter()
            .chain(&eye_files)
            .map(|file| file.sha256.clone())
            .collect();
        hashes.sort();
        if let Some(enrolled) = report.answered(&person.name, &hashes) {
            summary.refused_pictures += report.refused_pictures(&person.name, &hashes);
            summary.done_before += 1;
            if !enrolled {
                summary.refused_people += 1;
            }
            return Ok(());
        }
        let subject = subject_id(report.seed(), &person.name);
        let mut prepared = Vec::new();
        let mut refused = Vec::new();
        for file in files {
            let picture = match &file.bytes {
                Ok(bytes) => (self.prepare)(bytes).map_err(ImportError::Pipeline)?,
                Err(reason) => Err(PictureRefusal::Unreadable(reason.clone())),
            };
            match picture {
                Ok(picture) => prepared.push((file.sha256, picture)),
                Err(refusal) => refused.push((file, refusal)),
            }
        }
        let mut eyes = Vec::new();
        for file in eye_files {
            let seen = match &file.bytes {
                Ok(bytes) => (self.prepare_eyes)(bytes).map_err(ImportError::Pipeline)?,
                Err(reason) => Err(PictureRefusal::Unreadable(reason.clone())),
            };
            match seen {
                Ok(seen) => eyes.extend(seen.into_iter().map(|eye| (file.sha256.clone(), eye))),
                Err(refusal) => refused.push((file, refusal)),
            }
        }
        for (file, refusal) in refused {
            summary.refused_pictures += 1;
            let sentence = refusal.sentence();
            report.append(Line::Picture {
                person: person.name.clone(),
                path: file.path.clone(),
                sha256: file.sha256,
                defects: refusal.codes(),
                reason: sentence.clone(),
            })?;
            (self.tell)(ImportEvent::PictureRefused {
                path: file.path,
                sentence,
            });
        }
        let answer = if prepared.is_empty() {
            Answer::Refused("no usable picture of the face")
        } else {
            prepared.sort_by(|(_, a), (_, b)| b.quality.total_cmp(&a.quality));
            prepared.truncate(KEPT_SAMPLES);
            self.submit(person, subject, prepared, eyes)?
        };
        let refusal = match answer {
            Answer::Taken => None,
            Answer::Doubtful => {
                summary.doubtful += 1;
                (self.tell)(ImportEvent::PersonDoubtful {
                    person: person.name.clone(),
                });
                None
            }
            Answer::Refused(sentence) => Some(sentence),
        };
        match refusal {
            None => summary.submitted += 1,
            Some(sentence) => {
                summary.refused_people += 1;
                (self.tell)(ImportEvent::PersonRefused {
                    person: person.name.clone(),
                    sentence,
                });
            }
        }
        report.append(Line::Person {
            person: person.name.clone(),
            subject,
            enrolled: refusal.is_none(),
            reason: refusal.map(str::to_owned),
            pictures: hashes,
        })?;
        Ok(())
    }

    /// What the server said.
    fn submit(
        &self,
        person: &Person,
        subject: SubjectId,
        prepared: Vec<(String, PreparedPicture)>,
        eyes: Vec<(String, PreparedEye)>,
    ) -> Result<Answer, ImportError> {
        let mut samples = Vec::with_capacity(prepared.len());
        for (source_sha256, picture) in prepared {
            let photograph = (self.photographs)(person.category)
                .then(|| {
                    self.sealing
                        .seal_jpeg(&picture.jpeg, &subject.to_string(), self.random)
                })
                .transpose()?;
            samples.push(EnrolmentSample {
                probe: Probe {
                    modality: Modality::Face,
                    model: picture.model,
                    template: picture.template.into(),
                    quality: picture.quality,
                    samples: 1,
                },
                source_sha256,
                photograph,
            });
        }
        samples.extend(best_of_each(eyes));
        let outcome = (self.send)(&EnrolmentSubmission {
            version: PROTOCOL_VERSION,
            enrolment: self.enrolment.clone(),
            subject,
            station: self.station.clone(),
            category: person.category,
            display_name: person.name.clone(),
            samples,
        })?;
        Ok(match outcome {
            EnrolmentOutcome::Enrolled { .. }
            | EnrolmentOutcome::UnderReview { doubt: None, .. } => Answer::Taken,
            EnrolmentOutcome::UnderReview { .. } => Answer::Doubtful,
            EnrolmentOutcome::Refused { reason, .. } => Answer::Refused(match reason {
                EnrolmentRefusal::InconsistentSamples => {
                    "the pictures do not look like one person; sort them and import again"
                }
                EnrolmentRefusal::SameEyeUnderBothNames => {
                    "the left and the right iris are the same eye; check which picture is which, and whether the camera mirrors"
                }
                EnrolmentRefusal::PossibleDuplicate => {
                    "somebody enrolled already looks alike; an officer must review it in the console"
                }
                EnrolmentRefusal::Rejected => "a second officer rejected it; ask the officer why",
            }),
        })
    }
}

/// What the server said to a person.
enum Answer {
    /// Put before a second officer, or approved before.
    Taken,
    /// The same, with somebody alike.
    Doubtful,
    /// Not stored, and why.
    Refused(&'static str),
}

/// One file of a person.
struct PictureFile {
    path: PathBuf,
    sha256: String,
    bytes: Result<Vec<u8>, String>,
}

/// The best samples of each eye. No picture goes with them.
fn best_of_each(mut eyes: Vec<(String, PreparedEye)>) -> Vec<EnrolmentSample> {
    eyes.sort_by(|(_, a), (_, b)| b.quality.total_cmp(&a.quality));
    let mut samples = Vec::new();
    for wanted in [Eye::Left, Eye::Right] {
        let best = eyes
            .iter()
            .filter(|(_, eye)| eye.template.eye() == wanted)
            .take(KEPT_SAMPLES);
        for (source_sha256, eye) in best {
            let (model, template) = (eye.template.encoder(), eye.template.clone());
            let Ok(probe) = Probe::new(model, template, eye.quality, 1) else {
                continue;
            };
            let source_sha256 = match eye.part {
                0 => source_sha256.clone(),
                part => hex::encode(Sha256::digest(format!("{source_sha256}/{part}"))),
            };
            samples.push(EnrolmentSample {
                probe,
                source_sha256,
                photograph: None,
            });
        }
    }
    samples
}

fn read_pictures(pictures: &[PicturePath]) -> Vec<PictureFile> {
    pictures
        .iter()
        .map(|PicturePath(path)| {
            let bytes = read_limited(path);
            let key: &[u8] = bytes.as_deref().unwrap_or_default();
            PictureFile {
                path: path.clone(),
                sha256: hex::encode(Sha256::digest(key)),
                bytes,
            }
        })
        .collect()
}

/// Looks at the size first, so that a giant file does not fill the memory.
fn read_limited(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let length = fs::metadata(path).map_err(cannot)?.len();
    if length > sallyport_vision::MAX_FILE_BYTES as u64 {
        return Err(format!(
            "the file has {length} bytes; pictures of up to {} bytes are accepted, so save it smaller",
            sallyport_vision::MAX_FILE_BYTES
        ));
    }
    fs::read(path).map_err(cannot)
}

/// A version 8 UUID (RFC 9562 section 5.8) that follows from the batch and the person.
fn subject_id(seed: &[u8; 32], person: &str) -> SubjectId {
    let mut hash = Sha256::new();
    hash.update(b"sallyport/import-subject/1");
    hash.update(seed);
    hash.update(person.as_bytes());
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes
        .iter_mut()
        .zip(digest)
        .for_each(|(to, from)| *to = from);
    SubjectId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
#[path = "import/tests.rs"]
mod tests;
