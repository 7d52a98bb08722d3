//! Exports in one tar, and sealed details for the entitled, as an inspector reads them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops when something is wrong"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use sallyport_transparency::{
    CSV_HEADER, Checkpoint, DetailLine, Entry, ExportWriter, NoteSigner, SealedDetail, csv_row,
    detail_associated_data, detail_commitment, detail_hash, json_line, sign_checkpoint,
};

const ORIGIN: &str = "sallyport/site-test/audit1";

fn signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, &[7; 32]).unwrap()
}

/// Files of an export of `size` entries; the odd ones have details.
fn export(size: u64) -> (BTreeMap<String, Vec<u8>>, Vec<DetailLine>) {
    let (mut writer, mut files, mut details) =
        (ExportWriter::default(), BTreeMap::new(), Vec::new());
    let (mut csv, mut json) = (CSV_HEADER.to_owned(), String::new());
    let mut put = |made: Vec<sallyport_transparency::ExportFile>| {
        files.extend(made.into_iter().map(|file| (file.path, file.bytes)));
    };
    for index in 0..size {
        let mut entry = Entry::new(format!("e{index}"), "passage", index as i64);
        if index % 2 == 1 {
            let line = detail(index, &format!("words about {index}"));
            let DetailLine::Given { salt, sealed, .. } = &line else {
                unreachable!()
            };
            entry.detail_hash = Some(detail_hash(salt, sealed));
            details.push(line);
        }
        let bytes = entry.to_bytes().unwrap();
        csv += &csv_row(index, &bytes);
        json += &json_line(index, &bytes);
        put(writer.push(bytes).unwrap());
    }
    let (rest, size, root) = writer.finish().unwrap();
    put(rest);
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root,
    };
    let note = sign_checkpoint(&checkpoint, &signer()).unwrap();
    files.insert("view/entries.csv".to_owned(), csv.into_bytes());
    files.insert("view/entries.jsonl".to_owned(), json.into_bytes());
    files.insert("checkpoint".to_owned(), note.into_bytes());
    let key = signer().verifier().to_string().into_bytes();
    files.insert("log.vkey".to_owned(), key);
    (files, details)
}

fn detail(index: u64, text: &str) -> DetailLine {
    let key = [index as u8; 32];
    let aad = detail_associated_data(ORIGIN, index);
    let payload = Payload {
        msg: text.as_bytes(),
        aad: &aad,
    };
    let cipher = Aes256Gcm::new_from_slice(&key).unwrap();
    let ciphertext = cipher.encrypt(&Nonce::from([1; 12]), payload).unwrap();
    let sealed = SealedDetail {
        nonce: &[1; 12],
        commitment: &detail_commitment(&key),
        ciphertext: &ciphertext,
    };
    DetailLine::Given {
        index,
        salt: [9; 32],
        sealed: sealed.to_bytes(),
        key,
    }
}

fn tar_of(files: &BTreeMap<String, Vec<u8>>, path: &Path) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
    }
    builder.finish().unwrap();
}

fn encrypted(lines: &[DetailLine], identity: &Identity) -> Vec<u8> {
    let recipient = identity.to_public();
    let to = std::iter::once(&recipient as &dyn age::Recipient);
    let mut out = age::Encryptor::with_recipients(to)
        .unwrap()
        .wrap_output(Vec::new())
        .unwrap();
    for line in lines {
        writeln!(out, "{}", line.to_line()).unwrap();
    }
    out.finish().unwrap()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sallyport-audit"))
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_tar_is_read_as_it_lies_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let (earlier, later) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
    tar_of(&export(300).0, &earlier);
    tar_of(&export(700).0, &later);
    let key = signer().verifier().to_string();
    let [earlier, later] = [&earlier, &later].map(|path| path.to_str().unwrap());
    for (arguments, expected) in [
        (vec!["verify", later], "VERIFIED: all 700 entries"),
        (vec!["fsck", later], "well-formed"),
        (vec!["show", later, "641"], "\"id\":\"e641\""),
        (vec!["proof", later, "641"], "c2sp.org/tlog-proof@v1"),
        (vec!["export-jsonl", later], "\"id\":\"e699\""),
        (vec!["diff", earlier, later], "400 entries were added"),
    ] {
        let output = run(&[&arguments[..], &["--vkey", &key]].concat());
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    // Whatever is not an export is said to be none.
    let other = folder.path().join("other");
    std::fs::write(&other, "text").unwrap();
    assert_eq!(
        run(&["verify", other.to_str().unwrap(), "--vkey", &key])
            .status
            .code(),
        Some(2)
    );
}

/// Every bit of a tar counts: heads, the room between files and the end too.
#[test]
fn a_tar_with_any_bit_changed_cut_or_longer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.tar");
    let mut files = export(5).0;
    // The two readable copies are compared too, but need not be there.
    files.retain(|name, _| !name.starts_with("view/"));
    tar_of(&files, &path);
    let whole = std::fs::read(&path).unwrap();
    let key = signer().verifier().to_string();
    let name = path.to_str().unwrap();
    let verify = || run(&["verify", name, "--vkey", &key]);
    assert!(verify().status.success(), "{}", said(&verify()));
    let bits = whole.len() * 8;
    // 401 places, spread over everything by a step that shares no factor with a block.
    for number in 0..401 {
        let bit = (number * 7_919 + number * bits / 401) % bits;
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &changed).unwrap();
        let output = verify();
        assert!(!output.status.success(), "bit {bit}: {}", said(&output));
    }
    for length in [whole.len() - 1, whole.len() - 512, whole.len() - 1_536, 600] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(!verify().status.success(), "cut to {length}");
    }
    let longer = [&whole[..], &[0; 512]].concat();
    std::fs::write(&path, longer).unwrap();
    assert!(!verify().status.success());
}

