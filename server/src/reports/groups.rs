//! How often people of each demographic group were sent to an officer instead of being let through by the machine, for the public.
//!
//! Counted are passages of enrolled people whom the machine recognised, or whom an officer granted after a referral: only of these does
//! the log state who they were. Nobody is identified: a group with fewer than [`FEWEST_PEOPLE`] people is counted together with others.

use std::collections::BTreeMap;

use sallyport_domain::{GroupList, Share};
use serde::Serialize;

/// A row of the published table stands for at least this many different people.
pub const FEWEST_PEOPLE: u64 = 10;
/// The row of people without a recorded group.
pub const NOT_RECORDED: &str = GroupList::NOT_RECORDED;

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupRow {
    /// The group, or several whose people are too few to be shown alone.
    pub group: String,
    /// Different people who passed.
    pub people: u64,
    /// Their passages.
    pub passages: u64,
    /// Of these, sent to an officer, who granted them.
    pub referred: u64,
    /// The rate, from 0 to 1.
    pub rate: f64,
    /// Lower end of the exact 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl GroupRow {
    /// The row for people.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{:>7.2} %  ({:.2} to {:.2} %)  {} of {} passages of {} people: {}",
            100.0 * self.rate,
            100.0 * self.low,
            100.0 * self.high,
            self.referred,
            self.passages,
            self.people,
            self.group
        )
    }
}

/// The table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Groups {
    /// What it is and whom it leaves out.
    pub notes: Vec<String>,
    /// Rows, in the order of the groups' names.
    pub rows: Vec<GroupRow>,
}

/// What was counted of one person, or of all people of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    people: u64,
    passages: u64,
    referred: u64,
}

/// Passages per person, while the log is read.
#[derive(Debug, Default)]
pub struct Passages {
    /// By pseudonym.
    of: BTreeMap<String, Count>,
    /// Referred passages, and who was said to stand there; counted when an officer granted them.
    open: BTreeMap<String, String>,
}

impl Passages {
    /// The machine recognised this person and decided by itself.
    pub fn recognised(&mut self, subject: &str) {
        self.of.entry(subject.to_owned()).or_default().passages += 1;
    }

    /// The machine sent somebody who looks like this person to an officer.
    pub fn referred(&mut self, transaction: &str, subject: &str) {
        self.open.insert(transaction.to_owned(), subject.to_owned());
    }

    /// An officer granted a passage, which identifies the person of a referred one.
    pub fn granted(&mut self, transaction: &str) {
        if let Some(subject) = self.open.remove(transaction) {
            let count = self.of.entry(subject).or_default();
            count.passages += 1;
            count.referred += 1;
        }
    }

    /// Whose groups the table needs.
    pub fn people(&self) -> impl Iterator<Item = &str> {
        self.of.keys().map(String::as_str)
    }

    /// The table, given each person's recorded group.
    #[must_use]
    pub fn table(&self, group_of: &BTreeMap<String, String>) -> Groups {
        let mut groups: BTreeMap<&str, Count> = BTreeMap::new();
        for (subject, count) in &self.of {
            let group = group_of.get(subject).map_or(NOT_RECORDED, String::as_str);
            let sum = groups.entry(group).or_default();
            sum.people += 1;
            sum.passages += count.passages;
            sum.referred += count.referred;
        }
        let mut notes = vec![
            format!(
                "How often enrolled people were sent to an officer, by recorded group, with exact 95 % intervals (Clopper and Pearson, \
                 as if passages were independent). Counted are passages of people whom the machine recognised, and referred ones that an \
                 officer granted as the person whom the machine thought most likely; {} referred passages that ended otherwise are not: \
                 the log does not say who stood there. The group is the one recorded when this report was made.",
                self.open.len()
            ),
            format!(
                "No row stands for fewer than {FEWEST_PEOPLE} different people; smaller groups are counted together with the next larger."
            ),
        ];
        if groups.contains_key(GroupList::OTHER_WORDS) {
            notes.push(format!(
                "\"{}\" are people of whom words were recorded that are no group of the jurisdiction profile's list; record their group \
                 anew by its code.",
                GroupList::OTHER_WORDS
            ));
        }
        let rows = publishable(groups);
        if rows.is_empty() {
            notes.push(format!(
                "There is no table: fewer than {FEWEST_PEOPLE} such people passed in this time."
            ));
        }
        Groups { notes, rows }
    }
}

/// Puts groups together, the smallest first, until every row has enough people. What is put together is never shown beside a part of
/// it, so that nothing can be taken away from anything.
fn publishable(groups: BTreeMap<&str, Count>) -> Vec<GroupRow> {
    let mut by_size: Vec<(&str, Count)> = groups.into_iter().collect();
    by_size.sort_by_key(|(name, count)| (count.people, *name));
    let mut together: Vec<&str> = Vec::new();
    let mut sum = Count::default();
    let mut rows = Vec::new();
    for (name, count) in by_size {
        let short = !together.is_empty() && sum.people < FEWEST_PEOPLE;
        if count.people < FEWEST_PEOPLE || short {
            together.push(name);
            sum.people += count.people;
            sum.passages += count.passages;
            sum.referred += count.referred;
        } else {
            rows.extend(row(name.to_owned(), count));
        }
    }
    if sum.people >= FEWEST_PEOPLE {
        together.sort_unstable();
        rows.extend(row(together.join(" + "), sum));
    }
    rows.sort_by(|one, other| one.group.cmp(&other.group));
    rows
}

