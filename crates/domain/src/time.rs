//! Points in time, always passed in by the caller.

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01 UTC, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This moment plus `millis` milliseconds; stays at the range's end instead of overflowing.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000)))
    }

    /// Milliseconds from `earlier` to this moment; negative when `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// RFC 3339 in UTC with milliseconds, such as `2026-11-23T10:07:00.000Z`
    /// (days-to-civil algorithm of the proleptic Gregorian calendar).
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let millis = self.0.div_euclid(1_000);
        let days = millis.div_euclid(86_400_000);
        let in_day = millis.rem_euclid(86_400_000);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_index + 2) / 5 + 1;
        let month = if month_index < 10 {
            month_index + 3
        } else {
            month_index - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            in_day / 3_600_000,
            in_day / 60_000 % 60,
            in_day / 1_000 % 60,
            in_day % 1_000
        )
    }
}

/// Day of the week at the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// The site's local time, worked out by the caller, for schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalMoment {
    /// Local day of the week.
    pub weekday: Weekday,
    /// Minutes since local midnight, 0 to 1439.
    pub minute_of_day: u16,
}

impl LocalMoment {
    /// The moment at a fixed offset east of UTC, in minutes.
    #[must_use]
    pub fn at_offset(now: Timestamp, offset_minutes: i32) -> Self {
        let minutes = now.as_micros().div_euclid(60_000_000) + i64::from(offset_minutes);
        let weekday = match minutes.div_euclid(1_440).rem_euclid(7) {
            0 => Weekday::Thursday,
            1 => Weekday::Friday,
            2 => Weekday::Saturday,
            3 => Weekday::Sunday,
            4 => Weekday::Monday,
            5 => Weekday::Tuesday,
            _ => Weekday::Wednesday,
        };
        let minute_of_day = u16::try_from(minutes.rem_euclid(1_440)).unwrap_or(0);
        Self {
            weekday,
            minute_of_day,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_at_known_moments() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_123_000, "2000-02-29T12:34:56.123Z"),
            (1_795_428_420_000_000, "2026-11-23T10:07:00.000Z"),
            (-1_000, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_micros(micros).to_rfc3339(), text);
        }
    }

    #[test]
    fn local_moment_crosses_midnight_with_the_offset() {
        let monday_evening = Timestamp::from_micros(1_795_474_800_000_000); // 23:00 UTC
        let here = LocalMoment::at_offset(monday_evening, 0);
        assert_eq!(
            (here.weekday, here.minute_of_day),
            (Weekday::Monday, 23 * 60)
        );
        let sydney = LocalMoment::at_offset(monday_evening, 11 * 60);
        assert_eq!(
            (sydney.weekday, sydney.minute_of_day),
            (Weekday::Tuesday, 10 * 60)
        );
    }
}
