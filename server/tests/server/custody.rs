//! Who holds the keys: two of three custodians, the machine's TPM (a real software TPM), a Transit engine; and how protection changes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sallyport_domain::Verdict;
use sallyport_server::keys::{self, KeyError, KeySetup, Purpose, RecoveryKey, Ring};
use sallyport_server::{installation, registry, sealing, tls};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::common::{Rig, contains, mate};

const SERVER: &str = env!("CARGO_BIN_EXE_sallyport-server");

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

const ANNA: &str = "six quiet harbours under winter light";
const BORIS: &str = "seven loud kettles beside a stone wall";
const CARLA: &str = "eight tall ladders without any owner";

#[test]
fn any_two_of_three_custodians_open_the_keys_and_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = keys::key_path(folder.path());
    let setup = |text: String| KeySetup::TwoOfThree {
        secret: secret(&text),
        memory_kib: keys::MIN_MEMORY_KIB,
    };
    for (bad, says) in [
        (format!("1 {ANNA}\n2 {BORIS}\n"), "two of the three"),
        (
            format!("1 {ANNA}\n2 {BORIS}\n2 {CARLA}"),
            "two of the three",
        ),
        (
            format!("1 {ANNA}\n2 {BORIS}\n4 {CARLA}"),
            "two of the three",
        ),
        (format!("1 {ANNA}\n2 {BORIS}\n3 short"), "20 characters"),
        (format!("1 {ANNA}\n2 {BORIS}\n3 {ANNA}"), "of their own"),
    ] {
        let error = Ring::create(&path, "a", &setup(bad))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(says) && !error.contains("harbours"),
            "{error}"
        );
    }
    assert!(!path.exists());
    let ring = Ring::create(
        &path,
        "a",
        &setup(format!("3 {CARLA}\n1 {ANNA}\n2 {BORIS}\n")),
    )
    .unwrap();
    let (key, row) = ring.new_data_key("somebody", Purpose::Registry).unwrap();
    for two in [
        format!("1 {ANNA}\n2 {BORIS}"),
        format!("3 {CARLA}\n1 {ANNA}"),
        format!("2 {BORIS}\n3 {CARLA}"),
    ] {
        let start = Instant::now();
        let again = Ring::open(&path, "a", Some(&secret(&two))).unwrap();
        println!("two custodians, 256 MiB each: {:?}", start.elapsed());
        assert_eq!(again.open_row(&row).unwrap().expose(), key.expose());
    }
    let open = |text: &str| Ring::open(&path, "a", Some(&secret(text))).unwrap_err();
    let alone = open(&format!("2 {BORIS}"));
    assert!(matches!(alone, KeyError::Custodians), "{alone}");
    for wrong in [
        // One who knows the own passphrase only, or under a colleague's number.
        format!("1 {ANNA}\n2 {ANNA}"),
        format!("1 {BORIS}\n2 {ANNA}"),
    ] {
        let wrong = open(&wrong);
        assert!(matches!(wrong, KeyError::WrongSecret), "{wrong}");
    }
    // A share in another pair's place, and a weaker derivation, are refused.
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().nth(1).unwrap();
    let shares: Vec<&str> = line.rsplit(' ').take(3).collect();
    let swapped = text
        .replace(shares[0], "@")
        .replace(shares[1], shares[0])
        .replace('@', shares[1]);
    std::fs::write(&path, &swapped).unwrap();
    let wrong = open(&format!("2 {BORIS}\n3 {CARLA}"));
    assert!(matches!(wrong, KeyError::WrongSecret), "{wrong}");
    std::fs::write(&path, text.replace("m=262144", "m=8")).unwrap();
    let weak = open(&format!("2 {BORIS}\n3 {CARLA}"));
    assert!(matches!(weak, KeyError::WeakDerivation), "{weak}");
}

/// A software TPM with its own state, reachable until dropped.
struct Tpm {
    process: Child,
    folder: tempfile::TempDir,
}

