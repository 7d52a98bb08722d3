//! Whether a policy makes sense at all, before anybody is asked to approve it. Each fault names the field, as the file writes it.

use super::{GatePolicy, WeeklyWindow};

/// Most rules of a policy.
const RULES: usize = 64;
/// Most windows of a rule.
const WINDOWS: usize = 32;
/// A policy with error rates above this would let strangers in.
const MAX_ERROR_RATE: f64 = 1e-2;
/// Nobody can measure rates below this, and no score would ever pass.
const MIN_ERROR_RATE: f64 = 1e-9;
/// Longest version, in characters.
const VERSION: usize = 64;

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// Not `NAME-NUMBER`.
    #[error(
        "version: {0:?} is no version; write 1 to 64 lower-case letters, digits, dots and hyphens that end in a hyphen and a number, such as front-2"
    )]
    Version(String),
    /// A rate that means nothing or lets strangers in.
    #[error("{field}: {value} is not between 0.000000001 and 0.01")]
    Rate {
        /// The field.
        field: &'static str,
        /// What it says.
        value: f64,
    },
    /// Too many.
    #[error("{field}: {count} are too many; at most {most}")]
    TooMany {
        /// The field.
        field: String,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A list that names nobody, no way or no day: the rule would silently admit nobody.
    #[error("{field}: the list is empty, so the rule admits nobody; fill it or leave the rule out")]
    Empty {
        /// The field.
        field: String,
    },
    /// The same twice.
    #[error("{field}: one stands there twice; write each once")]
    Twice {
        /// The field.
        field: String,
    },
    /// A window that ends before it begins, or lasts beyond its day.
    #[error(
        "{field}: a window from minute {from} until minute {until} is none; it needs from_minute < until_minute <= 1440. Split a window at midnight"
    )]
    Window {
        /// The field.
        field: String,
        /// Its first minute.
        from: u16,
        /// The first minute after it.
        until: u16,
    },
}

impl GatePolicy {
    /// The number at the end of a version, by which policies of a gate follow one another. `None` where there is none.
    #[must_use]
    pub fn number_of(version: &str) -> Option<u32> {
        let digits = version.rsplit('-').next()?;
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| digits.parse().ok())?
    }

    /// Looks at every field.
    ///
    /// # Errors
    /// The first fault, with the field that has it.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.check_version()?;
        for (field, value) in [
            ("fpir_target", self.fpir_target),
            ("fmr_target", self.fmr_target),
        ] {
            // Not a number is in no range.
            if !(MIN_ERROR_RATE..=MAX_ERROR_RATE).contains(&value) {
                return Err(PolicyError::Rate { field, value });
            }
        }
        few("rules", self.rules.len(), RULES)?;
        for (at, rule) in self.rules.iter().enumerate() {
            let field = |name: &str| format!("rules[{at}].{name}");
            each_once(&field("categories"), &rule.categories)?;
            each_once(&field("directions"), &rule.directions)?;
            few(&field("windows"), rule.windows.len(), WINDOWS)?;
            for (at, window) in rule.windows.iter().enumerate() {
                window.check(&format!("{}[{at}]", field("windows")))?;
            }
        }
        Ok(())
    }

    fn check_version(&self) -> Result<(), PolicyError> {
        let letter =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        let good = self.version.len() <= VERSION
            && self.version.chars().all(letter)
            && Self::number_of(&self.version).is_some();
        if good {
            Ok(())
        } else {
            Err(PolicyError::Version(self.version.clone()))
        }
    }
}

impl WeeklyWindow {
    fn check(&self, field: &str) -> Result<(), PolicyError> {
        each_once(&format!("{field}.days"), &self.days)?;
        if self.from_minute < self.until_minute && self.until_minute <= 1_440 {
            Ok(())
        } else {
            Err(PolicyError::Window {
                field: field.to_owned(),
                from: self.from_minute,
                until: self.until_minute,
            })
        }
    }
}

fn few(field: &str, count: usize, most: usize) -> Result<(), PolicyError> {
    if count <= most {
        Ok(())
    } else {
        let field = field.to_owned();
        Err(PolicyError::TooMany { field, count, most })
    }
}

fn each_once<T: PartialEq>(field: &str, list: &[T]) -> Result<(), PolicyError> {
    let field = field.to_owned();
    if list.is_empty() {
        return Err(PolicyError::Empty { field });
    }
    let twice = |one: &T| list.iter().filter(|other| *other == one).count() > 1;
    if list.iter().any(twice) {
        return Err(PolicyError::Twice { field });
    }
    Ok(())
}
