//! The weekly sample of consultations that an auditor looks into: drawn from the log itself, so that anybody who has the log draws the same.
//!
//! The rule (docs/auditing.md has it in words): a week's entries are those from the first one whose time is not before its begin up to,
//! without it, the first one whose time is not before its end, `E`. The seed is the SHA-256 of
//! the purpose, the log's origin, the week, the auditor's word and the root of the tree of the first `E + 1` entries. A consultation with
//! index `i` has the lot SHA-256(seed, `i` as eight bytes, big-endian); the lowest lots are drawn. Emergencies and look-ups of somebody
//! with the officer's own name are always in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::view::quoted;
use crate::{CompactTree, Entry, Hash};

const PURPOSE: &str = "sallyport/weekly-sample/1";
const DAY_US: i64 = 86_400_000_000;
/// Drawn where nobody says how many.
pub const SAMPLE_SIZE: usize = 20;
/// Kinds that are always in it.
const ALWAYS: [&str; 2] = ["break_the_glass", "same_name_lookup"];
/// What an officer on duty sees without opening anything.
const ON_DUTY: [&str; 2] = ["gate_duty", "review"];

/// Why nothing is drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Not a week.
    #[error("{0:?} is no week; write it as ISO 8601 does, such as 2026-W48")]
    Week(String),
    /// It goes on, as far as the log says.
    #[error("the log has no entry from after the end of {0}; draw when the week is over")]
    NotOver(Week),
    /// The auditor's word.
    #[error("the auditor's word has at most 200 characters, and no control characters")]
    Word,
    /// An entry is missing or none.
    #[error("entry {0} is missing or not well-formed, so no sample can be drawn")]
    Damaged(u64),
}

/// A week of ISO 8601, from Monday to Monday in UTC, so that its limits do not depend on where it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Week {
    year: i64,
    number: i64,
}

impl std::str::FromStr for Week {
    type Err = SampleError;

    fn from_str(text: &str) -> Result<Self, SampleError> {
        let wrong = || SampleError::Week(text.to_owned());
        let (year, number) = text.split_once("-W").ok_or_else(wrong)?;
        let digits = |text: &str, count| {
            (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<i64>().ok())
                .flatten()
        };
        let (year, number) = digits(year, 4).zip(digits(number, 2)).ok_or_else(wrong)?;
        let week = Self { year, number };
        // The week with the year's last days is the 52nd or the 53rd.
        let next = Self::monday(year + 1, 1);
        if (1..=53).contains(&number) && Self::monday(year, number) < next {
            Ok(week)
        } else {
            Err(wrong())
        }
    }
}

impl std::fmt::Display for Week {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-W{:02}", self.year, self.number)
    }
}

impl Week {
    /// Days since 1970 of its Monday; the first week has the 4th of January.
    const fn monday(year: i64, number: i64) -> i64 {
        let fourth = days_from_civil(year, 1, 4);
        // 1970-01-01 was a Thursday.
        let since_monday = (fourth + 3).rem_euclid(7);
        fourth - since_monday + 7 * (number - 1)
    }

    /// First moment, and first moment after it, in microseconds since 1970.
    #[must_use]
    pub const fn limits_us(self) -> (i64, i64) {
        let begin = Self::monday(self.year, self.number) * DAY_US;
        (begin, begin + 7 * DAY_US)
    }
}

