//! `witness`: a witness for another body than the prison, after <https://c2sp.org/tlog-witness>.
//!
//! It keeps one checkpoint per log in a folder, durably before it answers, and cosigns only what continues it. What does not is kept as
//! evidence. It sees sizes and hashes, never an entry.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sallyport_transparency::{
    AddCheckpoint, Checkpoint, Cosigner, MAX_NOTE_BYTES, Refusal, VerifierKey,
};
use sha2::{Digest as _, Sha256};

use crate::Failure;
use crate::http::{self, Answer, Request};

/// Connections at once; more are closed at once, and a log tries again.
const MAX_CONNECTIONS: usize = 64;
/// A connection that is silent for so long ends.
const IDLE: Duration = Duration::from_secs(30);
/// Refused checkpoints kept as evidence; the first ones tell the story.
const MAX_EVIDENCE: usize = 1_000;

#[derive(clap::Args)]
pub(crate) struct WitnessArgs {
    /// Folder of the witness: its key, the checkpoints it cosigned, and evidence. Made at the first start.
    #[arg(long)]
    state: PathBuf,
    /// Name of the witness's key, such as ombudsman.example/witness. It cannot be changed later.
    #[arg(long)]
    name: String,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8470")]
    listen: SocketAddr,
    /// Public key of a log to watch; may be given several times.
    #[arg(long = "log", required = true)]
    logs: Vec<String>,
    /// Certificate chain, PEM, to speak HTTPS.
    #[arg(long, requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Key of the certificate, PEM.
    #[arg(long, requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

pub(crate) fn serve(args: &WitnessArgs) -> Result<(), Failure> {
    let unable =
        |what: &str, error: &dyn std::fmt::Display| Failure::Unable(format!("{what}: {error}"));
    let mut logs = Vec::new();
    for text in &args.logs {
        let key = VerifierKey::parse(text.trim())
            .ok()
            .filter(VerifierKey::is_log_key);
        logs.push(key.ok_or_else(|| Failure::Unable(format!("{text} is not a log's key")))?);
    }
    let witness = Arc::new(Witness::open(&args.state, &args.name, logs)?);
    let tls = match (&args.tls_certificate, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Arc::new(tls(certificate, key)?)),
        _ => None,
    };
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| unable(&format!("cannot listen at {}", args.listen), &error))?;
    let address = listener
        .local_addr()
        .map_err(|error| unable("cannot listen", &error))?;
    eprintln!(
        "witness {}\nlistening at {address}",
        witness.cosigner.verifier()
    );
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (witness, tls, open) = (witness.clone(), tls.clone(), open.clone());
        std::thread::spawn(move || {
            // The other side's troubles are its own.
            let _ = connection(stream, tls, &witness);
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
    Ok(())
}

fn tls(certificate: &Path, key: &Path) -> Result<ServerConfig, Failure> {
    let bad = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Unable(format!("{}: {error}", path.display()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad(certificate, &error))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, key_der)
        })
        .map_err(|error| bad(certificate, &error))
}

fn connection(
    mut stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    witness: &Witness,
) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    match tls {
        None => http::serve(&mut stream, |request| witness.answer(&request)),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            http::serve(&mut stream, |request| witness.answer(&request))
        }
    }
}

/// The witness and its folder.
struct Witness {
    folder: PathBuf,
    cosigner: Cosigner,
    logs: Vec<VerifierKey>,
    /// One checkpoint is judged and kept at a time.
    seat: Mutex<()>,
    /// Another process on the same folder could cosign a fork.
    _lock: File,
}

