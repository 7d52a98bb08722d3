//! How soon does another server know who was enrolled? `cargo bench -p sallyport-server --bench replicas`
//!
//! Two servers on one real PostgreSQL, as `serve` runs them. From the second officer's approval at one until the other's gallery has the
//! person. The bar (issue and `architecture.md`): under a second.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measuring program: it stops when something is wrong and prints"
)]

#[path = "../tests/server/common.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;

use std::time::Instant;

use sallyport_protocol::{EnrolmentOutcome, paths};
use sallyport_server::store::Engine;

use common::{Rig, approve, data};

/// The engine that `common` starts.
pub(crate) const ENGINE: Engine = Engine::Postgres;

const PEOPLE: u64 = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run());
}

/// Another server: its own copy of the data folder, the same database.
async fn replica(rig: &Rig) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(data(&folder)).unwrap();
    for entry in std::fs::read_dir(data(&rig.folder)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), data(&folder).join(entry.file_name())).unwrap();
    }
    Rig::open(folder, rig.clock.clone(), rig.database.clone()).await
}

async fn run() {
    let one = Rig::start().await;
    let other = replica(&one).await;
    one.follow();
    other.follow();
    let gate = one.gate("front-in").await;
    let mut times = Vec::new();
    for person in 1..=PEOPLE {
        let submission = gate.submission(person);
        let outcome: EnrolmentOutcome =
            gate.client.post(paths::ENROLMENT, &submission).await.good();
        let EnrolmentOutcome::UnderReview { enrolment, .. } = outcome else {
            panic!("{outcome:?}")
        };
        other.caught_up().await;
        let begun = Instant::now();
        approve(&one.state, enrolment).await;
        other.caught_up().await;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        assert_eq!(other.state.gallery.read().unwrap().people() as u64, person);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("bar: under 1,000 ms");
    println!(
        "{PEOPLE} enrolments on PostgreSQL, from the approval at one server to the other's gallery: p50 {:.0} ms, p99 {:.0} ms, largest {:.0} ms",
        at(50),
        at(99),
        at(100)
    );
}
