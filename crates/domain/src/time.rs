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

    /// The same time of day, this many calendar months later, in UTC. Where that month has no such day its last day
    /// counts (31 August and six months is 28 or 29 February), so a term never ends late. Stays at the range's end
    /// instead of overflowing.
    #[must_use]
    pub fn plus_months(self, months: u16) -> Self {
        const DAY_MICROS: i64 = 86_400_000_000;
        let (year, month, day) = civil_from_days(self.0.div_euclid(DAY_MICROS));
        let month_count = year * 12 + (month - 1) + i64::from(months);
        let (year, month) = (month_count.div_euclid(12), month_count.rem_euclid(12) + 1);
        let first = days_from_civil(year, month);
        let next_first = days_from_civil(year + month / 12, month % 12 + 1);
        let days = first + day.min(next_first - first) - 1;
        Self(
            days.saturating_mul(DAY_MICROS)
                .saturating_add(self.0.rem_euclid(DAY_MICROS)),
        )
    }

    /// Reads `YYYY-MM-DDTHH:MM:SSZ` (RFC 3339 in UTC, whole seconds); `None` for anything else, such as a day that no calendar has.
    #[must_use]
    pub fn from_rfc3339_utc(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| -> Option<i64> { text.get(from..to)?.parse().ok() };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        if !(1..=12).contains(&month) {
            return None;
        }
        let seconds = number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?;
        let days = days_from_civil(year, month) + day - 1;
        let moment = Self::from_micros((days * 86_400 + seconds) * 1_000_000);
        // What does not come back when it is written is no date.
        let written = moment.to_rfc3339();
        let same = written.get(..19) == text.get(..19) && text.get(19..) == Some("Z");
        same.then_some(moment)
    }

    /// The same text back: RFC 3339 in UTC, whole seconds.
    #[must_use]
    pub fn to_rfc3339_seconds(self) -> String {
        let text = self.to_rfc3339();
        format!("{}Z", text.get(..19).unwrap_or_default())
    }

    /// RFC 3339 in UTC with milliseconds, such as `2026-11-23T10:07:00.000Z`
    /// (days-to-civil algorithm of the proleptic Gregorian calendar).
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let millis = self.0.div_euclid(1_000);
        let days = millis.div_euclid(86_400_000);
        let in_day = millis.rem_euclid(86_400_000);
        let (year, month, day) = civil_from_days(days);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            in_day / 3_600_000,
            in_day / 60_000 % 60,
            in_day / 1_000 % 60,
            in_day % 1_000
        )
    }
}

/// Year, month (1 to 12) and day (1 to 31) of a count of days since 1970-01-01.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
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
    let early = if month <= 2 { 1 } else { 0 };
    (year_of_era + era * 400 + early, month, day)
}

/// Days from 1970-01-01 to the first day of a month (1 to 12).
const fn days_from_civil(year: i64, month: i64) -> i64 {
    let (year, month_index) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month_index + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
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
    fn calendar_months_end_on_the_last_day_where_the_month_is_shorter() {
        let noon = |text_micros: i64| Timestamp::from_micros(text_micros);
        // 2026-08-31T12:00:00.5Z
        let august = noon(1_788_177_600_500_000);
        assert_eq!(august.to_rfc3339(), "2026-08-31T12:00:00.500Z");
        for (months, text) in [
            (0, "2026-08-31T12:00:00.500Z"),
            (1, "2026-09-30T12:00:00.500Z"),
            (4, "2026-12-31T12:00:00.500Z"),
            (5, "2027-01-31T12:00:00.500Z"),
            (6, "2027-02-28T12:00:00.500Z"),
            (18, "2028-02-29T12:00:00.500Z"),
            (1_200, "2126-08-31T12:00:00.500Z"),
        ] {
            assert_eq!(august.plus_months(months).to_rfc3339(), text);
        }
        let before_epoch = noon(-1);
        assert_eq!(
            before_epoch.plus_months(2).to_rfc3339(),
            "1970-02-28T23:59:59.999Z"
        );
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end.plus_months(1), end);
    }

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
