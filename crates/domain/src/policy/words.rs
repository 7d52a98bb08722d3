//! A policy in sentences, and what a new one changes: what the officer reads who approves it. It says who may pass when, not how the
//! rules are written, so that two spellings of one rule show no difference and a difference cannot hide in a spelling.

use std::fmt::Write as _;

use super::{Direction, GatePolicy, ModalityPolicy, PadPolicy, Purpose, UnrecognisedPolicy};
use crate::{SubjectCategory, Weekday};

/// Minutes of each day, Monday first, during which somebody is admitted: sorted, apart from each other.
type Week = [Vec<(u16, u16)>; 7];

const DAYS: [(Weekday, &str); 7] = [
    (Weekday::Monday, "Monday"),
    (Weekday::Tuesday, "Tuesday"),
    (Weekday::Wednesday, "Wednesday"),
    (Weekday::Thursday, "Thursday"),
    (Weekday::Friday, "Friday"),
    (Weekday::Saturday, "Saturday"),
    (Weekday::Sunday, "Sunday"),
];

impl GatePolicy {
    /// The whole policy in sentences.
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        let mut lines = vec![format!("Version {}.", self.version)];
        for (name, words) in self.settings() {
            lines.push(format!("{name}: {words}."));
        }
        for (who, week) in self.admitted() {
            lines.push(format!("{who}: {}.", week_in_words(&week)));
        }
        lines
    }

    /// What `new` changes, in sentences; empty when it decides alike.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((name, before), (_, now)) in self.settings().into_iter().zip(new.settings()) {
            if before != now {
                lines.push(format!("{name}: was {before}; becomes {now}."));
            }
        }
        for ((who, before), (_, now)) in self.admitted().into_iter().zip(new.admitted()) {
            if before != now {
                lines.push(format!(
                    "{who}: was {}; becomes {}.",
                    week_in_words(&before),
                    week_in_words(&now)
                ));
            }
        }
        lines
    }

    fn settings(&self) -> [(&'static str, String); 6] {
        let Self {
            version: _,
            purpose,
            fpir_target,
            fmr_target,
            pad,
            modalities,
            unrecognised,
            rules: _,
        } = self;
        [
            ("Purpose", purpose_in_words(*purpose).to_owned()),
            (
                "A stranger taken for somebody in the registry (fpir_target)",
                rate(*fpir_target, "searches"),
            ),
            (
                "A stranger taken for the person named (fmr_target)",
                rate(*fmr_target, "comparisons"),
            ),
            (
                "Suspicion of a print, screen or mask",
                pad_in_words(*pad).to_owned(),
            ),
            ("Recognised by", modalities_in_words(*modalities).to_owned()),
            (
                "Whoever is not recognised",
                unrecognised_in_words(*unrecognised).to_owned(),
            ),
        ]
    }

    fn admitted(&self) -> Vec<(String, Week)> {
        let mut all = Vec::new();
        for category in SubjectCategory::ALL {
            for (direction, way) in [(Direction::Entry, "inwards"), (Direction::Exit, "outwards")] {
                let who = format!("{} {way}", category.code().replace('_', " "));
                all.push((who, self.week(category, direction)));
            }
        }
        all
    }

    fn week(&self, category: SubjectCategory, direction: Direction) -> Week {
        let rules = self.rules.iter().filter(|rule| {
            rule.categories.contains(&category) && rule.directions.contains(&direction)
        });
        let rules: Vec<_> = rules.collect();
        DAYS.map(|(day, _)| {
            let mut spans = Vec::new();
            for rule in &rules {
                if rule.windows.is_empty() {
                    spans.push((0, 1_440));
                }
                let windows = rule.windows.iter().filter(|one| one.days.contains(&day));
                spans.extend(windows.map(|one| (one.from_minute, one.until_minute)));
            }
            joined(spans)
        })
    }
}

/// Sorted, and joined where they touch.
fn joined(mut spans: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    spans.sort_unstable();
    let mut apart: Vec<(u16, u16)> = Vec::new();
    for (from, until) in spans {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => apart.push((from, until)),
        }
    }
    apart
}

fn week_in_words(week: &Week) -> String {
    if week.iter().all(Vec::is_empty) {
        return "never".to_owned();
    }
    if week
        .iter()
        .all(|day| matches!(day.as_slice(), [(0, 1_440)]))
    {
        return "at any time".to_owned();
    }
    let mut words = String::new();
    for (spans, (_, day)) in week.iter().zip(DAYS) {
        if spans.is_empty() {
            continue;
        }
        let separator = if words.is_empty() { "" } else { ", " };
        let _ = write!(words, "{separator}{day}");
        for (at, (from, until)) in spans.iter().enumerate() {
            let and = if at == 0 { " " } else { " and " };
            let _ = write!(words, "{and}{} to {}", clock(*from), clock(*until));
        }
    }
    words
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn rate(rate: f64, of: &str) -> String {
    format!("at most once in {:.0} {of} ({rate})", 1.0 / rate)
}

const fn purpose_in_words(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Access => "access to the centre",
        Purpose::Leaving => "leaving the centre",
        Purpose::Movement => "movement within the centre",
        Purpose::Medication => "access to medication",
        Purpose::Equipment => "access to equipment and other items",
    }
}

const fn pad_in_words(pad: PadPolicy) -> &'static str {
    match pad {
        PadPolicy::Advisory => {
            "referred to an officer, and not being able to check is only recorded"
        }
        PadPolicy::Required => "refused, and not being able to check is referred to an officer",
    }
}

const fn modalities_in_words(modalities: ModalityPolicy) -> &'static str {
    match modalities {
        ModalityPolicy::FaceOnly => "the face only",
        ModalityPolicy::FaceOrIris => "face, iris or both, whatever was captured",
        ModalityPolicy::FaceAndIris => "face and at least one iris, both confirming",
        ModalityPolicy::AnyTwoOfThree => "two of face, left iris and right iris, both confirming",
    }
}

const fn unrecognised_in_words(unrecognised: UnrecognisedPolicy) -> &'static str {
    match unrecognised {
        UnrecognisedPolicy::Refer => "referred to an officer",
        UnrecognisedPolicy::Refuse => "refused",
    }
}
