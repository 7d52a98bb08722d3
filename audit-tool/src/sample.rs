//! The weekly sample of consultations, drawn anew from a verified export.

use std::io::Write;
use std::path::Path;

use sallyport_transparency::{SampleError, SampleReader, Week};

use crate::check::{unreadable, verified};
use crate::{Export, Failure, put};

/// Draws from the whole log and prints the table, or compares it with one that the site made.
pub(crate) fn sample(
    export: &Export,
    week: Week,
    (size, word): (usize, &str),
    compare: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut reader = SampleReader::new(week);
    let done = verified(export, |index, bytes| reader.take(index, bytes))?;
    if done.selected.is_some() {
        return Err(Failure::Unable(
            "a selection cannot say what was left out of a sample; take an export of the whole log"
                .to_owned(),
        ));
    }
    let sample = reader
        .draw(&done.checkpoint.origin, size, word)
        .map_err(|error| match error {
            SampleError::Damaged(_) => Failure::Tampered(error.to_string()),
            SampleError::Week(_) | SampleError::NotOver(_) | SampleError::Word => {
                Failure::Unable(error.to_string())
            }
        })?;
    let csv = sample.to_csv();
    let Some(path) = compare else {
        return put(out, &csv);
    };
    let theirs = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    compared(&csv, &theirs)?;
    put(
        out,
        &format!(
            "VERIFIED: {} is the sample that this log gives, row by row.\n",
            path.display()
        ),
    )
}

/// Row by row; what stands in the last column is the auditor's.
fn compared(ours: &str, theirs: &str) -> Result<(), Failure> {
    let mut theirs = theirs.lines();
    for (number, own) in (1..).zip(ours.lines()) {
        let same = theirs.next().is_some_and(|row| match number {
            1 | 2 => row == own,
            _ => row.starts_with(own),
        });
        if !same {
            return Err(Failure::Tampered(format!(
                "line {number} of the site's sample is not what this log gives: {own}"
            )));
        }
    }
    match theirs.next() {
        None => Ok(()),
        Some(row) => Err(Failure::Tampered(format!(
            "the site's sample has a row that this log does not give: {row}"
        ))),
    }
}
