//! What officers may do: roles and acts. No role holds both halves of a two-person act that it could finish alone, and the
//! administrator, who keeps the machines, sees no person's record (OWASP ASVS 5.0, 2.3.5 and 8.2).

use serde::{Deserialize, Serialize};

/// What an officer is appointed to do. An account has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Stands at a gate: watches passages and reviews what was referred.
    GateOfficer,
    /// Enrols people; a second officer decides.
    Enroller,
    /// Decides enrolments, status changes and removals that others propose; also works at gates.
    Supervisor,
    /// Reads the log and every report; changes nothing.
    Auditor,
    /// Keeps officers' accounts, gates and configuration; sees no person's record.
    Administrator,
    /// Keeps keys and backups; sees no person's record.
    KeyCustodian,
    /// Whoever opened the sealed emergency credential, for an hour. No account has this role.
    BreakGlass,
}

/// What one may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// See what happens at the gates now.
    WatchGates,
    /// Decide about a passage that was referred or refused.
    ReviewPassage,
    /// Look at a person's record, with a reason.
    ConsultSubject,
    /// Open an enrolment or a batch of them and send it to review.
    ProposeEnrolment,
    /// Decide about an enrolment that somebody else opened.
    DecideEnrolment,
    /// Propose a change of a person's status, a merge, a removal or a legal hold.
    ProposeChange,
    /// Decide about such a proposal of somebody else.
    DecideChange,
    /// Read the audit log and its alarms.
    ReadLog,
    /// Export the log, evidence and reports.
    Export,
    /// Add gates, approve devices, revoke them.
    ManageGates,
    /// Make, change and end officers' accounts.
    ManageOfficers,
    /// Change profile, policies and other settings.
    Configure,
    /// Rotate keys, make and restore backups.
    ManageKeys,
    /// Free a gate's doors for life safety, and end that.
    ReleaseDoors,
    /// Close the next-day review of a break-glass use.
    ReviewBreakGlass,
}

impl Role {
    /// All roles that an account can have, in the order in which forms list them.
    pub const ALL: [Self; 6] = [
        Self::GateOfficer,
        Self::Enroller,
        Self::Supervisor,
        Self::Auditor,
        Self::Administrator,
        Self::KeyCustodian,
    ];

    /// The stable name used in files, forms and the log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::GateOfficer => "gate_officer",
            Self::Enroller => "enroller",
            Self::Supervisor => "supervisor",
            Self::Auditor => "auditor",
            Self::Administrator => "administrator",
            Self::KeyCustodian => "key_custodian",
            Self::BreakGlass => "break_glass",
        }
    }

    /// Does the role belong to a person's own account, with a password and second factors?
    #[must_use]
    pub const fn has_account(self) -> bool {
        !matches!(self, Self::BreakGlass)
    }

    /// The role of a stable name; of those that an account can have.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }

    /// May this role do it?
    #[must_use]
    pub const fn may(self, act: Act) -> bool {
        match act {
            Act::WatchGates | Act::ReviewPassage => {
                matches!(
                    self,
                    Self::GateOfficer | Self::Supervisor | Self::BreakGlass
                )
            }
            Act::ConsultSubject => matches!(
                self,
                Self::GateOfficer
                    | Self::Enroller
                    | Self::Supervisor
                    | Self::Auditor
                    | Self::BreakGlass
            ),
            Act::ProposeEnrolment => matches!(self, Self::Enroller),
            Act::DecideEnrolment | Act::DecideChange => matches!(self, Self::Supervisor),
            Act::ReleaseDoors => matches!(self, Self::Supervisor | Self::BreakGlass),
            Act::ProposeChange => matches!(self, Self::Enroller | Self::GateOfficer),
            Act::ReadLog => matches!(
                self,
                Self::Supervisor
                    | Self::Auditor
                    | Self::Administrator
                    | Self::KeyCustodian
                    | Self::BreakGlass
            ),
            Act::Export | Act::ReviewBreakGlass => matches!(self, Self::Auditor),
            Act::ManageGates | Act::ManageOfficers | Act::Configure => {
                matches!(self, Self::Administrator)
            }
            Act::ManageKeys => matches!(self, Self::KeyCustodian),
        }
    }

    /// Must this role sign in with a hardware key (WebAuthn)?
    #[must_use]
    pub const fn needs_hardware_key(self) -> bool {
        matches!(
            self,
            Self::Supervisor | Self::Auditor | Self::Administrator | Self::KeyCustodian
        )
    }
}

impl Act {
    /// All acts.
    pub const ALL: [Self; 15] = [
        Self::WatchGates,
        Self::ReviewPassage,
        Self::ConsultSubject,
        Self::ProposeEnrolment,
        Self::DecideEnrolment,
        Self::ProposeChange,
        Self::DecideChange,
        Self::ReadLog,
        Self::Export,
        Self::ManageGates,
        Self::ManageOfficers,
        Self::Configure,
        Self::ManageKeys,
        Self::ReleaseDoors,
        Self::ReviewBreakGlass,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_role() -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().chain([Role::BreakGlass])
    }

    #[test]
    fn no_role_holds_both_halves_of_a_two_person_act() {
        for role in every_role() {
            assert!(!(role.may(Act::ProposeEnrolment) && role.may(Act::DecideEnrolment)));
            assert!(!(role.may(Act::ProposeChange) && role.may(Act::DecideChange)));
        }
    }

    #[test]
    fn who_keeps_the_machines_sees_no_record_and_who_audits_changes_nothing() {
        for role in [Role::Administrator, Role::KeyCustodian] {
            assert!(!role.may(Act::ConsultSubject) && !role.may(Act::WatchGates));
        }
        let auditor: Vec<Act> = Act::ALL
            .into_iter()
            .filter(|act| Role::Auditor.may(*act))
            .collect();
        assert_eq!(
            auditor,
            [
                Act::ConsultSubject,
                Act::ReadLog,
                Act::Export,
                Act::ReviewBreakGlass
            ]
        );
    }

    #[test]
    fn whoever_broke_the_seal_sees_and_frees_and_finishes_nothing_that_needs_two() {
        let emergency: Vec<Act> = Act::ALL
            .into_iter()
            .filter(|act| Role::BreakGlass.may(*act))
            .collect();
        assert_eq!(
            emergency,
            [
                Act::WatchGates,
                Act::ReviewPassage,
                Act::ConsultSubject,
                Act::ReadLog,
                Act::ReleaseDoors
            ]
        );
        // Nor does anybody with an account come into this role by its name.
        assert_eq!(Role::from_code(Role::BreakGlass.code()), None);
        assert!(!Role::BreakGlass.has_account());
        for role in Role::ALL {
            assert!(role.has_account());
        }
    }

    #[test]
    fn every_act_has_somebody() {
        for act in Act::ALL {
            assert!(Role::ALL.into_iter().any(|role| role.may(act)), "{act:?}");
        }
        for role in Role::ALL {
            assert_eq!(Role::from_code(role.code()), Some(role));
        }
        assert_eq!(Role::from_code("operator"), None);
    }
}
