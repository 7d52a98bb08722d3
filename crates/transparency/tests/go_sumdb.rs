//! The Go authors' own verifier (Debian `golang-go`, `golang-golang-x-mod-dev`) accepts our checkpoints, tiles, entries and proofs,
//! and refuses changed ones. Fails, never skips, where Go is missing.
#![expect(clippy::unwrap_used, reason = "a test stops when something is wrong")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use support::{Log, golden_signer};

/// Builds the checker once for all tests.
fn checker() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join(format!("go-checker-{}", std::process::id()));
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go/checker.go"))
            .env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOCACHE", folder.join("go-cache"))
            .output()
            .expect("Go is missing: run deploy/setup --test, or install golang-go and golang-golang-x-mod-dev");
        assert!(
            output.status.success(),
            "the Go checker does not build (is golang-golang-x-mod-dev installed?): {}",
            String::from_utf8_lossy(&output.stderr)
        );
        program
    })
}

fn check(folder: &Path, proofs: &str) -> Output {
    let file = folder.join("proofs.txt");
    std::fs::write(&file, proofs).unwrap();
    Command::new(checker())
        .arg(folder)
        .arg(&file)
        .output()
        .unwrap()
}

/// Some inclusion and consistency proofs up to this log's size.
fn proofs(log: &Log, sizes: &[u64]) -> String {
    let mut lines = String::new();
    for &new in sizes {
        for index in [0, 1, 2, 63, 254, 255, 256, new / 2, new - 2, new - 1] {
            if index < new {
                lines += &log.inclusion_line(index, new);
            }
        }
        for old in [1, 2, 3, 255, 256, 257, new / 2, new - 1, new] {
            if old <= new && old > 0 {
                lines += &log.consistency_line(old, new);
            }
        }
    }
    lines
}

#[test]
fn go_accepts_checkpoints_tiles_entries_and_proofs() {
    for (size, sizes) in [
        (3, &[3][..]),
        (256, &[255, 256]),
        (257, &[256, 257]),
        (70_000, &[257, 65_536, 69_999, 70_000]),
    ] {
        let log = Log::golden(size);
        let folder = tempfile::tempdir().unwrap();
        log.write(folder.path(), &golden_signer());
        let proofs = proofs(&log, sizes);
        let output = check(folder.path(), &proofs);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            format!(
                "size {size} entries {size} proofs {}",
                proofs.lines().count()
            )
        );
    }
}

#[test]
fn go_refuses_what_was_changed() {
    let log = Log::golden(600);
    let folder = tempfile::tempdir().unwrap();
    log.write(folder.path(), &golden_signer());
    let good = proofs(&log, &[600]);
    assert!(check(folder.path(), &good).status.success());
    for path in [
        "checkpoint",
        "tile/0/001",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "tile/entries/000",
    ] {
        let file = folder.path().join(path);
        let whole = std::fs::read(&file).unwrap();
        let mut changed = whole.clone();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        std::fs::write(&file, &changed).unwrap();
        assert!(!check(folder.path(), &good).status.success(), "{path}");
        std::fs::write(&file, &whole).unwrap();
    }
    // One hash of one proof taken from another place.
    let line = log.inclusion_line(5, 600);
    let other = log.inclusion_line(6, 600);
    let swapped = line.replacen(
        line.split(' ').nth(5).unwrap(),
        other.split(' ').nth(6).unwrap(),
        1,
    );
    assert!(!check(folder.path(), &swapped).status.success());
}
