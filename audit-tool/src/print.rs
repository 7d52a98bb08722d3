//! What each command says.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use sallyport_transparency::{
    CSV_HEADER, CompactTree, Entry, NodeMap, ProofFile, csv_row, inclusion_proof, json_line,
    needed_for_inclusion,
};

use crate::check::{Trusted, Verified, unreadable, verified, verified_at};
use crate::details::{self, Detail, Details, withheld};
use crate::place::Place;
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
    if Place::open(&export.folder)?.has(details::FILE) {
        put(
            out,
            "Sealed details for an entitled reader are with it; only his key opens and checks them: sallyport-audit details --identity FILE.\n",
        )?;
    }
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

pub(crate) fn show(
    export: &Export,
    index: u64,
    identity: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut found = None;
    let place = Place::open(&export.folder)?;
    verified_at(&place, &export.trust, |at, entry| {
        if at == index {
            found = Some(entry.to_vec());
        }
    })?;
    let entry = found.ok_or_else(|| Failure::Unable(format!("the export has no entry {index}")))?;
    put(out, &(String::from_utf8_lossy(&entry).into_owned() + "\n"))?;
    let Some(identity) = identity else {
        return Ok(());
    };
    let mut shown = None;
    details_of(&place, &export.trust, identity, |at, _, detail| {
        if at == index {
            shown = Some(detail);
        }
        Ok(())
    })?;
    match shown {
        Some(Detail::Text(text)) => {
            put(
                out,
                "detail, proved by the entry's detail_hash to belong to it:\n",
            )?;
            put(out, &(String::from_utf8_lossy(&text).into_owned() + "\n"))
        }
        Some(Detail::Withheld(why)) => put(
            out,
            &format!("The detail is not in this export: {}.\n", withheld(&why)),
        ),
        Some(Detail::None) | None => put(out, "This entry has no sealed detail.\n"),
    }
}

/// Opens every detail beside its entry. What `each` gets is right as far as it came; the whole only when this succeeds.
fn details_of(
    place: &Place,
    trust: &Trust,
    identity: &Path,
    mut each: impl FnMut(u64, &[u8], Detail) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (checkpoint, _) = Trusted::new(trust, Some(place))?.open(&place.bytes("checkpoint")?)?;
    let mut details = Details::open(place, identity, &checkpoint.origin)?;
    let mut failed = Ok(());
    verified_at(place, trust, |index, entry| {
        if failed.is_ok() {
            failed = details
                .of(index, entry)
                .and_then(|detail| each(index, entry, detail));
        }
    })?;
    failed?;
    details.finish()
}

/// Prints every detail as a line of JSON. All are opened and compared with their entries before the first is printed.
pub(crate) fn details(
    export: &Export,
    identity: &Path,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let place = Place::open(&export.folder)?;
    let (mut given, mut left) = (0_u64, 0_u64);
    details_of(&place, &export.trust, identity, |_, _, detail| {
        match detail {
            Detail::None => {}
            Detail::Text(_) => given += 1,
            Detail::Withheld(_) => left += 1,
        }
        Ok(())
    })?;
    eprintln!(
        "VERIFIED: {given} details belong to their entries; {left} are not in this export, each with its reason."
    );
    details_of(&place, &export.trust, identity, |index, _, detail| {
        let line = match detail {
            Detail::None => return Ok(()),
            Detail::Text(text) => serde_json::json!({
                "index": index, "detail": String::from_utf8_lossy(&text),
            }),
            Detail::Withheld(why) => serde_json::json!({
                "index": index, "withheld": why,
            }),
        };
        put(out, &format!("{line}\n"))
    })
}

pub(crate) fn proof(export: &Export, index: u64, out: &mut impl Write) -> Result<(), Failure> {
    let no_entry = |size: u64| {
        Failure::Unable(format!(
            "the log has no entry {index}; it has {size} entries, counted from 0"
        ))
    };
    let place = Place::open(&export.folder)?;
    let note = String::from_utf8(place.bytes("checkpoint")?)
        .map_err(|_| Failure::Tampered("the checkpoint is not text".to_owned()))?;
    let (checkpoint, _) = Trusted::new(&export.trust, Some(&place))?.open(note.as_bytes())?;
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
