//! Jurisdiction profiles: what one law lets a prison keep about whom, for which purposes, and until when.
//!
//! Pure rules read from a file of `profiles/`; reading it, proving that it is genuine and deleting what is due are the
//! server's work. A profile that leaves a question open is no profile: every kind of data has exactly one rule for every
//! category of person, and every rule names its source.

use serde::{Deserialize, Serialize};

mod groups;

pub use groups::{Group, GroupList};

use crate::{Purpose, SubjectCategory, Timestamp};

/// A kind of data about an enrolled person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum DataKind {
    Photograph,
    FaceTemplate,
    IrisTemplate,
    IrisImage,
    DocumentNumber,
    Notes,
}

impl DataKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Photograph,
        Self::FaceTemplate,
        Self::IrisTemplate,
        Self::IrisImage,
        Self::DocumentNumber,
        Self::Notes,
    ];
}

/// What a term is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionEvent {
    /// The capture itself.
    Capture,
    /// The last recorded visit, or the capture where that is later or no visit was recorded.
    LastVisit,
    /// Release from custody; the term has not begun while the person is held.
    Release,
    /// The end of employment or contract; the term has not begun before.
    EmploymentEnd,
}

/// Whether and how long data may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Keep {
    /// It may not be kept at all.
    Never,
    /// It may be kept for a term.
    Until {
        /// What the term is counted from.
        after: RetentionEvent,
        /// Calendar months, 1 to 1,200.
        months: u16,
    },
}

/// One rule: what holds for these kinds of data about these people, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileRule {
    /// Kinds of data.
    pub kinds: Vec<DataKind>,
    /// Categories of people.
    pub categories: Vec<SubjectCategory>,
    /// What may be kept, and how long.
    pub keep: Keep,
    /// Deleted when the person asks, before the term ends.
    pub on_request: bool,
    /// The term is no law's but our cautious choice: the operator's lawyers must confirm or change it.
    pub to_confirm: bool,
    /// The clause, or why there is none.
    pub source: String,
}

/// How long the picture of a passage is kept, whoever was recognised there. Of somebody who was not, no template is kept at all, whence
/// the rule's name in files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnrecognisedRule {
    /// Hours after the passage was decided, by an officer where it was referred; 1 to [`Self::LONGEST_HOURS`].
    pub hours: u16,
    /// Hours after the passage at which the picture is gone, reviewed or not; from `hours` to [`Self::LONGEST_HOURS`].
    pub hours_before_review: u16,
    /// The terms are no law's but our cautious choice: the operator's lawyers must confirm or change them.
    pub to_confirm: bool,
    /// The clause, or why there is none.
    pub source: String,
}

impl UnrecognisedRule {
    /// No profile may keep such a picture longer than 14 days.
    pub const LONGEST_HOURS: u16 = 336;

    /// When the picture must be gone. `closed` is the decision that ended the passage; `None` while an officer's review is awaited.
    #[must_use]
    pub fn due(&self, passed: Timestamp, closed: Option<Timestamp>) -> Timestamp {
        let hour_ms = 3_600_000;
        let latest = passed.plus_millis(i64::from(self.hours_before_review) * hour_ms);
        closed.map_or(latest, |closed| {
            latest.min(closed.plus_millis(i64::from(self.hours) * hour_ms))
        })
    }
}

impl Default for UnrecognisedRule {
    /// What holds where a profile, such as one set before there was this rule, says nothing: 72 hours, and 14 days before review.
    fn default() -> Self {
        Self {
            hours: 72,
            hours_before_review: Self::LONGEST_HOURS,
            to_confirm: true,
            source: "the profile says nothing; the numbers are ours".to_owned(),
        }
    }
}

/// The rules of one jurisdiction, complete and free of contradiction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawProfile")]
pub struct Profile {
    name: String,
    version: u32,
    law: String,
    purposes: Vec<Purpose>,
    purposes_source: String,
    unrecognised: UnrecognisedRule,
    groups: GroupList,
    rules: Vec<ProfileRule>,
}

