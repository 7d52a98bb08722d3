//! Evidence bundles and slips.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::Path;

use sallyport_transparency::{
    Artefact, Entry, Evidence, MAX_EVIDENCE_BYTES, Measurement, Receipt, VerifierKey,
};

use crate::check::{Trusted, unreadable, verified};
use crate::place::Place;
use crate::{Export, Failure, Trust, put};

fn read(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    Ok(bytes)
}

/// The bundle's own copies of key and policy are never what it is judged by.
pub(crate) fn bundle(path: &Path, trust: &Trust, out: &mut impl Write) -> Result<(), Failure> {
    let trusted = Trusted::new(trust, None)?;
    let evidence = Evidence::parse(&read(path, MAX_EVIDENCE_BYTES)?)
        .map_err(|error| Failure::Unable(error.to_string()))?;
    if evidence.log != trusted.key.to_string() {
        return Err(Failure::Tampered(
            "the key inside the bundle is not the key that you gave".to_owned(),
        ));
    }
    let (checkpoint, witnesses) = trusted.open(evidence.checkpoint.as_bytes())?;
    evidence
        .verify(&checkpoint)
        .map_err(|error| Failure::Tampered(error.to_string()))?;
    put(
        out,
        &format!(
            "VERIFIED: {} entries about {} are in {}, unchanged and at their places, as signed when it had {} entries.\n",
            evidence.entries.len(),
            evidence.about,
            checkpoint.origin,
            checkpoint.size
        ),
    )?;
    if let Some(names) = witnesses.filter(|names| !names.is_empty()) {
        put(
            out,
            &format!("Cosigned by {}, enough for the policy.\n", names.join(", ")),
        )?;
    }
    for selected in &evidence.entries {
        let line = match Entry::from_bytes(selected.entry.as_bytes()) {
            Ok(entry) => format!(
                "  {}  {} {} {} {}\n",
                selected.index,
                entry.kind,
                entry.gate.unwrap_or_default(),
                entry.decision.unwrap_or_default(),
                entry.reason.unwrap_or_default()
            ),
            Err(_) => format!("  {}  (not well-formed)\n", selected.index),
        };
        put(out, &line)?;
    }
    for artefact in &evidence.artefacts {
        put(
            out,
            &format!(
                "  {}: is what entry {} names by its digest\n",
                artefact.name, artefact.named_by
            ),
        )?;
        measured(&evidence, artefact, out)?;
    }
    if !evidence.stated.is_empty() {
        put(out, "Said by the site, and not proved by the log:\n")?;
        for (name, text) in &evidence.stated {
            put(out, &format!("  {name}: {text}\n"))?;
        }
    }
    put(
        out,
        "The bundle shows what is in it; it cannot show that nothing was left out. Only the whole log can.\n",
    )
}

/// Measured error rates are signed by whoever measured, and their entry says by whom.
fn measured(evidence: &Evidence, artefact: &Artefact, out: &mut impl Write) -> Result<(), Failure> {
    let entry = evidence
        .entries
        .iter()
        .find(|selected| selected.index == artefact.named_by)
        .and_then(|selected| Entry::from_bytes(selected.entry.as_bytes()).ok());
    let Some(entry) = entry.filter(|entry| entry.kind == "error_rates") else {
        return Ok(());
    };
    let key = entry
        .about
        .as_deref()
        .and_then(|about| VerifierKey::parse(about.split_once(' ')?.0).ok())
        .ok_or_else(|| {
            Failure::Tampered(format!(
                "entry {} does not say whose measurement it is",
                artefact.named_by
            ))
        })?;
    let (measurement, key) =
        Measurement::open(artefact.text.as_bytes(), std::slice::from_ref(&key))
            .map_err(|error| Failure::Tampered(format!("{}: {error}", artefact.name)))?;
    put(
        out,
        &format!(
            "    signed by {key}; compare this key with the measuring body's\n    {} with {}, {}\n",
            measurement.data_set, measurement.program, measurement.measured
        ),
    )?;
    for pairs in measurement.pairs.iter().chain(&measurement.groups) {
        for point in &pairs.points {
            put(
                out,
                &format!(
                    "    {}: {} of {} non-mated pairs matched, {} of {} mated pairs did not, at {:.4}\n",
                    pairs.name,
                    point.false_matches,
                    pairs.non_mated_pairs,
                    point.false_non_matches,
                    pairs.mated_pairs,
                    point.threshold
                ),
            )?;
        }
    }
    Ok(())
}

pub(crate) fn receipt(path: &Path, export: &Export, out: &mut impl Write) -> Result<(), Failure> {
    let mut found = None;
    let trusted = Trusted::new(&export.trust, Some(&Place::open(&export.folder)?))?;
    let receipt = Receipt::open(&read(path, 4_096)?, &trusted.key)
        .map_err(|error| Failure::Unable(error.to_string()))?;
    let done = verified(export, |index, entry| {
        if index == receipt.index {
            found = Some((receipt.is_for(index, entry), entry.to_vec()));
        }
    })?;
    match found {
        Some((true, entry)) => {
            put(
                out,
                &format!(
                    "VERIFIED: the slip's entry {} is in {}, unchanged.\n",
                    receipt.index, done.checkpoint.origin
                ),
            )?;
            put(out, &format!("{}\n", String::from_utf8_lossy(&entry)))
        }
        Some((false, _)) => Err(Failure::Tampered(format!(
            "the log signed another entry at {} than the one on the slip. Keep the slip: it is the proof that the log was changed",
            receipt.index
        ))),
        None if receipt.index >= done.checkpoint.size => Err(Failure::Unable(format!(
            "this export ends before entry {}; ask for a newer one. Should that one lack it too, the log was cut: keep the slip",
            receipt.index
        ))),
        None => Err(Failure::Unable(format!(
            "this export is a selection without entry {}; ask for the whole log",
            receipt.index
        ))),
    }
}
