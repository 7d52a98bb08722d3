//! Outside witnesses: asked over HTTP and HTTPS, believed only under their own key, and heard when they object.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use sallyport_server::{audit, outside, tls, witness};
use sallyport_transparency::{AddCheckpoint, Checkpoint, Cosigner, Policy, VerifierKey};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::common::{Rig, data, mate};

const NAME: &str = "ombudsman.example/w1";

/// A witness with the core that `sallyport-audit witness` has, and a memory that a test can change.
struct Outsider {
    cosigner: Cosigner,
    log: VerifierKey,
    latest: Mutex<Option<Checkpoint>>,
    asked: Mutex<Vec<u64>>,
    /// Says this instead.
    says: Mutex<Option<(StatusCode, String)>>,
}

impl Outsider {
    fn new(rig: &Rig) -> Arc<Self> {
        Arc::new(Self {
            cosigner: Cosigner::new(NAME, &[5; 32]).unwrap(),
            log: rig.state.keys.log.verifier().clone(),
            latest: Mutex::default(),
            asked: Mutex::default(),
            says: Mutex::default(),
        })
    }

    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn add(State(outsider): State<Arc<Outsider>>, body: String) -> (StatusCode, String) {
    let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
    outsider.asked.lock().unwrap().push(request.old);
    if let Some(said) = outsider.says.lock().unwrap().clone() {
        return said;
    }
    let mut latest = outsider.latest.lock().unwrap();
    let judged = request
        .open(std::slice::from_ref(&outsider.log))
        .and_then(|opened| opened.check(latest.as_ref()));
    match judged {
        Ok(accepted) => {
            *latest = Some(accepted.checkpoint().clone());
            (
                StatusCode::OK,
                accepted.cosign(&outsider.cosigner, 1_700_000_000),
            )
        }
        Err(refusal) => (
            StatusCode::from_u16(refusal.status()).unwrap(),
            refusal.body().1,
        ),
    }
}

fn routes(outsider: &Arc<Outsider>) -> Router {
    Router::new()
        .route("/watch/add-checkpoint", post(add))
        .with_state(outsider.clone())
}

fn named(rig: &Rig, outsider: &Outsider, url: &str) {
    let line = format!("witness ombudsman {} {url}\n", outsider.cosigner.verifier());
    std::fs::write(data(&rig.folder).join(witness::OUTSIDE_FILE), line).unwrap();
}

async fn grow(rig: &Rig, gate: &crate::common::Gate, from: u64) {
    for number in from..from + 3 {
        gate.pass(&gate.request(rig.transaction(number), mate(1, number)))
            .await;
    }
    audit::publish(&rig.state).await.unwrap();
}

async fn rig() -> (Rig, crate::common::Gate) {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    grow(&rig, &gate, 0).await;
    (rig, gate)
}

async fn plain(rig: &Rig) -> (Arc<Outsider>, SocketAddr) {
    let outsider = Outsider::new(rig);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, routes(&outsider)).into_future());
    named(rig, &outsider, &format!("http://{address}/watch"));
    (outsider, address)
}

