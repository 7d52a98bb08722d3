//! The outside witness as a process, spoken to over sockets as a log does.
#![expect(clippy::unwrap_used, reason = "a test stops when something is wrong")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use sallyport_transparency::{
    AddCheckpoint, Checkpoint, CosignerKey, NodeMap, NoteSigner, WitnessAnswer, append,
    consistency_proof, leaf_hash, read_answer, root, sign_checkpoint,
};

const ORIGIN: &str = "sallyport/site-test/audit1";

fn signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, &[7; 32]).unwrap()
}

struct Log(NodeMap);

impl Log {
    fn new(size: u64, fork: u64) -> Self {
        let mut nodes = NodeMap::new();
        for index in 0..size {
            let leaf = leaf_hash(format!("{} {index}", index < fork).as_bytes());
            let stored = append(index, leaf, &nodes).unwrap();
            nodes.extend(stored);
        }
        Self(nodes)
    }

    fn request(&self, old: u64, new: u64) -> AddCheckpoint {
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: new,
            root: root(new, &self.0).unwrap(),
        };
        AddCheckpoint {
            old,
            proof: consistency_proof(old, new, &self.0).unwrap(),
            note: sign_checkpoint(&checkpoint, &signer()).unwrap(),
        }
    }
}

struct Program {
    child: Child,
    key: CosignerKey,
    address: String,
}

impl Program {
    fn start(state: &Path, more: &[&str]) -> Self {
        let mut child = command(state, more).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let key = CosignerKey::parse(first.strip_prefix("witness ").unwrap()).unwrap();
        let second = lines.next().unwrap().unwrap();
        let address = second.strip_prefix("listening at ").unwrap().to_owned();
        // Its later words are of no use here, but must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self {
            child,
            key,
            address,
        }
    }

    fn add(&self, request: &AddCheckpoint) -> WitnessAnswer {
        let (status, _, body) = self.post(request.to_text().as_bytes());
        read_answer(&request.note, &self.key, status, &body).unwrap()
    }

    fn post(&self, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        ask(&mut stream, "POST", "/add-checkpoint", body)
    }

    fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        ask(&mut stream, "GET", path, b"")
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(state: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sallyport-audit"));
    command
        .args([
            "witness",
            "--name",
            "ombudsman.example/w1",
            "--listen",
            "127.0.0.1:0",
            "--log",
        ])
        .arg(signer().verifier().to_string())
        .arg("--state")
        .arg(state)
        .args(more);
    command
}

/// Status, content type and body.
fn ask(
    stream: &mut (impl Read + Write),
    method: &str,
    path: &str,
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let (mut length, mut kind) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap(),
            Some(("Content-Type", value)) => value.clone_into(&mut kind),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (status, kind, body)
}

fn cosigned(answer: &WitnessAnswer) -> bool {
    matches!(answer, WitnessAnswer::Cosigned { .. })
}

#[test]
fn it_cosigns_growth_remembers_across_kills_and_never_a_fork() {
    let state = tempfile::tempdir().unwrap();
    let log = Log::new(60, 60);
    let first = Program::start(state.path(), &[]);
    let key = first.key.clone();
    assert!(cosigned(&first.add(&log.request(0, 10))));
    assert!(cosigned(&first.add(&log.request(10, 10))));
    assert!(cosigned(&first.add(&log.request(10, 25))));
    first.kill();
    let again = Program::start(state.path(), &[]);
    assert_eq!(again.key, key);
    // It remembers 25 after the kill.
    assert_eq!(again.add(&log.request(10, 30)), WitnessAnswer::Conflict(25));
    let (status, kind, body) = again.post(log.request(10, 30).to_text().as_bytes());
    assert_eq!(
        (status, kind.as_str(), body.as_slice()),
        (409, "text/x.tlog.size", &b"25\n"[..])
    );
    // Two servers with one key: the second branch is refused and kept.
    let fork = Log::new(60, 20);
    assert_eq!(
        again.add(&fork.request(25, 40)),
        WitnessAnswer::Refused(422)
    );
    assert_eq!(
        again.add(&fork.request(25, 25)),
        WitnessAnswer::Refused(422)
    );
    let evidence: Vec<_> = std::fs::read_dir(state.path().join("evidence"))
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert_eq!(evidence.len(), 2);
    assert!(evidence.contains(&fork.request(25, 40).to_text().into_bytes()));
    // The true log goes on.
    assert!(cosigned(&again.add(&log.request(25, 60))));
    let hash = hex_sha256(ORIGIN);
    let (status, _, note) = again.get(&format!("/{hash}/checkpoint"));
    assert_eq!(status, 200);
    let note = sallyport_transparency::Note::parse(&note).unwrap();
    assert!(again.key.verify(&note).unwrap().is_some());
    assert_eq!(again.get("/nothing/checkpoint").0, 404);
}

