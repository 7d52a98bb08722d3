//! The weekly sample, drawn from an export by the auditor's own program.
#![expect(clippy::unwrap_used, reason = "a test stops when something is wrong")]

use std::path::Path;
use std::process::{Command, Output};

use sallyport_transparency::{
    Checkpoint, Entry, ExportWriter, NoteSigner, SampleReader, Week, sign_checkpoint,
};

const ORIGIN: &str = "sallyport/site-test/audit1";

fn week() -> Week {
    "2026-W48".parse().unwrap()
}

fn entries() -> Vec<Vec<u8>> {
    let (begin, end) = week().limits_us();
    let consultation = |number: i64, kind: &str| Entry {
        actor: Some("officer-1".to_owned()),
        subject: Some(format!("person-{number}")),
        reason: Some("incident 12".to_owned()),
        ..Entry::new(format!("id-{number}"), kind, begin + number)
    };
    let mut all: Vec<Entry> = (0..50)
        .map(|number| consultation(number, "consultation"))
        .collect();
    all.push(consultation(50, "same_name_lookup"));
    all.push(Entry::new("end".to_owned(), "server_started", end));
    all.iter().map(|entry| entry.to_bytes().unwrap()).collect()
}

fn export(folder: &Path, entries: &[Vec<u8>]) {
    let signer = NoteSigner::new(ORIGIN, &[7; 32]).unwrap();
    let mut writer = ExportWriter::default();
    let mut files = Vec::new();
    for bytes in entries {
        files.extend(writer.push(bytes.clone()).unwrap());
    }
    let (rest, size, root) = writer.finish().unwrap();
    files.extend(rest);
    for file in files {
        let path = folder.join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file.bytes).unwrap();
    }
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root,
    };
    let note = sign_checkpoint(&checkpoint, &signer).unwrap();
    std::fs::write(folder.join("checkpoint"), note).unwrap();
    std::fs::write(folder.join("log.vkey"), signer.verifier().to_string()).unwrap();
}

fn run(folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sallyport-audit"))
        .arg("sample")
        .arg(folder)
        .args(["--week", "2026-W48", "--size", "5"])
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn the_program_draws_what_the_log_gives_and_finds_a_sample_that_was_bent() {
    let folder = tempfile::tempdir().unwrap();
    let entries = entries();
    export(folder.path(), &entries);
    let mut reader = SampleReader::new(week());
    for (index, bytes) in (0..).zip(&entries) {
        reader.take(index, bytes);
    }
    let own = reader.draw(ORIGIN, 5, "").unwrap().to_csv();
    let drawn = run(folder.path(), &[]);
    assert!(drawn.status.success(), "{drawn:?}");
    assert_eq!(String::from_utf8(drawn.stdout).unwrap(), own);
    assert!(own.contains("same_name_lookup,always,") && own.lines().count() == 2 + 6);
    let other = run(folder.path(), &["--word", "dice 3 5 1"]);
    assert!(other.status.success());
    assert_ne!(String::from_utf8(other.stdout).unwrap(), own);

    let file = folder.path().join("of-the-site.csv");
    let compare = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let path = file.display().to_string();
        run(folder.path(), &[&["--compare", &path], more].concat())
    };
    assert!(compare(&own, &[]).status.success());
    // With the auditor's findings in it.
    let found = own.replacen("incident,12,\r\n", "incident,12,no such incident\r\n", 1);
    assert_ne!(found, own);
    assert!(compare(&found, &[]).status.success());
    let one_row: Vec<&str> = own.split_inclusive("\r\n").collect();
    let without = [&one_row[..3], &one_row[4..]].concat().concat();
    let exchanged = own.replacen("officer-1", "officer-2", 1);
    let more = format!("{own}{}", one_row.last().unwrap());
    for bent in [&without, &exchanged, &more, &String::new()] {
        let output = compare(bent, &[]);
        assert_eq!(output.status.code(), Some(1), "{bent}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("NOT VERIFIED"), "{said}");
    }
    assert_eq!(compare(&own, &["--word", "x"]).status.code(), Some(1));
}

#[test]
fn a_week_that_goes_on_or_a_log_that_was_changed_gives_no_sample() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = entries();
    let end = entries.pop().unwrap();
    export(folder.path(), &entries);
    let output = run(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("when the week is over"));
    entries.push(end);
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), &entries);
    let bundle = folder.path().join("tile/entries/000.p/52");
    let bytes = std::fs::read(&bundle).unwrap();
    let text = String::from_utf8_lossy(&bytes).replacen("person-7", "person-8", 1);
    std::fs::write(&bundle, text).unwrap();
    assert_eq!(run(folder.path(), &[]).status.code(), Some(1));
}
