//! Streams: everything arrives in order, whatever the receiver does, and is signed; what is not protected is not sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use sallyport_server::audit;
use sallyport_server::streams::{self, Format, Step, Stream, StreamError, Target, Trouble};
use sallyport_transparency::{Checkpoint, Entry};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::common::{Rig, data};

/// What a receiver got, and what it does with the next delivery.
#[derive(Default)]
struct Receiver {
    bodies: Mutex<Vec<(HeaderMap, String)>>,
    /// So many deliveries are answered with a failure first.
    fails: AtomicUsize,
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let failing = receiver
        .fails
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
    if failing.is_ok() {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    receiver.bodies.lock().unwrap().push((headers, body));
    StatusCode::NO_CONTENT
}

async fn webhook(format: Format) -> (Arc<Receiver>, Stream) {
    let receiver = Arc::new(Receiver::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/hook", post(take))
        .with_state(receiver.clone());
    tokio::spawn(axum::serve(listener, router).into_future());
    let stream = Stream {
        name: "siem".to_owned(),
        target: Target::Webhook {
            url: format!("http://{address}/hook"),
        },
        format,
        authorities: None,
    };
    (receiver, stream)
}

async fn grow(rig: &Rig, entries: usize) {
    for _ in 0..entries {
        let entry = audit::entry(
            "test_write",
            sallyport_server::clock::Clock::now(&*rig.clock),
        );
        audit::record(&rig.state, entry.unwrap()).await.unwrap();
    }
    audit::publish(&rig.state).await.unwrap();
}

/// Steps until nothing is left; failures are tried again.
async fn drain(rig: &Rig, stream: &Stream) -> usize {
    let (mut trouble, mut failures) = (Trouble::default(), 0);
    loop {
        match streams::step(&rig.state, stream, &mut trouble).await {
            Ok(Step::Sent(_)) => {}
            Ok(Step::UpToDate) => return failures,
            Ok(Step::Elsewhere) => panic!("nobody else is there"),
            Err(StreamError::Undelivered(_)) => failures += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(failures < 100);
    }
}

fn indexes(receiver: &Receiver) -> Vec<u64> {
    let mut found = Vec::new();
    for (_, body) in receiver.bodies.lock().unwrap().iter() {
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        for event in value["events"].as_array().unwrap() {
            found.push(event["index"].as_u64().unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_every_entry_once_in_order_signed_and_as_stored() {
    let rig = Rig::start().await;
    let (receiver, stream) = webhook(Format::Json).await;
    grow(&rig, 300).await;
    receiver.fails.store(3, Ordering::SeqCst);
    assert_eq!(drain(&rig, &stream).await, 3);
    // The stream's own first entry is not under a checkpoint yet.
    grow(&rig, 5).await;
    drain(&rig, &stream).await;
    let size = rig.state.store.log_size().await.unwrap();
    assert_eq!(indexes(&receiver), (0..size).collect::<Vec<_>>());
    let stored = rig.state.store.log_entries(0, 1_000).await.unwrap();
    for (headers, body) in receiver.bodies.lock().unwrap().iter() {
        let header = |name: &str| headers.get(name).unwrap().to_str().unwrap();
        let key = streams::webhook_key(&rig.state);
        let key = STANDARD.decode(key.strip_prefix("whpk_").unwrap()).unwrap();
        let key = VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap();
        let signature = header("webhook-signature").strip_prefix("v1a,").unwrap();
        let signature = Signature::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
        let signed = format!(
            "{}.{}.{body}",
            header("webhook-id"),
            header("webhook-timestamp")
        );
        key.verify_strict(signed.as_bytes(), &signature).unwrap();
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        for event in value["events"].as_array().unwrap() {
            let (index, bytes) = &stored[event["index"].as_u64().unwrap() as usize];
            assert_eq!(event["index"], *index);
            assert_eq!(event["entry"].as_str().unwrap().as_bytes(), bytes);
        }
        let note = value["checkpoint"].as_str().unwrap();
        let checkpoint = Checkpoint::open(note.as_bytes(), rig.state.keys.log.verifier()).unwrap();
        assert!(checkpoint.size >= value["next"].as_u64().unwrap());
    }
    let added: Vec<Entry> = stored
        .iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .filter(|entry| entry.kind == "stream_added")
        .collect();
    assert_eq!(added.len(), 1);
    assert!(
        added[0]
            .about
            .as_ref()
            .unwrap()
            .starts_with("siem: webhook http://")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_and_from_an_index_it_goes_on_where_it_should() {
    let rig = Rig::start().await;
    let (receiver, stream) = webhook(Format::Json).await;
    grow(&rig, 20).await;
    drain(&rig, &stream).await;
    let before = indexes(&receiver).len();
    let rig = rig.restart().await;
    grow(&rig, 10).await;
    // The server that ended held the stream; after half a minute another one takes it.
    let mut trouble = Trouble::default();
    assert_eq!(
        streams::step(&rig.state, &stream, &mut trouble)
            .await
            .unwrap(),
        Step::Elsewhere
    );
    rig.clock.advance_millis(30_001);
    drain(&rig, &stream).await;
    let all = indexes(&receiver);
    assert!(all.len() > before);
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    let mut write = rig.state.store.write().await.unwrap();
    assert!(write.stream_put("siem", 7).await.unwrap());
    assert!(!write.stream_put("nobody", 7).await.unwrap());
    write.commit().await.unwrap();
    drain(&rig, &stream).await;
    let again = indexes(&receiver).split_off(all.len());
    assert_eq!(again, (7..all.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_and_its_return_are_entries() {
    let rig = Rig::start().await;
    let (receiver, stream) = webhook(Format::Ocsf).await;
    grow(&rig, 3).await;
    receiver.fails.store(4, Ordering::SeqCst);
    let mut trouble = Trouble::default();
    for _ in 0..4 {
        let error = streams::step(&rig.state, &stream, &mut trouble).await;
        assert!(matches!(error, Err(StreamError::Undelivered(_))));
        rig.clock.advance_millis(streams::LOST_MS / 2);
    }
    streams::step(&rig.state, &stream, &mut trouble)
        .await
        .unwrap();
    let rows = rig.state.store.log_entries(0, 1_000).await.unwrap();
    let kinds: Vec<_> = rows
        .iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap().kind)
        .filter(|kind| kind.starts_with("stream_"))
        .collect();
    assert_eq!(kinds, ["stream_added", "stream_lost", "stream_back"]);
    let body = receiver.bodies.lock().unwrap()[0].1.clone();
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(value["events"][0]["metadata"]["sequence"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unprotected_addresses_are_sent_nothing() {
    let rig = Rig::start().await;
    let (receiver, good) = webhook(Format::Json).await;
    grow(&rig, 3).await;
    for (target, expected) in [
        (
            Target::Webhook {
                url: "http://siem.example/?token=abcdef".to_owned(),
            },
            "is no address",
        ),
        (
            Target::Syslog {
                address: "nowhere".to_owned(),
            },
            "is no address",
        ),
    ] {
        let stream = Stream {
            target,
            ..good.clone()
        };
        let mut trouble = Trouble::default();
        let error = streams::step(&rig.state, &stream, &mut trouble)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("abcdef"), "{error}");
    }
    assert_eq!(indexes(&receiver), [] as [u64; 0]);
}

/// A syslog receiver that keeps whole messages, and breaks off as often as it is told to.
struct Syslog {
    got: Arc<Mutex<Vec<Vec<u8>>>>,
    breaks: Arc<AtomicUsize>,
    stream: Stream,
}

async fn syslog(rig: &Rig) -> Syslog {
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
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (got, breaks) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
    let (into, broken): (Arc<Mutex<Vec<Vec<u8>>>>, _) = (Arc::clone(&got), Arc::clone(&breaks));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let fails = broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left: usize| {
                left.checked_sub(1)
            });
            if fails.is_ok() {
                // Reads a little and is gone, without any word.
                let mut some = [0; 100];
                let _ = stream.read(&mut some).await;
                continue;
            }
            let mut bytes = Vec::new();
            if stream.read_to_end(&mut bytes).await.is_ok() {
                into.lock().unwrap().push(bytes);
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
            }
        }
    });
    let authorities = data(&rig.folder).join("siem-ca.pem");
    std::fs::write(&authorities, certificate.pem()).unwrap();
    Syslog {
        got,
        breaks,
        stream: Stream {
            name: "syslog".to_owned(),
            target: Target::Syslog {
                address: format!("localhost:{port}"),
            },
            format: Format::Json,
            authorities: Some(authorities),
        },
    }
}

/// Indexes out of octet-counted frames.
fn frames(bytes: &[u8]) -> Vec<u64> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').unwrap();
        let length: usize = std::str::from_utf8(&rest[..space])
            .unwrap()
            .parse()
            .unwrap();
        let message = std::str::from_utf8(&rest[space + 1..space + 1 + length]).unwrap();
        let (_, index) = message.split_once("index=\"").unwrap();
        found.push(index.split('"').next().unwrap().parse().unwrap());
        rest = &rest[space + 1 + length..];
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_over_tls_skips_nothing_when_the_receiver_breaks_off() {
    let rig = Rig::start().await;
    let receiver = syslog(&rig).await;
    grow(&rig, 600).await;
    receiver.breaks.store(5, Ordering::SeqCst);
    assert_eq!(drain(&rig, &receiver.stream).await, 5);
    let size = rig.state.store.log_size().await.unwrap();
    let got: Vec<u64> = receiver
        .got
        .lock()
        .unwrap()
        .iter()
        .flat_map(|bytes| frames(bytes))
        .collect();
    // Without the stream's own first entry, which no checkpoint covers yet.
    assert_eq!(got, (0..size - 1).collect::<Vec<_>>());
    // Another authority: nothing is sent.
    let stranger = Stream {
        authorities: None,
        ..receiver.stream.clone()
    };
    grow(&rig, 1).await;
    let mut trouble = Trouble::default();
    streams::step(&rig.state, &stranger, &mut trouble)
        .await
        .unwrap_err();
    assert_eq!(receiver.got.lock().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_streams_is_read_and_nonsense_is_said() {
    let rig = Rig::start().await;
    let path = data(&rig.folder).join(streams::FILE);
    assert_eq!(streams::configured(&rig.state).unwrap(), []);
    std::fs::write(
        &path,
        "[[stream]]\nname = \"siem\"\nsyslog = \"siem.example:6514\"\nformat = \"cef\"\nauthorities = \"/etc/ca.pem\"\n\
         [[stream]]\nname = \"hook\"\nwebhook = \"https://siem.example/x\"\n",
    )
    .unwrap();
    let read = streams::configured(&rig.state).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(
        (read[0].format, read[1].format),
        (Format::Cef, Format::Json)
    );
    for wrong in [
        "[[stream]]\nname = \"a b\"\nsyslog = \"x:1\"\n",
        "[[stream]]\nname = \"a\"\npigeon = \"x\"\n",
        "[[stream]]\nname = \"a\"\nsyslog = \"x:1\"\n[[stream]]\nname = \"a\"\nsyslog = \"x:1\"\n",
        "nonsense",
    ] {
        std::fs::write(&path, wrong).unwrap();
        let error = streams::configured(&rig.state).unwrap_err().to_string();
        assert!(error.contains("streams.toml"), "{error}");
    }
}