/// Why a profile is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A name that files and forms cannot use.
    #[error(
        "a profile's name is 1 to 32 lower-case letters, digits and hyphens, but this one is {0:?}"
    )]
    Name(String),
    /// Version 0.
    #[error("a profile's version starts at 1; raise it with every change")]
    Version,
    /// A text that must say something is blank.
    #[error("{0} is blank; name the law's clause, or say why there is none")]
    Blank(&'static str),
    /// No purpose, or one twice.
    #[error("list each permitted purpose once, and at least one")]
    Purposes,
    /// A term outside 1 to 1,200 months.
    #[error("a term of {0} months is not between 1 and 1,200")]
    Term(u16),
    /// Terms of pictures of people who were not recognised that are too long, none, or the wrong way round.
    #[error(
        "pictures of people who were not recognised are kept 1 to {} hours, and before review no shorter; {hours} and {hours_before_review} are not",
        UnrecognisedRule::LONGEST_HOURS
    )]
    Unrecognised {
        /// After the decision.
        hours: u16,
        /// Before review.
        hours_before_review: u16,
    },
    /// A list of groups in which one is unusable.
    #[error(
        "groups: {0} cannot stand there; a code has 1 to 32 lower-case letters, digits and underscores, words have 1 to 60 characters, and no two groups may be alike"
    )]
    Groups(String),
    /// Not exactly one rule.
    #[error(
        "{rules} rules cover {kind:?} of {}; write exactly one", .category.code()
    )]
    Coverage {
        /// The kind.
        kind: DataKind,
        /// The category.
        category: SubjectCategory,
        /// How many rules there are.
        rules: usize,
    },
}

/// What happened to a person and is known from the registry and the passages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifeEvents {
    /// When the data were captured.
    pub captured: Timestamp,
    /// The last recorded visit.
    pub last_visit: Option<Timestamp>,
    /// Release from custody.
    pub released: Option<Timestamp>,
    /// End of employment or contract.
    pub employment_ended: Option<Timestamp>,
    /// The person asked for deletion.
    pub deletion_requested: Option<Timestamp>,
    /// A legal hold stands: nothing that was lawful to keep may be deleted.
    pub held: bool,
}

/// When data must be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At this moment, which may have passed.
    At(Timestamp),
    /// Not before the hold is lifted.
    Held,
    /// The term has not begun: the person is still held or employed.
    NotBegun,
}

impl Due {
    /// Whether the data must be deleted now.
    #[must_use]
    pub fn has_come(self, now: Timestamp) -> bool {
        match self {
            Self::At(moment) => moment <= now,
            Self::Held | Self::NotBegun => false,
        }
    }
}

impl Profile {
    /// Its name, such as `nsw-2014`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version, from 1 on.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The law it follows, in words.
    #[must_use]
    pub fn law(&self) -> &str {
        &self.law
    }

    /// What people may be recognised for.
    #[must_use]
    pub fn purposes(&self) -> &[Purpose] {
        &self.purposes
    }

    /// Where the purposes are from.
    #[must_use]
    pub fn purposes_source(&self) -> &str {
        &self.purposes_source
    }

    /// How long pictures of people are kept who were not recognised.
    #[must_use]
    pub const fn unrecognised(&self) -> &UnrecognisedRule {
        &self.unrecognised
    }

    /// The demographic groups that may be recorded.
    #[must_use]
    pub const fn groups(&self) -> &GroupList {
        &self.groups
    }

    /// All rules.
    #[must_use]
    pub fn rules(&self) -> &[ProfileRule] {
        &self.rules
    }

    /// Whether an access point may have this purpose.
    #[must_use]
    pub fn permits(&self, purpose: Purpose) -> bool {
        self.purposes.contains(&purpose)
    }

    /// The one rule for this kind of data about this category.
    #[must_use]
    pub fn rule(&self, kind: DataKind, category: SubjectCategory) -> &ProfileRule {
        self.rules
            .iter()
            .find(|rule| rule.covers(kind, category))
            .expect("construction demands exactly one rule for every kind and category")
    }

