//! What the policy needs to know of an enrolled person: no name, no template.

use serde::{Deserialize, Serialize};

use crate::{SubjectId, Timestamp};

/// Why the person is known to the centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum SubjectCategory {
    Prisoner,
    Visitor,
    LegalRepresentative,
    Contractor,
    Staff,
    Official,
    Other,
}

impl SubjectCategory {
    /// All categories, in the order in which forms list them.
    pub const ALL: [Self; 7] = [
        Self::Prisoner,
        Self::Visitor,
        Self::LegalRepresentative,
        Self::Contractor,
        Self::Staff,
        Self::Official,
        Self::Other,
    ];

    /// The stable name used in files and forms.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Prisoner => "prisoner",
            Self::Visitor => "visitor",
            Self::LegalRepresentative => "legal_representative",
            Self::Contractor => "contractor",
            Self::Staff => "staff",
            Self::Official => "official",
            Self::Other => "other",
        }
    }

    /// The category of a stable name.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.code() == code)
    }
}

/// Whether the person may pass at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum SubjectStatus {
    Active,
    Suspended,
    Banned,
    Released,
    Deceased,
}

impl SubjectStatus {
    /// All statuses.
    pub const ALL: [Self; 5] = [
        Self::Active,
        Self::Suspended,
        Self::Banned,
        Self::Released,
        Self::Deceased,
    ];

    /// The stable name used in files and forms.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Banned => "banned",
            Self::Released => "released",
            Self::Deceased => "deceased",
        }
    }

    /// The status of a stable name.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

/// The policy's view of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubjectView {
    /// Who.
    pub id: SubjectId,
    /// Category.
    pub category: SubjectCategory,
    /// Status.
    pub status: SubjectStatus,
    /// From when on doors open for this person (cool-off after enrolment).
    pub effective_from: Timestamp,
}
