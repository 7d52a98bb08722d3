//! States of an enrolment: opened, capturing, under review by a second officer, then approved,
//! rejected or abandoned. Each transition consumes the enrolment.

use serde::{Deserialize, Serialize};

use crate::{EnrolmentId, OfficerId, SubjectId};

/// A step that the enrolment's state or the two-person rule forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransition {
    /// The step does not follow from the present state.
    #[error("this step is not possible in the enrolment's present state")]
    WrongState,
    /// The officer who opened the enrolment cannot approve it.
    #[error("a second officer must decide; whoever opened an enrolment cannot approve it")]
    SameOfficer,
    /// The approval names other content than what is under review.
    #[error("the approval is bound to different content than what is under review")]
    ContentChanged,
}

/// Where an enrolment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum EnrolmentState {
    /// An officer opened it.
    Opened,
    /// A station is capturing samples.
    Capturing,
    /// Samples wait for a second officer; `content` is the SHA-256 of exactly what was submitted.
    UnderReview {
        /// SHA-256 of the submission.
        content: [u8; 32],
    },
    /// A second officer approved.
    Approved {
        /// Who approved.
        by: OfficerId,
    },
    /// A second officer rejected.
    Rejected {
        /// Who rejected.
        by: OfficerId,
    },
    /// Given up before review.
    Abandoned,
}

/// One enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Its identifier.
    pub id: EnrolmentId,
    /// Whom it enrols.
    pub subject: SubjectId,
    /// Who opened it.
    pub opened_by: OfficerId,
    /// Where it stands.
    pub state: EnrolmentState,
}

impl Enrolment {
    /// Opens an enrolment.
    #[must_use]
    pub fn open(id: EnrolmentId, subject: SubjectId, opened_by: OfficerId) -> Self {
        Self {
            id,
            subject,
            opened_by,
            state: EnrolmentState::Opened,
        }
    }

    /// A station begins to capture.
    ///
    /// # Errors
    /// Not freshly opened.
    pub fn begin_capture(self) -> Result<Self, InvalidTransition> {
        match self.state {
            EnrolmentState::Opened => Ok(Self {
                state: EnrolmentState::Capturing,
                ..self
            }),
            EnrolmentState::Capturing
            | EnrolmentState::UnderReview { .. }
            | EnrolmentState::Approved { .. }
            | EnrolmentState::Rejected { .. }
            | EnrolmentState::Abandoned => Err(InvalidTransition::WrongState),
        }
    }

    /// The station submits samples whose SHA-256 is `content`.
    ///
    /// # Errors
    /// Not capturing.
    pub fn submit(self, content: [u8; 32]) -> Result<Self, InvalidTransition> {
        match self.state {
            EnrolmentState::Capturing => Ok(Self {
                state: EnrolmentState::UnderReview { content },
                ..self
            }),
            EnrolmentState::Opened
            | EnrolmentState::UnderReview { .. }
            | EnrolmentState::Approved { .. }
            | EnrolmentState::Rejected { .. }
            | EnrolmentState::Abandoned => Err(InvalidTransition::WrongState),
        }
    }

    /// A second officer approves exactly `content`.
    ///
    /// # Errors
    /// Not under review, the same officer, or other content.
    pub fn approve(self, by: OfficerId, content: [u8; 32]) -> Result<Self, InvalidTransition> {
        self.second_officer(by, content).map(|()| Self {
            state: EnrolmentState::Approved { by },
            ..self
        })
    }

    /// A second officer rejects exactly `content`.
    ///
    /// # Errors
    /// Not under review, the same officer, or other content.
    pub fn reject(self, by: OfficerId, content: [u8; 32]) -> Result<Self, InvalidTransition> {
        self.second_officer(by, content).map(|()| Self {
            state: EnrolmentState::Rejected { by },
            ..self
        })
    }

    /// Gives the enrolment up.
    ///
    /// # Errors
    /// Already decided.
    pub fn abandon(self) -> Result<Self, InvalidTransition> {
        match self.state {
            EnrolmentState::Opened
            | EnrolmentState::Capturing
            | EnrolmentState::UnderReview { .. } => Ok(Self {
                state: EnrolmentState::Abandoned,
                ..self
            }),
            EnrolmentState::Approved { .. }
            | EnrolmentState::Rejected { .. }
            | EnrolmentState::Abandoned => Err(InvalidTransition::WrongState),
        }
    }

    fn second_officer(&self, by: OfficerId, content: [u8; 32]) -> Result<(), InvalidTransition> {
        match self.state {
            EnrolmentState::UnderReview { content: reviewed } => {
                if by == self.opened_by {
                    Err(InvalidTransition::SameOfficer)
                } else if reviewed != content {
                    Err(InvalidTransition::ContentChanged)
                } else {
                    Ok(())
                }
            }
            EnrolmentState::Opened
            | EnrolmentState::Capturing
            | EnrolmentState::Approved { .. }
            | EnrolmentState::Rejected { .. }
            | EnrolmentState::Abandoned => Err(InvalidTransition::WrongState),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn two_officers_and_the_same_content_are_needed() {
        let officer = |n: u8| OfficerId::from_uuid(Uuid::from_bytes([n; 16]));
        let opened = Enrolment::open(
            EnrolmentId::from_uuid(Uuid::nil()),
            SubjectId::from_uuid(Uuid::nil()),
            officer(1),
        );
        assert_eq!(
            opened.approve(officer(2), [0; 32]),
            Err(InvalidTransition::WrongState)
        );
        let review = opened
            .begin_capture()
            .and_then(|e| e.submit([7; 32]))
            .unwrap();
        assert_eq!(
            review.approve(officer(1), [7; 32]),
            Err(InvalidTransition::SameOfficer)
        );
        assert_eq!(
            review.approve(officer(2), [8; 32]),
            Err(InvalidTransition::ContentChanged)
        );
        let approved = review.approve(officer(2), [7; 32]).unwrap();
        assert_eq!(approved.abandon(), Err(InvalidTransition::WrongState));
    }
}
