//! `kill -9` in the middle of 200 passages: every answered passage is there exactly once, and the log verifies.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sallyport_domain::{
    Direction, FaceTemplate, Modality, ModelDigest, PadAssessment, Timestamp, TransactionId,
};
use sallyport_gate::clock::SystemClock;
use sallyport_gate::state::StateFolder;
use sallyport_gate::tls;
use sallyport_gate::uplink::Uplink;
use sallyport_protocol::{PROTOCOL_VERSION, PassageRequest, Probe};
use sallyport_tests::site::Site;

const PASSAGES: usize = 200;
const WORKERS: usize = 4;

fn now() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test is outside the programs and stamps its own requests"
    )]
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_micros(since.as_micros() as i64)
}

fn template(seed: usize) -> FaceTemplate {
    let values = (0..512)
        .map(|index| ((seed * 7_919 + index * 104_729) % 1_009) as f32 - 504.0)
        .collect();
    FaceTemplate::normalise(values).unwrap()
}

#[test]
fn every_answered_passage_survives_a_kill_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::create(folder.path()).unwrap();
    let state = site.join("front-in", "entry").unwrap();
    let identity = StateFolder::existing(&state).identity().unwrap();
    let answered: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let started = Arc::new(AtomicUsize::new(0));

    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (answered, started) = (Arc::clone(&answered), Arc::clone(&started));
            let clock = Arc::new(SystemClock::new(now));
            let uplink = Uplink::new(&identity.server, tls::joined(&identity).unwrap(), clock);
            let gate = identity.gate.clone();
            std::thread::spawn(move || {
                for number in 0..PASSAGES / WORKERS {
                    let seed = worker * PASSAGES + number;
                    let mut random = [0; 10];
                    random[..8].copy_from_slice(&(seed as u64).to_be_bytes());
                    let request = PassageRequest {
                        version: PROTOCOL_VERSION,
                        transaction: TransactionId::new(now(), random),
                        gate: gate.clone(),
                        direction: Direction::Entry,
                        captured_at: now(),
                        claim: None,
                        probes: vec![Probe {
                            modality: Modality::Face,
                            model: ModelDigest::from_bytes([7; 32]),
                            template: template(seed).into(),
                            quality: 50.0,
                            samples: 1,
                        }],
                        pad: PadAssessment::default(),
                        people_in_view: 1,
                        defects: vec![],
                        door_nonce: format!("{seed:032x}"),
                        attachment: None,
                    };
                    started.fetch_add(1, Ordering::SeqCst);
                    // The same transaction until it is answered, as a gate does.
                    let decision = (0..600)
                        .find_map(|_| {
                            uplink
                                .passage(&request, Duration::from_secs(5))
                                .ok()
                                .or_else(|| {
                                    std::thread::yield_now();
                                    std::thread::park_timeout(Duration::from_millis(50));
                                    None
                                })
                        })
                        .expect("the server answers after it is back");
                    answered
                        .lock()
                        .unwrap()
                        .insert(request.transaction.to_string(), decision.log_index);
                }
            })
        })
        .collect();

    while answered.lock().unwrap().len() < PASSAGES / 3 {
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(2));
    }
    site.server.kill().unwrap();
    let before = answered.lock().unwrap().len();
    assert!(before < PASSAGES, "the kill came in the middle");
    site.restart_server().unwrap();
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(started.load(Ordering::SeqCst), PASSAGES);

    let (export, said) = site.verified_log("export").unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    let table = site
        .checkout
        .run(
            "sallyport-audit",
            ["export-csv", &export.display().to_string()],
        )
        .unwrap();
    let mut logged: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in table.lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        if cells[2] == "passage" {
            logged
                .entry(cells[7].to_owned())
                .or_default()
                .push(cells[0].parse().unwrap());
        }
    }
    let answered = answered.lock().unwrap();
    assert_eq!(answered.len(), PASSAGES);
    for (transaction, index) in answered.iter() {
        assert_eq!(
            logged.get(transaction),
            Some(&vec![*index]),
            "{transaction}"
        );
    }
    assert_eq!(
        logged.len(),
        PASSAGES,
        "no passage is in the log that nobody asked for"
    );
    site.server.stop().unwrap();
}
