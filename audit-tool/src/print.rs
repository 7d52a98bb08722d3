//! What each command says.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use sallyport_transparency::{
    CSV_HEADER, CompactTree, Entry, NodeMap, ProofFile, csv_row, inclusion_proof, json_line,
    needed_for_inclusion,
};

use crate::check::{Trusted, Verified, unreadable, verified};
use crate::{Export, Failure, Trust, put};

/// How entries are printed.
#[derive(Clone, Copy)]
pub(crate) enum View {
    Csv,
    JsonLines,
}

fn witnesses(verified: &Verified) -> String {
    match &verified.witnesses {
        None => String::new(),
        Some(names) if names.is_empty() => {
            "The policy asks for no witness, and none of its witnesses cosigned.\n".to_owned()
        }
        Some(names) => format!("Cosigned by {}, enough for the policy.\n", names.join(", ")),
    }
}

pub(crate) fn verdict(export: &Export, out: &mut impl Write) -> Result<(), Failure> {
    let done = verified(export, |_, _| {})?;
    let (size, origin) = (done.checkpoint.size, &done.checkpoint.origin);
    let text = match done.selected {
        None => {
            format!("VERIFIED: all {size} entries of {origin} are whole, in order and as signed.\n")
        }
        Some(count) => format!(
            "VERIFIED: these {count} entries are in {origin}, unchanged and at their places, as signed when it had {size} entries.\nThis is a selection: it cannot show that none was left out. Only the whole log can.\n"
        ),
    };
    put(out, &text)?;
    put(out, &witnesses(&done))
}

pub(crate) fn fsck(export: &Export, out: &mut impl Write) -> Result<(), Failure> {
    let (mut first_bad, mut steps_back, mut before) = (None, 0_u64, i64::MIN);
    let done = verified(export, |index, bytes| match Entry::from_bytes(bytes) {
        Ok(entry) => {
            steps_back += u64::from(entry.time < before);
            before = entry.time;
        }
        Err(error) => {
            first_bad.get_or_insert((index, error.to_string()));
        }
    })?;
    if let Some((index, why)) = first_bad {
        return Err(Failure::Tampered(format!("entry {index} is {why}")));
    }
    let (size, origin) = (done.checkpoint.size, &done.checkpoint.origin);
    let count = match done.selected {
        None => format!("all {size} entries of {origin}"),
        Some(count) => format!("{count} selected entries of {origin}"),
    };
    put(
        out,
        &format!(
            "VERIFIED: {count} are whole, in order, as signed and well-formed.\nThe server's clock stepped back between entries {steps_back} times; their order does not depend on it.\n"
        ),
    )?;
    put(out, &witnesses(&done))
}

pub(crate) fn show(export: &Export, index: u64, out: &mut impl Write) -> Result<(), Failure> {
    let mut found = None;
    verified(export, |at, entry| {
        if at == index {
            found = Some(entry.to_vec());
        }
    })?;
    let entry = found.ok_or_else(|| Failure::Unable(format!("the export has no entry {index}")))?;
    put(out, &(String::from_utf8_lossy(&entry).into_owned() + "\n"))
}

pub(crate) fn proof(export: &Export, index: u64, out: &mut impl Write) -> Result<(), Failure> {
    let no_entry = |size: u64| {
        Failure::Unable(format!(
            "the log has no entry {index}; it has {size} entries, counted from 0"
        ))
    };
    let path = export.folder.join("checkpoint");
    let note = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
    let (checkpoint, _) =
        Trusted::new(&export.trust, Some(&export.folder))?.open(note.as_bytes())?;
    let size = checkpoint.size;
    if index >= size {
        return Err(no_entry(size));
    }
    // Only the few nodes of this proof are kept.
    let needed: BTreeSet<_> = needed_for_inclusion(index, size).into_iter().collect();
    let (mut tree, mut nodes) = (CompactTree::default(), NodeMap::new());
    let done = verified(export, |_, entry| {
        tree.push(entry, |id, hash| {
            if needed.contains(&id) {
                nodes.insert(id, hash);
            }
        });
    })?;
    if done.selected.is_some() {
        return Err(Failure::Unable(
            "this export is a selection; the proof of each entry is in selection.jsonl".to_owned(),
        ));
    }
    let hashes = inclusion_proof(index, size, &nodes).map_err(|_| no_entry(size))?;
    let file = ProofFile {
        index,
        hashes,
        checkpoint: note,
    };
    put(out, &file.to_text())
}

pub(crate) fn verify_proof(
    proof: &Path,
    entry: &Path,
    trust: &Trust,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| unreadable(path, &error));
    let text = String::from_utf8(read(proof)?)
        .map_err(|_| Failure::Unable("the proof file is not text".to_owned()))?;
    let trusted = Trusted::new(trust, None)?;
    let file = ProofFile::parse(&text).map_err(|error| Failure::Unable(error.to_string()))?;
    let entry = read(entry)?;
    let entry = entry.strip_suffix(b"\n").unwrap_or(&entry);
    let (checkpoint, witnesses) = trusted.open(file.checkpoint.as_bytes())?;
    file.verify(entry, &trusted.key)
        .map_err(|error| Failure::Tampered(error.to_string()))?;
    put(
        out,
        &format!(
            "VERIFIED: this is entry {} of {}, as signed when the log had {} entries.\n",
            file.index, checkpoint.origin, checkpoint.size
        ),
    )?;
    match witnesses {
        Some(names) if !names.is_empty() => put(
            out,
            &format!("Cosigned by {}, enough for the policy.\n", names.join(", ")),
        ),
        Some(_) | None => Ok(()),
    }
}

/// Prints all entries. The export is verified before the first line is printed, and again while printing.
pub(crate) fn rows(export: &Export, out: &mut impl Write, view: View) -> Result<(), Failure> {
    verified(export, |_, _| {})?;
    if matches!(view, View::Csv) {
        put(out, CSV_HEADER)?;
    }
    let mut failed = Ok(());
    verified(export, |index, bytes| {
        let row = match view {
            View::Csv => csv_row(index, bytes),
            View::JsonLines => json_line(index, bytes),
        };
        if failed.is_ok() {
            failed = put(out, &row);
        }
    })?;
    failed
}
