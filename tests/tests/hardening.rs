//! What is shipped beside the programs: systemd units that leave them few rights, and pinned versions without known holes.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// `security.md` 1.4 asks for an exposure of at most 2.5; the tool counts in tenths and fails above the threshold.
fn exposure_is_at_most(unit: &str, tenths: u32) -> bool {
    Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={tenths}"))
        .arg(root().join("deploy").join(unit))
        .output()
        .expect("systemd-analyze is there; `deploy/setup --test` installs it")
        .status
        .success()
}

#[test]
fn the_units_exposure_stays_within_the_bar() {
    for unit in ["sallyport-server.service", "sallyport-gate.service"] {
        assert!(exposure_is_at_most(unit, 25), "{unit}");
        // The tool can say no.
        assert!(!exposure_is_at_most(unit, 5), "{unit}");
    }
}

/// The version of a crate as numbers, from every place in the lock file.
fn locked(name: &str) -> Vec<Vec<u64>> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let head = format!("name = \"{name}\"\nversion = \"");
    text.match_indices(&head)
        .map(|(at, _)| {
            let version = text[at + head.len()..].split('"').next().unwrap();
            version
                .split('.')
                .map(|part| part.parse().unwrap_or(0))
                .collect()
        })
        .collect()
}

/// RUSTSEC-2026-0104: a panic that a peer can reach in the parsing of revocation lists, gone with 0.103.13.
#[test]
fn certificates_are_checked_by_a_library_without_the_panic_of_2026() {
    let versions = locked("rustls-webpki");
    assert!(!versions.is_empty());
    for version in versions {
        assert!(version >= vec![0, 103, 13], "{version:?}");
    }
}