const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A moment for people, in UTC.
fn moment(time_us: i64) -> String {
    let (days, rest) = (time_us.div_euclid(DAY_US), time_us.rem_euclid(DAY_US));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let (month, early) = match month_index {
        0..10 => (month_index + 3, 0),
        _ => (month_index - 9, 1),
    };
    let year = year_of_era + era * 400 + early;
    let seconds = rest / 1_000_000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Reads a log from its first entry on and finds what can be drawn.
#[derive(Debug)]
pub struct SampleReader {
    week: Week,
    tree: CompactTree,
    /// An entry of the week or after was seen. From then on everything counts up to the end, whatever a clock that stepped back said, so that
    /// each entry is in one week and none is in no week.
    begun: bool,
    /// The end and the root of the tree up to it.
    end: Option<(u64, Hash)>,
    consultations: BTreeMap<u64, Entry>,
    always: BTreeMap<u64, Entry>,
    damaged: Option<u64>,
}

impl SampleReader {
    /// For this week.
    #[must_use]
    pub fn new(week: Week) -> Self {
        Self {
            week,
            tree: CompactTree::default(),
            begun: false,
            end: None,
            consultations: BTreeMap::new(),
            always: BTreeMap::new(),
            damaged: None,
        }
    }

    /// Takes the next entry. What comes after the week's end is not looked at.
    pub fn take(&mut self, index: u64, bytes: &[u8]) {
        if self.end.is_some() || self.damaged.is_some() {
            return;
        }
        let entry = match Entry::from_bytes(bytes) {
            Ok(entry) if index == self.tree.size() => entry,
            Ok(_) | Err(_) => {
                self.damaged = Some(self.tree.size());
                return;
            }
        };
        self.tree.push(bytes, |_, _| {});
        let (begin, end) = self.week.limits_us();
        self.begun |= entry.time >= begin;
        if entry.time >= end {
            self.end = Some((index, self.tree.root()));
        } else if self.begun {
            let on_duty = entry
                .reason
                .as_deref()
                .is_none_or(|reason| ON_DUTY.contains(&reason));
            if ALWAYS.contains(&entry.kind.as_str()) {
                self.always.insert(index, entry);
            } else if entry.kind == "consultation" && (entry.subject.is_some() || !on_duty) {
                self.consultations.insert(index, entry);
            }
        }
    }

    /// Draws `size` of the consultations. `word` is the auditor's own, said only after the week was signed; it may be empty.
    ///
    /// # Errors
    /// See [`SampleError`].
    pub fn draw(self, origin: &str, size: usize, word: &str) -> Result<Sample, SampleError> {
        if let Some(index) = self.damaged {
            return Err(SampleError::Damaged(index));
        }
        if word.chars().count() > 200 || word.chars().any(char::is_control) {
            return Err(SampleError::Word);
        }
        let (end, root) = self.end.ok_or(SampleError::NotOver(self.week))?;
        let week = self.week;
        let root = root.to_base64();
        let seed = Sha256::digest(format!("{PURPOSE}\n{origin}\n{week}\n{word}\n{root}\n"));
        let lot = |index: u64| {
            let mut hash = Sha256::new();
            hash.update(seed);
            hash.update(index.to_be_bytes());
            hash.finalize()
        };
        let population = self.consultations.len();
        let mut lots: Vec<_> = self.consultations.into_iter().collect();
        lots.sort_by_cached_key(|(index, _)| lot(*index));
        lots.truncate(size);
        let mut rows: Vec<Row> = lots
            .into_iter()
            .map(|(index, entry)| Row::new(index, entry, false))
            .collect();
        let drawn = rows.len();
        rows.extend(
            self.always
                .into_iter()
                .map(|(index, entry)| Row::new(index, entry, true)),
        );
        rows.sort_by_key(|row| row.index);
        Ok(Sample {
            about: format!(
                "Sample of consultations in {week} (UTC) of {origin}: {drawn} drawn of {population}, and all {} emergencies and look-ups of the officer's own name. Week ends with entry {end}; root of the first {} entries {root}; auditor's word: {}",
                rows.len() - drawn,
                end + 1,
                if word.is_empty() { "(none)" } else { word }
            ),
            covered: end + 1,
            rows,
        })
    }
}

/// What is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What it is, and what the draw depends on.
    pub about: String,
    /// Entries that it depends on.
    pub covered: u64,
    /// In the order of the log.
    pub rows: Vec<Row>,
}

/// One look at a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Index of the entry.
    pub index: u64,
    /// The entry.
    pub entry: Entry,
    /// Always in the sample, not drawn.
    pub always: bool,
}

impl Row {
    const fn new(index: u64, entry: Entry, always: bool) -> Self {
        Self {
            index,
            entry,
            always,
        }
    }
}

