//! The hunt for plaintext: a person whose name and templates are searched wherever a thief could look.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use sallyport_domain::Verdict;
use sallyport_server::keys::{self, Purpose};
use sallyport_server::{backup, officers, registry};

use crate::common::{Remains, Rig, collect, contains, mate, subject};

/// Name, and pieces of each template as numbers in memory and as text on the wire.
fn canaries() -> BTreeMap<String, Vec<u8>> {
    let mut all: BTreeMap<String, Vec<u8>> = ["Canary Person", "Canary Officer"]
        .map(|name| (name.to_owned(), name.as_bytes().to_vec()))
        .into();
    for sample in [0, 1, 40] {
        let template = mate(1, sample);
        for at in [0, 128, 300, 508] {
            let numbers: Vec<u8> = template.as_slice()[at..at + 4]
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            all.insert(format!("template {sample}, numbers at {at}"), numbers);
        }
        let text = serde_json::to_string(&template).unwrap();
        for at in [text.len() / 4, text.len() / 2] {
            let piece = text.as_bytes()[at..at + 40].to_vec();
            all.insert(format!("template {sample}, text at {at}"), piece);
        }
    }
    all
}

/// Pieces of the templates under the installation's secret, in which they are stored and compared.
async fn stored(rig: &Rig) -> BTreeMap<String, Vec<u8>> {
    let key = keys::subject_key(&rig.state, subject(1), Purpose::Registry).await;
    let key = key.unwrap().unwrap();
    let rows = rig.state.store.references(subject(1)).await.unwrap();
    assert!(!rows.is_empty());
    let mut pieces = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        let template = registry::open_template(&rig.state, &key, row).unwrap();
        for at in [0, 128, 300, 508] {
            let piece = template[4 * at..4 * (at + 4)].to_vec();
            pieces.insert(format!("stored {number}, numbers at {at}"), piece);
        }
    }
    pieces
}

type Files = [(std::path::PathBuf, Vec<u8>)];

fn hits(files: &Files, canaries: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, bytes) in files {
        for (name, canary) in canaries {
            if contains(bytes, canary) {
                found.push(format!("{name} in {}", path.display()));
            }
        }
    }
    found
}

fn hunt_files(files: &Files, canaries: &BTreeMap<String, Vec<u8>>, at_least: usize) {
    assert_eq!(hits(files, canaries), Vec::<String>::new());
    let searched: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(searched >= at_least, "{searched} bytes only");
    println!("{} files, {searched} bytes: 0 hits", files.len());
}

/// Each canary alone, in the midst of other bytes, is found under its own name: the hunt can fail.
#[test]
fn the_hunt_finds_what_is_planted() {
    let all = canaries();
    for (name, canary) in &all {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep");
        std::fs::create_dir(&path).unwrap();
        let planted = [vec![0; 5_000], canary.clone(), vec![255; 5_000]].concat();
        std::fs::write(path.join("file"), planted).unwrap();
        let mut files = Vec::new();
        collect(folder.path(), &mut files);
        let path = path.join("file");
        assert_eq!(
            hits(&files, &all),
            [format!("{name} in {}", path.display())]
        );
    }
}

/// Without a limit to lock templates within, the server says so and does not start.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_not_lock_its_templates_does_not_start() {
    let rig = Rig::start().await;
    let remains = rig.end().await;
    let path = remains.data().join("server.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("allow_unlocked_memory = true"), "{text}");
    std::fs::write(&path, text.replace("allow_unlocked_memory = true\n", "")).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = u64::from_str_radix(capabilities.unwrap().trim(), 16).unwrap();
    // CAP_IPC_LOCK: such a process is not limited.
    let limited = if capabilities & (1 << 14) == 0 {
        ""
    } else {
        "setpriv --bounding-set=-ipc_lock "
    };
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -l 0; exec {limited}\"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_sallyport-server"))
        .args(["serve", "--data"])
        .arg(remains.data())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    for words in ["LimitMEMLOCK=infinity", "allow_unlocked_memory = true"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("listening"), "{said}");
}

