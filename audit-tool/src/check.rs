//! The check itself: an export or a selection against a key or a policy.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use sallyport_transparency::{
    CSV_HEADER, Checkpoint, MAX_POLICY_BYTES, MAX_SELECTION_LINE, Policy, QuorumError, Selected,
    VerifierKey, csv_row, json_line, verify_export,
};

use crate::place::{Part, Place};
use crate::{Export, Failure, Trust};

/// What was verified.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) checkpoint: Checkpoint,
    /// Witnesses whose cosignatures the policy counts.
    pub(crate) witnesses: Option<Vec<String>>,
    /// Entries, when the export is a selection.
    pub(crate) selected: Option<u64>,
}

/// A key and, if given, a policy.
pub(crate) struct Trusted {
    pub(crate) key: VerifierKey,
    policy: Option<Policy>,
}

impl Trusted {
    /// From the command line; from inside the export only when nothing was given, and then said aloud.
    pub(crate) fn new(trust: &Trust, inside: Option<&Place>) -> Result<Self, Failure> {
        let policy = trust.policy.as_deref().map(policy).transpose()?;
        let key = match (&trust.vkey, &policy, inside) {
            (Some(text), _, _) => parse_key(text)?,
            (None, Some(policy), _) => match policy.logs() {
                [log] => log.key.clone(),
                _ => {
                    return Err(Failure::Unable(
                        "the policy names several logs or none; say which one with --vkey".into(),
                    ));
                }
            },
            (None, None, Some(place)) => {
                let bytes = place.bytes("log.vkey").map_err(|failure| match failure {
                    Failure::Unable(why) | Failure::Tampered(why) => {
                        Failure::Unable(format!("{why}; give the key with --vkey"))
                    }
                })?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                eprintln!(
                    "Note: using the key inside the export. Compare it with the one you were given another way:\n  {}",
                    text.trim()
                );
                parse_key(&text)?
            }
            (None, None, None) => {
                return Err(Failure::Unable(
                    "give the log's key with --vkey, or a policy with --policy".into(),
                ));
            }
        };
        Ok(Self { key, policy })
    }

    /// Opens a checkpoint; names the witnesses when there is a policy.
    pub(crate) fn open(&self, note: &[u8]) -> Result<(Checkpoint, Option<Vec<String>>), Failure> {
        let checkpoint = Checkpoint::open(note, &self.key).map_err(|error| {
            Failure::Tampered(format!("the checkpoint is not acceptable: {error}"))
        })?;
        let Some(policy) = &self.policy else {
            return Ok((checkpoint, None));
        };
        let witnessed = policy.open(note).map_err(|error| match error {
            QuorumError::Checkpoint(error) => {
                Failure::Tampered(format!("the checkpoint is not acceptable: {error}"))
            }
            QuorumError::NoQuorum(_) => Failure::Tampered(error.to_string()),
        })?;
        let names = witnessed.cosigned.into_iter().map(|(name, _)| name);
        Ok((checkpoint, Some(names.collect())))
    }
}

fn parse_key(text: &str) -> Result<VerifierKey, Failure> {
    VerifierKey::parse(text.trim())
        .map_err(|error| Failure::Unable(format!("the log's key is {error}")))
}

fn policy(path: &Path) -> Result<Policy, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            file.take(MAX_POLICY_BYTES as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(|error| unreadable(path, &error))?;
    Policy::parse(&bytes).map_err(|error| Failure::Unable(format!("{}: {error}", path.display())))
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Unable(format!("{} could not be read: {error}", path.display()))
}

/// Verifies the export; `each` sees every entry, and what it collected may be used only when this succeeds.
pub(crate) fn verified(export: &Export, each: impl FnMut(u64, &[u8])) -> Result<Verified, Failure> {
    verified_at(&Place::open(&export.folder)?, &export.trust, each)
}

/// The same of an export that was opened already.
pub(crate) fn verified_at(
    root: &Place,
    trust: &Trust,
    each: impl FnMut(u64, &[u8]),
) -> Result<Verified, Failure> {
    let trusted = Trusted::new(trust, Some(root))?;
    let done = if root.has("selection.jsonl") {
        selection(root, &trusted, each)
    } else {
        whole(root, &trusted, each)
    }?;
    same_key(root, &trusted.key)?;
    Ok(done)
}

