//! Key-encryption keys: rotation while the server runs, erasure, passphrase, a PKCS#11 token.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use sallyport_domain::{OfficerId, SubjectId, Timestamp, Verdict};
use sallyport_server::keys::{self, KeyError, KeySetup, Purpose, Ring};
use sallyport_server::{audit, installation, registry, reviews};
use zeroize::Zeroizing;

use crate::common::{Rig, contains, data, mate, subject};

const SERVER: &str = env!("CARGO_BIN_EXE_sallyport-server");

/// Subjects who have nothing but keys, as many as a rotation needs to take a while.
async fn bystanders(rig: &Rig, count: u64) {
    let mut write = rig.state.store.write().await.unwrap();
    for number in 0..count {
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

async fn verdict(rig: &Rig, gate: &crate::common::Gate, number: u64, seed: u64) -> Verdict {
    let request = gate.request(rig.transaction(number), mate(seed, 40 + number));
    gate.pass(&request).await.verdict
}

async fn registry_key(rig: &Rig, seed: u64) -> keys::DataKeyRow {
    let owner = subject(seed).to_string();
    let row = rig.state.store.data_key(&owner, Purpose::Registry).await;
    row.unwrap().unwrap()
}

async fn older(rig: &Rig, version: u32) -> usize {
    let rows = rig.state.store.data_keys_older(version, 10_000).await;
    rows.unwrap().len()
}

async fn sealed_templates(rig: &Rig) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for row in rig.state.store.subjects().await.unwrap() {
        for reference in rig.state.store.references(row.id).await.unwrap() {
            all.push(reference.template_sealed);
        }
    }
    all
}

/// The command is killed in the middle while the server runs; people pass all the time; the next run finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_a_thousand_subjects_is_killed_resumed_and_then_the_old_key_is_refused() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=3 {
        gate.enrol(seed).await;
    }
    bystanders(&rig, 1_000).await;
    let before = registry_key(&rig, 1).await;
    let templates = sealed_templates(&rig).await;
    // Two of each person, two of the installation, and the templates' secret.
    let total = 2 * 1_003 + 3;
    assert_eq!(older(&rig, 2).await, total);

    let mut command = Command::new(SERVER);
    command
        .args(["registry", "rewrap", "--data"])
        .arg(data(&rig.folder))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut first = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("100 keys"), "{line}");
    first.kill().unwrap();
    first.wait().unwrap();
    let left = older(&rig, 2).await;
    assert!(left > 0 && left < total, "{left} left");
    // In between both versions serve, also for who is enrolled now.
    assert_eq!(verdict(&rig, &gate, 1, 1).await, Verdict::Grant);
    gate.enrol(4).await;
    assert_eq!(verdict(&rig, &gate, 2, 4).await, Verdict::Grant);

    let start = Instant::now();
    let second = Command::new(SERVER)
        .args(["registry", "rewrap", "--data"])
        .arg(data(&rig.folder))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(second.status.success(), "{second:?}");
    assert!(said.contains("under key version 2"), "{said}");
    println!("the rest, {left} keys, took {:?}", start.elapsed());
    assert_eq!(older(&rig, 2).await, 0);
    assert_eq!(rig.state.keys.ring.minimum().unwrap(), 2);
    assert_eq!(
        sealed_templates(&rig).await[..templates.len()],
        templates[..]
    );
    for seed in 1..=4 {
        assert_eq!(verdict(&rig, &gate, 10 + seed, seed).await, Verdict::Grant);
    }
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);

    // The old wrapping, put back into the database, is refused although its key is still in the file.
    let refused = rig.state.keys.ring.open_row(&before).unwrap_err();
    assert!(matches!(refused, KeyError::Retired(1)), "{refused}");
    let now = registry_key(&rig, 1).await;
    let mut write = rig.state.store.write().await.unwrap();
    assert!(
        write
            .data_key_replace(&now, 1, before.wrapped.clone())
            .await
            .unwrap()
    );
    write.commit().await.unwrap();
    assert_ne!(verdict(&rig, &gate, 20, 1).await, Verdict::Grant);
    let mut write = rig.state.store.write().await.unwrap();
    let old = keys::DataKeyRow {
        version: 1,
        ..now.clone()
    };
    write.data_key_replace(&old, 2, now.wrapped).await.unwrap();
    write.commit().await.unwrap();

    // A version in use cannot be destroyed; the replaced one can, and is then unknown.
    let in_use = keys::retire(&rig.state, 2, "test").await.unwrap_err();
    assert!(in_use.to_string().contains("rewrap"), "{in_use}");
    keys::retire(&rig.state, 1, "test").await.unwrap();
    let file = std::fs::read_to_string(keys::key_path(&data(&rig.folder))).unwrap();
    assert!(!file.contains("\nkey 1 ") && file.contains("\nkey 2 "));
    let rig = rig.restart().await;
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    audit::check(&rig.state).await.unwrap();
}

