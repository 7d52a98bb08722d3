//! What the log must survive: somebody who changes any cell of its tables, `kill -9`, and disks that fail.
//!
//! The writer is this test binary again, as a process of its own: it appends with the product's code and prints each index only after
//! the commit was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use sallyport_server::clock::SystemClock;
use sallyport_server::store::Engine;
use sallyport_server::{audit, fsck, installation};
use sqlx::{AnyPool, Row as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::ENGINE;
use crate::common::{Remains, Rig, mate};
use crate::witness::unprotected;

const FOLDER: &str = "SALLYPORT_TEST_WRITER";
const COUNT: &str = "SALLYPORT_TEST_WRITER_COUNT";
const PATIENCE: &str = "SALLYPORT_TEST_WRITER_PATIENCE_S";

#[expect(
    clippy::disallowed_methods,
    reason = "how the test's own second process is told what to do"
)]
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The second process; a test that passes at once when it is not asked for.
#[test]
fn writer_process() {
    let Some(folder) = asked(FOLDER) else { return };
    let count: u64 = asked(COUNT).map_or(u64::MAX, |count| count.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let patience = asked(PATIENCE).map_or(u64::MAX, |seconds| seconds.parse().unwrap());
    let writing = async {
        let state = installation::open(Path::new(&folder), Arc::new(SystemClock))
            .await
            .unwrap();
        println!("begun");
        for number in 0..count {
            let entry = audit::entry("test_write", state.clock.now()).unwrap();
            let id = entry.id.clone();
            // A disk that fails: nothing was promised, and the next one is tried.
            match audit::record(&state, entry).await {
                Ok(index) => println!("acknowledged {index} {id}"),
                Err(error) => println!("refused {error}"),
            }
            if number % 5 == 4 {
                match audit::publish(&state).await {
                    Ok(size) => println!("published {size:?}"),
                    Err(error) => println!("refused {error}"),
                }
            }
        }
        state.store.close().await;
    };
    // A pause of the test, not of what it checks: an entry is acknowledged or it is not.
    let _ = runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(patience), writing).await });
    // A thread that still tries to open the database would be waited for.
    std::process::exit(0);
}

