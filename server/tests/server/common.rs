//! A server in this process, on free ports, with a clock that the test moves, and gates that speak real TLS to it.
//! On SQLite or on a real PostgreSQL, as the test binary says (`ENGINE`).

#[path = "../support/postgres.rs"]
mod postgres;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sallyport_domain::{
    Direction, EnrolmentId, FaceTemplate, GateId, GatePolicy, Modality, ModelDigest, OfficerId,
    PadAssessment, PadKind, PadVerdict, PadVote, SubjectCategory, SubjectId, Timestamp,
    TransactionId,
};
use sallyport_protocol::{
    EnrolmentOutcome, EnrolmentSample, EnrolmentSubmission, JoinAnswer, JoinRequest, JoinToken,
    PROTOCOL_VERSION, PassageDecision, PassageRequest, Probe, ProtocolError, paths,
};
use sallyport_server::clock::{Clock as _, ManualClock, SystemClock};
use sallyport_server::config::Config;
use sallyport_server::enrolments::{self, Outcome};
use sallyport_server::keys::KeySetup;
use sallyport_server::state::AppState;
use sallyport_server::store::Engine;
use sallyport_server::{gate_api, gates, installation, registry, replicas, rights, tls};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::ENGINE;

pub(crate) use postgres::{Database, cluster};

pub(crate) const MODEL: [u8; 32] = [7; 32];

/// A running server.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) state: AppState,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) address: SocketAddr,
    /// Where there is a PostgreSQL.
    pub(crate) database: Option<Arc<Database>>,
    stop: watch::Sender<bool>,
}

pub(crate) fn config(cool_off_seconds: u32) -> Config {
    Config {
        site: "test-site".parse().unwrap(),
        hostnames: vec!["localhost".to_owned()],
        gate_listen: "127.0.0.1:0".parse().unwrap(),
        console_listen: "127.0.0.1:0".parse().unwrap(),
        database: String::new(),
        utc_offset_minutes: 0,
        cool_off_seconds,
        // Containers often lock no more than 64 KiB.
        allow_unlocked_memory: true,
        monitor_listen: None,
        oidc: None,
        officers: sallyport_server::config::OfficerRules::FLOOR,
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(0).await
    }

    pub(crate) async fn start_with(cool_off_seconds: u32) -> Self {
        Self::start_all(cool_off_seconds, &KeySetup::File, None).await
    }

    /// With key-encryption keys kept in another way; `secret` opens them.
    pub(crate) async fn start_keyed(keys: &KeySetup, secret: Option<&Zeroizing<String>>) -> Self {
        Self::start_all(0, keys, secret).await
    }

    async fn start_all(
        cool_off_seconds: u32,
        keys: &KeySetup,
        secret: Option<&Zeroizing<String>>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let data = data(&folder);
        let mut config = config(cool_off_seconds);
        let database = new_server_database().await;
        let owner = database.as_ref().map(|database| {
            config.database = database.application();
            database.owner()
        });
        installation::create_with(&data, &config, owner.as_deref(), keys, &*clock)
            .await
            .unwrap();
        Self::open_with(folder, clock, database, secret).await
    }

    pub(crate) async fn open(
        folder: TempDir,
        clock: Arc<ManualClock>,
        database: Option<Arc<Database>>,
    ) -> Self {
        Self::open_with(folder, clock, database, None).await
    }

    async fn open_with(
        folder: TempDir,
        clock: Arc<ManualClock>,
        database: Option<Arc<Database>>,
        secret: Option<&Zeroizing<String>>,
    ) -> Self {
        let state = installation::open_with(&data(&folder), clock.clone(), secret)
            .await
            .unwrap();
        registry::load(&state).await.unwrap();
        let identity = state
            .authority
            .server_identity(&state.config.hostnames, clock.now())
            .unwrap();
        let tls = tls::gate_config(&identity, state.authority.der()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(tls::serve_gates(
            listener,
            tls,
            gate_api::router(state.clone()),
            stopped,
            state.clone(),
        ));
        Self {
            folder,
            state,
            clock,
            address,
            database,
            stop,
        }
    }

    /// Keeps the gallery in step with other servers of the same database, as `serve` does.
    pub(crate) fn follow(&self) {
        tokio::spawn(replicas::follow(self.state.clone(), self.stop.subscribe()));
    }

    /// Waits until this server has taken up all that is committed now.
    pub(crate) async fn caught_up(&self) {
        let newest = self.state.store.registry_seq().await.unwrap();
        let mut seen = self.state.caught_up.subscribe();
        let waited = seen.wait_for(|seq| *seq >= newest);
        tokio::time::timeout(Duration::from_secs(30), waited)
            .await
            .expect("the other server's changes arrive")
            .unwrap();
    }

    /// Stops and starts again on the same data.
    pub(crate) async fn restart(self) -> Self {
        self.stop.send(true).unwrap();
        self.state.store.close().await;
        Self::open(self.folder, self.clock, self.database).await
    }

    /// Ends the server and hands out what it leaves behind.
    pub(crate) async fn end(self) -> Remains {
        self.stop.send(true).unwrap();
        self.state.store.close().await;
        Remains {
            folder: self.folder,
            clock: self.clock,
            database: self.database,
        }
    }

    /// Somebody with full power over the database, but without keys. One connection, so that its settings last.
    pub(crate) async fn hand(&self) -> AnyPool {
        hand(&self.folder, self.database.as_deref()).await
    }

    /// Adds a gate and lets it join.
    pub(crate) async fn gate(&self, name: &str) -> Gate {
        self.gate_with(name, &policy()).await
    }

    pub(crate) async fn gate_with(&self, name: &str, policy: &GatePolicy) -> Gate {
        let id: GateId = name.parse().unwrap();
        gates::add(&self.state, &id, Direction::Entry, policy, "test")
            .await
            .unwrap();
        let token = gates::token(&self.state, &id, "test").await.unwrap();
        let device = Device::new();
        let answer: JoinAnswer = self
            .stranger()
            .post(paths::JOIN, &device.request(&token))
            .await
            .good();
        approve_device(&self.state, &id).await;
        Gate {
            id,
            state: self.state.clone(),
            code: Arc::default(),
            client: self.client(Some((&answer.certificate_pem, &device.key_pem))),
            answer,
            device,
        }
    }

    /// A client without certificate.
    pub(crate) fn stranger(&self) -> Client {
        self.client(None)
    }

    /// A client that trusts this server's authority and shows this certificate and key.
    pub(crate) fn client(&self, identity: Option<(&str, &str)>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.state.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => config
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        Client {
            config: Arc::new(config),
            address: self.address,
        }
    }

    pub(crate) fn transaction(&self, number: u64) -> TransactionId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.to_be_bytes());
        TransactionId::new(self.clock.now(), random)
    }
}

