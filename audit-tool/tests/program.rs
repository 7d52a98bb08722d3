//! The program as an inspector runs it.
#![expect(clippy::unwrap_used, reason = "a test stops when something is wrong")]

use std::path::Path;
use std::process::{Command, Output};

use sallyport_transparency::{
    Artefact, CSV_HEADER, Checkpoint, CompactTree, Cosigner, Entry, Evidence, ExportWriter,
    MeasuredPairs, MeasuredPoint, Measurement, NodeMap, NoteSigner, Selected, csv_row,
    inclusion_proof, json_line, sign_checkpoint,
};

fn signer() -> NoteSigner {
    NoteSigner::new("sallyport/site-test/audit1", &[7; 32]).unwrap()
}

fn entry(index: u64) -> Vec<u8> {
    let entry = Entry {
        gate: Some("front-in".into()),
        ..Entry::new(format!("e{index}"), "passage", index as i64)
    };
    entry.to_bytes().unwrap()
}

fn write_export(folder: &Path, size: u64) {
    write_forked(folder, size, u64::MAX);
}

/// From entry `fork` on another log under the same key.
fn write_forked(folder: &Path, size: u64, fork: u64) {
    let mut writer = ExportWriter::default();
    let mut files = Vec::new();
    let (mut csv, mut json) = (CSV_HEADER.to_owned(), String::new());
    for index in 0..size {
        let bytes = entry(if index < fork { index } else { index + 1_000 });
        csv += &csv_row(index, &bytes);
        json += &json_line(index, &bytes);
        files.extend(writer.push(bytes).unwrap());
    }
    std::fs::create_dir_all(folder.join("view")).unwrap();
    std::fs::write(folder.join("view/entries.csv"), csv).unwrap();
    std::fs::write(folder.join("view/entries.jsonl"), json).unwrap();
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

#[test]
fn a_policy_asks_for_cosignatures() {
    let folder = tempfile::tempdir().unwrap();
    write_export(folder.path(), 5);
    let path = folder.path().to_str().unwrap();
    let [one, two] =
        [1, 2].map(|n| Cosigner::new(&format!("w{n}.example/test"), &[n; 32]).unwrap());
    let policy = folder.path().join("site.policy");
    std::fs::write(
        &policy,
        format!(
            "log {}\nwitness one {}\nwitness two {}\ngroup both all one two\nquorum both\n",
            signer().verifier(),
            one.verifier(),
            two.verifier()
        ),
    )
    .unwrap();
    let verify = || run(&["verify", path, "--policy", policy.to_str().unwrap()]);
    let bare = verify();
    assert_eq!(bare.status.code(), Some(1));
    assert!(text(&bare.stderr).contains("none of them did"));
    let file = folder.path().join("checkpoint");
    let note = std::fs::read_to_string(&file).unwrap();
    let signed = format!("{}\n", note.split("\n\n").next().unwrap());
    let first = note.clone() + &one.cosign(&signed, 5);
    std::fs::write(&file, &first).unwrap();
    assert!(text(&verify().stderr).contains("only one"));
    std::fs::write(&file, first + &two.cosign(&signed, 6)).unwrap();
    let good = verify();
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("Cosigned by one, two"));
    std::fs::write(&policy, "quorum what\n").unwrap();
    assert_eq!(verify().status.code(), Some(2));
}

#[test]
fn diff_says_whether_a_later_log_continues_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write_export(Path::new(&place("march")), 400);
    write_export(Path::new(&place("april")), 700);
    write_forked(Path::new(&place("forged")), 700, 300);
    write_export(Path::new(&place("cut")), 399);
    let key = signer().verifier().to_string();
    let diff = |old: &str, new: &str| run(&["diff", &place(old), &place(new), "--vkey", &key]);
    let good = diff("march", "april");
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("300 entries were added"));
    // With only the checkpoint kept from the last visit.
    assert!(diff("march/checkpoint", "april").status.success());
    let forged = diff("march", "forged");
    assert_eq!(forged.status.code(), Some(1));
    assert!(
        text(&forged.stderr).contains("differ from entry 300 on"),
        "{}",
        text(&forged.stderr)
    );
    assert_eq!(diff("march/checkpoint", "forged").status.code(), Some(1));
    let cut = diff("march", "cut");
    assert!(text(&cut.stderr).contains("entries were removed"));
    assert!(diff("march", "march").status.success());
}

