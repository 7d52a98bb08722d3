//! `sallyport-gate`: one gate or enrolment station.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clap::Parser as _;
use sallyport_domain::Timestamp;
use sallyport_gate::cli::{self, Cli};
use sallyport_gate::clock::SystemClock;
use sallyport_gate::deps::{Deps, OsRandom};

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::start_logging(cli.log_json);
    let deps = Deps {
        clock: Arc::new(SystemClock::new(wall)),
        random: Arc::new(OsRandom),
    };
    match cli::run(cli, deps) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sallyport-gate: {}", cli::error_text(&error));
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the wall clock is read"
)]
fn wall() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
