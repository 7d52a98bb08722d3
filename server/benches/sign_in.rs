//! Does the time of a refused sign-in tell which names exist? `cargo bench -p sallyport-server --bench sign_in`
//!
//! The bar (`security.md` 1.3, ASVS 5.0 6.3.8): over 200 tries the medians for a known and an unknown name differ by at most 5 %.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measuring program: it stops when something is wrong and prints"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sallyport_domain::Role;
use sallyport_server::clock::{Clock as _, ManualClock, SystemClock};
use sallyport_server::config::{Config, OfficerRules};
use sallyport_server::installation;
use sallyport_server::officers::{self, Credentials, OfficerError};
use sallyport_server::state::AppState;

const TRIES: usize = 200;
/// Longer than failed attempts are remembered.
const BETWEEN_MS: i64 = 3 * 60 * 60 * 1_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run());
}

async fn run() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = Config {
        site: "bench".parse().unwrap(),
        hostnames: vec!["localhost".to_owned()],
        gate_listen: "127.0.0.1:0".parse().unwrap(),
        console_listen: "127.0.0.1:0".parse().unwrap(),
        database: String::new(),
        utc_offset_minutes: 0,
        cool_off_seconds: 0,
        allow_unlocked_memory: true,
        monitor_listen: None,
        oidc: None,
        officers: OfficerRules::default(),
    };
    installation::create_with_owner(&data, &config, None, &SystemClock)
        .await
        .unwrap();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let state = installation::open(&data, clock.clone()).await.unwrap();
    let link = officers::create_setup_link(&state, Role::GateOfficer)
        .await
        .unwrap();
    let secret = link.rsplit('/').next().unwrap();
    officers::redeem_setup_link(
        &state,
        secret,
        "Known",
        "a quiet harbour in june".to_owned(),
    )
    .await
    .unwrap();
    let mut times: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
    // In turns, so that whatever else the machine does falls on both; the first ones warm up.
    for number in 0..TRIES + 4 {
        for (kind, name) in [(0, "Known"), (1, "Unknown")] {
            clock.advance_millis(BETWEEN_MS);
            let took = refused(&state, name).await;
            if number >= 4 {
                times[kind].push(took);
            }
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    });
    println!("bar: medians over {TRIES} tries differ by at most 5 %");
    println!(
        "wrong password: known name {known:.2} ms, unknown name {unknown:.2} ms, ratio {:.4}",
        known / unknown
    );
}

async fn refused(state: &AppState, name: &str) -> Duration {
    let shown = Credentials {
        name: name.to_owned(),
        password: "not the right one".to_owned(),
        code: None,
        step: None,
        address: Some([127, 0, 0, 1].into()),
    };
    let begun = Instant::now();
    let answer = officers::sign_in(state, shown).await;
    let took = begun.elapsed();
    assert!(matches!(answer, Err(OfficerError::SignIn)));
    took
}