#[test]
fn a_changed_readable_copy_is_found() {
    for name in ["view/entries.csv", "view/entries.jsonl"] {
        let folder = tempfile::tempdir().unwrap();
        write_export(folder.path(), 30);
        let path = folder.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        for change in ["cut", "added", "changed"] {
            let mut bytes = whole.clone();
            match change {
                "cut" => bytes.truncate(whole.len() - 1),
                "added" => bytes.push(b'x'),
                _ => bytes[200] ^= 1,
            }
            std::fs::write(&path, bytes).unwrap();
            let verify = run(&["verify", folder.path().to_str().unwrap()]);
            assert_eq!(verify.status.code(), Some(1), "{name} {change}");
            assert!(text(&verify.stderr).contains("readable copy"));
        }
    }
}

#[test]
fn a_selection_proves_each_entry_and_says_what_it_cannot_prove() {
    let folder = tempfile::tempdir().unwrap();
    write_export(folder.path(), 300);
    std::fs::remove_dir_all(folder.path().join("tile")).unwrap();
    std::fs::remove_dir_all(folder.path().join("view")).unwrap();
    let (mut tree, mut nodes) = (CompactTree::default(), NodeMap::new());
    for index in 0..300 {
        tree.push(&entry(index), |id, hash| {
            nodes.insert(id, hash);
        });
    }
    let lines: Vec<String> = [3, 77, 299]
        .map(|index| {
            let proof = inclusion_proof(index, 300, &nodes).unwrap();
            Selected::new(index, entry(index), &proof)
                .unwrap()
                .to_line()
        })
        .to_vec();
    let file = folder.path().join("selection.jsonl");
    let verify = |content: String| {
        std::fs::write(&file, content).unwrap();
        run(&["verify", folder.path().to_str().unwrap()])
    };
    let good = verify(lines.join("\n") + "\n");
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("these 3 entries"));
    assert!(text(&good.stdout).contains("cannot show that none was left out"));
    for bad in [
        lines.join("\n"),
        lines.join("\n").replacen("e77", "e78", 1) + "\n",
        format!("{}\n{}\n", lines[1], lines[0]),
        format!("{}\n{}\n", lines[1], lines[1]),
        lines[0].replacen("\"index\":3", "\"index\":4", 1) + "\n",
        "junk\n".to_owned(),
    ] {
        assert_eq!(verify(bad.clone()).status.code(), Some(1), "{bad}");
    }
}

#[test]
fn a_key_in_the_export_that_is_not_the_one_given_is_said() {
    let folder = tempfile::tempdir().unwrap();
    write_export(folder.path(), 3);
    let path = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("log.vkey"), "another+key").unwrap();
    let verify = run(&["verify", path, "--vkey", &signer().verifier().to_string()]);
    assert_eq!(verify.status.code(), Some(1));
    assert!(text(&verify.stderr).contains("not the key that you gave"));
}

#[test]
fn a_slip_is_kept_or_is_the_proof_against_the_log() {
    use sallyport_transparency::Receipt;
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    write_export(&export, 40);
    let changed = folder.path().join("changed");
    write_forked(&changed, 40, 7);
    let cut = folder.path().join("cut");
    write_export(&cut, 7);
    let slip = folder.path().join("slip");
    let signed = Receipt::new("sallyport/site-test/audit1", 9, &entry(9))
        .sign(&signer())
        .unwrap();
    std::fs::write(&slip, &signed).unwrap();
    let check = |slip: &Path, export: &Path| {
        run(&[
            "verify-receipt",
            slip.to_str().unwrap(),
            export.to_str().unwrap(),
            "--vkey",
            &signer().verifier().to_string(),
        ])
    };
    let good = check(&slip, &export);
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("entry 9 is in sallyport/site-test/audit1"));
    let other = check(&slip, &changed);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("Keep the slip"));
    let short = check(&slip, &cut);
    assert_eq!(short.status.code(), Some(2));
    assert!(text(&short.stderr).contains("newer one"));
    std::fs::write(&slip, signed.replace("\n9\n", "\n8\n")).unwrap();
    let forged = check(&slip, &export);
    assert_eq!(forged.status.code(), Some(2));
    assert!(text(&forged.stderr).contains("not acceptable"));
}