impl Sample {
    /// As a table (RFC 4180) with an empty column for the auditor's finding.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = format!(
            "{}\r\nentry,time_utc,kind,drawn,officer,person,about,shown,reason,case,finding\r\n",
            quoted(&self.about)
        );
        for Row {
            index,
            entry,
            always,
        } in &self.rows
        {
            let reason = entry.reason.as_deref().unwrap_or_default();
            let (code, case) = reason.split_once(' ').unwrap_or((reason, ""));
            let or_empty = |field: &Option<String>| quoted(field.as_deref().unwrap_or_default());
            let _ = write!(
                text,
                "{index},{},{},{},{},{},{},{},{},{},\r\n",
                moment(entry.time),
                quoted(&entry.kind),
                if *always { "always" } else { "by lot" },
                or_empty(&entry.actor),
                or_empty(&entry.subject),
                or_empty(&entry.about),
                or_empty(&entry.decision),
                quoted(code),
                quoted(case),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn week(text: &str) -> Week {
        text.parse().unwrap()
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        for (text, begin) in [
            ("2026-W48", "2026-11-23T00:00:00Z"),
            ("2026-W01", "2025-12-29T00:00:00Z"),
            ("2026-W53", "2026-12-28T00:00:00Z"),
            ("2025-W52", "2025-12-22T00:00:00Z"),
            ("2020-W53", "2020-12-28T00:00:00Z"),
            ("2024-W09", "2024-02-26T00:00:00Z"),
            ("1970-W01", "1969-12-29T00:00:00Z"),
        ] {
            let (from, until) = week(text).limits_us();
            assert_eq!(moment(from), begin, "{text}");
            assert_eq!(until - from, 7 * DAY_US);
            assert_eq!(week(text).to_string(), text);
        }
        for bad in [
            "2025-W53", "2026-W54", "2026-W00", "2026-W1", "26-W01", "2026W48", "2026-W4x", "",
            "2026-W+1",
        ] {
            assert_eq!(bad.parse::<Week>(), Err(SampleError::Week(bad.to_owned())));
        }
        assert_eq!(moment(951_827_696_123_000), "2000-02-29T12:34:56Z");
    }

    fn consultation(time: i64, number: usize) -> Entry {
        Entry {
            actor: Some("officer-1".to_owned()),
            subject: Some(format!("person-{number}")),
            reason: Some("incident 12/7".to_owned()),
            ..Entry::new(format!("id-{number}"), "consultation", time)
        }
    }

    /// A week with 100 consultations, some other entries, and one after its end with this id.
    fn log(end_id: &str) -> Vec<Vec<u8>> {
        let (begin, end) = week("2026-W48").limits_us();
        let mut entries = vec![consultation(begin - 1, 1_000)];
        entries.extend((0..100).map(|number| consultation(begin + number as i64, number)));
        let on_duty = Entry {
            subject: None,
            reason: Some("gate_duty".to_owned()),
            ..consultation(begin + 200, 0)
        };
        entries.push(on_duty);
        for kind in ALWAYS {
            let mut entry = consultation(end - 1, 7);
            entry.kind = kind.to_owned();
            entries.push(entry);
        }
        entries.push(Entry::new(end_id.to_owned(), "server_started", end));
        // The clock stepped back: after the end nothing counts, it is of the next week.
        entries.push(consultation(end - 5, 2_000));
        entries
            .iter()
            .map(|entry| entry.to_bytes().unwrap())
            .collect()
    }

    fn drawn(log: &[Vec<u8>], size: usize, word: &str) -> Result<Sample, SampleError> {
        let mut reader = SampleReader::new(week("2026-W48"));
        for (index, bytes) in (0..).zip(log) {
            reader.take(index, bytes);
        }
        reader.draw("sallyport/test/audit1", size, word)
    }

    fn indexes(sample: &Sample) -> Vec<u64> {
        sample.rows.iter().map(|row| row.index).collect()
    }

    #[test]
    fn the_same_log_and_word_draw_the_same_and_another_draws_differently() {
        let sample = drawn(&log("a"), 20, "").unwrap();
        assert_eq!(sample.rows.len(), 22);
        assert_eq!(drawn(&log("a"), 20, "").unwrap(), sample);
        for other in [drawn(&log("b"), 20, ""), drawn(&log("a"), 20, "dice 4 2 6")] {
            assert_ne!(indexes(&other.unwrap()), indexes(&sample));
        }
        // A smaller sample is part of the larger one, and neither holds what is of no consultation or of another week.
        let smaller = indexes(&drawn(&log("a"), 5, "").unwrap());
        assert!(smaller.iter().all(|index| indexes(&sample).contains(index)));
        let all = drawn(&log("a"), 1_000, "").unwrap();
        let expected: Vec<u64> = (1..=100).chain([102, 103]).collect();
        assert_eq!(indexes(&all), expected);
        assert_eq!(all.covered, 105);
        let (_, rest) = all
            .about
            .split_once("100 drawn of 100, and all 2 ")
            .unwrap();
        assert!(rest.contains("entry 104"), "{rest}");
    }

    #[test]
    fn a_clock_that_steps_hides_no_consultation_from_every_week() {
        let (begin, end) = week("2026-W48").limits_us();
        // Forward over the week's end and back, then before the week's begin.
        let times = [
            begin,
            end + 9,
            begin + 2,
            begin - 1,
            end + 10,
            end + 7 * DAY_US,
        ];
        let log: Vec<Vec<u8>> = (0..)
            .zip(times)
            .map(|(number, time)| consultation(time, number).to_bytes().unwrap())
            .collect();
        let of = |text: &str| {
            let mut reader = SampleReader::new(week(text));
            for (index, bytes) in (0..).zip(&log) {
                reader.take(index, bytes);
            }
            indexes(&reader.draw("o", 9, "").unwrap())
        };
        assert_eq!(of("2026-W48"), [0]);
        assert_eq!(of("2026-W49"), [1, 2, 3, 4]);
    }

    #[test]
    fn every_consultation_is_drawn_about_equally_often() {
        let log = log("a");
        let mut times = BTreeMap::new();
        for number in 0..500 {
            let sample = drawn(&log, 20, &number.to_string()).unwrap();
            for row in sample.rows.iter().filter(|row| !row.always) {
                *times.entry(row.index).or_insert(0) += 1;
            }
        }
        // 100 on average; five standard deviations are 45.
        assert_eq!(times.len(), 100);
        assert!(
            times.values().all(|count| (55..=145).contains(count)),
            "{times:?}"
        );
    }

    #[test]
    fn a_week_that_goes_on_and_a_damaged_log_draw_nothing() {
        let mut log = log("a");
        assert!(matches!(
            drawn(&log[..103], 5, ""),
            Err(SampleError::NotOver(_))
        ));
        assert_eq!(drawn(&log, 5, "a\nb"), Err(SampleError::Word));
        log[3] = b"{}".to_vec();
        assert_eq!(drawn(&log, 5, ""), Err(SampleError::Damaged(3)));
        log.remove(3);
        let mut reader = SampleReader::new(week("2026-W48"));
        reader.take(1, &log[0]);
        assert_eq!(reader.draw("o", 1, ""), Err(SampleError::Damaged(0)));
    }

    #[test]
    fn the_table_has_a_column_for_the_finding_and_is_safe_to_open() {
        let mut sample = drawn(&log("a"), 0, "=1+1").unwrap();
        sample.rows[0].entry.about = Some("=cmd".to_owned());
        let csv = sample.to_csv();
        let lines: Vec<&str> = csv.split("\r\n").collect();
        assert!(lines[0].starts_with("\"Sample of consultations in 2026-W48"));
        assert!(lines[1].ends_with(",reason,case,finding"));
        assert_eq!(
            lines[2],
            "102,2026-11-29T23:59:59Z,break_the_glass,always,officer-1,person-7,\"'=cmd\",,incident,12/7,"
        );
    }
}