    /// When data of this kind must be gone. What may never be kept was due when it was captured, hold or not.
    #[must_use]
    pub fn due(&self, kind: DataKind, category: SubjectCategory, events: &LifeEvents) -> Due {
        let rule = self.rule(kind, category);
        let (after, months) = match rule.keep {
            Keep::Never => return Due::At(events.captured),
            Keep::Until { after, months } => (after, months),
        };
        if events.held {
            return Due::Held;
        }
        let begin = match after {
            RetentionEvent::Capture => Some(events.captured),
            RetentionEvent::LastVisit => Some(
                events
                    .last_visit
                    .map_or(events.captured, |visit| visit.max(events.captured)),
            ),
            RetentionEvent::Release => events.released,
            RetentionEvent::EmploymentEnd => events.employment_ended,
        };
        let term_end = begin.map(|begin| begin.plus_months(months));
        let requested = events.deletion_requested.filter(|_| rule.on_request);
        match (term_end, requested) {
            (Some(end), Some(asked)) => Due::At(end.min(asked)),
            (Some(moment), None) | (None, Some(moment)) => Due::At(moment),
            (None, None) => Due::NotBegun,
        }
    }
}

impl ProfileRule {
    fn covers(&self, kind: DataKind, category: SubjectCategory) -> bool {
        self.kinds.contains(&kind) && self.categories.contains(&category)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    name: String,
    version: u32,
    law: String,
    purposes: Vec<Purpose>,
    purposes_source: String,
    #[serde(default)]
    unrecognised: UnrecognisedRule,
    #[serde(default)]
    groups: GroupList,
    rule: Vec<ProfileRule>,
}

impl TryFrom<RawProfile> for Profile {
    type Error = ProfileError;

    fn try_from(raw: RawProfile) -> Result<Self, ProfileError> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if raw.name.is_empty() || raw.name.len() > 32 || !raw.name.chars().all(letter) {
            return Err(ProfileError::Name(raw.name));
        }
        if raw.version == 0 {
            return Err(ProfileError::Version);
        }
        for (field, text) in [("law", &raw.law), ("purposes_source", &raw.purposes_source)] {
            if text.trim().is_empty() {
                return Err(ProfileError::Blank(field));
            }
        }
        let twice = raw
            .purposes
            .iter()
            .any(|one| raw.purposes.iter().filter(|other| *other == one).count() > 1);
        if raw.purposes.is_empty() || twice {
            return Err(ProfileError::Purposes);
        }
        let UnrecognisedRule {
            hours,
            hours_before_review,
            ref source,
            ..
        } = raw.unrecognised;
        if source.trim().is_empty() {
            return Err(ProfileError::Blank("the source of unrecognised"));
        }
        if hours == 0
            || hours > hours_before_review
            || hours_before_review > UnrecognisedRule::LONGEST_HOURS
        {
            return Err(ProfileError::Unrecognised {
                hours,
                hours_before_review,
            });
        }
        raw.groups.check()?;
        for rule in &raw.rule {
            if rule.source.trim().is_empty() {
                return Err(ProfileError::Blank("the source of a rule"));
            }
            if let Keep::Until { months, .. } = rule.keep
                && !(1..=1_200).contains(&months)
            {
                return Err(ProfileError::Term(months));
            }
        }
        for kind in DataKind::ALL {
            for category in SubjectCategory::ALL {
                let rules = raw.rule.iter().filter(|r| r.covers(kind, category)).count();
                if rules != 1 {
                    return Err(ProfileError::Coverage {
                        kind,
                        category,
                        rules,
                    });
                }
            }
        }
        Ok(Self {
            name: raw.name,
            version: raw.version,
            law: raw.law,
            purposes: raw.purposes,
            purposes_source: raw.purposes_source,
            unrecognised: raw.unrecognised,
            groups: raw.groups,
            rules: raw.rule,
        })
    }
}

#[cfg(test)]
mod tests;
