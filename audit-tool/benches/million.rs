//! Writes an export of a million entries and lets the program verify it, as an inspector would.
//!
//! `cargo bench -p sallyport-audit --bench million`, with another number of entries as an argument. The bar: 1,000,000 in 60 s on 2 cores.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring program: it stops when something is wrong and prints"
)]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use sallyport_transparency::{
    CSV_HEADER, Checkpoint, Entry, ExportFile, ExportWriter, NoteSigner, csv_row, json_line,
    sign_checkpoint,
};

const ORIGIN: &str = "sallyport/bench/audit1";

fn main() {
    let entries = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(1_000_000_u64);
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let bytes = write(folder.path(), entries);
    println!(
        "written: {entries} entries, {} MiB of entries, in {:.1} s",
        bytes / 1024 / 1024,
        begun.elapsed().as_secs_f64()
    );
    println!("bar: 1000000 entries in 60 s on 2 cores");
    for command in ["verify", "fsck"] {
        let begun = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_sallyport-audit"))
            .args([command, "--vkey"])
            .arg(signer().verifier().to_string())
            .arg(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        println!(
            "{command}: {entries} entries in {:.1} s",
            begun.elapsed().as_secs_f64()
        );
    }
}

fn signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, &[7; 32]).unwrap()
}

/// Entries as a passage leaves them.
fn entry(index: u64) -> Vec<u8> {
    let entry = Entry {
        gate: Some("front-in".into()),
        subject: Some(format!("0192f0c4-7b3a-7c1d-9f00-{index:012x}")),
        about: Some(format!("0192f0c4-7b3a-7c1d-8f00-{index:012x}")),
        decision: Some("grant".into()),
        reason: Some("within_policy".into()),
        policy: Some("default-1".into()),
        models: vec!["a".repeat(64)],
        calibration: Some(format!("pair@1:{}", "b".repeat(64))),
        build: Some("sallyport-server/0.1.0".into()),
        ..Entry::new(
            format!("0192f0c4-7b3a-7c1d-af00-{index:012x}"),
            "passage",
            1_795_420_800_000_000 + index as i64,
        )
    };
    entry.to_bytes().unwrap()
}

fn put(folder: &Path, files: Vec<ExportFile>) {
    for file in files {
        let path = folder.join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file.bytes).unwrap();
    }
}

fn write(folder: &Path, entries: u64) -> usize {
    std::fs::create_dir_all(folder.join("view")).unwrap();
    let view = |name: &str| BufWriter::new(File::create(folder.join("view").join(name)).unwrap());
    let (mut csv, mut json) = (view("entries.csv"), view("entries.jsonl"));
    csv.write_all(CSV_HEADER.as_bytes()).unwrap();
    let (mut writer, mut bytes) = (ExportWriter::default(), 0);
    for index in 0..entries {
        let entry = entry(index);
        bytes += entry.len();
        csv.write_all(csv_row(index, &entry).as_bytes()).unwrap();
        json.write_all(json_line(index, &entry).as_bytes()).unwrap();
        put(folder, writer.push(entry).unwrap());
    }
    csv.flush().unwrap();
    json.flush().unwrap();
    let (rest, size, root) = writer.finish().unwrap();
    put(folder, rest);
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size,
        root,
    };
    let note = sign_checkpoint(&checkpoint, &signer()).unwrap();
    std::fs::write(folder.join("checkpoint"), note).unwrap();
    bytes
}
