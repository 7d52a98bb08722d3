//! A template of any modality, as probes and references carry it.

use serde::{Deserialize, Serialize};

use crate::{Eye, FaceTemplate, IrisTemplate, Modality};

/// A template of any modality. `Debug` shows the modality only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Of a face.
    Face(FaceTemplate),
    /// Of one eye's iris.
    Iris(IrisTemplate),
}

impl Template {
    /// What it describes.
    #[must_use]
    pub const fn modality(&self) -> Modality {
        match self {
            Self::Face(_) => Modality::Face,
            Self::Iris(iris) => iris.eye().modality(),
        }
    }

    /// The face template, if it is one.
    #[must_use]
    pub const fn face(&self) -> Option<&FaceTemplate> {
        match self {
            Self::Face(face) => Some(face),
            Self::Iris(_) => None,
        }
    }

    /// The iris template, if it is one.
    #[must_use]
    pub const fn iris(&self) -> Option<&IrisTemplate> {
        match self {
            Self::Face(_) => None,
            Self::Iris(iris) => Some(iris),
        }
    }
}

impl From<FaceTemplate> for Template {
    fn from(face: FaceTemplate) -> Self {
        Self::Face(face)
    }
}

impl From<IrisTemplate> for Template {
    fn from(iris: IrisTemplate) -> Self {
        Self::Iris(iris)
    }
}

impl Modality {
    /// All modalities, in the order in which lists and candidates name them.
    pub const ALL: [Self; 3] = [Self::Face, Self::IrisLeft, Self::IrisRight];

    /// The stable name used in files, forms and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Face => "face",
            Self::IrisLeft => "iris_left",
            Self::IrisRight => "iris_right",
        }
    }

    /// The modality of a stable name.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|modality| modality.code() == code)
    }

    /// Which eye, for an iris.
    #[must_use]
    pub const fn eye(self) -> Option<Eye> {
        match self {
            Self::Face => None,
            Self::IrisLeft => Some(Eye::Left),
            Self::IrisRight => Some(Eye::Right),
        }
    }
}
