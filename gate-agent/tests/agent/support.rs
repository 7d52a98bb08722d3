//! A tiny TLS server that speaks just enough of the gate interface. The real server is used by the
//! tests crate.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sallyport_domain::{Direction, ReasonCode, Timestamp, TransactionId, Verdict};
use sallyport_gate::clock::SystemClock;
use sallyport_gate::deps::{Deps, OsRandom};
use sallyport_gate::join::{Again, join};
use sallyport_gate::state::{Identity, StateFolder};
use sallyport_protocol::{
    DoorOrder, DoorReport, FailedAcquisition, GateEvent, Heartbeat, HeartbeatAnswer, JoinAnswer,
    JoinRequest, JoinToken, PassageDecision, PassageRequest, ProfileEntry, ProfileWord,
    RELEASE_ORDER_LIFETIME_MS, ReleaseAction, ReleaseOrder, RenewRequest, SignedDoorOrder,
    SignedDoorReport, SignedGateEvent, SignedReleaseOrder, paths,
};
use sallyport_transparency::{Note, NoteSigner, VerifierKey};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// How the server answers passages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Grant,
    Refuse,
    Refer,
    /// Decides, but the connection breaks before the answer: the retry must bring it.
    BreakOnce,
    /// Never answers.
    Silent,
    /// The order is for another gate.
    OtherGate,
    /// The order was signed by somebody else.
    Forged,
    /// A grant without an order.
    NoOrder,
    /// A refusal with an order.
    RefuseWithOrder,
    /// The order was issued a minute ago.
    Old,
    /// Status 500.
    Failing,
}

/// What the server saw and how it behaves.
pub(crate) struct Seen {
    pub(crate) behaviour: Behaviour,
    pub(crate) requests: Vec<PassageRequest>,
    pub(crate) decisions: HashMap<TransactionId, PassageDecision>,
    pub(crate) doors: Vec<DoorReport>,
    pub(crate) failures: Vec<FailedAcquisition>,
    pub(crate) joins: Vec<JoinRequest>,
    /// The network is cut: every connection breaks.
    pub(crate) cut: bool,
    /// A supervisor's order in the answers to heartbeats.
    pub(crate) release: Option<ReleaseAction>,
    /// Reports are answered with 500.
    pub(crate) reports_fail: bool,
    /// Officers' answers, by transaction.
    pub(crate) reviews: HashMap<TransactionId, Verdict>,
    pub(crate) clients_without_certificate: u64,
    /// Hours from now at which certificates begin and end.
    pub(crate) validity: (i64, i64),
    /// Renewals asked for.
    pub(crate) renewals: u64,
    pub(crate) renewal: Renewal,
    /// Begin of the newest certificate that a client showed (seconds).
    pub(crate) newest_client: i64,
    /// The server confesses that its log was changed.
    pub(crate) log_fault: Option<String>,
    /// Events of the gate, and their signed lines.
    pub(crate) gate_events: Vec<GateEvent>,
    pub(crate) gate_event_texts: Vec<String>,
    /// What is answered about the profile; without it, as by a server of before.
    pub(crate) profile: Option<String>,
    /// The newest question about it.
    pub(crate) profile_query: String,
    /// The newest heartbeat.
    pub(crate) heartbeat: Option<Heartbeat>,
}

/// The server.
pub(crate) struct FakeServer {
    pub(crate) address: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) token: JoinToken,
    stop: Arc<AtomicBool>,
}

/// How the server answers renewals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Good,
    /// Status 503.
    Failing,
    /// A certificate for somebody else's key.
    OtherKey,
    /// A certificate that ends no later than the present one.
    Shorter,
    /// Another key for door orders.
    OtherDoorKey,
    /// A certificate that the server itself will not accept.
    OtherAuthority,
}

/// Which TLS the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    /// As the real one.
    Good,
    /// TLS 1.2 only.
    Old,
    /// The CA is missing from the chain.
    WithoutCa,
}

pub(crate) fn wall() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "the real agent's main does the same"
    )]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_micros(i64::try_from(since.unwrap().as_micros()).unwrap())
}

pub(crate) fn deps() -> Deps {
    Deps {
        clock: Arc::new(SystemClock::new(wall)),
        random: Arc::new(OsRandom),
    }
}

struct Authority {
    ca_der: Vec<u8>,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    signer: SigningKey,
}