/// A server in a process of its own, which would leave a core file if it were let.
struct Process {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    fn serve(remains: &Remains) -> Self {
        let folder = remains.folder.path();
        for name in ["tmp", "cwd"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_sallyport-server"))
            .args(["serve", "--data"])
            .arg(remains.data())
            .current_dir(folder.join("cwd"))
            .env("TMPDIR", folder.join("tmp"))
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (ready, listening) = mpsc::channel();
        let into = said.clone();
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).unwrap() > 0 {
                if contains(&line, b"listening") {
                    let _ = ready.send(());
                }
                into.lock().unwrap().append(&mut line);
            }
        });
        listening.recv().expect("the server starts");
        Self { child, said }
    }

    fn of(&self, name: &str) -> std::path::PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    /// Readable memory: whether a core dump would hold it, and its bytes. None: the system lets nobody but root look.
    fn memory(&self) -> Option<Vec<(bool, Vec<u8>)>> {
        let (maps, mut memory) = match (
            std::fs::read_to_string(self.of("smaps")),
            std::fs::File::open(self.of("mem")),
        ) {
            (Ok(maps), Ok(memory)) => (maps, memory),
            (Err(error), _) | (_, Err(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
                return None;
            }
        };
        let mut found = Vec::new();
        let mut range = (0_u64, 0_u64);
        for line in maps.lines() {
            let word = line.split(' ').next().unwrap();
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                let flags: Vec<&str> = flags.split_whitespace().collect();
                let mut bytes = vec![0; usize::try_from(range.1 - range.0).unwrap()];
                memory.seek(SeekFrom::Start(range.0)).unwrap();
                // Some of the system's own pages cannot be read.
                if flags.contains(&"rd") && memory.read_exact(&mut bytes).is_ok() {
                    found.push((!flags.contains(&"dd"), bytes));
                }
            } else if let Some((start, end)) = word.split_once('-') {
                let number = |text| u64::from_str_radix(text, 16).unwrap();
                range = (number(start), number(end));
            }
        }
        Some(found)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only where the test failed: otherwise it has ended.
        let _ = self.child.kill();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_person_is_readable_on_disk_in_logs_or_in_a_core_dump() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=3 {
        gate.enrol(seed).await;
    }
    gate.pass(&gate.request(rig.transaction(1), mate(1, 40)))
        .await;
    let mut canaries = canaries();
    canaries.extend(stored(&rig).await);
    let link = officers::create_setup_link(&rig.state, sallyport_domain::Role::GateOfficer)
        .await
        .unwrap();
    let secret = link.rsplit('/').next().unwrap();
    let password = "a quiet harbour in june".to_owned();
    officers::redeem_setup_link(&rig.state, secret, "Canary Officer", password)
        .await
        .unwrap();
    let folder = rig.folder.path().to_owned();
    let custodian = backup::new_custodian(&folder.join("custodian")).unwrap();
    backup::backup(&rig.state, &folder.join("backup.age"), &[custodian], "test")
        .await
        .unwrap();
    sallyport_server::audit::export(&rig.state, &folder.join("export"))
        .await
        .unwrap();
    // While it runs: the write-ahead log is there.
    let mut files = Vec::new();
    collect(&folder, &mut files);
    hunt_files(&files, &canaries, 30_000);
    for needed in ["backup.age", "registry.key"] {
        assert!(files.iter().any(|(path, _)| path.ends_with(needed)));
    }
    let request = gate.request(rig.transaction(2), mate(1, 40));
    let remains = rig.end().await;

    // A process of its own that says all it can.
    let path = remains.data().join("server.toml");
    let (gates, console) = (free_port(), free_port());
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replacen("127.0.0.1:0", &format!("127.0.0.1:{gates}"), 1)
        .replacen("127.0.0.1:0", &format!("127.0.0.1:{console}"), 1);
    std::fs::write(&path, text).unwrap();
    let mut process = Process::serve(&remains);
    let limits = std::fs::read_to_string(process.of("limits"));
    if let Ok(limits) = limits {
        let core = limits.lines().find(|line| line.contains("core file"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{core:?}");
    }
    match process.memory() {
        Some(memory) => {
            let mut dumped = 0;
            for (name, canary) in &canaries {
                for (dump, bytes) in &memory {
                    assert!(
                        !dump || !contains(bytes, canary),
                        "{name} in ordinary memory"
                    );
                }
            }
            for (dump, bytes) in &memory {
                dumped += if *dump { bytes.len() } else { 0 };
            }
            // It is there, and only there.
            let numbers = &canaries["stored 0, numbers at 0"];
            let kept = memory.iter().filter(|(dump, _)| !dump);
            assert_eq!(
                kept.filter(|(_, bytes)| contains(bytes, numbers)).count(),
                1
            );
            println!("{dumped} bytes of memory that a dump would hold: 0 hits");
        }
        None => println!("nobody but root reads the memory, and the test is not root"),
    }
    let decision: sallyport_protocol::PassageDecision = gate
        .client
        .at(([127, 0, 0, 1], gates).into())
        .post(sallyport_protocol::paths::PASSAGE, &request)
        .await
        .good();
    assert_eq!(decision.verdict, Verdict::Grant);
    let pid = process.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-ABRT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let status = process.child.wait().unwrap();
    assert_eq!(status.signal(), Some(6));
    assert!(!status.core_dumped(), "it left a core file");
    let said = process.said.lock().unwrap().clone();
    assert!(contains(&said, b"TRACE"), "it said all it can");
    let mut files = vec![("what the server said".into(), said)];
    collect(&folder, &mut files);
    files.extend(remains.files().await);
    hunt_files(&files, &canaries, 30_000);
}