fn hex_sha256(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

#[test]
fn requests_of_every_wrong_kind_get_their_status() {
    let state = tempfile::tempdir().unwrap();
    let log = Log::new(20, 20);
    let program = Program::start(state.path(), &[]);
    let stranger = NoteSigner::new("other/log", &[1; 32]).unwrap();
    let mut foreign = log.request(0, 5);
    foreign.note = stranger
        .sign("other/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
        .unwrap();
    foreign.proof.clear();
    let mut unsigned = log.request(0, 5);
    unsigned.note = unsigned.note.replacen("\n5\n", "\n6\n", 1);
    let mut backwards = log.request(0, 5);
    backwards.old = 6;
    for (body, status) in [
        (foreign.to_text(), 404),
        (unsigned.to_text(), 403),
        (backwards.to_text(), 400),
        ("hello".to_owned(), 400),
        (String::new(), 400),
    ] {
        assert_eq!(program.post(body.as_bytes()).0, status, "{body}");
    }
    // Each time: the answer arrives although most of the body was not wanted.
    for _ in 0..20 {
        assert_eq!(program.post(&vec![b'x'; 200_000]).0, 413);
    }
    let mut stream = TcpStream::connect(&program.address).unwrap();
    assert_eq!(ask(&mut stream, "PUT", "/add-checkpoint", b"").0, 405);
    assert!(cosigned(&program.add(&log.request(0, 5))));
}

/// Of many requests at once from the same old size exactly one is cosigned.
#[test]
fn concurrent_branches_are_serialised() {
    let state = tempfile::tempdir().unwrap();
    let program = Arc::new(Program::start(state.path(), &[]));
    let base = Log::new(40, 10);
    assert!(cosigned(&program.add(&base.request(0, 10))));
    let tries: Vec<_> = (0..16_u64)
        .map(|number| {
            let program = program.clone();
            std::thread::spawn(move || {
                let branch = Log::new(40, 10 + number);
                // Honest prefixes of 10, different from there on.
                let mut request = branch.request(10, 20 + number);
                request.old = 10;
                cosigned(&program.add(&request))
            })
        })
        .collect();
    let granted = tries
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .filter(|granted| *granted)
        .count();
    assert_eq!(granted, 1);
}

#[test]
fn a_second_process_another_name_and_a_damaged_memory_are_refused_in_a_sentence() {
    let state = tempfile::tempdir().unwrap();
    let program = Program::start(state.path(), &[]);
    let log = Log::new(9, 9);
    assert!(cosigned(&program.add(&log.request(0, 9))));
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&mut command(state.path(), &[])).contains("in use by another witness"));
    program.kill();
    let mut renamed = Command::new(env!("CARGO_BIN_EXE_sallyport-audit"));
    renamed
        .args([
            "witness",
            "--name",
            "else",
            "--listen",
            "127.0.0.1:0",
            "--log",
        ])
        .arg(signer().verifier().to_string())
        .arg("--state")
        .arg(state.path());
    assert!(said(&mut renamed).contains("needs a new folder"));
    let file = state
        .path()
        .join(format!("{}.checkpoint", hex_sha256(ORIGIN)));
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..20]).unwrap();
    assert!(said(&mut command(state.path(), &[])).contains("damaged"));
}

#[test]
fn it_speaks_https() {
    let state = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (state.path().join("c.pem"), state.path().join("k.pem"));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let program = Program::start(
        &state.path().join("w"),
        &[
            "--tls-certificate",
            certificate.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ],
    );
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let connection =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream =
        rustls::StreamOwned::new(connection, TcpStream::connect(&program.address).unwrap());
    let request = Log::new(5, 5).request(0, 5);
    let (status, _, body) = ask(
        &mut stream,
        "POST",
        "/add-checkpoint",
        request.to_text().as_bytes(),
    );
    assert!(cosigned(
        &read_answer(&request.note, &program.key, status, &body).unwrap()
    ));
}