impl Witness {
    fn open(folder: &Path, name: &str, logs: Vec<VerifierKey>) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| {
            Failure::Unable(format!("{}: {what}: {error}", folder.display()))
        };
        fs::create_dir_all(folder.join("evidence"))
            .map_err(|error| failed("cannot be made", error))?;
        let lock = File::create(folder.join("lock")).map_err(|error| failed("lock", error))?;
        lock.try_lock().map_err(|_| {
            Failure::Unable(format!(
                "{} is in use by another witness process",
                folder.display()
            ))
        })?;
        let seed =
            seed(&folder.join("witness.key")).map_err(|error| failed("witness.key", error))?;
        let cosigner = Cosigner::new(name, &seed).map_err(|_| {
            Failure::Unable(format!("'{name}' is not a key name: no spaces, no '+'"))
        })?;
        let named = folder.join("name");
        match fs::read_to_string(&named) {
            Ok(text) if text.trim_end() == name => {}
            Ok(text) => {
                return Err(Failure::Unable(format!(
                    "this witness is named {}; a new name needs a new folder and key",
                    text.trim_end()
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                replace(&named, format!("{name}\n").as_bytes())
                    .map_err(|error| failed("name", error))?;
            }
            Err(error) => return Err(failed("name", error)),
        }
        let witness = Self {
            folder: folder.to_owned(),
            cosigner,
            logs,
            seat: Mutex::new(()),
            _lock: lock,
        };
        // A damaged memory is found now, not at the first fork.
        for log in &witness.logs {
            witness
                .latest(log.name())
                .map_err(|error| failed("a kept checkpoint is damaged", error))?;
        }
        Ok(witness)
    }

    fn answer(&self, request: &Request) -> Answer {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/add-checkpoint") => self.add(&request.body),
            ("GET", path) => self.monitored(path),
            _ => Answer::text(
                405,
                "POST /add-checkpoint, or GET /<origin hash>/checkpoint\n",
            ),
        }
    }

    fn add(&self, body: &[u8]) -> Answer {
        let refused = |refusal: Refusal| {
            let (content_type, body) = refusal.body();
            Answer {
                status: refusal.status(),
                content_type,
                body,
            }
        };
        let opened = match AddCheckpoint::parse(body).and_then(|request| request.open(&self.logs)) {
            Ok(opened) => opened,
            Err(refusal) => return refused(refusal),
        };
        let origin = opened.checkpoint().origin.clone();
        let _seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = match self.latest(&origin) {
            Ok(latest) => latest,
            Err(error) => return self.broken(&error),
        };
        let latest = latest.map(|(checkpoint, _)| checkpoint);
        let accepted = match opened.check(latest.as_ref()) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                if matches!(refusal, Refusal::Inconsistent(_)) {
                    self.keep_evidence(&origin, body, latest.as_ref());
                }
                return refused(refusal);
            }
        };
        let line = accepted.cosign(&self.cosigner, now());
        let note = format!("{}{line}", accepted.note());
        if note.len() > MAX_NOTE_BYTES {
            return refused(Refusal::BadRequest);
        }
        // Durable before the answer.
        match replace(&self.path(&origin), note.as_bytes()) {
            Ok(()) => Answer::text(200, line),
            Err(error) => self.broken(&error),
        }
    }

    fn monitored(&self, path: &str) -> Answer {
        let found = self
            .logs
            .iter()
            .find(|log| path == format!("/{}/checkpoint", origin_hash(log.name())));
        match found.map(|log| self.latest(log.name())) {
            Some(Ok(Some((_, note)))) => Answer::text(200, note),
            Some(Err(error)) => self.broken(&error),
            Some(Ok(None)) | None => Answer::text(404, "nothing cosigned under this name\n"),
        }
    }

    fn broken(&self, error: &io::Error) -> Answer {
        eprintln!("the witness's folder {}: {error}", self.folder.display());
        Answer::text(
            500,
            "the witness cannot use its memory; its operator must look\n",
        )
    }

    fn path(&self, origin: &str) -> PathBuf {
        self.folder
            .join(format!("{}.checkpoint", origin_hash(origin)))
    }

    /// What was cosigned last. A file that is there and not right is an error, never "nothing".
    fn latest(&self, origin: &str) -> io::Result<Option<(Checkpoint, String)>> {
        let note = match fs::read_to_string(self.path(origin)) {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        self.logs
            .iter()
            .filter(|log| log.name() == origin)
            .find_map(|log| Checkpoint::open(note.as_bytes(), log).ok())
            .map(|checkpoint| Some((checkpoint, note)))
            .ok_or_else(|| io::Error::other("a kept checkpoint is not signed by the log any more"))
    }

    fn keep_evidence(&self, origin: &str, body: &[u8], latest: Option<&Checkpoint>) {
        eprintln!(
            "ALARM: {origin} offers a checkpoint that does not continue the one of {} entries",
            latest.map_or(0, |latest| latest.size)
        );
        let folder = self.folder.join("evidence");
        let kept = fs::read_dir(&folder).map_or(MAX_EVIDENCE, Iterator::count);
        let path = folder.join(format!("{}.request", hex::encode(Sha256::digest(body))));
        if kept < MAX_EVIDENCE
            && !path.exists()
            && let Err(error) = replace(&path, body)
        {
            eprintln!("the evidence could not be kept: {error}");
        }
    }
}

fn origin_hash(origin: &str) -> String {
    hex::encode(Sha256::digest(origin.as_bytes()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program's one look at the clock: the time in a cosignature"
)]
fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| since.as_secs().max(1))
}

fn seed(path: &Path) -> io::Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => bytes
            .try_into()
            .map_err(|_| io::Error::other("the key is damaged; restore it from a backup")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
            replace(path, &seed)?;
            Ok(seed)
        }
        Err(error) => Err(error),
    }
}

/// Replaces a file so that a power cut leaves the old content or the new one; readable by this user only.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension("tmp");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