fn row(group: String, count: Count) -> Option<GroupRow> {
    let share = Share::new(count.referred, count.passages)?;
    let (low, high) = share.interval95();
    Some(GroupRow {
        group,
        people: count.people,
        passages: count.passages,
        referred: count.referred,
        rate: share.value()?,
        low,
        high,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People of a group, each with passages let through and referred.
    fn month(groups: &[(&str, u64, u64, u64)]) -> (Passages, BTreeMap<String, String>) {
        let mut passages = Passages::default();
        let mut group_of = BTreeMap::new();
        for (group, people, alone, referred) in groups {
            for person in 0..*people {
                let subject = format!("{group}-{person}");
                for _ in 0..*alone {
                    passages.recognised(&subject);
                }
                for number in 0..*referred {
                    let transaction = format!("{subject}-{number}");
                    passages.referred(&transaction, &subject);
                    passages.granted(&transaction);
                }
                if *group != NOT_RECORDED {
                    group_of.insert(subject, (*group).to_owned());
                }
            }
        }
        (passages, group_of)
    }

    #[test]
    fn rates_have_counts_and_exact_intervals() {
        let (mut passages, group_of) =
            month(&[("a", 10, 9, 1), (NOT_RECORDED, 20, 4, 1), ("b", 12, 1, 0)]);
        // Refused by the officer, or never decided: nobody knows who it was.
        passages.referred("x", "a-1");
        passages.granted("nobody asked");
        let table = passages.table(&group_of);
        let names: Vec<&str> = table.rows.iter().map(|row| row.group.as_str()).collect();
        assert_eq!(names, ["a", "b", NOT_RECORDED]);
        let a = &table.rows[0];
        assert_eq!((a.people, a.passages, a.referred), (10, 100, 10));
        // scipy.stats.beta.ppf
        assert!((a.low - 0.0490).abs() < 1e-4 && (a.high - 0.1762).abs() < 1e-4);
        assert_eq!(table.rows[1].referred, 0);
        assert!(table.notes[0].contains("1 referred passages that ended otherwise"));
    }

    #[test]
    fn a_small_group_is_shown_with_the_next_larger_and_never_alone() {
        let (passages, group_of) = month(&[("a", 3, 1, 1), ("b", 11, 1, 0), ("c", 40, 1, 0)]);
        let table = passages.table(&group_of);
        let names: Vec<&str> = table.rows.iter().map(|row| row.group.as_str()).collect();
        assert_eq!(names, ["a + b", "c"]);
        let (passages, group_of) = month(&[("a", 3, 1, 1), ("b", 6, 1, 0)]);
        let table = passages.table(&group_of);
        assert!(table.rows.is_empty());
        assert!(table.notes[2].contains("fewer than 10"));
    }

    #[test]
    fn words_that_are_in_no_list_have_a_row_and_are_never_dropped_or_shown_alone_when_few() {
        let (passages, group_of) = month(&[(GroupList::OTHER_WORDS, 12, 1, 1), ("a", 10, 1, 0)]);
        let table = passages.table(&group_of);
        let names: Vec<&str> = table.rows.iter().map(|row| row.group.as_str()).collect();
        assert_eq!(names, ["a", GroupList::OTHER_WORDS]);
        assert!(table.notes[2].contains("record their group anew"));
        let (passages, group_of) = month(&[(GroupList::OTHER_WORDS, 2, 1, 1), ("a", 10, 1, 0)]);
        let rows = passages.table(&group_of).rows;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].people, rows[0].referred), (12, 2));
    }

    #[test]
    fn every_row_stands_for_enough_people_and_rows_leave_nobody_to_be_found_by_subtraction() {
        const SIZES: [u64; 6] = [0, 1, 5, 9, 10, 23];
        let names = ["a", "b", "c", NOT_RECORDED];
        for number in 0..SIZES.len().pow(4) {
            let size = |at: u32| SIZES[number / SIZES.len().pow(at) % SIZES.len()];
            let count = |people| Count {
                people,
                passages: people,
                referred: people / 2,
            };
            let groups: BTreeMap<&str, Count> = (0..4)
                .zip(names)
                .filter(|(at, _)| size(*at) > 0)
                .map(|(at, name)| (name, count(size(at))))
                .collect();
            let rows = publishable(groups);
            let people: u64 = (0..4).map(size).sum();
            assert!(rows.iter().all(|row| row.people >= FEWEST_PEOPLE));
            assert!(
                rows.iter()
                    .all(|row| row.low <= row.rate && row.rate <= row.high)
            );
            let shown: u64 = rows.iter().map(|row| row.people).sum();
            assert_eq!(shown, if people >= FEWEST_PEOPLE { people } else { 0 });
        }
    }
}