impl Authority {
    fn answer(
        &self,
        csr_pem: &str,
        (begin, end): (i64, i64),
        issuer: &Issuer<'static, KeyPair>,
    ) -> JoinAnswer {
        let at = |hours: i64| {
            let seconds = wall().as_micros() / 1_000_000 + hours * 3_600;
            ASN1Time::from_timestamp(seconds).unwrap().to_datetime()
        };
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        csr.params.not_before = at(begin);
        csr.params.not_after = at(end);
        csr.params.subject_alt_names = vec![SanType::URI(
            "spiffe://test/gate/front-in".try_into().unwrap(),
        )];
        JoinAnswer {
            certificate_pem: csr.signed_by(issuer).unwrap().pem(),
            ca_pem: self.ca_pem.clone(),
            door_key: STANDARD.encode(self.signer.verifying_key().as_bytes()),
            sealing_key: STANDARD.encode([9; 32]),
            log_vkey: NoteSigner::new("sallyport/test/audit1", &[8; 32])
                .unwrap()
                .verifier()
                .to_string(),
            direction: Direction::Entry,
        }
    }

    fn renewed(&self, csr_pem: &str, renewal: Renewal) -> Option<JoinAnswer> {
        let good = || self.answer(csr_pem, (0, 24), &self.issuer);
        Some(match renewal {
            Renewal::Good => good(),
            Renewal::Failing => return None,
            Renewal::OtherKey => {
                let other = KeyPair::generate().unwrap();
                let params = CertificateParams::default();
                let csr = params.serialize_request(&other).unwrap().pem().unwrap();
                self.answer(&csr, (0, 24), &self.issuer)
            }
            Renewal::Shorter => self.answer(csr_pem, (0, 1), &self.issuer),
            Renewal::OtherDoorKey => JoinAnswer {
                door_key: STANDARD.encode([7; 32]),
                ..good()
            },
            Renewal::OtherAuthority => {
                let mut params = CertificateParams::default();
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                let issuer = Issuer::new(params, KeyPair::generate().unwrap());
                self.answer(csr_pem, (0, 24), &issuer)
            }
        })
    }
}

impl FakeServer {
    pub(crate) fn start(behaviour: Behaviour, tls: Tls) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let authority = Authority {
            ca_der: ca.der().to_vec(),
            ca_pem: ca.pem(),
            issuer: Issuer::new(params, ca_key),
            signer: SigningKey::from_bytes(&[42; 32]),
        };
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &authority.issuer)
            .unwrap();
        let mut chain = vec![leaf.der().clone()];
        if tls != Tls::WithoutCa {
            chain.push(CertificateDer::from(authority.ca_der.clone()));
        }
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(authority.ca_der.clone()))
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let versions: &[_] = if tls == Tls::Old {
            &[&rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13]
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                chain,
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let token = JoinToken {
            gate: "front-in".parse().unwrap(),
            secret: "5".repeat(64),
            ca_sha256: hex::encode(Sha256::digest(&authority.ca_der)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: format!("localhost:{}", listener.local_addr().unwrap().port()),
            seen: Arc::new(Mutex::new(Seen {
                behaviour,
                requests: Vec::new(),
                decisions: HashMap::new(),
                doors: Vec::new(),
                failures: Vec::new(),
                joins: Vec::new(),
                cut: false,
                release: None,
                reports_fail: false,
                reviews: HashMap::new(),
                clients_without_certificate: 0,
                validity: (-1, 23),
                renewals: 0,
                renewal: Renewal::Good,
                newest_client: 0,
                log_fault: None,
                gate_events: Vec::new(),
                gate_event_texts: Vec::new(),
                profile: Some(profile_word(
                    include_str!("../../../profiles/nsw-2014.toml"),
                    None,
                )),
                profile_query: String::new(),
                heartbeat: None,
            })),
            token,
            stop: Arc::default(),
        };
        let (seen, stop) = (server.seen.clone(), server.stop.clone());
        let (config, authority) = (Arc::new(config), Arc::new(authority));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, config, authority) = (seen.clone(), config.clone(), authority.clone());
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).unwrap();
                    let _ = serve(
                        StreamOwned::new(connection, stream.unwrap()),
                        &seen,
                        &authority,
                    );
                });
            }
        });
        server
    }

    /// Joins a gate in a folder.
    pub(crate) fn join(&self, folder: &Path) -> (StateFolder, Identity) {
        let identity = join(&self.address, &self.token, folder, deps().clock, Again::No).unwrap();
        (StateFolder::existing(folder), identity)
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap())
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(self.address.replace("localhost", "127.0.0.1"));
    }
}

