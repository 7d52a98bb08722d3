//! Why an officer looks at a person's record or at a past passage: a closed list, and what each reason must name.

use serde::{Deserialize, Serialize};

/// Why a record is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsultReason {
    /// An incident is looked into.
    Incident,
    /// The person concerned, or somebody for them, complains.
    Complaint,
    /// An inspection or audit.
    Inspection,
    /// Before somebody is released.
    ReleaseCheck,
    /// The person concerned asks what is kept.
    OwnRequest,
    /// Somebody stands before the officer and must be told from others.
    IdentityCheck,
    /// Life or safety, at once, whatever the limits: breaks the glass and raises an alarm.
    Emergency,
}

impl ConsultReason {
    /// All reasons, in the order in which forms list them.
    pub const ALL: [Self; 7] = [
        Self::Incident,
        Self::Complaint,
        Self::Inspection,
        Self::ReleaseCheck,
        Self::OwnRequest,
        Self::IdentityCheck,
        Self::Emergency,
    ];

    /// The stable name used in forms and the log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Complaint => "complaint",
            Self::Inspection => "inspection",
            Self::ReleaseCheck => "release_check",
            Self::OwnRequest => "own_request",
            Self::IdentityCheck => "identity_check",
            Self::Emergency => "emergency",
        }
    }

    /// The reason of a stable name.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Must a case number be given?
    #[must_use]
    pub const fn needs_case(self) -> bool {
        match self {
            Self::Incident
            | Self::Complaint
            | Self::Inspection
            | Self::ReleaseCheck
            | Self::OwnRequest => true,
            Self::IdentityCheck | Self::Emergency => false,
        }
    }

    /// Must it be said in words?
    #[must_use]
    pub const fn needs_words(self) -> bool {
        matches!(self, Self::Emergency)
    }

    /// Does it open what lies outside the officer's wings and quota, with an alarm?
    #[must_use]
    pub const fn breaks_glass(self) -> bool {
        matches!(self, Self::Emergency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_names_something_that_can_be_checked_later_and_only_one_breaks_the_glass() {
        for reason in ConsultReason::ALL {
            assert_eq!(ConsultReason::from_code(reason.code()), Some(reason));
            assert!(!reason.breaks_glass() || reason.needs_words());
        }
        let breaking: Vec<_> = ConsultReason::ALL
            .into_iter()
            .filter(|reason| reason.breaks_glass())
            .collect();
        assert_eq!(breaking, [ConsultReason::Emergency]);
        assert_eq!(ConsultReason::from_code("curiosity"), None);
        assert_eq!(ConsultReason::from_code(""), None);
    }
}
