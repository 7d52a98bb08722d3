//! The audit log under load, on both databases: open-loop appends beside readers that verify what they read.
//!
//! `cargo bench -p sallyport-server --bench log -- 600` runs ten minutes on each database; without a number, 30 seconds.
//! With the word `postgres` only there. The bar (`security.md` 1.1): 200 appends a second with 8 verifying readers, p99 at most 50 ms on PostgreSQL, no error.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measuring program: it stops when something is wrong and prints"
)]

#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod postgres;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sallyport_server::clock::SystemClock;
use sallyport_server::config::Config;
use sallyport_server::state::AppState;
use sallyport_server::{audit, fsck, installation};
use sallyport_transparency::{
    Checkpoint, inclusion_proof, leaf_hash, needed_for_inclusion, verify_inclusion,
};
use tokio::task::JoinSet;

const PER_SECOND: u64 = 200;
const READERS: u64 = 8;

fn main() {
    let seconds = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(30_u64);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        println!(
            "bar: {PER_SECOND} appends/s with {READERS} verifying readers, 0 errors; p99 <= 50 ms on PostgreSQL"
        );
        if !std::env::args().any(|argument| argument == "postgres") {
            run("SQLite", String::new(), None, seconds).await;
        }
        let database = postgres::cluster().database().await;
        run(
            "PostgreSQL",
            database.application(),
            Some(database.owner()),
            seconds,
        )
        .await;
    });
}

async fn run(name: &str, database: String, owner: Option<String>, seconds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = Config {
        site: "bench".parse().unwrap(),
        hostnames: vec!["localhost".to_owned()],
        gate_listen: "127.0.0.1:0".parse().unwrap(),
        console_listen: "127.0.0.1:0".parse().unwrap(),
        database,
        utc_offset_minutes: 0,
        cool_off_seconds: 0,
        allow_unlocked_memory: true,
        monitor_listen: None,
        oidc: None,
        officers: sallyport_server::config::OfficerRules::FLOOR,
    };
    installation::create_with_owner(&data, &config, owner.as_deref(), &SystemClock)
        .await
        .unwrap();
    let state = installation::open(&data, Arc::new(SystemClock))
        .await
        .unwrap();
    append(&state).await;
    audit::publish(&state).await.unwrap();

    let ended = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let mut background = JoinSet::new();
    for seed in 0..READERS {
        background.spawn(reader(state.clone(), ended.clone(), reads.clone(), seed));
    }
    background.spawn(publisher(state.clone(), ended.clone()));
    let mut appends = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / PER_SECOND));
    // Late turns are made up for: a slow append must not thin out the load that measures it.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let begun = Instant::now();
    for _ in 0..seconds * PER_SECOND {
        let due = ticks.tick().await.into_std();
        let state = state.clone();
        appends.spawn(async move {
            append(&state).await;
            due.elapsed()
        });
    }
    let mut times = appends.join_all().await;
    let took = begun.elapsed();
    ended.store(true, Ordering::SeqCst);
    background.join_all().await;
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 1_000].as_secs_f64() * 1e3;
    println!(
        "{name}: {} appends in {:.1} s; from due time to durable p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, largest {:.1} ms; \
         {} verified reads beside",
        times.len(),
        took.as_secs_f64(),
        at(500),
        at(990),
        at(999),
        at(1_000),
        reads.load(Ordering::SeqCst)
    );
    audit::publish(&state).await.unwrap();
    let begun = Instant::now();
    let checked = fsck::run(&state, |_, _| {}).await.unwrap();
    println!(
        "{name}: fsck of {} entries and {} checkpoints in {:.2} s",
        checked.entries,
        checked.checkpoints,
        begun.elapsed().as_secs_f64()
    );
    state.store.close().await;
}

async fn append(state: &AppState) {
    let mut entry = audit::entry("bench", state.clock.now()).unwrap();
    entry.gate = Some("front-in".to_owned());
    entry.decision = Some("grant".to_owned());
    entry.reason = Some("within_policy".to_owned());
    entry.policy = Some("default-1".to_owned());
    audit::record(state, entry).await.unwrap();
}

/// Checkpoints every second, as the server does.
async fn publisher(state: AppState, ended: Arc<AtomicBool>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    while !ended.load(Ordering::SeqCst) {
        every.tick().await;
        audit::publish(&state).await.unwrap();
    }
}

/// Reads a random entry with its proof and checks it against the newest signed checkpoint, ten times a second.
async fn reader(state: AppState, ended: Arc<AtomicBool>, reads: Arc<AtomicU64>, seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut every = tokio::time::interval(Duration::from_millis(100));
    while !ended.load(Ordering::SeqCst) {
        every.tick().await;
        let note = state.store.checkpoint().await.unwrap().unwrap();
        let checkpoint = Checkpoint::open(note.as_bytes(), state.keys.log.verifier()).unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let index = random % checkpoint.size;
        let rows = state.store.log_entries(index, 1).await.unwrap();
        let nodes = state
            .store
            .log_nodes(&needed_for_inclusion(index, checkpoint.size))
            .await
            .unwrap();
        let proof = inclusion_proof(index, checkpoint.size, &nodes).unwrap();
        verify_inclusion(
            index,
            checkpoint.size,
            leaf_hash(&rows[0].1),
            &proof,
            checkpoint.root,
        )
        .unwrap();
        reads.fetch_add(1, Ordering::SeqCst);
    }
}