type Tcp = StreamOwned<ServerConnection, std::net::TcpStream>;

fn serve(stream: Tcp, seen: &Mutex<Seen>, authority: &Authority) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) = (
            words.next().unwrap_or_default().to_owned(),
            words.next().unwrap_or_default().to_owned(),
        );
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let peer = reader.get_ref().conn.peer_certificates();
        let certified = peer.is_some();
        if let Some(certificate) = peer.and_then(<[_]>::first) {
            let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
            let begin = parsed.validity().not_before.timestamp();
            let mut seen = seen.lock().unwrap();
            seen.newest_client = seen.newest_client.max(begin);
        }
        let Some((status, answer)) = respond(&method, &target, &body, certified, seen, authority)
        else {
            return Ok(());
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let stream = reader.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(&answer)?;
        stream.flush()?;
    }
}

/// Status and body; `None` breaks the connection.
fn respond(
    method: &str,
    target: &str,
    body: &[u8],
    certified: bool,
    seen: &Mutex<Seen>,
    authority: &Authority,
) -> Option<(u16, Vec<u8>)> {
    let mut seen = seen.lock().unwrap();
    if seen.cut {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path == paths::JOIN {
        let request: JoinRequest = serde_json::from_slice(body).unwrap();
        let answer = authority.answer(&request.csr_pem, seen.validity, &authority.issuer);
        seen.joins.push(request);
        return Some((200, serde_json::to_vec(&answer).unwrap()));
    }
    if !certified {
        seen.clients_without_certificate += 1;
        return Some((401, Vec::new()));
    }
    match (method, path) {
        ("POST", paths::RENEW) => {
            let request: RenewRequest = serde_json::from_slice(body).unwrap();
            seen.renewals += 1;
            Some(match authority.renewed(&request.csr_pem, seen.renewal) {
                Some(answer) => (200, serde_json::to_vec(&answer).unwrap()),
                None => (503, Vec::new()),
            })
        }
        ("POST", paths::HEARTBEAT) => {
            seen.heartbeat = Some(serde_json::from_slice(body).unwrap());
            let answer = HeartbeatAnswer {
                now: wall(),
                checkpoint: None,
                proof: Vec::new(),
                log_fault: seen.log_fault.clone(),
                release: seen.release.map(|action| release_order(action, authority)),
            };
            Some((200, serde_json::to_vec(&answer).unwrap()))
        }
        ("POST", paths::DOOR_REPORT | paths::FAILED_ACQUISITION) if seen.reports_fail => {
            Some((500, Vec::new()))
        }
        ("POST", paths::DOOR_REPORT) => {
            let signed: SignedDoorReport = serde_json::from_slice(body).unwrap();
            let key = VerifierKey::parse(&signed.key).unwrap();
            assert_eq!(key.name(), GateEvent::key_name(&signed.gate));
            let note = Note::parse(signed.note.as_bytes()).unwrap();
            let report = note.verify(&[key]).unwrap();
            let report = report.strip_prefix(SignedDoorReport::PURPOSE).unwrap();
            seen.doors.push(serde_json::from_str(report).unwrap());
            Some((204, Vec::new()))
        }
        ("POST", paths::FAILED_ACQUISITION) => {
            seen.failures.push(serde_json::from_slice(body).unwrap());
            Some((204, Vec::new()))
        }
        ("POST", paths::GATE_EVENT) if seen.reports_fail => Some((500, Vec::new())),
        ("POST", paths::GATE_EVENT) => {
            let signed: SignedGateEvent = serde_json::from_slice(body).unwrap();
            let key = VerifierKey::parse(&signed.key).unwrap();
            let note = Note::parse(signed.note.as_bytes()).unwrap();
            let text = note.verify(&[key]).unwrap();
            seen.gate_events.push(serde_json::from_str(text).unwrap());
            seen.gate_event_texts.push(text.to_owned());
            Some((204, Vec::new()))
        }
        ("POST", paths::PASSAGE) => passage(body, &mut seen, authority),
        ("GET", paths::PROFILE) => {
            seen.profile_query = query.to_owned();
            Some(match &seen.profile {
                Some(body) => (200, body.clone().into_bytes()),
                None => (404, Vec::new()),
            })
        }
        ("GET", paths::REVIEW) => {
            let transaction: TransactionId =
                query.strip_prefix("transaction=").unwrap().parse().unwrap();
            let Some(verdict) = seen.reviews.get(&transaction).copied() else {
                drop(seen);
                thread::yield_now();
                return Some((204, Vec::new()));
            };
            let request = seen
                .requests
                .iter()
                .find(|r| r.transaction == transaction)?
                .clone();
            let decision = decide(&request, verdict, wall(), authority);
            Some((200, serde_json::to_vec(&decision).unwrap()))
        }
        _ => Some((404, Vec::new())),
    }
}

/// The server's word about a profile.
pub(crate) fn profile_word(text: &str, named_by: Option<ProfileEntry>) -> String {
    let text = text.to_owned();
    serde_json::to_string(&ProfileWord { text, named_by }).unwrap()
}

/// One passage.
fn passage(body: &[u8], seen: &mut Seen, authority: &Authority) -> Option<(u16, Vec<u8>)> {
    let request: PassageRequest = serde_json::from_slice(body).unwrap();
    let again = seen.decisions.get(&request.transaction).cloned();
    seen.requests.push(request.clone());
    if let Some(decision) = again {
        return Some((200, serde_json::to_vec(&decision).unwrap()));
    }
    let mut decision = match seen.behaviour {
        Behaviour::Silent => return None,
        Behaviour::Failing => return Some((500, Vec::new())),
        Behaviour::Refuse => decide(&request, Verdict::Refuse, wall(), authority),
        Behaviour::Refer => decide(&request, Verdict::Refer, wall(), authority),
        Behaviour::Old => decide(
            &request,
            Verdict::Grant,
            wall().plus_millis(-60_000),
            authority,
        ),
        Behaviour::OtherGate => {
            let mut other = request.clone();
            other.gate = "front-out".parse().unwrap();
            decide(&other, Verdict::Grant, wall(), authority)
        }
        Behaviour::Grant
        | Behaviour::BreakOnce
        | Behaviour::Forged
        | Behaviour::NoOrder
        | Behaviour::RefuseWithOrder => decide(&request, Verdict::Grant, wall(), authority),
    };
    match seen.behaviour {
        Behaviour::NoOrder => decision.door_order = None,
        Behaviour::RefuseWithOrder => decision.verdict = Verdict::Refuse,
        Behaviour::Forged => {
            if let Some(order) = &mut decision.door_order {
                let other = SigningKey::from_bytes(&[41; 32]);
                order.signature = STANDARD.encode(other.sign(order.order.as_bytes()).to_bytes());
            }
        }
        _ => {}
    }
    seen.decisions.insert(request.transaction, decision.clone());
    if seen.behaviour == Behaviour::BreakOnce {
        return None;
    }
    Some((200, serde_json::to_vec(&decision).unwrap()))
}

/// A supervisor's order, as the server signs it.
fn release_order(action: ReleaseAction, authority: &Authority) -> SignedReleaseOrder {
    let now = wall();
    let order = serde_json::to_string(&ReleaseOrder {
        purpose: ReleaseOrder::PURPOSE.to_owned(),
        gate: "front-in".parse().unwrap(),
        order: TransactionId::new(now, [3; 10]),
        action,
        officer: "0192f0c4-7b3a-7c1d-9f00-000000000001".to_owned(),
        reason: "smoke in the corridor".to_owned(),
        issued_at: now,
        not_after: now.plus_millis(RELEASE_ORDER_LIFETIME_MS),
    })
    .unwrap();
    SignedReleaseOrder {
        signature: STANDARD.encode(authority.signer.sign(order.as_bytes()).to_bytes()),
        order,
    }
}

fn decide(
    request: &PassageRequest,
    verdict: Verdict,
    issued_at: Timestamp,
    authority: &Authority,
) -> PassageDecision {
    let door_order = (verdict == Verdict::Grant).then(|| {
        let order = serde_json::to_string(&DoorOrder {
            purpose: DoorOrder::PURPOSE.to_owned(),
            gate: request.gate.clone(),
            transaction: request.transaction,
            nonce: request.door_nonce.clone(),
            issued_at,
            not_after: issued_at.plus_millis(2_000),
        })
        .unwrap();
        SignedDoorOrder {
            signature: STANDARD.encode(authority.signer.sign(order.as_bytes()).to_bytes()),
            order,
        }
    });
    PassageDecision {
        transaction: request.transaction,
        verdict,
        reason: match verdict {
            Verdict::Grant => ReasonCode::Authorised,
            Verdict::Refuse => ReasonCode::Banned,
            Verdict::Refer => ReasonCode::NotRecognised,
        },
        log_index: 7,
        door_order,
    }
}