struct Given {
    folder: tempfile::TempDir,
    identity: Identity,
    files: BTreeMap<String, Vec<u8>>,
    details: Vec<DetailLine>,
}

impl Given {
    fn new() -> Self {
        let (files, details) = export(9);
        Self {
            folder: tempfile::tempdir().unwrap(),
            identity: Identity::generate(),
            files,
            details,
        }
    }

    fn key(&self, name: &str, identity: &Identity) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, identity.to_string().expose_secret()).unwrap();
        path.display().to_string()
    }

    /// What a command says about an export with these lines.
    fn run(&self, command: &[&str], lines: &[DetailLine], key: &str) -> Output {
        let mut files = self.files.clone();
        let sealed = encrypted(lines, &self.identity);
        files.insert("details.jsonl.age".to_owned(), sealed);
        let path: PathBuf = self.folder.path().join("given.tar");
        tar_of(&files, &path);
        let mut arguments = vec![command[0], path.to_str().unwrap()];
        arguments.extend(&command[1..]);
        run(&[&arguments[..], &["--identity", key]].concat())
    }
}

#[test]
fn the_entitled_opens_details_that_belong_to_their_entries_and_nobody_else_does() {
    let given = Given::new();
    let key = given.key("reader", &given.identity);
    let mut lines = given.details.clone();
    lines[1] = DetailLine::Withheld {
        index: 3,
        why: "erased".to_owned(),
    };
    let show = given.run(&["show", "5"], &lines, &key);
    assert!(show.status.success(), "{}", said(&show));
    assert!(said(&show).contains("proved by the entry's detail_hash"));
    assert!(said(&show).contains("words about 5"));
    let erased = given.run(&["show", "3"], &lines, &key);
    assert!(said(&erased).contains("erased"), "{}", said(&erased));
    let none = given.run(&["show", "4"], &lines, &key);
    assert!(said(&none).contains("no sealed detail"), "{}", said(&none));
    let all = given.run(&["details"], &lines, &key);
    assert!(all.status.success(), "{}", said(&all));
    assert!(said(&all).contains("3 details belong to their entries; 1 are not"));

    let stranger = given.key("stranger", &Identity::generate());
    let refused = given.run(&["details"], &lines, &stranger);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(!said(&refused).contains("words"));
}

#[test]
fn a_detail_that_is_missing_foreign_doubled_or_changed_is_found() {
    let given = Given::new();
    let key = given.key("reader", &given.identity);
    let good = &given.details;
    let of = |index: u64, from: &DetailLine| match from.clone() {
        DetailLine::Given {
            salt, sealed, key, ..
        } => DetailLine::Given {
            index,
            salt,
            sealed,
            key,
        },
        DetailLine::Withheld { .. } => unreachable!(),
    };
    let keyed = |from: &DetailLine, with: [u8; 32]| match from.clone() {
        DetailLine::Given {
            index,
            salt,
            sealed,
            ..
        } => DetailLine::Given {
            index,
            salt,
            sealed,
            key: with,
        },
        DetailLine::Withheld { .. } => unreachable!(),
    };
    let rest = |first: DetailLine| [&[first], &good[1..]].concat();
    for (what, lines) in [
        ("missing", good[1..].to_vec()),
        ("last missing", good[..3].to_vec()),
        ("of another entry", rest(of(1, &good[1]))),
        ("invented", rest(detail(1, "other words"))),
        ("another key", rest(keyed(&good[0], [77; 32]))),
        ("doubled", [&good[..1], &good[..]].concat()),
        (
            "too many",
            [&good[..], &[detail(11, "nobody's words")]].concat(),
        ),
    ] {
        let output = given.run(&["details"], &lines, &key);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", said(&output));
        let said = said(&output);
        assert!(said.contains("details.jsonl.age: "), "{what}: {said}");
        assert!(!said.contains("words"), "{what}");
    }
}
