//! `sallyport-audit`: an inspector's own check of an audit export. Needs no server, no network and no rights.

mod folder;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use folder::Folder;
use sallyport_transparency::{
    Entry, NodeMap, ProofFile, VerifierKey, append, inclusion_proof, leaf_hash, verify_export,
};

/// Check an audit export of Sallyport, offline.
///
/// An export is a folder that `sallyport-server audit export DIR` wrote: the entries, the hash tree over them, and a signed
/// checkpoint. Every command first recomputes the whole tree from the entries and compares it with the signature, so an edited,
/// removed, added or reordered entry is found.
///
/// The log's public key must come to you another way than the export: from the notice at the gate, the contract, or an
/// earlier visit. Without --vkey the key inside the export is used, and you are told so.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 the log verifies, 1 it does not, 2 the command could not be carried out.\n\nExamples:\n  sallyport-audit verify ./export --vkey 'sallyport/site/audit1+62fa7f11+AQOh...'\n  sallyport-audit show ./export 41\n  sallyport-audit proof ./export 41 > entry-41.tlog-proof\n  sallyport-audit export-csv ./export > log.csv"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Export {
    /// Folder of the export.
    folder: PathBuf,
    /// The log's public key, `name+hash+key`, got another way than the export.
    #[arg(long)]
    vkey: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Recompute everything and say whether the export is whole and unchanged.
    Verify(Export),
    /// The same as verify, and also check that every entry is well-formed and in order of time.
    Fsck(Export),
    /// Print one entry.
    Show {
        #[command(flatten)]
        export: Export,
        /// Index of the entry, from 0.
        index: u64,
    },
    /// Print a proof that one entry is in the log, for keeping or handing on.
    Proof {
        #[command(flatten)]
        export: Export,
        /// Index of the entry, from 0.
        index: u64,
    },
    /// Check a proof made by `proof`, without the export.
    VerifyProof {
        /// The proof file.
        proof: PathBuf,
        /// File that holds the entry's exact bytes, as `show` printed them without the final newline.
        entry: PathBuf,
        /// The log's public key.
        #[arg(long)]
        vkey: String,
    },
    /// Print all entries as a table with their indexes.
    ExportCsv(Export),
}

