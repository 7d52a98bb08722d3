//! Whose eye a picture shows, from its place in the folder or from its file name.

use std::path::Path;
use std::str::FromStr;

use sallyport_domain::Eye;

/// The identity a picture belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The person, or the one eye, where a set knows no persons.
    pub subject: String,
    /// Which eye; none where the set does not say, and each subject then is one eye.
    pub eye: Option<Eye>,
    /// Which capture of it.
    pub sample: String,
}

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatternError {
    /// No `{subject}`.
    #[error("the pattern names no {{subject}}; an example is '{{subject}}{{eye:2}}{{sample:2}}'")]
    NoSubject,
    /// A placeholder that is not known, or braces that do not match.
    #[error(
        "'{0}' is no placeholder; use {{subject}}, {{eye}}, {{sample}}, {{any}}, with a width as in {{eye:2}} where needed"
    )]
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Field { name: Field, width: Option<usize> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Subject,
    Eye,
    Sample,
    Any,
}

/// A file-name pattern such as `{subject}{eye:2}{sample:2}`, matched against the path below the folder without its
/// ending when the pattern contains a slash, else against the bare file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    with_folders: bool,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                tokens.push(Token::Text(before.to_owned()));
            }
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| PatternError::Unknown(after.to_owned()))?;
            tokens.push(field(inside)?);
            rest = after;
        }
        if !rest.is_empty() {
            tokens.push(Token::Text(rest.to_owned()));
        }
        let subject = |token: &Token| {
            matches!(
                token,
                Token::Field {
                    name: Field::Subject,
                    ..
                }
            )
        };
        if !tokens.iter().any(subject) {
            return Err(PatternError::NoSubject);
        }
        Ok(Self {
            tokens,
            with_folders: text.contains('/'),
        })
    }
}

fn field(inside: &str) -> Result<Token, PatternError> {
    let unknown = || PatternError::Unknown(format!("{{{inside}}}"));
    let (name, width) = match inside.split_once(':') {
        Some((name, width)) => {
            let width: usize = width.parse().map_err(|_| unknown())?;
            (name, Some(width))
        }
        None => (inside, None),
    };
    let name = match name {
        "subject" => Field::Subject,
        "eye" => Field::Eye,
        "sample" => Field::Sample,
        "any" => Field::Any,
        _ => return Err(unknown()),
    };
    if width == Some(0) {
        return Err(unknown());
    }
    Ok(Token::Field { name, width })
}

impl Pattern {
    /// The label of a picture; `None` when its name does not fit.
    #[must_use]
    pub fn label(&self, below: &Path) -> Option<Label> {
        let stem = below.with_extension("");
        let text = if self.with_folders {
            stem.to_str()?.to_owned()
        } else {
            stem.file_name()?.to_str()?.to_owned()
        };
        let mut found = Vec::new();
        if !fits(&self.tokens, &text, &mut found) {
            return None;
        }
        let value = |wanted| {
            found
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value): &(Field, String)| value.clone())
        };
        let eye = match value(Field::Eye) {
            Some(text) => Some(eye_of(&text)?),
            None => None,
        };
        Some(Label {
            subject: value(Field::Subject)?,
            eye,
            sample: value(Field::Sample).unwrap_or(text),
        })
    }
}

/// Backtracking match; open fields take as much as they can.
fn fits(tokens: &[Token], text: &str, found: &mut Vec<(Field, String)>) -> bool {
    let Some((token, rest)) = tokens.split_first() else {
        return text.is_empty();
    };
    match token {
        Token::Text(literal) => text
            .strip_prefix(literal.as_str())
            .is_some_and(|text| fits(rest, text, found)),
        Token::Field { name, width } => {
            let mut ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            ends.push(text.len());
            for (length, end) in ends.iter().enumerate().skip(1).rev() {
                if width.is_some_and(|width| width != length) {
                    continue;
                }
                let (value, after) = text.split_at(*end);
                // A field stays within one folder level.
                if value.contains('/') && *name != Field::Any {
                    continue;
                }
                found.push((*name, value.to_owned()));
                if fits(rest, after, found) {
                    return true;
                }
                found.pop();
            }
            false
        }
    }
}