#[test]
fn measured_error_rates_in_evidence_are_those_that_the_entry_names_and_its_key_signed() {
    let lab = NoteSigner::new("lab.example/eyes", &[3; 32]).unwrap();
    let pairs = MeasuredPairs {
        name: "every picture".into(),
        identities: 108,
        mated_pairs: 2_268,
        non_mated_pairs: 283_122,
        points: vec![MeasuredPoint {
            threshold: 0.375,
            false_matches: 28,
            false_non_matches: 22,
        }],
    };
    let measurement = Measurement {
        format: Measurement::format(),
        modality: "iris".into(),
        models: [("encoder".to_owned(), "07".repeat(32))].into(),
        program: "sallyport-evaluate".into(),
        data_set: "drawn eyes".into(),
        conditions: "drawn".into(),
        measured: "2026-11-24".into(),
        samples: 756,
        failures_to_acquire: 0,
        pairs: vec![pairs],
        groups: Vec::new(),
    };
    let note = measurement.sign(&lab).unwrap();
    let key = signer().verifier().to_string();
    let folder = tempfile::tempdir().unwrap();
    let verify = |about: String, text: &str, content: String| {
        let entry = Entry {
            about: Some(about),
            content: Some(content),
            ..Entry::new("e0".into(), "error_rates", 0)
        };
        let bytes = entry.to_bytes().unwrap();
        let (mut tree, mut nodes) = (CompactTree::default(), NodeMap::new());
        tree.push(&bytes, |id, hash| {
            nodes.insert(id, hash);
        });
        let checkpoint = Checkpoint {
            origin: "sallyport/site-test/audit1".into(),
            size: 1,
            root: tree.root(),
        };
        let mut evidence = Evidence::new("passage x");
        evidence.log = key.clone();
        evidence.checkpoint = sign_checkpoint(&checkpoint, &signer()).unwrap();
        evidence.entries = vec![Selected::new(0, bytes, &[]).unwrap()];
        evidence.artefacts = vec![Artefact {
            name: "measured error rates: iris".into(),
            named_by: 0,
            text: text.into(),
        }];
        let file = folder.path().join("bundle");
        std::fs::write(&file, evidence.to_text()).unwrap();
        run(&["verify-evidence", file.to_str().unwrap(), "--vkey", &key])
    };
    let about = format!("{} drawn eyes", lab.verifier());
    let digest = Measurement::digest(note.as_bytes());
    let good = verify(about.clone(), &note, digest.clone());
    assert!(good.status.success(), "{}", text(&good.stderr));
    let said = text(&good.stdout);
    assert!(
        said.contains(&format!("signed by {}", lab.verifier())),
        "{said}"
    );
    assert!(
        said.contains("28 of 283122 non-mated pairs matched, 22 of 2268 mated pairs did not"),
        "{said}"
    );
    // Another text than the entry names.
    let better = note.replace("\"false_matches\": 28", "\"false_matches\": 2");
    assert_eq!(verify(about, &better, digest).status.code(), Some(1));
    // A text that the entry names, but whose signature is not by the key it names.
    let other = NoteSigner::new("lab.example/eyes", &[4; 32]).unwrap();
    let about = format!("{} drawn eyes", other.verifier());
    let wrong = verify(about, &note, Measurement::digest(note.as_bytes()));
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        text(&wrong.stderr).contains("no trusted key signed"),
        "{}",
        text(&wrong.stderr)
    );
}
