//! Rotation of the key-encryption key over 10,000 people while people pass. `cargo bench -p sallyport-server --bench rewrap`
//!
//! The bar (`security.md` 1.2): at most 60 s, no template encrypted again, a gate's p99 unchanged within 10 %.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measuring program: it stops when something is wrong and prints"
)]

#[path = "../tests/server/common.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;

use std::time::{Duration, Instant};

use sallyport_domain::{SubjectId, Timestamp, Verdict};
use sallyport_server::keys;
use sallyport_server::store::Engine;

use common::{Gate, Rig, mate};

/// The engine that `common` starts.
pub(crate) const ENGINE: Engine = Engine::Sqlite;

const PEOPLE: u64 = 10_000;
/// Passages measured before the rotation.
const BEFORE: u64 = 600;
/// A gate passes at most so often; a person every half second is a rush.
const EVERY: Duration = Duration::from_millis(20);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run());
}

async fn people(rig: &Rig) {
    let mut write = rig.state.store.write().await.unwrap();
    for number in 0..PEOPLE {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.to_be_bytes());
        let id = SubjectId::new(Timestamp::from_micros(1_600_000_000_000_000), random);
        let (_, rows) = keys::new_subject_keys(&rig.state.keys.ring, id).unwrap();
        for row in &rows {
            write.data_key_insert(row).await.unwrap();
        }
    }
    write.commit().await.unwrap();
}

/// One passage over TLS, from connecting to the answer.
async fn pass(rig: &Rig, gate: &Gate, number: u64) -> Duration {
    let request = gate.request(rig.transaction(number), mate(1, number));
    let begun = Instant::now();
    let decision = gate.pass(&request).await;
    let took = begun.elapsed();
    assert_eq!(decision.verdict, Verdict::Grant);
    took
}

fn shares(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort();
    [500, 990].map(|share| times[(times.len() - 1) * share / 1_000].as_secs_f64() * 1e3)
}

async fn run() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    people(&rig).await;
    let sealed = async || -> Vec<Vec<u8>> {
        let rows = rig.state.store.references(common::subject(1)).await;
        rows.unwrap()
            .into_iter()
            .map(|row| row.template_sealed)
            .collect()
    };
    let templates = sealed().await;
    let mut ticks = tokio::time::interval(EVERY);
    let mut before = Vec::new();
    for number in 0..BEFORE {
        ticks.tick().await;
        before.push(pass(&rig, &gate, number).await);
    }
    let state = rig.state.clone();
    let rotation = tokio::spawn(async move {
        let begun = Instant::now();
        let done = keys::rewrap(&state, "bench", |_| ()).await.unwrap();
        (done, begun.elapsed())
    });
    let mut during = Vec::new();
    let mut number = BEFORE;
    while !rotation.is_finished() {
        ticks.tick().await;
        during.push(pass(&rig, &gate, number).await);
        number += 1;
    }
    let (done, took) = rotation.await.unwrap();
    assert_eq!(templates, sealed().await, "no template was touched");
    assert!(done.keys >= 2 * PEOPLE);
    let count = during.len();
    let [quiet_half, quiet] = shares(before);
    let [busy_half, busy] = shares(during);
    println!("bar: {PEOPLE} people's keys in at most 60 s, a gate's p99 unchanged within 10 %");
    println!(
        "{} keys of {PEOPLE} people under key version {} in {:.1} s",
        done.keys,
        done.version,
        took.as_secs_f64()
    );
    println!(
        "passages over TLS: before p50 {quiet_half:.1} ms, p99 {quiet:.1} ms ({BEFORE}); during p50 {busy_half:.1} ms, p99 {busy:.1} ms ({count}); ratio of p99 {:.2}",
        busy / quiet
    );
}
