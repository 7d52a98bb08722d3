//! What the log says of the sealed credential and its uses. Nothing else keeps any of it.

use std::collections::{BTreeMap, HashSet};

use sallyport_domain::{OfficerId, Timestamp};
use sallyport_transparency::Entry;

use super::{DRILL_EVERY_MS, LIMIT_MS, SKEW_MS, review_due};

/// The credential in the envelope.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    /// The entry of its making.
    pub(super) entry: u64,
    pub(super) at: Timestamp,
    /// Its keyed hash.
    pub(super) content: String,
    /// When somebody last tried whether it is the one of the envelope.
    pub(super) drilled: Option<Timestamp>,
    /// That it was not tried for long is in the log.
    due_noted: bool,
}

impl Sealed {
    /// Was it not tried for long?
    pub(super) fn is_drill_due(&self, now: Timestamp) -> bool {
        now.millis_since(self.drilled.unwrap_or(self.at)) > DRILL_EVERY_MS
    }
}

/// An auditor's word about a use, as an entry has it.
#[derive(Debug, Clone)]
pub(super) struct Review {
    pub(super) entry: u64,
    pub(super) at: Timestamp,
    pub(super) by: String,
    /// The server's code.
    pub(super) content: String,
}

/// A use of a credential.
#[derive(Debug, Clone)]
pub(super) struct Used {
    /// The entry of the opening.
    pub(super) entry: u64,
    /// The entry of the credential's making.
    pub(super) sealed: u64,
    /// Who acts, in every entry of this use.
    pub(super) actor: OfficerId,
    pub(super) at: Timestamp,
    /// The server's code over all of these and the session's token.
    pub(super) session: String,
    pub(super) ended: Option<Timestamp>,
    /// That the review is late is in the log.
    late_noted: bool,
    pub(super) reviews: Vec<Review>,
}

impl Used {
    /// May somebody act under it now?
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        self.ended.is_none() && (-SKEW_MS..=LIMIT_MS).contains(&now.millis_since(self.at))
    }

    fn has_run_out(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now.millis_since(self.at) > LIMIT_MS
    }
}

/// What time has brought and the log does not say yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The hour of this use is over.
    Ended(u64),
    /// This use was not reviewed in time.
    Unreviewed(u64),
    /// This credential was not tried for long.
    Drill(u64),
}

/// The credential, and all uses there ever were.
#[derive(Debug, Default)]
pub(crate) struct BreakGlass {
    sealed: Option<Sealed>,
    /// Every credential there ever was: what ended does not come back by an entry that repeats its making.
    known: HashSet<String>,
    uses: BTreeMap<u64, Used>,
    /// Grows with whatever officers' pages show.
    changes: u64,
}