/// A server's data after its end.
pub(crate) struct Remains {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) database: Option<Arc<Database>>,
}

impl Remains {
    pub(crate) fn data(&self) -> PathBuf {
        data(&self.folder)
    }

    pub(crate) async fn hand(&self) -> AnyPool {
        hand(&self.folder, self.database.as_deref()).await
    }

    /// Everything that the installation and its database have on disk. PostgreSQL's files may hold other tests' rows as well.
    pub(crate) async fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(&self.data(), &mut found);
        if let Some(database) = &self.database {
            for path in database.folders().await {
                collect(&path, &mut found);
            }
        }
        found
    }
}

pub(crate) fn collect(path: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    // A running PostgreSQL adds and removes files meanwhile.
    if path.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            collect(&entry.path(), into);
        }
    } else if let Ok(bytes) = std::fs::read(path) {
        into.push((path.to_owned(), bytes));
    }
}

/// A new database, where this binary's engine needs one.
/// An officer's act: whatever device waits for this gate may speak for it.
pub(crate) async fn approve_device(state: &AppState, gate: &GateId) {
    for (of, key) in rights::waiting(state).await.unwrap() {
        if of == *gate {
            let shown = sallyport_protocol::key_fingerprint(&key);
            gates::approve(state, gate, &shown, "test").await.unwrap();
        }
    }
}

pub(crate) async fn new_server_database() -> Option<Arc<Database>> {
    match ENGINE {
        Engine::Sqlite => None,
        Engine::Postgres => Some(Arc::new(cluster().database().await)),
    }
}

/// Addresses of a new database for the configuration and of its owner, as this binary's engine needs them.
pub(crate) async fn new_database() -> (String, Option<String>) {
    new_server_database()
        .await
        .map_or((String::new(), None), |database| {
            (database.application(), Some(database.owner()))
        })
}