/// After erasure neither record, templates, the log's details nor the words of reviews can be opened; the log still verifies.
#[tokio::test(flavor = "multi_thread")]
async fn erasure_destroys_both_keys_and_the_log_still_verifies() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=2 {
        gate.enrol(seed).await;
    }
    let mut indexes = Vec::new();
    for seed in 1..=2 {
        // Somebody whom the policy refers to an officer.
        registry::set_status(
            &rig.state,
            subject(seed),
            sallyport_domain::SubjectStatus::Suspended,
            "test",
            "trial",
        )
        .await
        .unwrap();
        let request = gate.request(rig.transaction(seed), mate(seed, 50));
        let decided = gate.pass(&request).await;
        assert_ne!(decided.verdict, Verdict::Grant);
        let officer = OfficerId::from_uuid("0190a000-0000-7000-8000-000000000001".parse().unwrap());
        let index = if decided.verdict == Verdict::Refer {
            let decided = reviews::decide(
                &rig.state,
                request.transaction,
                officer,
                Verdict::Refuse,
                "known to me",
            );
            Some(decided.await.unwrap())
        } else {
            None
        };
        indexes.push((request.transaction, decided.log_index, index));
    }
    let detail = async |seed: u64, index| {
        keys::open_audit_detail(&rig.state, Some(&subject(seed).to_string()), index)
            .await
            .unwrap()
    };
    let mut sealed = 0;
    for (seed, (_, passage, review)) in (1..).zip(&indexes) {
        for index in [Some(*passage), *review].into_iter().flatten() {
            if rig.state.store.log_detail(index).await.unwrap().is_some() {
                assert!(detail(seed, index).await.is_some(), "{seed}, {index}");
                sealed += 1;
            }
        }
    }
    assert!(sealed >= 2, "{sealed} details");
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    for purpose in [Purpose::Registry, Purpose::Audit] {
        let key = keys::subject_key(&rig.state, subject(1), purpose).await;
        assert!(key.unwrap().is_none());
    }
    for (seed, (transaction, passage, review)) in (1..).zip(&indexes) {
        for index in [Some(*passage), *review].into_iter().flatten() {
            if rig.state.store.log_detail(index).await.unwrap().is_some() {
                assert_eq!(detail(seed, index).await.is_some(), seed == 2, "{index}");
            }
        }
        if review.is_some() {
            let row = rig
                .state
                .store
                .passage(*transaction)
                .await
                .unwrap()
                .unwrap();
            let words = reviews::reason_text(&rig.state, &row).await;
            assert_eq!(words.is_some(), seed == 2);
        }
    }
    audit::publish(&rig.state).await.unwrap();
    audit::check(&rig.state).await.unwrap();
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

#[test]
fn a_passphrase_opens_its_key_file_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = keys::key_path(folder.path());
    let setup = |text: &str, memory_kib| KeySetup::Passphrase {
        secret: secret(text),
        memory_kib,
    };
    let good = "six quiet harbours under winter light";
    let weak = Ring::create(&path, "a", &setup("short", keys::MIN_MEMORY_KIB)).unwrap_err();
    assert!(matches!(weak, KeyError::WeakSecret), "{weak}");
    let weak = Ring::create(&path, "a", &setup(good, keys::MIN_MEMORY_KIB - 1)).unwrap_err();
    assert!(matches!(weak, KeyError::WeakDerivation), "{weak}");
    assert!(!path.exists(), "nothing is left of a refused set-up");

    let ring = Ring::create(&path, "a", &setup(good, keys::MIN_MEMORY_KIB)).unwrap();
    let (key, row) = ring.new_data_key("somebody", Purpose::Registry).unwrap();
    assert_eq!(ring.add_version().unwrap(), 2);
    let start = Instant::now();
    let again = Ring::open(&path, "a", Some(&secret(good))).unwrap();
    println!("argon2id, 256 MiB, 3 passes: {:?}", start.elapsed());
    assert_eq!(again.open_row(&row).unwrap().expose(), key.expose());
    assert_eq!(again.newest().unwrap(), 2);

    let missing = Ring::open(&path, "a", None).unwrap_err();
    assert!(matches!(missing, KeyError::SecretMissing), "{missing}");
    for (site, text) in [("a", "six quiet harbours under winter lighT"), ("b", good)] {
        let wrong = Ring::open(&path, site, Some(&secret(text))).unwrap_err();
        assert!(matches!(wrong, KeyError::WrongSecret), "{wrong}");
    }
    // Somebody lowers the derivation to guess faster: refused before anything is derived.
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [("m=262144", "m=8"), ("t=3", "t=1")] {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let weak = Ring::open(&path, "a", Some(&secret(good))).unwrap_err();
        assert!(matches!(weak, KeyError::WeakDerivation), "{weak}");
    }
    // Versions exchanged.
    let swapped = text
        .replace("\nkey 1 ", "\nkey x ")
        .replace("\nkey 2 ", "\nkey 1 ")
        .replace("\nkey x ", "\nkey 2 ");
    assert_ne!(swapped, text);
    std::fs::write(&path, swapped).unwrap();
    let moved = Ring::open(&path, "a", Some(&secret(good))).unwrap_err();
    assert!(matches!(moved, KeyError::WrongSecret), "{moved}");
}

