//! The log's static files over HTTPS, as a monitor with public tools fetches them.

use std::path::Path;
use std::process::Command;

use sallyport_server::clock::Clock as _;
use sallyport_server::{audit, monitor, tls};
use sallyport_transparency::{Checkpoint, leaf_hash};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::common::{Client, Rig};

struct Served {
    rig: Rig,
    client: Client,
    port: u16,
    _stop: watch::Sender<bool>,
}

async fn served() -> Served {
    let rig = Rig::start().await;
    let identity = rig
        .state
        .authority
        .server_identity(&rig.state.config.hostnames, rig.clock.now())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(tls::serve_few(
        listener,
        tls::console_config(&identity).unwrap(),
        monitor::router(rig.state.clone()),
        stopped,
    ));
    Served {
        client: rig.stranger().at(address),
        rig,
        port: address.port(),
        _stop: stop,
    }
}

impl Served {
    async fn grow_to(&self, size: u64) {
        while self.rig.state.store.log_size().await.unwrap() < size {
            let entry = audit::entry("trial", self.rig.clock.now()).unwrap();
            audit::record(&self.rig.state, entry).await.unwrap();
        }
        audit::publish(&self.rig.state).await.unwrap();
    }

    async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let answer = self.client.send("GET", path, b"").await.unwrap();
        (answer.status, answer.body)
    }
}

/// The Go authors' own verifier (Debian), fetching with Go's own HTTPS.
#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_written_in_go_follows_the_log_over_https() {
    let served = served().await;
    let folder = served.rig.folder.path();
    let checker = folder.join("go-checker");
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/transparency/tests/go/checker.go");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&checker)
        .arg(source)
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"))
        .output()
        .expect("Go is missing: run deploy/setup --test, or install golang-go and golang-golang-x-mod-dev");
    assert!(built.status.success(), "{built:?}");
    let [authority, key, proofs] = ["ca.pem", "log.vkey", "proofs"].map(|name| folder.join(name));
    std::fs::write(&authority, served.rig.state.authority.pem()).unwrap();
    std::fs::write(&key, served.rig.state.keys.log.verifier().to_string()).unwrap();
    std::fs::write(&proofs, "").unwrap();
    for size in [3, 256, 300, 515] {
        served.grow_to(size).await;
        let size = served.rig.state.store.log_size().await.unwrap();
        let output = Command::new(&checker)
            .arg(format!("https://localhost:{}", served.port))
            .args([&proofs, &authority, &key])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            format!("size {size} entries {size} proofs 0")
        );
    }
    // Another key: refused by the monitor.
    let other = sallyport_transparency::NoteSigner::new(
        served.rig.state.keys.log.verifier().name(),
        &[9; 32],
    );
    std::fs::write(&key, other.unwrap().verifier().to_string()).unwrap();
    let refused = Command::new(&checker)
        .arg(format!("https://localhost:{}", served.port))
        .args([&proofs, &authority, &key])
        .output()
        .unwrap();
    assert!(!refused.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_checkpoint_covers_is_there_and_it_never_changes() {
    let served = served().await;
    assert_eq!(
        served.get("/checkpoint").await.0,
        404,
        "nothing is signed yet"
    );
    served.grow_to(300).await;
    let (status, note) = served.get("/checkpoint").await;
    let log = served.rig.state.keys.log.verifier();
    let size = Checkpoint::open(&note, log).unwrap().size;
    assert_eq!(status, 200);
    let before = served.rig.state.store.log_size().await.unwrap();

    let partial = format!("/tile/entries/001.p/{}", size - 256);
    let mut kept = Vec::new();
    for path in [
        "/tile/0/000",
        "/tile/1/000.p/1",
        "/tile/entries/000",
        &partial,
    ] {
        let (status, bytes) = served.get(path).await;
        assert_eq!(status, 200, "{path}");
        kept.push((path.to_owned(), bytes));
    }
    let entries = sallyport_transparency::decode_bundle(&kept[2].1).unwrap();
    for (entry, hash) in entries.iter().zip(kept[0].1.chunks(32)) {
        assert_eq!(leaf_hash(entry).0, hash);
    }
    // An entry that no checkpoint covers yet is not shown.
    let entry = audit::entry("trial", served.rig.clock.now()).unwrap();
    audit::record(&served.rig.state, entry).await.unwrap();
    for path in [
        format!("/tile/entries/001.p/{}", size - 255),
        format!("/tile/0/001.p/{}", size - 255),
        "/tile/0/001".to_owned(),
        "/tile/0/x018446744073709551/615".to_owned(),
        "/tile/0/x018/x446/x744/x073/x709/x551/615.p/255".to_owned(),
        "/tile/7/000.p/1".to_owned(),
        "/tile/2/000.p/1".to_owned(),
        "/tile/8/0/000".to_owned(),
        "/tile/0/000.p/256".to_owned(),
        "/tile/0/0".to_owned(),
        "/tile/entries/../../checkpoint".to_owned(),
        "/tile/".to_owned(),
        "/".to_owned(),
        "/console".to_owned(),
    ] {
        assert_eq!(served.get(&path).await.0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let answer = served.client.send(method, "/checkpoint", b"x").await;
        assert_eq!(answer.unwrap().status, 405, "{method}");
    }
    served.grow_to(600).await;
    for (path, bytes) in kept {
        assert!(served.get(&path).await == (200, bytes), "{path} changed");
    }
    // Reading leaves nothing: the only new entries are the test's own.
    let kinds = crate::coverage::entries(&served.rig, before).await;
    assert!(kinds.iter().all(|entry| entry.kind == "trial"));
    let routes = crate::coverage::routes(
        &include_str!("../../src/monitor.rs")
            .replace("use axum::routing::get;", "use axum::routing::{get, post};"),
    );
    let routes: Vec<_> = routes.into_iter().collect();
    assert_eq!(routes, ["GET /checkpoint", "GET /tile/{*path}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_never_change_may_be_kept_and_the_checkpoint_may_not() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let served = served().await;
    served.grow_to(260).await;
    for (path, kind, cache) in [
        ("/checkpoint", "text/plain; charset=utf-8", "max-age=1,"),
        ("/tile/0/000", "application/octet-stream", "immutable"),
        (
            "/tile/entries/001.p/1",
            "application/octet-stream",
            "immutable",
        ),
        ("/tile/entries/001", "text/plain", "no-store"),
    ] {
        let mut stream = served.client.connect().await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that closes without a farewell has said everything all the same.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        let head = answer.split("\r\n\r\n").next().unwrap();
        assert!(head.contains(kind), "{path}: {head}");
        let line = head.lines().find(|line| line.starts_with("cache-control"));
        assert!(
            line.is_some_and(|line| line.contains(cache)),
            "{path}: {head}"
        );
    }
}