async fn hand(folder: &TempDir, database: Option<&Database>) -> AnyPool {
    let address = database.map_or_else(
        || format!("sqlite://{}", data(folder).join("sallyport.db").display()),
        Database::superuser,
    );
    AnyPoolOptions::new()
        .max_connections(1)
        .connect(&address)
        .await
        .unwrap()
}

/// The text for this binary's database.
pub(crate) fn dialect<'a>(sqlite: &'a str, postgres: &'a str) -> sqlx::AssertSqlSafe<&'a str> {
    sqlx::AssertSqlSafe(match ENGINE {
        Engine::Sqlite => sqlite,
        Engine::Postgres => postgres,
    })
}

/// Is `needle` anywhere in `bytes`?
pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

pub(crate) fn data(folder: &TempDir) -> PathBuf {
    Path::new(folder.path()).join("data")
}

pub(crate) fn policy() -> GatePolicy {
    gates::default_policy()
}

/// A device key that never leaves the test.
pub(crate) struct Device {
    pub(crate) key_pem: String,
    pub(crate) csr_pem: String,
}

impl Device {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        Self {
            key_pem: key.serialize_pem(),
            csr_pem: csr.pem().unwrap(),
        }
    }

    pub(crate) fn request(&self, token: &JoinToken) -> JoinRequest {
        JoinRequest {
            version: PROTOCOL_VERSION,
            gate: token.gate.clone(),
            secret: token.secret.clone(),
            csr_pem: self.csr_pem.clone(),
        }
    }
}

/// A joined gate.
pub(crate) struct Gate {
    pub(crate) id: GateId,
    /// Of the server that it joined, where its enrolments are opened and approved.
    pub(crate) state: AppState,
    /// Code of its open batch.
    code: Arc<OnceLock<String>>,
    pub(crate) client: Client,
    pub(crate) answer: JoinAnswer,
    pub(crate) device: Device,
}

/// Sends one request per connection.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn good<T: DeserializeOwned>(self) -> T {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The status and the stable code of a refusal, which must be a proper protocol error with a sentence.
    pub(crate) fn refused(self) -> (u16, String) {
        let error: ProtocolError = serde_json::from_slice(&self.body).unwrap_or_else(|_| {
            panic!("{}: {:?}", self.status, String::from_utf8_lossy(&self.body))
        });
        assert!(error.message.len() > 20, "{error:?}");
        (self.status, error.code)
    }
}

pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

impl Client {
    /// The same client for a server elsewhere.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self {
            config: self.config.clone(),
            address,
        }
    }

    pub(crate) async fn connect(&self) -> std::io::Result<TlsStream> {
        let stream = TcpStream::connect(self.address).await?;
        tokio_rustls::TlsConnector::from(self.config.clone())
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }

    pub(crate) async fn post<T: Serialize>(&self, path: &str, message: &T) -> Answer {
        self.send("POST", path, &serde_json::to_vec(message).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut stream = self.connect().await?;
        exchange(&mut stream, method, path, body).await
    }
}

/// One request on an open connection.
pub(crate) async fn exchange(
    stream: &mut TlsStream,
    method: &str,
    path: &str,
    body: &[u8],
) -> std::io::Result<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    // A refused body may be cut off while it is being written; the answer is there all the same.
    let _ = stream.write_all(body).await;
    let _ = stream.flush().await;
    let mut received = Vec::new();
    loop {
        if let Some(answer) = parsed(&received) {
            return Ok(answer);
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&chunk[..count]);
    }
}

fn parsed(received: &[u8]) -> Option<Answer> {
    let at = received
        .windows(4)
        .position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..at]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap());
    let body = &received[at + 4..];
    (body.len() >= length).then(|| Answer {
        status,
        body: body[..length].to_vec(),
    })
}

/// A repeatable random direction in template space; different seeds are strangers to each other.
pub(crate) fn template(seed: u64) -> FaceTemplate {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5a11_1e57;
    let values = (0..512)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z >> 40) as f32) / ((1_u64 << 24) as f32) - 0.5
        })
        .collect();
    FaceTemplate::normalise(values).unwrap()
}