fn eye_of(text: &str) -> Option<Eye> {
    match text.to_ascii_lowercase().as_str() {
        "l" | "left" | "1" | "01" => Some(Eye::Left),
        "r" | "right" | "2" | "02" => Some(Eye::Right),
        _ => None,
    }
}

/// Without a pattern: folders are subjects, a folder called left or right (or L, R) is an eye, and so is a lone L or R
/// in the file name.
#[must_use]
pub fn from_folders(below: &Path) -> Option<Label> {
    let stem = below.file_stem()?.to_str()?;
    let mut subject = Vec::new();
    let mut eye = None;
    for part in below.parent()?.iter() {
        let part = part.to_str()?;
        match part.to_ascii_lowercase().as_str() {
            "l" | "left" => eye = Some(Eye::Left),
            "r" | "right" => eye = Some(Eye::Right),
            _ => subject.push(part),
        }
    }
    if subject.is_empty() {
        return None;
    }
    Some(Label {
        subject: subject.join("/"),
        eye: eye.or_else(|| lone_letter(stem)),
        sample: stem.to_owned(),
    })
}

/// `01_L`, `S2001R03`: an L or R that stands between non-letters.
fn lone_letter(stem: &str) -> Option<Eye> {
    let letters: Vec<char> = stem.chars().collect();
    let free = |at: Option<usize>| {
        at.and_then(|at| letters.get(at))
            .is_none_or(|letter| !letter.is_alphabetic())
    };
    let mut eyes = letters.iter().enumerate().filter_map(|(at, letter)| {
        let eye = match letter {
            'L' | 'l' => Eye::Left,
            'R' | 'r' => Eye::Right,
            _ => return None,
        };
        (free(at.checked_sub(1)) && free(Some(at + 1))).then_some(eye)
    });
    let eye = eyes.next()?;
    eyes.next().is_none().then_some(eye)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(pattern: &str, path: &str) -> Option<(String, Option<Eye>, String)> {
        let pattern: Pattern = pattern.parse().expect("the pattern is valid");
        let label = pattern.label(Path::new(path))?;
        Some((label.subject, label.eye, label.sample))
    }

    #[test]
    fn patterns_read_names_from_the_right() {
        assert_eq!(
            labelled("{subject}{eye:2}{sample:2}", "100/1000203.bmp"),
            Some(("100".into(), Some(Eye::Right), "03".into()))
        );
        assert_eq!(
            labelled("{subject}_{sample}", "7/007_2_3.jpg"),
            Some(("007_2".into(), None, "3".into()))
        );
        assert_eq!(
            labelled("{subject:3}_{sample}", "7/007_2_3.jpg"),
            Some(("007".into(), None, "2_3".into()))
        );
        assert_eq!(
            labelled("{subject}/{eye}/{sample}", "12/left/a1.bmp"),
            Some(("12".into(), Some(Eye::Left), "a1".into()))
        );
        assert_eq!(labelled("{subject}{eye:2}{sample:2}", "1/010301.bmp"), None);
    }

    #[test]
    fn wrong_patterns_say_what_is_wrong() {
        assert_eq!("x".parse::<Pattern>(), Err(PatternError::NoSubject));
        for wrong in ["{subject}{eie}", "{subject", "{subject:x}", "{subject:0}"] {
            assert!(matches!(
                wrong.parse::<Pattern>(),
                Err(PatternError::Unknown(_))
            ));
        }
    }

    #[test]
    fn folders_and_lone_letters_name_eyes() {
        let label =
            |path: &str| from_folders(Path::new(path)).map(|label| (label.subject, label.eye));
        assert_eq!(
            label("5/left/aeval1.bmp"),
            Some(("5".into(), Some(Eye::Left)))
        );
        assert_eq!(
            label("013/01_R.bmp"),
            Some(("013".into(), Some(Eye::Right)))
        );
        assert_eq!(
            label("002/S2002L07.jpg"),
            Some(("002".into(), Some(Eye::Left)))
        );
        assert_eq!(label("9/009_1_1.jpg"), Some(("9".into(), None)));
        assert_eq!(label("loose.jpg"), None);
    }
}