impl BreakGlass {
    /// Takes in one entry.
    pub(crate) fn take(&mut self, index: u64, entry: &Entry) {
        let at = Timestamp::from_micros(entry.time);
        let about: Option<u64> = entry.about.as_deref().and_then(|about| about.parse().ok());
        match entry.kind.as_str() {
            "break_glass_prepared" => {
                if let Some(content) = &entry.content
                    && self.known.insert(content.clone())
                {
                    self.sealed = Some(Sealed {
                        entry: index,
                        at,
                        content: content.clone(),
                        drilled: None,
                        due_noted: false,
                    });
                }
            }
            "break_glass_opened" => self.open(index, at, about, entry),
            "break_glass_drilled" => {
                if let Some(sealed) = self.of_sealed(about)
                    && entry.decision.as_deref() == Some(super::RIGHT)
                {
                    sealed.drilled = Some(at);
                    sealed.due_noted = false;
                }
            }
            "break_glass_drill_due" => {
                if let Some(sealed) = self.of_sealed(about) {
                    sealed.due_noted = true;
                }
            }
            kind => {
                if let Some(used) = about.and_then(|about| self.uses.get_mut(&about)) {
                    self.changes += 1;
                    match kind {
                        "break_glass_ended" => {
                            used.ended.get_or_insert(at);
                        }
                        "break_glass_unreviewed" => used.late_noted = true,
                        "break_glass_reviewed" => {
                            if let (Some(by), Some(content)) = (&entry.actor, &entry.content) {
                                used.reviews.push(Review {
                                    entry: index,
                                    at,
                                    by: by.clone(),
                                    content: content.clone(),
                                });
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn open(&mut self, index: u64, at: Timestamp, about: Option<u64>, entry: &Entry) {
        let actor = entry.actor.as_deref().and_then(|id| id.parse().ok());
        if let (Some(actor), Some(session)) = (actor, &entry.content)
            && let Some(sealed) = self.of_sealed(about).map(|sealed| sealed.entry)
        {
            // Used once.
            self.sealed = None;
            self.changes += 1;
            let used = Used {
                entry: index,
                sealed,
                actor,
                at,
                session: session.clone(),
                ended: None,
                late_noted: false,
                reviews: Vec::new(),
            };
            self.uses.insert(index, used);
        }
    }

    fn of_sealed(&mut self, about: Option<u64>) -> Option<&mut Sealed> {
        self.sealed
            .as_mut()
            .filter(|sealed| Some(sealed.entry) == about)
    }

    pub(super) const fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }

    /// All uses, the newest first.
    pub(super) fn uses(&self) -> impl Iterator<Item = &Used> {
        self.uses.values().rev()
    }

    pub(super) fn used(&self, entry: u64) -> Option<&Used> {
        self.uses.get(&entry)
    }

    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// What is to be written because time has passed. `reviewed` says whether a use was.
    pub(super) fn due(
        &self,
        now: Timestamp,
        utc_offset_minutes: i32,
        reviewed: impl Fn(&Used) -> bool,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        for used in self.uses.values() {
            if used.has_run_out(now) {
                due.push(Due::Ended(used.entry));
            }
            if !used.late_noted && now >= review_due(used.at, utc_offset_minutes) && !reviewed(used)
            {
                due.push(Due::Unreviewed(used.entry));
            }
        }
        if let Some(sealed) = &self.sealed
            && !sealed.due_noted
            && sealed.is_drill_due(now)
        {
            due.push(Due::Drill(sealed.entry));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTOR: &str = "0190a000-0000-7000-8000-000000000001";

    fn entry(kind: &str, ms: i64, about: &str, content: &str) -> Entry {
        Entry {
            actor: Some(ACTOR.to_owned()),
            about: (!about.is_empty()).then(|| about.to_owned()),
            content: (!content.is_empty()).then(|| content.to_owned()),
            ..Entry::new("id".to_owned(), kind, ms * 1_000)
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_micros(ms * 1_000)
    }

    fn standing(glass: &BreakGlass) -> Option<&str> {
        glass.sealed().map(|sealed| sealed.content.as_str())
    }

    #[test]
    fn a_credential_stands_until_it_is_used_or_another_is_made_and_never_comes_back() {
        let mut glass = BreakGlass::default();
        assert_eq!(standing(&glass), None);
        glass.take(1, &entry("break_glass_prepared", 0, "", "a"));
        assert_eq!(standing(&glass), Some("a"));
        glass.take(2, &entry("break_glass_prepared", 0, "", "b"));
        assert_eq!(standing(&glass), Some("b"));
        glass.take(3, &entry("break_glass_prepared", 0, "", "a"));
        assert_eq!(standing(&glass), Some("b"), "a copied entry makes nothing");
        // Of another credential, and of none.
        glass.take(4, &entry("break_glass_opened", 0, "1", "s"));
        glass.take(5, &entry("break_glass_opened", 0, "", "s"));
        assert_eq!(glass.uses().count(), 0);
        glass.take(6, &entry("break_glass_opened", 0, "2", "s"));
        assert_eq!((standing(&glass), glass.uses().count()), (None, 1));
        glass.take(7, &entry("break_glass_opened", 0, "2", "t"));
        glass.take(8, &entry("break_glass_prepared", 0, "", "b"));
        assert_eq!((standing(&glass), glass.uses().count()), (None, 1));
    }

    #[test]
    fn a_use_lasts_an_hour_at_most_and_its_end_is_noted_once() {
        let mut glass = BreakGlass::default();
        glass.take(1, &entry("break_glass_prepared", 0, "", "a"));
        glass.take(2, &entry("break_glass_opened", 0, "1", "s"));
        let open = |glass: &BreakGlass, ms| glass.used(2).unwrap().is_open(at(ms));
        let due = |glass: &BreakGlass, ms| glass.due(at(ms), 0, |_| true);
        for (ms, expected) in [
            (-SKEW_MS - 1, false),
            (-SKEW_MS, true),
            (0, true),
            (LIMIT_MS, true),
            (LIMIT_MS + 1, false),
        ] {
            assert_eq!(open(&glass, ms), expected, "{ms}");
        }
        assert_eq!(due(&glass, LIMIT_MS), []);
        assert_eq!(due(&glass, LIMIT_MS + 1), [Due::Ended(2)]);
        glass.take(3, &entry("break_glass_ended", 9, "1", ""));
        assert!(open(&glass, 10), "an end of something else");
        glass.take(4, &entry("break_glass_ended", 9, "2", ""));
        assert!(!open(&glass, 10));
        assert_eq!(due(&glass, LIMIT_MS + 1), []);
    }

    #[test]
    fn what_was_not_reviewed_or_tried_in_time_is_noted_once() {
        let day = 24 * 60 * 60 * 1_000;
        let mut glass = BreakGlass::default();
        glass.take(1, &entry("break_glass_prepared", 0, "", "a"));
        assert_eq!(glass.due(at(DRILL_EVERY_MS), 0, |_| false), []);
        let late = at(DRILL_EVERY_MS + 1);
        assert_eq!(glass.due(late, 0, |_| false), [Due::Drill(1)]);
        glass.take(2, &entry("break_glass_drill_due", 0, "1", ""));
        assert_eq!(glass.due(late, 0, |_| false), []);
        let mut drill = entry("break_glass_drilled", DRILL_EVERY_MS, "1", "");
        drill.decision = Some("wrong".to_owned());
        glass.take(3, &drill);
        assert!(glass.sealed().unwrap().is_drill_due(late));
        drill.decision = Some(crate::break_glass::RIGHT.to_owned());
        glass.take(4, &drill);
        assert!(!glass.sealed().unwrap().is_drill_due(late));

        glass.take(5, &entry("break_glass_opened", 0, "1", "s"));
        glass.take(6, &entry("break_glass_ended", 1, "5", ""));
        assert_eq!(glass.due(at(2 * day - 1), 0, |_| false), []);
        assert_eq!(glass.due(at(2 * day), 0, |_| true), []);
        assert_eq!(glass.due(at(2 * day), 0, |_| false), [Due::Unreviewed(5)]);
        glass.take(7, &entry("break_glass_unreviewed", 1, "5", ""));
        assert_eq!(glass.due(at(2 * day), 0, |_| false), []);
    }

    #[test]
    fn the_review_is_due_at_the_end_of_the_next_day_at_the_site() {
        let day = 24 * 60 * 60 * 1_000;
        let hour = 60 * 60 * 1_000;
        for (opened, offset, due) in [
            (0, 0, 2 * day),
            (day - 1, 0, 2 * day),
            (day, 0, 3 * day),
            // Ten hours east of UTC the day begins ten hours earlier.
            (0, 600, 2 * day - 10 * hour),
            (14 * hour, 600, 3 * day - 10 * hour),
            (0, -300, day + 5 * hour),
        ] {
            assert_eq!(review_due(at(opened), offset), at(due), "{opened} {offset}");
        }
    }
}
