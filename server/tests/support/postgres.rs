//! A real PostgreSQL for tests: Debian's package, started by the test binary in a temporary folder as a user who is not root,
//! on a Unix socket, with every durability setting on. One for all tests of a binary, one database for each test.
//!
//! A small shell stands between: it waits for the end of its standard input, which comes when this process ends in whatever
//! way, and then stops the server and removes the folder.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, PgConnection};

const PASSWORD: &str = "test-only-password";

const SCRIPT: &str = r#"
set -e
cd "$FOLDER"
"$BIN/initdb" --pgdata=data --username=postgres --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >setup.log 2>&1
"$BIN/pg_ctl" --pgdata=data --wait --log=server.log start -o "-c listen_addresses='' -c unix_socket_directories='$FOLDER' \
  -c fsync=on -c synchronous_commit=on -c full_page_writes=on -c max_connections=400 -c shared_buffers=64MB" >>setup.log 2>&1
echo ready
cat >/dev/null || true
"$BIN/pg_ctl" --pgdata=data --mode=immediate stop >/dev/null 2>&1 || true
cd /
rm -rf "$FOLDER"
"#;

/// The running server.
pub(crate) struct Cluster {
    folder: PathBuf,
    next: AtomicU32,
    /// Its standard input ends with this process, and that ends it.
    _shell: Child,
}

/// One database in it: tables belong to `sallyport_owner`, the product serves as `sallyport`.
pub(crate) struct Database {
    pub(crate) name: String,
    folder: PathBuf,
}

/// The server of this test binary.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

/// `initdb` refuses to run as root: who shall it be then?
fn unprivileged() -> Option<(u32, u32)> {
    let me = std::fs::read_to_string("/proc/self/status").unwrap();
    let uid = me.lines().find_map(|line| line.strip_prefix("Uid:"));
    if uid.and_then(|ids| ids.split_whitespace().next()) != Some("0") {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    ["postgres:", "nobody:"].iter().find_map(|name| {
        let line = users.lines().find(|line| line.starts_with(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn binaries() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    versions.sort();
    versions
        .pop()
        .expect("PostgreSQL is needed for the tests; run: deploy/setup --test")
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("sallyport-postgres-")
            .tempdir()
            .unwrap()
            .keep();
        std::fs::write(folder.join("password"), PASSWORD).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT])
            .env("FOLDER", &folder)
            .env("BIN", binaries())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C reaches this process only; the shell then cleans up.
            .process_group(0);
        if let Some((uid, gid)) = unprivileged() {
            for path in [folder.clone(), folder.join("password")] {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
            }
            command.uid(uid).gid(gid);
        }
        let mut shell = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        assert_eq!(
            said.trim(),
            "ready",
            "PostgreSQL did not start:\n{}{}",
            std::fs::read_to_string(folder.join("setup.log")).unwrap_or_default(),
            std::fs::read_to_string(folder.join("server.log")).unwrap_or_default()
        );
        Self {
            folder,
            next: AtomicU32::new(0),
            _shell: shell,
        }
    }

    /// A new, empty database.
    pub(crate) async fn database(&self) -> Database {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let database = Database {
            name: format!("site{number}"),
            folder: self.folder.clone(),
        };
        let mut postgres = PgConnection::connect(&address(&self.folder, "postgres", "postgres"))
            .await
            .unwrap();
        // The names are this file's own.
        let run = |sql: String| sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        run(format!(
            "DO $$ BEGIN PERFORM pg_advisory_xact_lock(1); \
             IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'sallyport') THEN \
             CREATE ROLE sallyport_owner LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE sallyport LOGIN PASSWORD '{PASSWORD}'; \
             END IF; END $$"
        ))
        .execute(&mut postgres)
        .await
        .unwrap();
        run(format!(
            "CREATE DATABASE {} OWNER sallyport_owner",
            database.name
        ))
        .execute(&mut postgres)
        .await
        .unwrap();
        database
    }
}

fn address(folder: &Path, role: &str, database: &str) -> String {
    format!(
        "postgres://{role}:{PASSWORD}@localhost/{database}?host={}",
        folder.display()
    )
}

impl Database {
    /// How the product connects when it serves.
    pub(crate) fn application(&self) -> String {
        address(&self.folder, "sallyport", &self.name)
    }

    /// How tables are made.
    pub(crate) fn owner(&self) -> String {
        address(&self.folder, "sallyport_owner", &self.name)
    }

    /// Nobody may stop this one.
    pub(crate) fn superuser(&self) -> String {
        address(&self.folder, "postgres", &self.name)
    }

    /// Where it is on disk: its tables, the write-ahead log and the server's own log.
    pub(crate) async fn folders(&self) -> Vec<PathBuf> {
        let mut postgres = PgConnection::connect(&self.superuser()).await.unwrap();
        sqlx::raw_sql("CHECKPOINT")
            .execute(&mut postgres)
            .await
            .unwrap();
        let id: String = sqlx::query_scalar(
            "SELECT oid::text FROM pg_database WHERE datname = current_database()",
        )
        .fetch_one(&mut postgres)
        .await
        .unwrap();
        let data = self.folder.join("data");
        vec![
            data.join("base").join(id),
            data.join("pg_wal"),
            self.folder.join("server.log"),
        ]
    }
}
