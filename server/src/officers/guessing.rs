//! Guessing costs time: failed attempts at one name, and from one address, delay the next ones more and more. An attempt is counted
//! before its password is looked at, so that many at once gain nothing. Nobody is locked out: whoever shows a second factor first is
//! not delayed (`sign_in`).
//!
//! The counts live in this process; those of accounts also in the database, for a restart and for other servers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sallyport_domain::Timestamp;

/// Failed attempts that cost no delay.
const FREE: i64 = 3;
/// The longest delay of a name.
const LONGEST_MS: i64 = 15 * 60 * 1_000;
/// From one address three attempts a minute are looked at …
const ADDRESS_MS: i64 = 20_000;
/// … and after this many failed ones, one a minute.
const ADDRESS_MANY: i64 = 40;
const ADDRESS_MANY_MS: i64 = 60_000;
/// Questions to hardware keys before signing in that one address may ask for in a row, and how often after that. They bound the database.
const FREE_QUESTIONS: i64 = 20;
const QUESTION_MS: i64 = 3_000;
/// Sealed emergency credentials that are looked at in a row, and how often after that. Guessing at 138 bits is hopeless; this bounds what
/// an attempt costs, and a tired hand in an emergency never waits longer.
const FREE_SEALED: i64 = 5;
const SEALED_MS: i64 = 10_000;
/// Failures are forgotten this long after the delay that they cost.
const FORGET_MS: i64 = 60 * 60 * 1_000;
/// Names and addresses that are remembered.
const REMEMBERED: usize = 20_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// Keyed hash of a name, known or not.
    Name(String),
    /// Where the attempt comes from; all whose address is not known count as one.
    Address(Option<IpAddr>),
    /// The same, for questions to hardware keys.
    Questions(Option<IpAddr>),
    /// Whoever types a sealed emergency credential; all who do sit at one machine.
    Sealed,
}

impl Who {
    fn delay_ms(&self, failures: i64) -> i64 {
        match self {
            Self::Name(_) => name_delay_ms(failures),
            Self::Address(_) if failures < FREE => 0,
            Self::Address(_) if failures < ADDRESS_MANY => ADDRESS_MS,
            Self::Address(_) => ADDRESS_MANY_MS,
            Self::Questions(_) if failures < FREE_QUESTIONS => 0,
            Self::Questions(_) => QUESTION_MS,
            Self::Sealed if failures < FREE_SEALED => 0,
            Self::Sealed => SEALED_MS,
        }
    }
}

/// Delay after this many wrong passwords in a row: none at first, then 1 s, 2 s, 4 s … 15 min.
pub(super) fn name_delay_ms(failures: i64) -> i64 {
    let beyond = failures - FREE;
    if beyond <= 0 {
        0
    } else {
        (1_000_i64 << (beyond - 1).min(20)).min(LONGEST_MS)
    }
}

/// Failed attempts, and until when the next one is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// How many.
    pub(super) failures: i64,
    /// Until when.
    pub(super) blocked_until: Timestamp,
}

impl Count {
    pub(super) const NONE: Self = Self {
        failures: 0,
        blocked_until: Timestamp::from_micros(0),
    };

    /// What is still remembered of it.
    fn at(self, now: Timestamp) -> Self {
        if now.millis_since(self.blocked_until) >= FORGET_MS {
            Self::NONE
        } else {
            self
        }
    }

    /// The worse of two.
    fn and(self, other: Self) -> Self {
        Self {
            failures: self.failures.max(other.failures),
            blocked_until: self.blocked_until.max(other.blocked_until),
        }
    }
}

/// Attempts of this process.
#[derive(Debug, Default)]
pub struct Guessing {
    counts: Mutex<HashMap<Who, Count>>,
    checked: AtomicU64,
}

/// An attempt that may be looked at; it is counted as failed until it succeeds.
#[derive(Debug)]
pub(super) struct Attempt {
    name: Who,
    address: Who,
    /// What the name's count is if it fails.
    pub(super) count: Count,
}

impl Guessing {
    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Who, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passwords that were looked at since the start.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    pub(super) fn note_check(&self) {
        self.checked.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt; `None` when it comes too soon. `stored` is what the database knows about the name.
    pub(super) fn attempt(
        &self,
        name_key: &str,
        address: Option<IpAddr>,
        stored: Count,
        now: Timestamp,
    ) -> Option<Attempt> {
        let name = Who::Name(name_key.to_owned());
        let address = Who::Address(address.map(network));
        let mut counts = self.locked();
        let known = |who: &Who| counts.get(who).copied().unwrap_or(Count::NONE).at(now);
        let of_name = known(&name).and(stored.at(now));
        let of_address = known(&address);
        if now < of_name.blocked_until || now < of_address.blocked_until {
            return None;
        }
        make_room(&mut counts, now);
        let mut more = |who: &Who, count: Count| {
            let failures = count.failures.saturating_add(1);
            let count = Count {
                failures,
                blocked_until: now.plus_millis(who.delay_ms(failures)),
            };
            counts.insert(who.clone(), count);
            count
        };
        let count = more(&name, of_name);
        more(&address, of_address);
        Some(Attempt {
            name,
            address,
            count,
        })
    }

    /// Counts a question to a hardware key; `false` when it comes too soon.
    pub(super) fn question(&self, address: Option<IpAddr>, now: Timestamp) -> bool {
        self.counted(Who::Questions(address.map(network)), now)
    }

    /// Counts an attempt with a sealed emergency credential; `false` when it comes too soon.
    pub(crate) fn sealed(&self, now: Timestamp) -> bool {
        self.counted(Who::Sealed, now)
    }

    fn counted(&self, who: Who, now: Timestamp) -> bool {
        let mut counts = self.locked();
        let count = counts.get(&who).copied().unwrap_or(Count::NONE).at(now);
        if now < count.blocked_until {
            return false;
        }
        make_room(&mut counts, now);
        let failures = count.failures.saturating_add(1);
        let blocked_until = now.plus_millis(who.delay_ms(failures));
        counts.insert(
            who,
            Count {
                failures,
                blocked_until,
            },
        );
        true
    }

    /// The password was right: the address gets the attempt back, and when nothing more is asked for, the name's failures are
    /// forgotten.
    pub(super) fn right(&self, attempt: &Attempt, whole: bool, now: Timestamp) {
        let mut counts = self.locked();
        if whole {
            counts.remove(&attempt.name);
        }
        if let Some(count) = counts.get_mut(&attempt.address) {
            count.failures = (count.failures - 1).max(0);
            if count.failures < FREE {
                count.blocked_until = now;
            }
        }
    }

    /// Everything about the name is forgotten: its officer has just shown a second factor.
    pub(super) fn forget(&self, name_key: &str) {
        self.locked().remove(&Who::Name(name_key.to_owned()));
    }
}

/// An IPv6 customer has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => IpAddr::V4(four),
            None => {
                let mask = u128::MAX << 64;
                IpAddr::V6((u128::from(six) & mask).into())
            }
        },
    }
}

