//! `sallyport-audit`: an inspector's own check of an audit export. Needs no server, no network and no rights.
//! And the outside witness: a program for another body that cosigns the log as long as it only grows.

mod check;
mod compare;
mod details;
mod evidence;
mod http;
mod place;
mod print;
mod sample;
mod witness;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sallyport_transparency::{SAMPLE_SIZE, Week};

/// Check an audit export of Sallyport, offline.
///
/// An export is a folder that `sallyport-server audit export DIR` wrote, or a tar (`--tar FILE`): the entries, the hash tree over them, and a signed
/// checkpoint. Every command first recomputes the whole tree from the entries and compares it with the signature, so an edited,
/// removed, added or reordered entry is found.
///
/// The log's public key must come to you another way than the export: from the notice at the gate, the contract, or an
/// earlier visit. Without --vkey or --policy the key inside the export is used, and you are told so.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 the log verifies, 1 it does not, 2 the command could not be carried out.\n\nExamples:\n  sallyport-audit verify ./export --vkey 'sallyport/site/audit1+62fa7f11+AQOh...'\n  sallyport-audit verify ./export --policy site.policy\n  sallyport-audit diff ./export-march ./export-april --policy site.policy\n  sallyport-audit show ./export.tar 41\n  sallyport-audit show ./export.tar 41 --identity my.key\n  sallyport-audit proof ./export 41 > entry-41.tlog-proof\n  sallyport-audit export-csv ./export > log.csv"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Whom to believe.
#[derive(clap::Args, Clone)]
struct Trust {
    /// The log's public key, `name+hash+key`, got another way than the export.
    #[arg(long)]
    vkey: Option<String>,
    /// Witness policy (tlog-policy), got another way than the export: the checkpoint must also carry enough cosignatures.
    #[arg(long)]
    policy: Option<PathBuf>,
}

#[derive(clap::Args, Clone)]
struct Export {
    /// The export: its folder, or the tar as it is.
    folder: PathBuf,
    #[command(flatten)]
    trust: Trust,
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
        /// Your private key (a file with AGE-SECRET-KEY-…), to open the entry's sealed detail, where the export was made for you.
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
    },
    /// Open all sealed details of an export that was made for your key, and prove of each that it belongs to its entry.
    Details {
        #[command(flatten)]
        export: Export,
        /// Your private key, a file with AGE-SECRET-KEY-….
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
    },
    /// Does a later export continue an earlier one? Otherwise say from which entry on they differ.
    Diff {
        /// The earlier export, or only its `checkpoint` file, as you kept it from your last visit.
        earlier: PathBuf,
        /// The later export.
        later: PathBuf,
        #[command(flatten)]
        trust: Trust,
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
        #[command(flatten)]
        trust: Trust,
    },
    /// Check an evidence bundle: one file about one event, without any export.
    VerifyEvidence {
        /// The bundle.
        bundle: PathBuf,
        #[command(flatten)]
        trust: Trust,
    },
    /// Check a slip that somebody was given at a gate: is its entry in this export, unchanged?
    VerifyReceipt {
        /// File with the slip's text, as its QR code says.
        receipt: PathBuf,
        #[command(flatten)]
        export: Export,
    },
    /// Draw the week's sample of consultations from the whole log, as `sallyport-server audit report sample` does, and print it or compare.
    Sample {
        #[command(flatten)]
        export: Export,
        /// The week, Monday to Monday in UTC, such as 2026-W48.
        #[arg(long)]
        week: Week,
        /// How many are drawn.
        #[arg(long, default_value_t = SAMPLE_SIZE)]
        size: usize,
        /// The auditor's own word or dice.
        #[arg(long, default_value = "")]
        word: String,
        /// Instead of printing, compare with the sample that the site handed over; findings may have been written into it.
        #[arg(long, value_name = "FILE")]
        compare: Option<PathBuf>,
    },
    /// Print all entries as a table with their indexes.
    ExportCsv(Export),
    /// Print all entries as JSON Lines with their indexes.
    ExportJsonl(Export),
    /// Serve as an outside witness (tlog-witness): cosign the checkpoints of known logs as long as each continues the one before.
    Witness(witness::WitnessArgs),
}

/// What went wrong: the log is not right, or the command could not be carried out.
#[derive(Debug)]
enum Failure {
    Tampered(String),
    Unable(String),
}

fn main() -> ExitCode {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match run(Arguments::parse().command, &mut out) {
        Ok(()) => match out.flush() {
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

fn run(command: Command, out: &mut impl std::io::Write) -> Result<(), Failure> {
    match command {
        Command::Verify(export) => print::verdict(&export, out),
        Command::Fsck(export) => print::fsck(&export, out),
        Command::Show {
            export,
            index,
            identity,
        } => print::show(&export, index, identity.as_deref(), out),
        Command::Details { export, identity } => print::details(&export, &identity, out),
        Command::Diff {
            earlier,
            later,
            trust,
        } => compare::diff(&earlier, &later, &trust, out),
        Command::Proof { export, index } => print::proof(&export, index, out),
        Command::VerifyProof {
            proof,
            entry,
            trust,
        } => print::verify_proof(&proof, &entry, &trust, out),
        Command::VerifyEvidence { bundle, trust } => evidence::bundle(&bundle, &trust, out),
        Command::VerifyReceipt { receipt, export } => evidence::receipt(&receipt, &export, out),
        Command::Sample {
            export,
            week,
            size,
            word,
            compare,
        } => sample::sample(&export, week, (size, &word), compare.as_deref(), out),
        Command::ExportCsv(export) => print::rows(&export, out, print::View::Csv),
        Command::ExportJsonl(export) => print::rows(&export, out, print::View::JsonLines),
        Command::Witness(args) => witness::serve(&args),
    }
}

/// Writes to the output; who closed it does not want more.
fn put(out: &mut impl std::io::Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes())
        .map_err(|error| Failure::Unable(format!("the output cannot be written: {error}")))
}
