//! The program as an inspector runs it.
#![expect(clippy::unwrap_used, reason = "a test stops when something is wrong")]

use std::path::Path;
use std::process::{Command, Output};

use sallyport_transparency::{Checkpoint, Entry, ExportWriter, NoteSigner, sign_checkpoint};

fn signer() -> NoteSigner {
    NoteSigner::new("sallyport/site-test/audit1", &[7; 32]).unwrap()
}

fn write_export(folder: &Path, size: u64) {
    let mut writer = ExportWriter::default();
    let mut files = Vec::new();
    for index in 0..size {
        let entry = Entry {
            gate: Some("front-in".into()),
            ..Entry::new(format!("e{index}"), "passage", index as i64)
        };
        files.extend(writer.push(entry.to_bytes().unwrap()).unwrap());
    }
    let (rest, size, root) = writer.finish().unwrap();
    files.extend(rest);
    for file in files {
        let path = folder.join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file.bytes).unwrap();
    }
    let checkpoint = Checkpoint {
        origin: "sallyport/site-test/audit1".into(),
        size,
        root,
    };
    std::fs::write(
        folder.join("checkpoint"),
        sign_checkpoint(&checkpoint, &signer()).unwrap(),
    )
    .unwrap();
    std::fs::write(folder.join("log.vkey"), signer().verifier().to_string()).unwrap();
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sallyport-audit"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_whole_export_verifies_and_its_parts_can_be_shown() {
    let folder = tempfile::tempdir().unwrap();
    write_export(folder.path(), 700);
    let path = folder.path().to_str().unwrap();
    let key = signer().verifier().to_string();
    let verify = run(&["verify", path, "--vkey", &key]);
    assert!(verify.status.success(), "{}", text(&verify.stderr));
    assert_eq!(
        text(&verify.stdout),
        "VERIFIED: all 700 entries of sallyport/site-test/audit1 are whole, in order and as signed.\n"
    );
    assert!(run(&["fsck", path]).status.success());
    let show = run(&["show", path, "41"]);
    assert!(text(&show.stdout).contains("\"id\":\"e41\""));
    assert_eq!(
        text(&run(&["export-csv", path]).stdout).lines().count(),
        701
    );

    let proof = folder.path().join("41.tlog-proof");
    let entry = folder.path().join("41.json");
    std::fs::write(&proof, run(&["proof", path, "41"]).stdout).unwrap();
    std::fs::write(&entry, &show.stdout).unwrap();
    let (proof, entry) = (proof.to_str().unwrap(), entry.to_str().unwrap());
    assert!(
        run(&["verify-proof", proof, entry, "--vkey", &key])
            .status
            .success()
    );
    std::fs::write(entry, text(&show.stdout).replace("e41", "e42")).unwrap();
    assert_eq!(
        run(&["verify-proof", proof, entry, "--vkey", &key])
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn a_changed_export_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    write_export(folder.path(), 300);
    let path = folder.path().to_str().unwrap();
    let bundle = folder.path().join("tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let verify = run(&["verify", path]);
    assert_eq!(verify.status.code(), Some(1));
    let said = text(&verify.stderr);
    assert!(
        said.contains("NOT VERIFIED") && said.contains("changed after it was logged"),
        "{said}"
    );
    assert!(verify.stdout.is_empty());
}

#[test]
fn another_key_a_missing_folder_and_a_missing_entry_are_said() {
    let folder = tempfile::tempdir().unwrap();
    write_export(folder.path(), 3);
    let path = folder.path().to_str().unwrap();
    let other = NoteSigner::new("sallyport/site-test/audit1", &[8; 32])
        .unwrap()
        .verifier()
        .to_string();
    let verify = run(&["verify", path, "--vkey", &other]);
    assert_eq!(verify.status.code(), Some(1));
    assert!(text(&verify.stderr).contains("no signature by a known key"));
    assert_eq!(
        run(&["verify", "/nowhere", "--vkey", &other]).status.code(),
        Some(2)
    );
    assert_eq!(run(&["show", path, "3"]).status.code(), Some(2));
}
