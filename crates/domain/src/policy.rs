//! The access policy of a gate: who, which way, when, for which purpose.

use serde::{Deserialize, Serialize};

mod check;
mod words;

pub use check::PolicyError;

use crate::{LocalMoment, SubjectCategory, Weekday};

/// Which way a passage goes, seen from outside the centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the inside.
    Entry,
    /// Towards the outside.
    Exit,
}

impl Direction {
    /// The stable name used in files and forms.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Exit => "exit",
        }
    }
}

/// Declared purpose of an access point (Crimes (Administration of Sentences) Regulation 2014 NSW,
/// cl 320). Processing beyond it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Access to the centre.
    Access,
    /// Leaving the centre.
    Leaving,
    /// Movement within the centre.
    Movement,
    /// Access to medication.
    Medication,
    /// Access to equipment and other items.
    Equipment,
}

/// What presentation attack detection may decide at this gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadPolicy {
    /// A suspicion is referred to an officer; a missing vote is only recorded. The default until
    /// the gate has shown its error rates.
    Advisory,
    /// A suspicion refuses; a missing vote is referred.
    Required,
}

/// What happens to a person whom the system does not recognise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnrecognisedPolicy {
    /// An officer is called.
    Refer,
    /// The passage is refused; an officer can still review it.
    Refuse,
}

/// Which modalities must agree before a person counts as recognised. Under every policy a modality that was compared
/// and speaks against the person, or points at somebody else, is referred to an officer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModalityPolicy {
    /// The face must identify. For places where irises may not be used.
    FaceOnly,
    /// The face, an iris or all together must identify; whatever is missing is not asked for. The default, and what
    /// policies from before the iris mean.
    #[default]
    FaceOrIris,
    /// Face and at least one iris must each confirm, and together identify.
    FaceAndIris,
    /// Two of face, left iris and right iris must each confirm, and together identify.
    AnyTwoOfThree,
}

impl ModalityPolicy {
    /// All policies, in the order in which forms list them.
    pub const ALL: [Self; 4] = [
        Self::FaceOnly,
        Self::FaceOrIris,
        Self::FaceAndIris,
        Self::AnyTwoOfThree,
    ];

    /// The stable name used in files and forms.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::FaceOnly => "face_only",
            Self::FaceOrIris => "face_or_iris",
            Self::FaceAndIris => "face_and_iris",
            Self::AnyTwoOfThree => "any_two_of_three",
        }
    }

    /// The policy of a stable name.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.code() == code)
    }
}

/// A weekly window of local time; `until_minute` is exclusive and may be 1440.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeeklyWindow {
    /// Days on which the window begins.
    pub days: Vec<Weekday>,
    /// First minute of the day, 0 to 1439.
    pub from_minute: u16,
    /// First minute of the day that no longer belongs to the window, 1 to 1440.
    pub until_minute: u16,
}

impl WeeklyWindow {
    /// Does the window contain this moment?
    #[must_use]
    pub fn contains(&self, moment: LocalMoment) -> bool {
        self.days.contains(&moment.weekday)
            && (self.from_minute..self.until_minute).contains(&moment.minute_of_day)
    }
}

/// Grants passage to categories in directions at times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// Whom the rule admits.
    pub categories: Vec<SubjectCategory>,
    /// Which ways.
    pub directions: Vec<Direction>,
    /// When; empty means at any time.
    #[serde(default)]
    pub windows: Vec<WeeklyWindow>,
}

/// The policy of one gate. What no rule admits is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatePolicy {
    /// Name and version of the policy, recorded with each decision: `NAME-NUMBER`. A gate's next policy has a higher number.
    pub version: String,
    /// Declared purpose.
    pub purpose: Purpose,
    /// Accepted false positive identification rate per search, in (0, 1).
    pub fpir_target: f64,
    /// Accepted false match rate for claims, in (0, 1).
    pub fmr_target: f64,
    /// Role of presentation attack detection.
    pub pad: PadPolicy,
    /// Which modalities must agree.
    #[serde(default)]
    pub modalities: ModalityPolicy,
    /// What happens to an unrecognised person.
    pub unrecognised: UnrecognisedPolicy,
    /// Access rules.
    pub rules: Vec<AccessRule>,
}

#[cfg(test)]
mod tests;