/// Forgets the old, and when all are fresh the half that is blocked least, so that memory is bounded.
fn make_room(counts: &mut HashMap<Who, Count>, now: Timestamp) {
    if counts.len() < REMEMBERED {
        return;
    }
    counts.retain(|_, count| count.at(now) != Count::NONE);
    if counts.len() >= REMEMBERED {
        let mut ends: Vec<Timestamp> = counts.values().map(|count| count.blocked_until).collect();
        let middle = ends.len() / 2;
        let (_, middle, _) = ends.select_nth_unstable(middle);
        let middle = *middle;
        counts.retain(|_, count| count.blocked_until > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000).plus_millis(ms)
    }

    fn four(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn delays_grow_from_nothing_to_fifteen_minutes() {
        let delays: Vec<_> = (0..20).map(name_delay_ms).collect();
        assert_eq!(delays[..6], [0, 0, 0, 0, 1_000, 2_000]);
        assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(name_delay_ms(i64::MAX), 900_000);
    }

    #[test]
    fn ten_thousand_attempts_in_an_hour_are_nearly_all_ignored() {
        // One name from everywhere; everywhere from one address; and both.
        let every_ms = 360;
        for (names, addresses) in [(1, 250), (10_000, 1), (1, 1)] {
            let guessing = Guessing::default();
            let looked_at = (0..10_000_i64)
                .filter(|number| {
                    let name = (number % names).to_string();
                    let address = four(u8::try_from(number % addresses).unwrap());
                    guessing
                        .attempt(&name, address, Count::NONE, at(number * every_ms))
                        .is_some()
                })
                .count();
            assert!(
                looked_at <= 100,
                "{looked_at} of {names} names from {addresses}"
            );
            assert!(looked_at >= 10);
        }
    }

    #[test]
    fn attempts_at_once_are_counted_before_they_are_looked_at() {
        let guessing = Guessing::default();
        let open: Vec<_> = (0..50)
            .filter_map(|last| guessing.attempt("a", four(last), Count::NONE, at(0)))
            .collect();
        assert_eq!(
            open.len(),
            4,
            "three that are free, and the one that starts the delay"
        );
        guessing.right(&open[0], true, at(0));
        assert!(
            guessing
                .attempt("a", four(99), Count::NONE, at(0))
                .is_some()
        );
    }

    #[test]
    fn the_database_remembers_and_everything_is_forgotten_in_the_end() {
        let guessing = Guessing::default();
        let stored = Count {
            failures: 12,
            blocked_until: at(1_000),
        };
        assert!(guessing.attempt("a", four(1), stored, at(999)).is_none());
        let attempt = guessing.attempt("a", four(1), stored, at(1_000)).unwrap();
        assert_eq!(attempt.count.failures, 13);
        let late = at(1_000 + FORGET_MS + LONGEST_MS);
        let attempt = guessing.attempt("a", four(1), stored, late).unwrap();
        assert_eq!(attempt.count.failures, 1);
    }

    #[test]
    fn right_attempts_of_others_behind_one_address_go_on() {
        let guessing = Guessing::default();
        for number in 0..100 {
            let name = number.to_string();
            let attempt = guessing
                .attempt(&name, None, Count::NONE, at(number))
                .unwrap();
            guessing.right(&attempt, true, at(number));
        }
    }

    #[test]
    fn memory_is_bounded_and_addresses_of_one_network_are_one() {
        let guessing = Guessing::default();
        for number in 0..50_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            guessing.attempt(&number.to_string(), Some(address), Count::NONE, at(0));
        }
        assert!(guessing.locked().len() <= REMEMBERED + 1);
        let six = |text: &str| network(text.parse().unwrap());
        assert_eq!(six("2001:db8:1:2:3::4"), six("2001:db8:1:2:ffff::"));
        assert_ne!(six("2001:db8:1:2::"), six("2001:db8:1:3::"));
        assert_eq!(six("::ffff:10.0.0.1"), IpAddr::from([10, 0, 0, 1]));
    }
}