fn softhsm(folder: &Path, arguments: &[&str]) {
    let output = Command::new("softhsm2-util")
        .args(arguments)
        .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
        .output()
        .expect("SoftHSM is needed for the tests; run: deploy/setup --test");
    assert!(output.status.success(), "{output:?}");
}

const PIN: &str = "test-only-9471";
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A real SoftHSM in a folder of its own. Its library reads its configuration from the environment, which this process cannot
/// change safely: so the tests that need it run in a second process.
#[test]
fn with_a_pkcs11_token_everything_works_and_the_key_never_leaves_it() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(
        folder.path().join("softhsm2.conf"),
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        ),
    )
    .unwrap();
    softhsm(
        folder.path(),
        &[
            "--init-token",
            "--free",
            "--label",
            "sallyport test",
            "--pin",
            PIN,
            "--so-pin",
            "test-only-so-pin",
        ],
    );
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "keys::inside_the_process_with_the_token",
        ])
        .env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figure = said
        .lines()
        .find(|line| line.contains("wrapped in the token"));
    println!("{}", figure.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by with_a_pkcs11_token_everything_works_and_the_key_never_leaves_it"]
async fn inside_the_process_with_the_token() {
    let setup = |module: &str, token: &str, pin: &str| KeySetup::Pkcs11 {
        module: module.into(),
        token: token.to_owned(),
        secret: secret(pin),
    };
    let good = setup(MODULE, "sallyport test", PIN);
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("registry.key");
    for (bad, says) in [
        (setup("/nowhere.so", "sallyport test", PIN), "library"),
        (setup(MODULE, "another", PIN), "no token 'another'"),
        (setup(MODULE, "sallyport test", "wrong-pin"), "PIN is wrong"),
    ] {
        let error = Ring::create(&path, "a", &bad).unwrap_err().to_string();
        assert!(
            error.contains(says) && !error.contains("wrong-pin"),
            "{error}"
        );
    }
    assert!(!path.exists());

    let rig = Rig::start_keyed(&good, Some(&secret(PIN))).await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    assert_eq!(verdict(&rig, &gate, 1, 1).await, Verdict::Grant);
    bystanders(&rig, 500).await;
    let start = Instant::now();
    let done = keys::rewrap(&rig.state, "test", |_| {}).await.unwrap();
    println!(
        "{} keys wrapped in the token in {:?}",
        done.keys,
        start.elapsed()
    );
    assert_eq!((done.version, done.keys), (2, 1_005));
    assert_eq!(verdict(&rig, &gate, 2, 1).await, Verdict::Grant);
    let old = registry_key(&rig, 1).await;
    keys::retire(&rig.state, 1, "test").await.unwrap();
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    // A second installation of the same site does not share the token's keys by accident.
    let taken = Ring::create(&path, "test-site", &setup(MODULE, "sallyport test", PIN));
    drop(taken.unwrap());
    let again = scratch.path().join("again.key");
    let error = Ring::create(&again, "test-site", &good)
        .unwrap_err()
        .to_string();
    assert!(error.contains("already"), "{error}");

    let remains = rig.end().await;
    let open = async |pin: Option<&str>| {
        let pin = pin.map(secret);
        installation::open_with(&remains.data(), remains.clock.clone(), pin.as_ref()).await
    };
    assert!(format!("{:#}", open(None).await.unwrap_err()).contains("--key-secret-file"));
    // In a process of its own: sessions of one process share the login, and this one may still be logged in.
    let wrong = scratch.path().join("wrong-pin");
    std::fs::write(&wrong, "x-wrong").unwrap();
    let refused = Command::new(SERVER)
        .args(["registry", "rewrap", "--data"])
        .arg(remains.data())
        .arg("--key-secret-file")
        .arg(&wrong)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("PIN is wrong") && !said.contains("x-wrong"),
        "{said}"
    );
    let state = open(Some(PIN)).await.unwrap();
    let key = state.keys.ring.open_row(&old).unwrap();
    // Neither the token's key, which nobody can have, nor a data key is in any file.
    for (path, bytes) in remains.files().await {
        assert!(!contains(&bytes, key.expose()), "{}", path.display());
        assert!(!contains(&bytes, PIN.as_bytes()), "{}", path.display());
    }
}
