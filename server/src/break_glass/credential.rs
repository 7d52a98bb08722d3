//! The sealed credential as text: seven groups of five, made to be read from paper and typed by a tired hand. The fifth character of a
//! group checks it, so that a slip of the finger is told apart from a wrong credential without telling anything about the right one.

use sallyport_domain::Timestamp;
use zeroize::Zeroizing;

use crate::clock::{NoRandomness, random};

/// 31 letters and digits of which no two look alike; a prime number, so that the check finds each wrong and each swapped character.
const LETTERS: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";
/// Groups.
const GROUPS: usize = 7;
/// Random characters of a group: seven times four times 4.95 bits are 138.
const RANDOM: usize = 4;

/// A credential as it is printed and typed. `Debug` hides it.
pub struct Credential(Zeroizing<String>);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential([sealed])")
    }
}

/// What was typed cannot be any credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mistyped {
    /// A group's check does not fit.
    #[error("Group {0} is mistyped. Compare it with the paper.")]
    Group(usize),
    /// Too much or too little.
    #[error("The credential has seven groups of five letters and digits.")]
    Length,
}

impl Credential {
    /// A new one.
    ///
    /// # Errors
    /// No randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut values = Zeroizing::new(Vec::with_capacity(GROUPS * RANDOM));
        while values.len() < GROUPS * RANDOM {
            let bytes = Zeroizing::new(random::<64>()?);
            // 31 of 32 are taken, so that all characters are equally likely.
            let fitting = bytes.iter().map(|byte| byte & 31).filter(|byte| *byte < 31);
            let wanted = GROUPS * RANDOM - values.len();
            values.extend(fitting.take(wanted));
        }
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (RANDOM + 2)));
        for (number, group) in values.chunks(RANDOM).enumerate() {
            if number > 0 {
                text.push(' ');
            }
            for value in group.iter().copied().chain([check(number, group)]) {
                text.push(letter(value));
            }
        }
        Ok(Self(text))
    }

    /// What somebody typed: in either case, with or without spaces and dashes.
    ///
    /// # Errors
    /// Where it is mistyped.
    pub fn parse(typed: &str) -> Result<Self, Mistyped> {
        let typed: Zeroizing<Vec<char>> = Zeroizing::new(
            typed
                .chars()
                .filter(|c| !c.is_whitespace() && *c != '-')
                .map(|c| c.to_ascii_uppercase())
                .take(GROUPS * (RANDOM + 1) + 1)
                .collect(),
        );
        if typed.len() != GROUPS * (RANDOM + 1) {
            return Err(Mistyped::Length);
        }
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (RANDOM + 2)));
        for (number, group) in typed.chunks(RANDOM + 1).enumerate() {
            let wrong = Mistyped::Group(number + 1);
            let values: Option<Vec<u8>> = group.iter().map(|c| value(*c)).collect();
            let values = Zeroizing::new(values.ok_or(wrong)?);
            let (last, random) = values.split_last().ok_or(wrong)?;
            if check(number, random) != *last {
                return Err(wrong);
            }
            if number > 0 {
                text.push(' ');
            }
            text.extend(group);
        }
        Ok(Self(text))
    }

    /// As printed: groups with a space between them.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Different for each wrong character, for two that are swapped, and for a group that stands in another's place.
fn check(number: usize, group: &[u8]) -> u8 {
    let weighted = group
        .iter()
        .zip(1_usize..)
        .map(|(value, weight)| weight * usize::from(*value));
    let sum = weighted.sum::<usize>() + 5 * number;
    u8::try_from(sum % LETTERS.len()).unwrap_or_default()
}

fn letter(value: u8) -> char {
    LETTERS
        .get(usize::from(value))
        .map_or('2', |byte| char::from(*byte))
}

fn value(letter: char) -> Option<u8> {
    let at = LETTERS
        .iter()
        .position(|known| char::from(*known) == letter)?;
    u8::try_from(at).ok()
}

/// The sheet of paper that goes into the envelope.
#[must_use]
pub fn sheet(credential: &Credential, site: &str, port: u16, at: Timestamp, entry: u64) -> String {
    format!(
        "SALLYPORT EMERGENCY CREDENTIAL\n\
         Site {site}. Made {}, log entry {entry}. Works once.\n\n    {}\n\n\
         For an emergency in which nobody can sign in. At the server's own machine open\n    https://localhost:{port}/break-glass\n\
         and type the credential, your name and the reason. For 60 minutes you can watch the gates, decide about people who wait, open\n\
         records, read the log, and free doors. Every officer sees an alarm at once; everything you do is logged and reviewed the next day.\n\
         Seal this sheet and lock it away. Whoever finds the envelope opened: sallyport-server officer break-glass prepare\n",
        at.to_rfc3339()
            .get(..16)
            .unwrap_or_default()
            .replace('T', " "),
        credential.text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_typed_in_any_case_and_spacing() {
        for _ in 0..200 {
            let made = Credential::generate().unwrap();
            let text = made.text();
            assert_eq!(text.len(), 41);
            assert!(
                text.bytes()
                    .all(|byte| byte == b' ' || LETTERS.contains(&byte))
            );
            for typed in [
                text.to_owned(),
                text.to_lowercase(),
                text.replace(' ', ""),
                format!("  {}\n", text.replace(' ', " - ")),
            ] {
                assert_eq!(Credential::parse(&typed).unwrap().text(), text);
            }
        }
        assert_eq!(
            format!("{:?}", Credential::generate().unwrap()),
            "Credential([sealed])"
        );
    }

    #[test]
    fn every_wrong_and_every_swapped_character_and_group_is_found() {
        let made = Credential::generate().unwrap();
        let right: Vec<char> = made.text().chars().filter(|c| *c != ' ').collect();
        let parsed = |typed: &[char]| Credential::parse(&typed.iter().collect::<String>());
        for at in 0..right.len() {
            for other in LETTERS
                .map(char::from)
                .into_iter()
                .chain(['0', '1', 'O', 'ß'])
            {
                let mut typed = right.clone();
                typed[at] = other;
                let wrong = Mistyped::Group(at / 5 + 1);
                assert_eq!(parsed(&typed).err(), (other != right[at]).then_some(wrong));
            }
            // Two neighbours within a group.
            if at % 5 < 4 && right[at] != right[at + 1] {
                let mut typed = right.clone();
                typed.swap(at, at + 1);
                assert!(parsed(&typed).is_err());
            }
        }
        for at in 0..6 {
            let mut groups: Vec<&[char]> = right.chunks(5).collect();
            groups.swap(at, at + 1);
            assert!(parsed(&groups.concat()).is_err() || groups[at] == groups[at + 1]);
        }
        for wrong in [
            "",
            "AAAAA",
            &"A".repeat(34),
            &"A".repeat(36),
            &"A".repeat(9_999),
        ] {
            assert_eq!(Credential::parse(wrong).err(), Some(Mistyped::Length));
        }
    }

    #[test]
    fn no_two_are_alike_and_all_characters_come() {
        let mut seen = std::collections::HashSet::new();
        let mut letters = std::collections::HashSet::new();
        for _ in 0..500 {
            let made = Credential::generate().unwrap();
            letters.extend(made.text().bytes());
            assert!(seen.insert(made.text().to_owned()));
        }
        assert_eq!(letters.len(), LETTERS.len() + 1);
    }
}
