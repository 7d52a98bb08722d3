//! The closed list of demographic groups that a jurisdiction's reports may tell apart, so that two spellings are not two groups.

use serde::{Deserialize, Serialize};

use super::ProfileError;

/// Most groups of a list.
const GROUPS: usize = 64;
/// Longest code and longest words, in characters.
const CODE: usize = 32;
const WORDS: usize = 60;

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What is recorded: lower-case letters, digits and underscores.
    pub code: String,
    /// What reports say.
    pub words: String,
}

/// The list. Empty where a profile, such as one set before there was this list, says nothing: then no group can be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupList {
    /// The list is our cautious choice: the operator takes the country's statistical standard, and has it confirmed.
    pub to_confirm: bool,
    /// The standard or clause, or why there is none.
    pub source: String,
    /// The groups, in the order in which they are listed.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

impl Default for GroupList {
    fn default() -> Self {
        Self {
            to_confirm: true,
            source: "the profile lists no groups".to_owned(),
            groups: Vec::new(),
        }
    }
}

impl GroupList {
    /// What reports call people without a recorded group.
    pub const NOT_RECORDED: &'static str = "not recorded";
    /// What reports call people of whom words were recorded that are in no list.
    pub const OTHER_WORDS: &'static str = "other words recorded before";

    /// The group of exactly this code.
    #[must_use]
    pub fn of_code(&self, code: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.code == code)
    }

    /// The group that free words of before mean: they equal its code or its words but for capitals and spaces.
    #[must_use]
    pub fn of_words(&self, recorded: &str) -> Option<&Group> {
        let recorded = folded(recorded);
        self.groups
            .iter()
            .find(|group| folded(&group.code) == recorded || folded(&group.words) == recorded)
    }

    pub(super) fn check(&self) -> Result<(), ProfileError> {
        let wrong = |what: String| Err(ProfileError::Groups(what));
        if self.source.trim().is_empty() {
            return Err(ProfileError::Blank("the source of groups"));
        }
        if self.groups.len() > GROUPS {
            return wrong(format!("more than {GROUPS} groups"));
        }
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        for (at, Group { code, words }) in self.groups.iter().enumerate() {
            if !(1..=CODE).contains(&code.len()) || !code.chars().all(letter) {
                return wrong(format!("the code {code:?}"));
            }
            let length = words.chars().count();
            if !(1..=WORDS).contains(&length) || words.chars().any(char::is_control) {
                return wrong(format!("the words {words:?}"));
            }
            if [Self::NOT_RECORDED, Self::OTHER_WORDS].contains(&folded(words).as_str()) {
                return wrong(format!("the words {words:?}, which reports need,"));
            }
            // Whatever free words are looked for must find one group at most.
            let others = self.groups.iter().skip(at + 1);
            if let Some(other) = others.into_iter().find(|other| {
                let (code, words) = (folded(code), folded(words));
                let theirs = [folded(&other.code), folded(&other.words)];
                theirs.contains(&code) || theirs.contains(&words)
            }) {
                return wrong(format!("{code:?} and {:?}, which are alike", other.code));
            }
        }
        Ok(())
    }
}

/// Without capitals, and with one space where there were several.
fn folded(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}
