//! Templates in memory: locked, left out of core dumps, and said plainly where that is refused. A program of its own,
//! because it reads what the system says about the whole process.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use sallyport_domain::{FaceTemplate, ModelDigest, ReferenceId, SubjectId};
use sallyport_matching::{Gallery, Protection};
use uuid::Uuid;

const MODEL: ModelDigest = ModelDigest::from_bytes([1; 32]);

fn fill(gallery: &mut Gallery, references: u128) -> Protection {
    let template = FaceTemplate::normalise((1..=512).map(|n| n as f32).collect()).unwrap();
    let mut protection = gallery.protection();
    for n in 0..references {
        let id = Uuid::from_u128(n);
        protection = gallery.insert(
            MODEL,
            ReferenceId::from_uuid(id),
            SubjectId::from_uuid(id),
            &template,
        );
    }
    protection
}

/// Kilobytes of locked memory of this process, by its own account.
fn locked_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Kilobytes of mappings that are locked and left out of core dumps.
fn locked_and_not_dumped() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut size, mut total) = (0, 0);
    for line in maps.lines() {
        if let Some(rest) = line.strip_prefix("Size:") {
            size = rest.split_whitespace().next().unwrap().parse().unwrap();
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag| flags.split_whitespace().any(|one| one == flag);
            if has("lo") && has("dd") {
                total += size;
            }
        }
    }
    total
}

/// One test, because both halves look at the whole process.
#[test]
fn templates_are_locked_or_it_is_said_that_they_are_not() {
    let before = locked_kilobytes();
    let mut gallery = Gallery::new();
    let protection = fill(&mut gallery, 600);
    let grown = locked_kilobytes() - before;
    match protection {
        // 600 rows of 2 KB, and of half a KB for the coarse copy, take two chunks of 512 each.
        Protection::Locked => {
            assert_eq!(grown, 2_560);
            assert!(locked_and_not_dumped() >= 2_560);
        }
        Protection::NotLocked { bytes } => {
            assert!(bytes > 0 && grown < 2_560);
        }
    }
    for n in 0..600 {
        assert!(gallery.remove(ReferenceId::from_uuid(Uuid::from_u128(n))));
    }
    assert_eq!(gallery.protection(), Protection::Locked, "nothing is left");
    assert_eq!(locked_kilobytes(), before, "removed templates free theirs");

    // The same where the system allows nothing to be locked.
    let mut refused = Command::new("prlimit");
    refused.arg("--memlock=0:0");
    // Only root has a right to lock beyond the limit, and only root can give it up.
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        refused.args(["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
    }
    let refused = refused
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "without_the_right_to_lock", "--ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(
        refused.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[test]
#[ignore = "run by the test above, in a process that may not lock memory"]
fn without_the_right_to_lock() {
    let mut gallery = Gallery::new();
    let protection = fill(&mut gallery, 600);
    assert_eq!(protection, gallery.protection());
    assert_eq!(protection, Protection::NotLocked { bytes: 2_560 << 10 });
    assert_eq!(locked_kilobytes(), 0);
    assert_eq!(gallery.len(), 600);
}