/// Another sample of the same person: similar, not equal.
pub(crate) fn mate(seed: u64, sample: u64) -> FaceTemplate {
    let (person, noise) = (template(seed), template(1_000_000 + seed * 100 + sample));
    let values = person
        .as_slice()
        .iter()
        .zip(noise.as_slice())
        .map(|(a, b)| a + 0.4 * b)
        .collect();
    FaceTemplate::normalise(values).unwrap()
}

pub(crate) fn probe(template: FaceTemplate) -> Probe {
    Probe {
        modality: Modality::Face,
        model: ModelDigest::from_bytes(MODEL),
        template: template.into(),
        quality: 80.0,
        samples: 3,
    }
}

impl Gate {
    pub(crate) fn request(
        &self,
        transaction: TransactionId,
        template: FaceTemplate,
    ) -> PassageRequest {
        PassageRequest {
            version: PROTOCOL_VERSION,
            transaction,
            gate: self.id.clone(),
            direction: Direction::Entry,
            captured_at: Timestamp::from_micros(1),
            claim: None,
            probes: vec![probe(template)],
            pad: PadAssessment {
                votes: vec![PadVote {
                    kind: PadKind::FaceTexture,
                    verdict: PadVerdict::BonaFide,
                    reason: "looks like skin".to_owned(),
                }],
            },
            people_in_view: 1,
            defects: Vec::new(),
            door_nonce: hex::encode(transaction.as_uuid().as_bytes()),
            attachment: None,
        }
    }

    pub(crate) async fn pass(&self, request: &PassageRequest) -> PassageDecision {
        self.client.post(paths::PASSAGE, request).await.good()
    }

    pub(crate) fn submission(&self, seed: u64) -> EnrolmentSubmission {
        EnrolmentSubmission {
            version: PROTOCOL_VERSION,
            enrolment: self.code(),
            subject: subject(seed),
            station: self.id.clone(),
            category: SubjectCategory::Staff,
            display_name: format!("Canary Person {seed}"),
            samples: (0..2)
                .map(|sample| EnrolmentSample {
                    probe: probe(mate(seed, sample)),
                    source_sha256: format!("{:064x}", seed * 1_000 + sample),
                    photograph: None,
                })
                .collect(),
        }
    }

    /// Code of a batch that an officer opened for this station; of single enrolments see `order`.
    pub(crate) fn code(&self) -> String {
        let open = || {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on(self.order(true))).code
        };
        self.code.get_or_init(open).clone()
    }

    /// One officer opens an enrolment or a batch.
    pub(crate) async fn order(&self, batch: bool) -> enrolments::Order {
        let detail = enrolments::OrderDetail {
            reason: "Canary Reason".to_owned(),
            document: "Canary Document".to_owned(),
        };
        enrolments::open(&self.state, opener(), &self.id, batch, detail, None)
            .await
            .unwrap()
    }

    /// The station submits, and another officer looks and approves.
    pub(crate) async fn enrol(&self, seed: u64) -> SubjectId {
        self.enrol_as(self.submission(seed)).await
    }

    pub(crate) async fn enrol_as(&self, submission: EnrolmentSubmission) -> SubjectId {
        let subject = submission.subject;
        let outcome: EnrolmentOutcome =
            self.client.post(paths::ENROLMENT, &submission).await.good();
        let EnrolmentOutcome::UnderReview { enrolment, .. } = outcome else {
            panic!("not taken: {outcome:?}");
        };
        approve(&self.state, enrolment).await;
        subject
    }
}

/// Opens enrolments.
pub(crate) fn opener() -> OfficerId {
    "0192a000-0000-7000-8000-000000000001".parse().unwrap()
}

/// Decides them.
pub(crate) fn approver() -> OfficerId {
    "0192a000-0000-7000-8000-000000000002".parse().unwrap()
}

/// The second officer looks and approves.
pub(crate) async fn approve(state: &AppState, id: EnrolmentId) {
    let seen = enrolments::review(state, id, approver()).await.unwrap();
    let content = &seen.row.content_sha256;
    enrolments::decide(state, id, approver(), Outcome::Approve, content, "known")
        .await
        .unwrap();
}

pub(crate) fn subject(seed: u64) -> SubjectId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&seed.to_be_bytes());
    SubjectId::new(Timestamp::from_micros(1_700_000_000_000_000), random)
}