fn writer<'a>(program: &'a mut Command, folder: &Path) -> &'a mut Command {
    program
        .args([
            "--exact",
            "durability::writer_process",
            "--nocapture",
            "--test-threads",
            "1",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
}

/// Index and event id of an acknowledged entry, out of a line that may have the test runner's words before it.
fn acknowledged(line: &str) -> Option<(u64, String)> {
    let (_, rest) = line.split_once("acknowledged ")?;
    let (index, id) = rest.split_once(' ')?;
    Some((index.parse().ok()?, id.trim().to_owned()))
}

/// Opens what is left, checks all of it, and looks for every acknowledged entry.
async fn check(folder: &Path, kept: &BTreeMap<u64, String>, after: &str) {
    let state = installation::open(folder, Arc::new(SystemClock))
        .await
        .unwrap_or_else(|error| panic!("{after}: {error:#}"));
    audit::check(&state)
        .await
        .unwrap_or_else(|error| panic!("{after}: {error}"));
    fsck::run(&state, |_, _| {})
        .await
        .unwrap_or_else(|error| panic!("{after}: {error}"));
    for (index, id) in kept {
        let rows = state.store.log_entries(*index, 1).await.unwrap();
        let text = rows
            .first()
            .filter(|(at, _)| at == index)
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_else(|| panic!("{after}: acknowledged entry {index} is lost"));
        assert!(
            text.contains(id.as_str()),
            "{after}: entry {index} is another"
        );
    }
    state.store.close().await;
}

async fn installed() -> Remains {
    Rig::start().await.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_no_acknowledged_entry() {
    let remains = installed().await;
    let folder = remains.data();
    let mut kept = BTreeMap::new();
    for round in 0..50_u64 {
        let mut child = writer(&mut Command::new(std::env::current_exe().unwrap()), &folder)
            .spawn()
            .unwrap();
        let (told, hears) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        // Killed after another number of acknowledged entries each time, at whatever the process does just then.
        let mut left = round * 7 % 23 + 1;
        while left > 0 {
            let line = hears
                .recv_timeout(Duration::from_secs(60))
                .expect("the writer writes");
            if let Some((index, id)) = acknowledged(&line) {
                kept.insert(index, id);
                left -= 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        // What it still printed before the kill was acknowledged, too.
        for line in hears.try_iter() {
            if let Some((index, id)) = acknowledged(&line) {
                kept.insert(index, id);
            }
        }
        // Opening PostgreSQL is slow and keeps nothing in memory: there every fifth time is enough.
        if ENGINE == Engine::Sqlite || round % 5 == 4 {
            check(&folder, &kept, &format!("kill {round}")).await;
        }
    }
    assert!(kept.len() >= 50 * 10, "{} entries", kept.len());
}

/// Calls that write, on the files of the log only.
const CALLS: [&str; 8] = [
    "openat",
    "pwrite64",
    "write",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "unlink",
];

fn strace(trace: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(trace);
    command
}

/// Writers at once: most of their time they wait for a connection that cannot be opened.
const AT_ONCE: usize = 4;
/// A writer whose disk stays broken is ended after this; what it acknowledged counts all the same.
const PATIENCE_S: &str = "8";

/// `strace` lets write-side calls fail in turn: with EIO, with ENOSPC, and by death of the process. First, middle and last call of each
/// kind; `every_write_call_of_a_failing_disk` takes each one.
#[tokio::test(flavor = "multi_thread")]
async fn failing_disks_lose_no_acknowledged_entry() {
    failing_disks(|calls| BTreeSet::from([1, calls.div_ceil(2), calls])).await;
}

/// The whole sweep takes minutes: `cargo test -p sallyport-server --test server -- --ignored every_write_call`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; the sample runs every time"]
async fn every_write_call_of_a_failing_disk() {
    let faults = failing_disks(|calls| (1..=calls).collect()).await;
    println!("{faults} faults, no acknowledged entry lost");
}

/// Returns how many faults were injected, of those that `places` asks for.
async fn failing_disks(places: impl Fn(usize) -> BTreeSet<usize>) -> usize {
    if ENGINE == Engine::Postgres {
        // The calls are those of PostgreSQL's own processes; its durability settings are checked at every start.
        return 0;
    }
    let remains = installed().await;
    let template = remains.data();
    let work = tempfile::tempdir().unwrap();
    let turn = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    let mut expected = BTreeSet::new();
    for (number, call) in CALLS.into_iter().enumerate() {
        let calls = counted(
            &template,
            &work.path().join(format!("count-{number}")),
            call,
        );
        if calls == 0 {
            continue;
        }
        for fault in ["error=EIO", "error=ENOSPC", "signal=KILL"] {
            expected.insert((call, fault));
            for at in places(calls) {
                let folder = work.path().join(format!("{call}-{at}-{}", &fault[6..]));
                let (template, turn) = (template.clone(), turn.clone());
                cases.spawn(async move {
                    let _turn = turn.acquire().await.unwrap();
                    let happened = fault_at(&template, &folder, call, at, fault).await;
                    (call, fault, happened)
                });
            }
        }
    }
    let mut faults = 0;
    while let Some(case) = cases.join_next().await {
        let (call, fault, happened) = case.unwrap();
        if happened {
            expected.remove(&(call, fault));
            faults += 1;
        }
    }
    assert!(expected.is_empty(), "never injected: {expected:?}");
    faults
}

/// One writer with one fault; then the log must be whole and hold what was acknowledged. Was the fault injected?
async fn fault_at(
    template: &Path,
    folder: &Path,
    call: &'static str,
    at: usize,
    fault: &'static str,
) -> bool {
    copy(template, folder);
    let trace = folder.with_extension("trace");
    let mut command = strace(&trace);
    paths(&mut command, folder);
    command
        .args(["-e", &format!("inject={call}:{fault}:when={at}")])
        .arg(std::env::current_exe().unwrap());
    writer(&mut command, folder)
        .env(COUNT, "6")
        .env(PATIENCE, PATIENCE_S);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("strace is missing: run deploy/setup --test, or install strace");
    let said = String::from_utf8_lossy(&output.stdout);
    let kept: BTreeMap<_, _> = said.lines().filter_map(acknowledged).collect();
    check(folder, &kept, &format!("{call} {at} {fault}")).await;
    std::fs::remove_dir_all(folder).unwrap();
    let text = std::fs::read_to_string(&trace).unwrap();
    text.contains("(INJECTED)") || text.contains("+++ killed by SIGKILL")
}

/// How often the writer makes this call on the log's files.
fn counted(template: &Path, folder: &Path, call: &str) -> usize {
    copy(template, folder);
    let trace = folder.with_extension("trace");
    let mut command = strace(&trace);
    paths(&mut command, folder);
    command
        .args(["-e", &format!("trace={call}")])
        .arg(std::env::current_exe().unwrap());
    let output = writer(&mut command, folder)
        .env(COUNT, "6")
        .output()
        .expect("strace is missing: run deploy/setup --test, or install strace");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().filter_map(acknowledged).count(), 6, "{said}");
    let text = std::fs::read_to_string(&trace).unwrap();
    // The counter of strace is one for each thread: the busiest one decides.
    let mut threads: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| line.contains(&format!("{call}(")))
    {
        *threads.entry(line.split(' ').next().unwrap()).or_default() += 1;
    }
    threads.values().max().copied().unwrap_or(0)
}

fn paths(command: &mut Command, folder: &Path) {
    for name in [
        "sallyport.db",
        "sallyport.db-wal",
        "sallyport.db-shm",
        "checkpoint",
    ] {
        command.arg("-P").arg(folder.join(name));
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target: PathBuf = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// A repeatable stream of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Columns of the log's tables, with the key of the row.
const CELLS: [(&str, &str, &str); 12] = [
    ("log_entry", "bytes", "idx"),
    ("log_entry", "bytes", "idx"),
    ("log_entry", "bytes", "idx"),
    ("log_entry", "leaf_hash", "idx"),
    ("log_entry", "time", "idx"),
    ("log_entry", "idx", "idx"),
    ("log_node", "hash", "idx"),
    ("log_node", "hash", "idx"),
    ("log_node", "level", "idx"),
    ("log_detail", "salt", "idx"),
    ("log_detail", "sealed", "idx"),
    ("log_checkpoint", "note", "size"),
];

/// One cell, before and after: so that the change can be taken back.
async fn cell(pool: &AnyPool, table: &str, column: &str, row: i64) -> Cell {
    let sql = format!("SELECT {column} FROM {table} ORDER BY 1 LIMIT 1 OFFSET {row}");
    let sql = if column == "hash" || column == "level" {
        format!("SELECT {column} FROM {table} ORDER BY level, idx LIMIT 1 OFFSET {row}")
    } else {
        let key = if table == "log_checkpoint" {
            "size"
        } else {
            "idx"
        };
        sql.replace("ORDER BY 1", &format!("ORDER BY {key}"))
    };
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .fetch_one(pool)
        .await
        .unwrap();
    match column {
        "time" | "idx" | "level" => Cell::Number(row.get(0)),
        "note" => Cell::Text(row.get(0)),
        _ => Cell::Bytes(row.get(0)),
    }
}

#[derive(Clone)]
enum Cell {
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    /// One bit other, in a way that the database takes.
    fn flipped(&self, random: &mut Random) -> Self {
        match self {
            Self::Number(number) => Self::Number(number ^ (1 << random.below(20))),
            Self::Text(text) => {
                let mut bytes = text.clone().into_bytes();
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(7);
                match String::from_utf8(bytes) {
                    Ok(text) if !text.contains('\0') => Self::Text(text),
                    _ => Self::Text(text.replacen('=', "", 1)),
                }
            }
            Self::Bytes(bytes) => {
                let mut bytes = bytes.clone();
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
                Self::Bytes(bytes)
            }
        }
    }
}

/// Random single-bit changes of cells, and removed rows: each is found by the check of the stored log.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_rows_are_all_found() {
    // On PostgreSQL the same code runs over the same rows, and each change takes longer.
    changes_are_found(match ENGINE {
        Engine::Sqlite => 10_000,
        Engine::Postgres => 500,
    })
    .await;
}

/// On PostgreSQL, too: `cargo test -p sallyport-server --test server_postgres -- --ignored ten_thousand_changes`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes on PostgreSQL; a part of it runs there every time, and all of it on SQLite"]
async fn ten_thousand_changes_of_rows_are_all_found() {
    changes_are_found(10_000).await;
}

async fn changes_are_found(changes: usize) {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    for number in 0..8 {
        gate.pass(&gate.request(rig.transaction(number), mate(1, number)))
            .await;
        if number % 3 == 2 {
            audit::publish(&rig.state).await.unwrap();
        }
    }
    fsck::run(&rig.state, |_, _| {}).await.unwrap();
    let pool = unprotected(&rig).await;
    if ENGINE == Engine::Sqlite {
        // Only this test's own connection: its changes need not survive a power cut.
        sqlx::query("PRAGMA synchronous = OFF")
            .execute(&pool)
            .await
            .unwrap();
    }
    let mut random = Random(2_026);
    let mut counts = BTreeMap::new();
    for table in ["log_entry", "log_node", "log_detail", "log_checkpoint"] {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_one(&pool)
            .await
            .unwrap();
        counts.insert(table, row.get::<i64, _>(0) as u64);
    }
    let mut made = 0;
    while made < changes {
        let (table, column, key) = CELLS[random.below(CELLS.len() as u64) as usize];
        let row = random.below(counts[table]) as i64;
        let before = cell(&pool, table, column, row).await;
        let place = place(&pool, table, key, row).await;
        let after = before.flipped(&mut random);
        if !put(&pool, table, column, &place, &after).await {
            // A key that is taken: the database itself refuses.
            continue;
        }
        made += 1;
        let found = fsck::run(&rig.state, |_, _| {}).await;
        assert!(
            found.is_err(),
            "a change of {table}.{column} in row {row} was not found"
        );
        let moved = match (&after, column) {
            (Cell::Number(number), "idx" | "level") => place.moved(column, *number),
            _ => place,
        };
        assert!(put(&pool, table, column, &moved, &before).await);
    }
    fsck::run(&rig.state, |_, _| {}).await.unwrap();
    assert_eq!(made, changes);
    // Rows removed and added.
    for (table, key) in [
        ("log_node", "idx"),
        ("log_detail", "idx"),
        ("log_entry", "idx"),
    ] {
        let last = counts[table] as i64 - 1;
        let place = place(&pool, table, key, last).await;
        let sql = format!("DELETE FROM {table} WHERE {}", place.condition());
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&pool)
            .await
            .unwrap();
        assert!(fsck::run(&rig.state, |_, _| {}).await.is_err(), "{table}");
    }
}

/// A row by its key.
#[derive(Clone, Copy)]
struct Place {
    level: Option<i64>,
    key: &'static str,
    value: i64,
}

impl Place {
    fn condition(&self) -> String {
        let level = self
            .level
            .map_or_else(String::new, |level| format!(" AND level = {level}"));
        format!("{} = {}{level}", self.key, self.value)
    }

    fn moved(self, column: &str, to: i64) -> Self {
        if column == "level" {
            Self {
                level: Some(to),
                ..self
            }
        } else {
            Self { value: to, ..self }
        }
    }
}

async fn place(pool: &AnyPool, table: &str, key: &'static str, row: i64) -> Place {
    let (columns, order) = if table == "log_node" {
        ("level, idx", "level, idx")
    } else {
        (key, key)
    };
    let sql = format!("SELECT {columns} FROM {table} ORDER BY {order} LIMIT 1 OFFSET {row}");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .fetch_one(pool)
        .await
        .unwrap();
    if table == "log_node" {
        Place {
            level: Some(row.get(0)),
            key,
            value: row.get(1),
        }
    } else {
        Place {
            level: None,
            key,
            value: row.get(0),
        }
    }
}

async fn put(pool: &AnyPool, table: &str, column: &str, place: &Place, value: &Cell) -> bool {
    let sql = format!(
        "UPDATE {table} SET {column} = $1 WHERE {}",
        place.condition()
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql));
    let query = match value.clone() {
        Cell::Number(number) => query.bind(number),
        Cell::Text(text) => query.bind(text),
        Cell::Bytes(bytes) => query.bind(bytes),
    };
    query
        .execute(pool)
        .await
        .is_ok_and(|done| done.rows_affected() == 1)
}