impl Tpm {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("tpm");
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}.ctrl", socket.display()))
            .arg("--tpmstate")
            .arg(format!("dir={}", folder.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm is needed for the tests; run: deploy/setup --test");
        let tpm = Self { process, folder };
        // It listens a moment after it was started; the connection itself is what is awaited.
        for _ in 0..6_000 {
            let answers = Command::new("tpm2_getcap")
                .args(["-Q", "properties-fixed"])
                .env("TPM2TOOLS_TCTI", tpm.tcti())
                .env("TSS2_LOG", "all+none")
                .stderr(Stdio::null())
                .status()
                .expect("tpm2-tools are needed for the tests; run: deploy/setup --test");
            if answers.success() {
                return tpm;
            }
        }
        panic!("the software TPM does not answer");
    }

    fn tcti(&self) -> String {
        format!("swtpm:path={}", self.folder.path().join("tpm").display())
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn a_tpm_opens_its_own_machines_keys_in_the_sealed_boot_state_only() {
    let (tpm, other) = (Tpm::start(), Tpm::start());
    let folder = tempfile::tempdir().unwrap();
    let path = keys::key_path(folder.path());
    let setup = KeySetup::Tpm {
        tcti: tpm.tcti(),
        pcrs: "sha256:7,11".to_owned(),
    };
    let ring = Ring::create(&path, "a", &setup).unwrap();
    let (key, row) = ring.new_data_key("somebody", Purpose::Registry).unwrap();
    let again = Ring::open(&path, "a", None).unwrap();
    assert_eq!(again.open_row(&row).unwrap().expose(), key.expose());
    let recovery = RecoveryKey::of(&path, "a").unwrap().text();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(recovery.split_whitespace().nth(2).unwrap()));

    // Stolen disk: another machine's TPM.
    std::fs::write(&path, text.replace(&tpm.tcti(), &other.tcti())).unwrap();
    let error = Ring::open(&path, "a", None).unwrap_err().to_string();
    assert!(error.contains("did not seal these keys"), "{error}");
    std::fs::write(&path, text.replace(&tpm.tcti(), "swtpm:path=/nowhere/tpm")).unwrap();
    let error = Ring::open(&path, "a", None).unwrap_err();
    assert!(matches!(error, KeyError::Tpm(_)), "{error}");
    std::fs::write(&path, &text).unwrap();

    // Another kernel or boot loader.
    let extended = Command::new("tpm2_pcrextend")
        .arg(format!("11:sha256={}", "5a".repeat(32)))
        .env("TPM2TOOLS_TCTI", tpm.tcti())
        .status()
        .unwrap();
    assert!(extended.success());
    let error = Ring::open(&path, "a", None).unwrap_err().to_string();
    assert!(
        error.contains("another state") && error.contains("sha256:7,11"),
        "{error}"
    );

    // The recovery key brings the same keys under another protection; another installation's does not.
    let passphrase = KeySetup::Passphrase {
        secret: secret(ANNA),
        memory_kib: keys::MIN_MEMORY_KIB,
    };
    let foreign = format!("sallyport-recovery-key-v1 a {}", "00".repeat(32));
    for bad in [foreign.as_str(), &recovery.replace(" a ", " b ")] {
        let bad = RecoveryKey::parse(bad).unwrap();
        let error = keys::protect(&path, "a", None, Some(&bad), &passphrase).unwrap_err();
        assert!(matches!(error, KeyError::Recovery), "{error}");
    }
    assert!(RecoveryKey::parse("sallyport-recovery-key-v1 a 00").is_err());
    let recovery = RecoveryKey::parse(&recovery).unwrap();
    keys::protect(&path, "a", None, Some(&recovery), &passphrase).unwrap();
    let ring = Ring::open(&path, "a", Some(&secret(ANNA))).unwrap();
    assert_eq!(ring.open_row(&row).unwrap().expose(), key.expose());
    // And back: sealed for the state in which the machine is now.
    let back = keys::protect(&path, "a", Some(&secret(ANNA)), None, &setup);
    back.unwrap();
    let ring = Ring::open(&path, "a", None).unwrap();
    assert_eq!(ring.open_row(&row).unwrap().expose(), key.expose());
}

/// The commands, as an administrator gives them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_move_from_the_tpm_to_custodians_by_command_and_the_log_says_so() {
    let tpm = Tpm::start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let run = |line: &[&str]| {
        let output = Command::new(SERVER).args(line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let data = at("data");
    let tcti = tpm.tcti();
    let init = [
        "init", "--site", "a", "--keys", "tpm", "--tpm", &tcti, "--data", &data,
    ];
    let (done, said) = run(&init);
    assert!(!done && said.contains("--recovery-key"), "{said}");
    let recovery = at("recovery");
    let (done, said) = run(&[&init[..], &["--recovery-key", &recovery]].concat());
    assert!(done, "{said}");
    let again = at("recovery-again");
    let (done, said) = run(&["registry", "recovery-key", &again, "--data", &data]);
    assert!(done, "{said}");
    assert_eq!(
        std::fs::read(&recovery).unwrap(),
        std::fs::read(&again).unwrap()
    );
    // The TPM is gone; two custodians with a file each take over.
    drop(tpm);
    for (name, line) in [
        ("1", format!("1 {ANNA}\n")),
        ("2", format!("2 {BORIS}\n")),
        ("3", format!("3 {CARLA}\n")),
    ] {
        std::fs::write(at(name), line).unwrap();
    }
    let (done, said) = run(&["registry", "list", "--data", &data]);
    assert!(!done && said.contains("the TPM refused"), "{said}");
    let (one, two, three) = (at("1"), at("2"), at("3"));
    let (done, said) = run(&[
        "registry",
        "protect-keys",
        "--keys",
        "two-of-three",
        "--key-memory-mib",
        "256",
        "--new-secret-file",
        &one,
        "--new-secret-file",
        &two,
        "--new-secret-file",
        &three,
        "--recovery-key",
        &recovery,
        "--data",
        &data,
    ]);
    assert!(done, "{said}");
    let (done, said) = run(&["registry", "list", "--data", &data]);
    assert!(!done && said.contains("--key-secret-file"), "{said}");
    let (done, said) = run(&[
        "registry",
        "list",
        "--data",
        &data,
        "--key-secret-file",
        &one,
        "--key-secret-file",
        &three,
    ]);
    assert!(done, "{said}");
    let both = secret(&format!("1 {ANNA}\n3 {CARLA}"));
    let clock = Arc::new(sallyport_server::clock::SystemClock);
    let state = installation::open_with(Path::new(&data), clock, Some(&both))
        .await
        .unwrap();
    let size = state.store.log_size().await.unwrap();
    let entries = state
        .store
        .log_entries(0, u32::try_from(size).unwrap())
        .await
        .unwrap();
    let about: Vec<String> = entries
        .iter()
        .map(|(_, bytes)| sallyport_transparency::Entry::from_bytes(bytes).unwrap())
        .filter(|entry| entry.kind == "keys_protected")
        .map(|entry| entry.decision.unwrap())
        .collect();
    assert_eq!(about, ["recovery_key", "recovered"]);
    state.store.close().await;
}

/// Stands for Vault or OpenBao, which no package registry carries: the calls that we make, real AES-256-GCM with associated data.
#[derive(Default)]
struct Vault {
    keys: HashMap<String, (sealing::Key, bool)>,
    calls: Vec<String>,
    sealed: bool,
    renewed: Arc<tokio::sync::Notify>,
}

type Shared = State<Arc<Mutex<Vault>>>;
const TOKEN: &str = "test-only-token";

fn let_in(vault: &Vault, headers: &HeaderMap) -> Result<(), StatusCode> {
    if vault.sealed {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let token = headers
        .get("x-vault-token")
        .and_then(|value| value.to_str().ok());
    (token == Some(TOKEN))
        .then_some(())
        .ok_or(StatusCode::FORBIDDEN)
}

fn crypt(vault: &Vault, name: &str, body: &Value, open: bool) -> Result<Value, StatusCode> {
    let field = |name: &str| -> Result<Vec<u8>, StatusCode> {
        let text = body
            .get(name)
            .and_then(Value::as_str)
            .ok_or(StatusCode::BAD_REQUEST)?;
        STANDARD.decode(text).map_err(|_| StatusCode::BAD_REQUEST)
    };
    let (key, _) = vault.keys.get(name).ok_or(StatusCode::BAD_REQUEST)?;
    let aad = hex::encode(field("associated_data")?);
    let place = sealing::Place::new("vault", "key", name, &aad);
    if open {
        let text = body
            .get("ciphertext")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let blob = text
            .strip_prefix("vault:v1:")
            .and_then(|text| STANDARD.decode(text).ok());
        let plain = sealing::open(key, 1, &place, &blob.ok_or(StatusCode::BAD_REQUEST)?)
            .map_err(|_| StatusCode::BAD_REQUEST)?;
        Ok(json!({ "data": { "plaintext": STANDARD.encode(plain) } }))
    } else {
        let blob = sealing::seal(key, 1, &place, &field("plaintext")?).unwrap();
        let text = format!("vault:v1:{}", STANDARD.encode(blob));
        Ok(json!({ "data": { "ciphertext": text } }))
    }
}

fn vault_routes(vault: Arc<Mutex<Vault>>) -> Router {
    let key = get(
        async |State(vault): Shared, Segment(name): Segment<String>, headers: HeaderMap| {
            let vault = vault.lock().unwrap();
            let_in(&vault, &headers)?;
            let found = vault.keys.contains_key(&name);
            found
                .then(|| Json(json!({ "data": { "type": "aes256-gcm96", "name": name } })))
                .ok_or(StatusCode::NOT_FOUND)
        },
    )
    .post(
        async |State(vault): Shared,
               Segment(name): Segment<String>,
               headers: HeaderMap,
               Json(body): Json<Value>| {
            let mut vault = vault.lock().unwrap();
            let_in(&vault, &headers)?;
            if body["exportable"] != json!(false) || body["type"] != json!("aes256-gcm96") {
                return Err(StatusCode::BAD_REQUEST);
            }
            vault
                .keys
                .insert(name, (sealing::Key::generate().unwrap(), false));
            Ok(StatusCode::NO_CONTENT)
        },
    )
    .delete(
        async |State(vault): Shared, Segment(name): Segment<String>, headers: HeaderMap| {
            let mut vault = vault.lock().unwrap();
            let_in(&vault, &headers)?;
            if !vault
                .keys
                .get(&name)
                .is_some_and(|(_, deletable)| *deletable)
            {
                return Err(StatusCode::BAD_REQUEST);
            }
            vault.keys.remove(&name);
            Ok(StatusCode::NO_CONTENT)
        },
    );
    let config = post(
        async |State(vault): Shared,
               Segment(name): Segment<String>,
               headers: HeaderMap,
               Json(body): Json<Value>| {
            let mut vault = vault.lock().unwrap();
            let_in(&vault, &headers)?;
            let key = vault.keys.get_mut(&name).ok_or(StatusCode::NOT_FOUND)?;
            key.1 = body["deletion_allowed"] == json!(true);
            Ok::<_, StatusCode>(StatusCode::NO_CONTENT)
        },
    );
    let crypto = post(
        async |State(vault): Shared,
               Segment((what, name)): Segment<(String, String)>,
               headers: HeaderMap,
               Json(body): Json<Value>| {
            let mut vault = vault.lock().unwrap();
            let_in(&vault, &headers)?;
            vault.calls.push(what.clone());
            crypt(&vault, &name, &body, what == "decrypt").map(Json)
        },
    );
    let look = get(async |State(vault): Shared, headers: HeaderMap| {
        let_in(&vault.lock().unwrap(), &headers)?;
        Ok::<_, StatusCode>(Json(json!({ "data": { "renewable": true, "ttl": 1 } })))
    });
    let renew = post(async |State(vault): Shared, headers: HeaderMap| {
        let vault = vault.lock().unwrap();
        let_in(&vault, &headers)?;
        vault.renewed.notify_one();
        Ok::<_, StatusCode>(Json(
            json!({ "auth": { "renewable": false, "lease_duration": 3600 } }),
        ))
    });
    Router::new()
        .route("/v1/engine/transit/keys/{name}", key)
        .route("/v1/engine/transit/keys/{name}/config", config)
        .route("/v1/engine/transit/{what}/{name}", crypto)
        .route("/v1/auth/token/lookup-self", look)
        .route("/v1/auth/token/renew-self", renew)
        .with_state(vault)
}

/// Certificate and key of a server on this machine; the certificate vouches for itself.
fn identity(folder: &Path, name: &str) -> (PathBuf, Arc<rustls::ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, made.cert.pem()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (path, Arc::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_transit_engine_everything_works_and_the_key_never_leaves_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (authority, config) = identity(scratch.path(), "authority.pem");
    let (stranger, _) = identity(scratch.path(), "stranger.pem");
    let vault = Arc::new(Mutex::new(Vault::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(tls::serve(
        listener,
        config,
        vault_routes(vault.clone()),
        stopped,
    ));
    let setup = |address: String, authority: &Path, token: &str| KeySetup::Transit {
        address,
        mount: "engine/transit".to_owned(),
        authority: authority.to_owned(),
        secret: secret(token),
    };
    let address = format!("https://localhost:{port}");
    let path = keys::key_path(scratch.path());
    for (bad, says) in [
        (
            setup(format!("http://localhost:{port}"), &authority, TOKEN),
            "must be https",
        ),
        (
            setup(format!("{address}/v1"), &authority, TOKEN),
            "must be https",
        ),
        (
            setup(address.clone(), &stranger, TOKEN),
            "connection failed",
        ),
        (
            setup(address.clone(), &scratch.path().join("none"), TOKEN),
            "none",
        ),
        (
            setup(address.clone(), &authority, "stolen-token"),
            "refuses the token",
        ),
    ] {
        let error = Ring::create(&path, "a", &bad).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("token-"), "{error}");
    }
    assert!(!path.exists());

    let good = setup(address, &authority, TOKEN);
    let rig = Rig::start_keyed(&good, Some(&secret(TOKEN))).await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let pass = async |number: u64| {
        let request = gate.request(rig.transaction(number), mate(1, 40 + number));
        gate.pass(&request).await.verdict
    };
    assert_eq!(pass(1).await, Verdict::Grant);
    let done = keys::rewrap(&rig.state, "test", |_| {}).await.unwrap();
    assert_eq!(done.version, 2);
    let (_, old) = rig
        .state
        .keys
        .ring
        .new_data_key("somebody", Purpose::Registry)
        .unwrap();
    keys::retire(&rig.state, 1, "test").await.unwrap();
    {
        let vault = vault.lock().unwrap();
        assert_eq!(
            vault.keys.keys().collect::<Vec<_>>(),
            ["sallyport-test-site-2"]
        );
        assert!(vault.calls.iter().any(|call| call == "decrypt"));
    }
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    // Wrapped for somebody, not to be opened as somebody else's.
    let swapped = keys::DataKeyRow {
        owner: "somebody else".to_owned(),
        ..old.clone()
    };
    assert!(rig.state.keys.ring.open_row(&old).is_ok());
    let error = rig.state.keys.ring.open_row(&swapped).unwrap_err();
    assert!(matches!(error, KeyError::Seal(_)), "{error}");
    // A second installation of the same site does not share keys by accident.
    vault.lock().unwrap().keys.insert(
        "sallyport-a-1".to_owned(),
        (sealing::Key::generate().unwrap(), false),
    );
    let error = Ring::create(&path, "a", &good).unwrap_err().to_string();
    assert!(error.contains("already"), "{error}");
    // Such keys can neither be taken out nor brought in.
    let error = keys::protect(
        rig.state.keys.ring.path(),
        "test-site",
        Some(&secret(TOKEN)),
        None,
        &KeySetup::File,
    );
    assert!(matches!(error.unwrap_err(), KeyError::NotInFile));

    // Sealed for a while: whoever needs a key then is not granted; afterwards all is as before.
    vault.lock().unwrap().sealed = true;
    let error = rig.state.keys.ring.open_row(&old).unwrap_err().to_string();
    assert!(error.contains("unseal"), "{error}");
    let request = gate.request(rig.transaction(2), mate(1, 42));
    let answer = gate
        .client
        .post(sallyport_protocol::paths::PASSAGE, &request)
        .await;
    assert_eq!(
        answer.status, 503,
        "nobody is granted what cannot be recorded"
    );
    vault.lock().unwrap().sealed = false;
    assert_eq!(pass(3).await, Verdict::Grant);

    // The token lives for a second and is renewed before we wait for it.
    let renewed = vault.lock().unwrap().renewed.clone();
    let waited = tokio::time::timeout(Duration::from_secs(60), renewed.notified());
    waited.await.expect("the token is renewed");
    let remains = rig.end().await;
    let token = secret(TOKEN);
    let state = installation::open_with(&remains.data(), remains.clock.clone(), Some(&token)).await;
    let state = state.unwrap();
    assert_eq!(registry::load(&state).await.unwrap().failed, 0);
    let key = state.keys.ring.open_row(&old).unwrap();
    state.store.close().await;
    for (path, bytes) in remains.files().await {
        assert!(!contains(&bytes, key.expose()), "{}", path.display());
        assert!(!contains(&bytes, TOKEN.as_bytes()), "{}", path.display());
    }
    stop.send(true).unwrap();
}