async fn lines(rig: &Rig) -> usize {
    let cosigned = rig.state.store.cosigned().await.unwrap();
    cosigned.iter().map(|(_, _, lines)| lines.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_cosignature_stands_beside_the_checkpoint_and_fulfils_the_policy() {
    let (rig, gate) = rig().await;
    let (outsider, _) = plain(&rig).await;
    outside::ask_all(&rig.state).await.unwrap();
    // Its new key was an entry; the next checkpoint is asked for from the one before.
    assert_eq!(outsider.asked(), [0]);
    outside::ask_all(&rig.state).await.unwrap();
    assert_eq!(
        outsider.asked(),
        [] as [u64; 0],
        "nothing new, nothing asked"
    );
    let first = outsider.latest.lock().unwrap().clone().unwrap();
    grow(&rig, &gate, 10).await;
    outside::ask_all(&rig.state).await.unwrap();
    assert_eq!(outsider.asked(), [first.size]);
    assert_eq!(lines(&rig).await, 2);
    let (size, note, cosignatures) = rig.state.store.cosigned().await.unwrap().remove(0);
    assert_eq!(size, outsider.latest.lock().unwrap().clone().unwrap().size);
    let policy = format!(
        "log {}\nwitness w {}\nquorum w\n",
        outsider.log,
        outsider.cosigner.verifier()
    );
    Policy::parse(policy.as_bytes())
        .unwrap()
        .open((note + &cosignatures.concat()).as_bytes())
        .unwrap();
    assert!(rig.state.store.alarms().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_remembers_another_size_is_asked_again_from_there() {
    let (rig, gate) = rig().await;
    let (outsider, _) = plain(&rig).await;
    outside::ask_all(&rig.state).await.unwrap();
    let first = outsider.latest.lock().unwrap().clone();
    grow(&rig, &gate, 10).await;
    outside::ask_all(&rig.state).await.unwrap();
    outsider.asked();
    // Restored from a backup: it knows the first size only.
    let size = first.as_ref().unwrap().size;
    *outsider.latest.lock().unwrap() = first;
    grow(&rig, &gate, 20).await;
    outside::ask_all(&rig.state).await.unwrap();
    let asked = outsider.asked();
    assert_eq!((asked.len(), asked[1]), (2, size));
    assert_eq!(lines(&rig).await, 3);
    assert!(rig.state.store.alarms().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_saw_another_or_a_longer_log_raises_the_alarm() {
    for (says, expected) in [
        (
            (StatusCode::CONFLICT, "100000\n".to_owned()),
            "rolled back or is a copy",
        ),
        (
            (StatusCode::UNPROCESSABLE_ENTITY, String::new()),
            "does not continue",
        ),
    ] {
        let (rig, _) = rig().await;
        let (outsider, _) = plain(&rig).await;
        *outsider.says.lock().unwrap() = Some(says);
        for _ in 0..2 {
            outside::ask_all(&rig.state).await.unwrap();
        }
        let alarms = rig.state.store.alarms().await.unwrap();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(alarms[0].what.contains(expected), "{alarms:?}");
        assert!(alarms[0].shown.is_some(), "the evidence");
        assert_eq!(rig.state.watch.alarms(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_nonsense_and_a_foreign_key_change_nothing() {
    let (rig, _) = rig().await;
    let (outsider, _) = plain(&rig).await;
    let size = rig.state.store.log_size().await.unwrap();
    for says in [
        (StatusCode::OK, "hello\n".to_owned()),
        (StatusCode::OK, "x".repeat(200_000)),
        (StatusCode::CONFLICT, "many\n".to_owned()),
        (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        (StatusCode::FOUND, String::new()),
        // Goes back and forth for ever, if it were let.
        (StatusCode::CONFLICT, "1\n".to_owned()),
    ] {
        *outsider.says.lock().unwrap() = Some(says);
        outside::ask_all(&rig.state).await.unwrap();
        assert!(outsider.asked().len() <= 2);
    }
    // Cosigned by somebody else under the same name.
    *outsider.says.lock().unwrap() = None;
    let other = Cosigner::new(NAME, &[6; 32]).unwrap();
    let line = format!("witness ombudsman {}", other.verifier());
    let path = data(&rig.folder).join(witness::OUTSIDE_FILE);
    let written = std::fs::read_to_string(&path).unwrap();
    let url = written.trim().rsplit(' ').next().unwrap();
    std::fs::write(&path, format!("{line} {url}\n")).unwrap();
    outside::ask_all(&rig.state).await.unwrap();
    // Nobody there at all.
    std::fs::write(&path, format!("{line} http://127.0.0.1:1/w\n")).unwrap();
    outside::ask_all(&rig.state).await.unwrap();
    assert_eq!(lines(&rig).await, 0);
    assert!(rig.state.store.alarms().await.unwrap().is_empty());
    // The key of each witness was logged, and nothing else.
    assert_eq!(rig.state.store.log_size().await.unwrap(), size + 2);
    // A file that is not right is said, and not taken for "no witnesses".
    std::fs::write(&path, "witness ombudsman nonsense\n").unwrap();
    outside::ask_all(&rig.state).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_trusted_only_from_the_authority_in_the_data_folder() {
    let (rig, _) = rig().await;
    let outsider = Outsider::new(&rig);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(tls::serve(
        listener,
        Arc::new(config),
        routes(&outsider),
        stopped,
    ));
    named(&rig, &outsider, &format!("https://localhost:{port}/watch/"));
    outside::ask_all(&rig.state).await.unwrap();
    assert_eq!(outsider.asked(), [] as [u64; 0]);
    let path = data(&rig.folder).join(outside::AUTHORITIES_FILE);
    // A key in that file is refused, not ignored.
    std::fs::write(&path, key.serialize_pem()).unwrap();
    let error = outside::ask_all(&rig.state).await.unwrap_err().to_string();
    assert!(error.contains("only certificates"), "{error}");
    std::fs::write(&path, certificate.pem()).unwrap();
    outside::ask_all(&rig.state).await.unwrap();
    assert_eq!(outsider.asked().len(), 1);
    assert_eq!(lines(&rig).await, 1);
}