/// The copy of the key in the export must be the key that was given.
fn same_key(root: &Place, key: &VerifierKey) -> Result<(), Failure> {
    match root.bytes("log.vkey") {
        Ok(text) if text.trim_ascii_end() != key.to_string().as_bytes() => Err(Failure::Tampered(
            "the key inside the export (log.vkey) is not the key that you gave".to_owned(),
        )),
        // Without a copy there is nothing to compare.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn whole(
    root: &Place,
    trusted: &Trusted,
    mut each: impl FnMut(u64, &[u8]),
) -> Result<Verified, Failure> {
    let mut views = Views::open(root)?;
    let mut files = root;
    let mut last = 0;
    let mut differs = None;
    let result = verify_export(&mut files, &trusted.key, |index, entry| {
        if index >= last + 100_000 {
            last = index;
            eprintln!("… {index} entries");
        }
        if differs.is_none() {
            differs = views.compare(index, entry).err();
        }
        each(index, entry);
    });
    if let Err(finding) = result {
        return Err(Failure::Tampered(finding.to_string()));
    }
    if let Some(failure) = differs {
        return Err(failure);
    }
    views.finish()?;
    let note = root.bytes("checkpoint")?;
    let (checkpoint, witnesses) = trusted.open(&note)?;
    Ok(Verified {
        checkpoint,
        witnesses,
        selected: None,
    })
}

fn selection(
    root: &Place,
    trusted: &Trusted,
    mut each: impl FnMut(u64, &[u8]),
) -> Result<Verified, Failure> {
    let note = root.bytes("checkpoint")?;
    let (checkpoint, witnesses) = trusted.open(&note)?;
    let path = root.name("selection.jsonl");
    let file = root
        .part("selection.jsonl")
        .map_err(|error| unreadable(&path, &error))?
        .ok_or_else(|| Failure::Unable(format!("{} is gone", path.display())))?;
    let mut views = Views::open(root)?;
    let mut lines = BufReader::new(file);
    let (mut count, mut next) = (0, 0);
    loop {
        let mut line = String::new();
        let length = lines
            .by_ref()
            .take(MAX_SELECTION_LINE as u64 + 2)
            .read_line(&mut line)
            .map_err(|error| unreadable(&path, &error))?;
        if length == 0 {
            break;
        }
        let tampered = |why: String| Failure::Tampered(format!("line {}: {why}", count + 1));
        let text = line
            .strip_suffix('\n')
            .ok_or_else(|| tampered("it ends early".to_owned()))?;
        let selected = Selected::parse(text).map_err(|error| tampered(error.to_string()))?;
        if selected.to_line() != text {
            return Err(tampered("it was written by another hand".to_owned()));
        }
        if selected.index < next {
            return Err(tampered("it is out of order or there twice".to_owned()));
        }
        next = selected.index + 1;
        selected
            .verify(&checkpoint)
            .map_err(|error| tampered(format!("entry {}: {error}", selected.index)))?;
        views.compare(selected.index, selected.entry.as_bytes())?;
        each(selected.index, selected.entry.as_bytes());
        count += 1;
    }
    views.finish()?;
    Ok(Verified {
        checkpoint,
        witnesses,
        selected: Some(count),
    })
}

/// How one line of a view is written from an entry.
type Line = fn(u64, &[u8]) -> String;

/// The readable copies, where there are any, must say what the entries say.
struct Views(Vec<(&'static str, BufReader<Part>, Line)>);

impl Views {
    fn open(root: &Place) -> Result<Self, Failure> {
        let mut views = Self(Vec::new());
        let kinds: [(&'static str, &str, Line); 2] = [
            ("view/entries.csv", CSV_HEADER, csv_row),
            ("view/entries.jsonl", "", json_line),
        ];
        for (name, header, row) in kinds {
            match root.part(name) {
                Ok(Some(file)) => {
                    let mut reader = BufReader::new(file);
                    expect(name, &mut reader, header)?;
                    views.0.push((name, reader, row));
                }
                Ok(None) => {}
                Err(error) => return Err(unreadable(&root.name(name), &error)),
            }
        }
        Ok(views)
    }

    fn compare(&mut self, index: u64, entry: &[u8]) -> Result<(), Failure> {
        for (name, reader, row) in &mut self.0 {
            expect(name, reader, &row(index, entry))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        for (name, mut reader, _) in self.0 {
            if reader.fill_buf().map_or(true, |rest| !rest.is_empty()) {
                return Err(other(name));
            }
        }
        Ok(())
    }
}

fn expect(name: &str, reader: &mut BufReader<Part>, text: &str) -> Result<(), Failure> {
    let mut there = vec![0; text.len()];
    match reader.read_exact(&mut there) {
        Ok(()) if there == text.as_bytes() => Ok(()),
        _ => Err(other(name)),
    }
}

fn other(name: &str) -> Failure {
    Failure::Tampered(format!(
        "{name} does not say what the log says: the readable copy was changed"
    ))
}
