//! The report file of an import: what was done, so that it can go on, and what was refused and why.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sallyport_domain::{QualityDefect, SubjectId};
use serde::{Deserialize, Serialize};

use crate::deps::{Random, RandomError};

/// The report file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not readable or writable.
    #[error("the import report {path} cannot be used: {source}; give another with --report")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a report.
    #[error("{0} is not an import report; give another file with --report")]
    NotAReport(PathBuf),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line {
    /// The first line.
    Batch { seed: String },
    /// A refused picture.
    Picture {
        person: String,
        path: PathBuf,
        sha256: String,
        defects: Vec<QualityDefect>,
        reason: String,
    },
    /// An answered person.
    Person {
        person: String,
        subject: SubjectId,
        enrolled: bool,
        reason: Option<String>,
        pictures: Vec<String>,
    },
}

/// An open report.
pub(super) struct Report {
    path: PathBuf,
    file: File,
    seed: [u8; 32],
    people: HashMap<String, (bool, Vec<String>)>,
    refused: HashSet<(String, String)>,
}

impl Report {
    /// Opens or begins a report. A torn last line is cut off: its step is done again.
    pub(super) fn open(path: &Path, random: &dyn Random) -> Result<Self, ReportError> {
        let error = |source| ReportError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(error)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(error)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(error)?;
        file.seek(io::SeekFrom::End(0)).map_err(error)?;
        let mut report = Self {
            path: path.to_owned(),
            file,
            seed: [0; 32],
            people: HashMap::new(),
            refused: HashSet::new(),
        };
        let mut lines = text.get(..whole).unwrap_or_default().lines();
        match lines.next() {
            None => {
                random.fill(&mut report.seed)?;
                let seed = hex::encode(report.seed);
                report.append(Line::Batch { seed })?;
            }
            Some(first) => {
                let Ok(Line::Batch { seed }) = serde_json::from_str(first) else {
                    return Err(ReportError::NotAReport(path.to_owned()));
                };
                hex::decode_to_slice(seed, &mut report.seed)
                    .map_err(|_| ReportError::NotAReport(path.to_owned()))?;
            }
        }
        for line in lines {
            let line =
                serde_json::from_str(line).map_err(|_| ReportError::NotAReport(path.to_owned()))?;
            report.take(&line);
        }
        Ok(report)
    }

    pub(super) const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Whether the person was answered with exactly these pictures, and then whether enrolled.
    pub(super) fn answered(&self, person: &str, pictures: &[String]) -> Option<bool> {
        self.people
            .get(person)
            .filter(|(_, answered)| answered == pictures)
            .map(|(enrolled, _)| *enrolled)
    }

    /// How many of these pictures were refused.
    pub(super) fn refused_pictures(&self, person: &str, pictures: &[String]) -> usize {
        pictures
            .iter()
            .filter(|picture| {
                self.refused
                    .contains(&(person.to_owned(), (*picture).clone()))
            })
            .count()
    }

    /// Appends a line durably.
    pub(super) fn append(&mut self, line: Line) -> Result<(), ReportError> {
        let error = |source| ReportError::Io {
            path: self.path.clone(),
            source,
        };
        let mut text =
            serde_json::to_string(&line).map_err(|source| error(io::Error::other(source)))?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(error)?;
        self.take(&line);
        Ok(())
    }

    fn take(&mut self, line: &Line) {
        match line {
            Line::Batch { .. } => {}
            Line::Picture { person, sha256, .. } => {
                self.refused.insert((person.clone(), sha256.clone()));
            }
            Line::Person {
                person,
                enrolled,
                pictures,
                ..
            } => {
                self.people
                    .insert(person.clone(), (*enrolled, pictures.clone()));
            }
        }
    }
}