/// What went wrong: the log is not right, or the command could not be carried out.
enum Failure {
    Tampered(String),
    Unable(String),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // A closed pipe is the reader's choice.
            Err(_) => ExitCode::from(2),
        },
        Err(Failure::Tampered(why)) => {
            eprintln!("NOT VERIFIED: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Unable(why)) => {
            eprintln!("sallyport-audit: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<String, Failure> {
    match command {
        Command::Verify(export) => {
            let (size, origin) = verified(&export, |_, _| {})?;
            Ok(format!(
                "VERIFIED: all {size} entries of {origin} are whole, in order and as signed.\n"
            ))
        }
        Command::Fsck(export) => fsck(&export),
        Command::Show { export, index } => {
            let mut found = None;
            verified(&export, |at, entry| {
                if at == index {
                    found = Some(entry.to_vec());
                }
            })?;
            let entry =
                found.ok_or_else(|| Failure::Unable(format!("the log has no entry {index}")))?;
            Ok(String::from_utf8_lossy(&entry).into_owned() + "\n")
        }
        Command::Proof { export, index } => proof(&export, index),
        Command::VerifyProof { proof, entry, vkey } => verify_proof(&proof, &entry, &vkey),
        Command::ExportCsv(export) => table(&export),
    }
}

fn key(export: &Export) -> Result<VerifierKey, Failure> {
    let text = match &export.vkey {
        Some(text) => text.clone(),
        None => {
            let path = export.folder.join("log.vkey");
            let text = std::fs::read_to_string(&path).map_err(|error| {
                Failure::Unable(format!(
                    "{} could not be read ({error}); give the key with --vkey",
                    path.display()
                ))
            })?;
            eprintln!(
                "Note: using the key inside the export. Compare it with the one you were given another way:\n  {}",
                text.trim()
            );
            text
        }
    };
    VerifierKey::parse(text.trim())
        .map_err(|error| Failure::Unable(format!("the log's key is {error}")))
}

/// Verifies the export; `each` sees every entry, and what it collected may be used only when this succeeds.
fn verified(export: &Export, mut each: impl FnMut(u64, &[u8])) -> Result<(u64, String), Failure> {
    let key = key(export)?;
    if !export.folder.is_dir() {
        return Err(Failure::Unable(format!(
            "{} is not a folder",
            export.folder.display()
        )));
    }
    let mut files = Folder::new(&export.folder);
    let mut last = 0;
    let result = verify_export(&mut files, &key, |index, entry| {
        if index >= last + 100_000 {
            last = index;
            eprintln!("… {index} entries");
        }
        each(index, entry);
    });
    match result {
        Ok(export) => Ok((export.checkpoint.size, export.checkpoint.origin)),
        Err(finding) => Err(Failure::Tampered(finding.to_string())),
    }
}

fn fsck(export: &Export) -> Result<String, Failure> {
    let (mut first_bad, mut steps_back, mut before) = (None, 0_u64, i64::MIN);
    let (size, origin) = verified(export, |index, bytes| match Entry::from_bytes(bytes) {
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
    Ok(format!(
        "VERIFIED: all {size} entries of {origin} are whole, in order, as signed and well-formed.\nThe server's clock stepped back between entries {steps_back} times; their order does not depend on it.\n"
    ))
}

fn proof(export: &Export, index: u64) -> Result<String, Failure> {
    let mut nodes = NodeMap::new();
    let mut failed = None;
    let (size, _) = verified(export, |at, entry| {
        match append(at, leaf_hash(entry), &nodes) {
            Ok(stored) => nodes.extend(stored),
            Err(error) => failed = Some(error),
        }
    })?;
    if let Some(error) = failed {
        return Err(Failure::Unable(error.to_string()));
    }
    let hashes = inclusion_proof(index, size, &nodes).map_err(|_| {
        Failure::Unable(format!(
            "the log has no entry {index}; it has {size} entries, counted from 0"
        ))
    })?;
    let checkpoint = std::fs::read_to_string(export.folder.join("checkpoint"))
        .map_err(|error| Failure::Unable(format!("the checkpoint could not be read: {error}")))?;
    Ok(ProofFile {
        index,
        hashes,
        checkpoint,
    }
    .to_text())
}

fn verify_proof(proof: &Path, entry: &Path, vkey: &str) -> Result<String, Failure> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            Failure::Unable(format!("{} could not be read: {error}", path.display()))
        })
    };
    let text = String::from_utf8(read(proof)?)
        .map_err(|_| Failure::Unable("the proof file is not text".to_owned()))?;
    let key = VerifierKey::parse(vkey)
        .map_err(|error| Failure::Unable(format!("the log's key is {error}")))?;
    let file = ProofFile::parse(&text).map_err(|error| Failure::Unable(error.to_string()))?;
    let entry = read(entry)?;
    let entry = entry.strip_suffix(b"\n").unwrap_or(&entry);
    let checkpoint = file
        .verify(entry, &key)
        .map_err(|error| Failure::Tampered(error.to_string()))?;
    Ok(format!(
        "VERIFIED: this is entry {} of {}, as signed when the log had {} entries.\n",
        file.index, checkpoint.origin, checkpoint.size
    ))
}

fn table(export: &Export) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut failed = None;
    let header = [
        "index",
        "time_utc_us",
        "kind",
        "gate",
        "actor",
        "second_actor",
        "subject",
        "about",
        "decision",
        "reason",
        "policy",
        "event_id",
    ];
    let mut write = |record: &[String]| {
        if let Err(error) = writer.write_record(record) {
            failed = Some(error.to_string());
        }
    };
    write(&header.map(str::to_owned));
    verified(export, |index, bytes| {
        let Ok(entry) = Entry::from_bytes(bytes) else {
            write(
                &[
                    index.to_string(),
                    String::new(),
                    "(not well-formed)".to_owned(),
                ]
                .into_iter()
                .chain(std::iter::repeat_n(String::new(), 9))
                .collect::<Vec<_>>(),
            );
            return;
        };
        let text = |value: Option<String>| value.unwrap_or_default();
        write(&[
            index.to_string(),
            entry.time.to_string(),
            entry.kind,
            text(entry.gate),
            text(entry.actor),
            text(entry.actor2),
            text(entry.subject),
            text(entry.about),
            text(entry.decision),
            text(entry.reason),
            text(entry.policy),
            entry.id,
        ]);
    })?;
    if let Some(error) = failed {
        return Err(Failure::Unable(error));
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| Failure::Unable(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
