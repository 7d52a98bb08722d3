//! The line from the fire alarm system.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::life_safety::OnFault;

/// Which level is the alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// `0`, so that a cut wire is an alarm.
    Low,
    /// `1`.
    High,
}

/// The line from the fire alarm system. What a broken line means has no default: the site decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FireInputConfig {
    /// A file with `0` or `1`, such as a GPIO line's `value`.
    pub path: PathBuf,
    /// Which level is the alarm.
    pub alarm: Level,
    /// What a line that cannot be read means.
    pub on_fault: OnFault,
    /// Milliseconds for which a change must hold, at most 500: doors must be free within a second.
    #[serde(default = "fifty")]
    pub debounce_ms: u64,
}

const fn fifty() -> u64 {
    50
}

impl FireInputConfig {
    /// Is 0 the alarm?
    #[must_use]
    pub const fn active_low(&self) -> bool {
        matches!(self.alarm, Level::Low)
    }

    /// How long a change must hold.
    #[must_use]
    pub const fn debounce(&self) -> Duration {
        Duration::from_millis(self.debounce_ms)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.debounce_ms <= 500 {
            Ok(())
        } else {
            Err("fire_input.debounce_ms must lie between 0 and 500: doors must be free within a second".to_owned())
        }
    }
}
