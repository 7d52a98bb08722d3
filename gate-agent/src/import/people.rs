//! Who is to be imported: a folder with one sub-folder a person, or a CSV list.
//!
//! A person's sub-folder may hold a folder `eyes` with near-infrared pictures of both eyes, or iris records after
//! ISO/IEC 19794-6 that say which eye is which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sallyport_domain::SubjectCategory;
use serde::Deserialize;

/// Path of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PicturePath(pub PathBuf);

/// One person to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Name shown to officers.
    pub name: String,
    /// Category.
    pub category: SubjectCategory,
    /// Pictures of the face in name order.
    pub pictures: Vec<PicturePath>,
    /// Near-infrared pictures of the eyes, and iris records.
    pub eyes: Vec<PicturePath>,
}

/// Sub-folder of a person that holds the pictures of the eyes.
const EYES: &str = "eyes";

/// The folder or list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Not readable.
    #[error("cannot read {path}: {detail}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// No people in it.
    #[error(
        "{0} holds no people; make one sub-folder with pictures for each person, or give a CSV file with the columns path,person,category"
    )]
    Empty(PathBuf),
    /// A line of the list.
    #[error("{path}, line {line}: {detail}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        detail: String,
    },
}

/// Reads a folder or list. In a folder everybody has `category`; in a list it fills empty cells.
///
/// # Errors
/// See [`InputError`]; nothing has been sent then.
pub fn read_input(path: &Path, category: SubjectCategory) -> Result<Vec<Person>, InputError> {
    let people = if path.is_dir() {
        folder(path, category)?
    } else {
        list(path, category)?
    };
    if people.is_empty() {
        return Err(InputError::Empty(path.to_owned()));
    }
    Ok(people)
}

fn folder(root: &Path, category: SubjectCategory) -> Result<Vec<Person>, InputError> {
    let mut people: BTreeMap<String, Person> = BTreeMap::new();
    let entries = walkdir::WalkDir::new(root)
        .min_depth(2)
        .max_depth(3)
        .sort_by_file_name();
    for entry in entries {
        let entry = entry.map_err(|error| InputError::Read {
            path: root.to_owned(),
            detail: error.to_string(),
        })?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || !entry.file_type().is_file() {
            continue;
        }
        let parents: Vec<String> = entry
            .path()
            .strip_prefix(root)
            .unwrap_or(entry.path())
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        let (name, eyes) = match parents.as_slice() {
            [name, _] => (name, false),
            [name, folder, _] if folder == EYES => (name, true),
            _ => continue,
        };
        let person = people
            .entry(name.clone())
            .or_insert_with(|| Person::new(name.clone(), category));
        let list = if eyes {
            &mut person.eyes
        } else {
            &mut person.pictures
        };
        list.push(PicturePath(entry.into_path()));
    }
    Ok(people.into_values().collect())
}

impl Person {
    const fn new(name: String, category: SubjectCategory) -> Self {
        Self {
            name,
            category,
            pictures: Vec::new(),
            eyes: Vec::new(),
        }
    }
}

/// What a picture of a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shows {
    #[default]
    Face,
    Eyes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    path: PathBuf,
    person: String,
    #[serde(default)]
    category: String,
    /// `face`, which is meant when the column is missing or empty, or `eyes`.
    #[serde(default)]
    shows: Option<Shows>,
}

fn list(file: &Path, category: SubjectCategory) -> Result<Vec<Person>, InputError> {
    let root = file.parent().unwrap_or(Path::new(""));
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(file)
        .map_err(|error| InputError::Read {
            path: file.to_owned(),
            detail: error.to_string(),
        })?;
    let mut people: BTreeMap<String, Person> = BTreeMap::new();
    for (index, row) in reader.deserialize::<Row>().enumerate() {
        let line = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(2);
        let wrong = |detail: String| InputError::Line {
            path: file.to_owned(),
            line,
            detail,
        };
        let row = row.map_err(|error| wrong(error.to_string()))?;
        if row.person.is_empty() {
            return Err(wrong("the column person is empty".to_owned()));
        }
        let category = if row.category.is_empty() {
            category
        } else {
            SubjectCategory::from_code(&row.category).ok_or_else(|| {
                let known: Vec<_> = SubjectCategory::ALL.iter().map(|c| c.code()).collect();
                wrong(format!(
                    "{:?} is no category; use one of {}",
                    row.category,
                    known.join(", ")
                ))
            })?
        };
        let person = people
            .entry(row.person.clone())
            .or_insert_with(|| Person::new(row.person.clone(), category));
        if person.category != category {
            return Err(wrong(format!("{:?} has two categories", row.person)));
        }
        let path = PicturePath(root.join(row.path));
        match row.shows.unwrap_or_default() {
            Shows::Face => person.pictures.push(path),
            Shows::Eyes => person.eyes.push(path),
        }
    }
    Ok(people.into_values().collect())
}
