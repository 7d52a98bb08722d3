//! The whole system on real photographs and drawn irises: enrol, pass, decide, open, verify.
#![expect(
    clippy::print_stdout,
    reason = "the demo talks to the person who runs it"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use sallyport_tests::installation::Checkout;
use sallyport_tests::scenes::Expected;
use sallyport_tests::site::{Outcome, Site};

/// Run a whole Sallyport site on this machine, with photographs and drawn irises instead of cameras.
///
/// Makes an installation of its own in .demo, starts the server, lets a gate and an enrolment station join, enrols four
/// fictional people, replays passages, prints every decision, and verifies the audit log. Nothing outside .demo is changed.
#[derive(Parser)]
struct Arguments {
    /// End after one replay, with a summary; exit status 1 if anything was not as expected.
    #[arg(long)]
    once: bool,
    /// Folder of the demo's installation; an earlier demo there is replaced.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("\nThe demo stopped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn step(text: &str) {
    println!("\n── {text}");
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let checkout = Checkout::find()?;
    let root = arguments
        .folder
        .clone()
        .unwrap_or_else(|| checkout.root.join(".demo"));
    replace(&root)?;

    step("Scenes from the fixture pictures; the people in them stand for fictional persons");
    let scenes = root.join("scenes");
    checkout.run(
        "sallyport-scenes",
        [checkout.cache().join("fixtures"), scenes.clone()],
    )?;
    let expected = Expected::load(&scenes)?;
    sallyport_tests::eyes::draw_all(&scenes, &expected)?;
    println!(
        "   {} passages to replay; the irises are drawn, no real eye is in them",
        expected.passage.len()
    );

    step("A new installation: keys, private certificate authority, database");
    let site = Site::create(&root)?;
    println!(
        "   data in {}, server listening",
        root.join("data").display()
    );

    step("An enrolment station and a gate join with one-time tokens");
    let station = site.join("station", "entry")?;
    let gate = site.join("front-in", "entry")?;
    println!("   station, front-in: certificates issued by the site's own authority");

    step("Enrolment of existing pictures (twice: the second run finds nothing left to do)");
    let batch = site.open_batch("station")?;
    for _ in 0..2 {
        let said = checkout.run(
            "sallyport-gate",
            [
                "import",
                &scenes.join("enrol").display().to_string(),
                "--state",
                &station.display().to_string(),
                "--enrolment",
                &batch.code,
                // Drawn people, whose eyes lie in files here.
                "--development",
            ],
        )?;
        println!("   {}", said.trim().replace('\n', "\n   "));
    }
    site.close_batch(batch.id)?;

    step("A second officer looks at those whom the server drew, and approves the batch");
    let enrolled = site.approve_batch(batch.id)?;
    println!(
        "   {enrolled} people enrolled; one officer alone could not have done it (both are fictional here)"
    );

    step("Passages: frames of both cameras in, decisions out (scores stay hidden; reasons do not)");
    let config = site.write_gate_config(&gate, &scenes.join("passages"), 1)?;
    let mut number = 0;
    let outcomes = site.replay(&config, |outcome| {
        let label = expected
            .passage
            .get(number)
            .map_or("?", |passage| passage.folder.as_str());
        println!("   {label:<22} {}", describe(outcome));
        number += 1;
    })?;

    step("The audit log, exported and checked by the inspector's own program, offline");
    let (export, said) = site.verified_log("audit-export")?;
    println!(
        "   {}\n   export in {}",
        said.trim().replace('\n', "\n   "),
        export.display()
    );

    step("What each modality said, as the log has it for ever");
    for (passage, outcome) in expected.passage.iter().zip(&outcomes) {
        if let Some(index) = outcome.log_index {
            let findings = Site::findings(&export, index)?;
            println!("   {:<22} {}", passage.folder, findings.join(", "));
        }
    }

    let wrong = compare(&expected, &outcomes);
    step("Summary");
    let doors = outcomes.iter().filter(|outcome| outcome.door).count();
    println!(
        "   {} passages, {} door releases, {} not as expected",
        outcomes.len(),
        doors,
        wrong.len()
    );
    for line in &wrong {
        println!("   NOT AS EXPECTED: {line}");
    }
    if arguments.once {
        site.server.stop()?;
        return Ok(wrong.is_empty());
    }

    step("The console");
    let invite = |role: &str| -> anyhow::Result<String> {
        let said = site.server_command(&["officer", "setup-link", "--role", role])?;
        Ok(said.lines().last().unwrap_or_default().to_owned())
    };
    println!(
        "   Make the first officers' accounts (each link works once, 15 minutes).\n   A gate officer, with a password:\n   {}\n   A supervisor, who also sees the audit log and needs a security key:\n   {}\n   Your browser will warn: the certificate is this demo's own. The passages repeat every two minutes. Ctrl-C ends the demo.",
        invite("gate_officer")?,
        invite("supervisor")?
    );
    keep_running(site, &config)?;
    Ok(wrong.is_empty())
}

/// Until Ctrl-C, which ends this process and, with it, the server.
fn keep_running(mut site: Site, config: &Path) -> anyhow::Result<()> {
    loop {
        for _ in 0..120 {
            std::thread::sleep(Duration::from_secs(1));
            anyhow::ensure!(
                !site.server.has_ended()?,
                "the server ended:\n{}",
                site.server.tail()
            );
        }
        if let Err(error) = site.replay(config, |outcome| println!("   {}", describe(outcome))) {
            println!("   a replay failed: {error:#}");
        }
    }
}

/// An earlier demo's folder is removed, but never a folder that is something else.
fn replace(root: &Path) -> anyhow::Result<()> {
    let marker = root.join("this-is-a-sallyport-demo");
    if root.exists() {
        let empty = std::fs::read_dir(root)
            .with_context(|| format!("reading {}", root.display()))?
            .next()
            .is_none();
        anyhow::ensure!(
            empty || marker.exists(),
            "{} exists and is not an earlier demo; choose another folder with --folder",
            root.display()
        );
        std::fs::remove_dir_all(root).with_context(|| format!("removing {}", root.display()))?;
    }
    std::fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
    std::fs::write(&marker, "Everything here may be removed.\n").context("marking the folder")
}

fn describe(outcome: &Outcome) -> String {
    let door = if outcome.door {
        "door released"
    } else {
        "door shut"
    };
    let entry = outcome
        .log_index
        .map_or_else(String::new, |index| format!(", log entry {index}"));
    format!(
        "{:<18} {:<32} {door}{entry}",
        outcome.verdict, outcome.reason
    )
}

/// What differs from the expectation. A failure to acquire is a refusal with a cue.
fn compare(expected: &Expected, outcomes: &[Outcome]) -> Vec<String> {
    let mut wrong = Vec::new();
    if expected.passage.len() != outcomes.len() {
        wrong.push(format!(
            "{} passages were expected, {} happened",
            expected.passage.len(),
            outcomes.len()
        ));
    }
    for (passage, outcome) in expected.passage.iter().zip(outcomes) {
        let verdict = if outcome.verdict == "failure_to_acquire" {
            "refuse"
        } else {
            outcome.verdict.as_str()
        };
        if !passage.verdicts.iter().any(|allowed| allowed == verdict) {
            wrong.push(format!(
                "{} ({}) should be {} and is {} ({})",
                passage.folder,
                passage.why,
                passage.verdicts.join(" or "),
                outcome.verdict,
                outcome.reason
            ));
        }
        if outcome.door != (verdict == "grant") {
            wrong.push(format!(
                "{}: the door and the decision differ",
                passage.folder
            ));
        }
    }
    wrong
}
