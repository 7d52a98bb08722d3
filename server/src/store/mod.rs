//! Storage. All SQL of the server is in this folder, in a portable subset: `$1` placeholders, `RETURNING`, `ON CONFLICT`,
//! times as microseconds in 64-bit integers. One text serves SQLite and PostgreSQL through sqlx's runtime-chosen driver
//! (docs/adr/0005).

pub mod consultations;
pub mod copy;
pub mod enrolments;
mod erasure;
mod error_rates;
pub mod factors;
pub mod gate_events;
pub mod gates;
mod keys;
pub mod log;
pub mod model_changes;
pub mod officers;
pub mod passages;
mod postgres;
pub mod presence;
pub mod promises;
pub mod registry;
pub mod reports;
pub mod retention;
pub mod streams;
pub mod witness;

use sqlx::any::{AnyArguments, AnyPoolOptions, AnyRow};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool, Executor as _, Row};
use tokio::sync::{Mutex, MutexGuard};

use crate::clock::{NoRandomness, random};

/// Why the store did not do what was asked. Carries no personal data.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed: full disk, lost connection, broken file.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("the database schema could not be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A stored value is not what it should be.
    #[error("a stored value in {0} is not valid")]
    Corrupt(&'static str),
    /// A durability setting is weaker than required.
    #[error(
        "the database setting {name} is '{value}', but the audit log needs '{needed}'; refusing to start"
    )]
    NotDurable {
        /// Setting.
        name: &'static str,
        /// Found.
        value: String,
        /// Needed.
        needed: &'static str,
    },
    /// The address cannot be understood; it is not repeated, because it may hold a password.
    #[error(
        "the database address is not valid; it looks like postgres://ROLE:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full&sslrootcert=FILE"
    )]
    BadAddress,
    /// Over a network without checking who answers.
    #[error(
        "the database is on another machine, but the connection to it would not be protected. Add ?sslmode=verify-full&sslrootcert=FILE to the database address, with FILE the certificate of its authority"
    )]
    NotEncrypted,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// To be filled, but it holds an installation.
    #[error("the database holds an installation already; name an empty one")]
    NotEmpty,
    /// Owner and application are one role.
    #[error(
        "role {role} would both own the tables and serve; whoever serves could then remove the audit log's protection. Make two roles, see docs/operating.md, PostgreSQL"
    )]
    OneRole {
        /// Which.
        role: String,
    },
    /// The role that serves can change the log.
    #[error(
        "role {role} can change or remove entries of the audit log (it owns the tables, is a superuser, or was granted too much); refusing to start. Serve as a role of its own and run: sallyport-server migrate --database-owner ADDRESS"
    )]
    RoleTooStrong {
        /// Which.
        role: String,
    },
    /// The tables are missing or older.
    #[error(
        "the database schema is missing or older than this program. Run: sallyport-server migrate --database-owner ADDRESS"
    )]
    SchemaBehind,
    /// The tables are newer.
    #[error("the database schema is newer than this program; use the newer program")]
    SchemaAhead,
}

/// The database.
#[derive(Debug)]
pub struct Store {
    pool: AnyPool,
    engine: Engine,
    /// What this process is called in the database; see `replicas`.
    name: String,
    /// One writer at a time: the log has one sequencer, and SQLite one writer anyway.
    writer: Mutex<()>,
}

/// Which database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite, embedded.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Engine {
    fn of(url: &str) -> Self {
        if url.starts_with("postgres") {
            Self::Postgres
        } else {
            Self::Sqlite
        }
    }
}

/// A write transaction; holds the writer's seat until it ends.
///
/// It does not use the driver's own transactions: when the disk is full, SQLite rolls back by itself, the driver's rollback then
/// fails, and its connection goes back to the pool counting one transaction too many. Here a connection whose transaction did not
/// commit is closed, which rolls back on either engine.
pub struct Write<'a> {
    pub(crate) transaction: PoolConnection<Any>,
    committed: bool,
    _seat: MutexGuard<'a, ()>,
}

impl Write<'_> {
    /// Makes everything written durable.
    ///
    /// # Errors
    /// The database refuses; whether it was written must be asked again by the row's key.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.transaction.execute("COMMIT").await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.transaction.close_on_drop();
        }
    }
}

pub(crate) type Query<'q> = sqlx::query::Query<'q, Any, AnyArguments>;

impl Store {
    /// Makes or updates the tables on PostgreSQL, as their owner, for the role of the application's address. SQLite needs nothing.
    ///
    /// # Errors
    /// Not reachable, one role for both, or schema not migratable.
    pub async fn install(owner: &str, application: &str) -> Result<(), StoreError> {
        sqlx::any::install_default_drivers();
        match Engine::of(application) {
            Engine::Sqlite => Ok(()),
            Engine::Postgres => postgres::install(owner, application).await,
        }
    }

    /// Opens the database and asserts its durability settings. SQLite's schema is brought up to date; PostgreSQL's must be already,
    /// and the role must not be able to change the log.
    ///
    /// # Errors
    /// Not reachable, schema not this version's, role too strong, or not durable.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let engine = Engine::of(url);
        if engine == Engine::Postgres {
            postgres::check_address(url)?;
        }
        let name = format!("sallyport-{}", hex::encode(random::<8>()?));
        let named = format!("SET application_name = '{name}'");
        let pool = AnyPoolOptions::new()
            .max_connections(8)
            .after_connect(move |connection, _| {
                let named = named.clone();
                Box::pin(async move {
                    let settings: &[&str] = match engine {
                        Engine::Sqlite => &[
                            "PRAGMA journal_mode = WAL",
                            "PRAGMA synchronous = FULL",
                            "PRAGMA foreign_keys = ON",
                            "PRAGMA secure_delete = ON",
                            "PRAGMA busy_timeout = 5000",
                        ],
                        Engine::Postgres => postgres::SETTINGS,
                    };
                    for setting in settings {
                        connection.execute(*setting).await?;
                    }
                    if engine == Engine::Postgres {
                        // The name is hexadecimal.
                        let named = sqlx::AssertSqlSafe(named);
                        connection.execute(sqlx::raw_sql(named)).await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await?;
        match engine {
            Engine::Sqlite => sqlx::migrate!("../migrations/sqlite").run(&pool).await?,
            Engine::Postgres => {
                postgres::check_schema(&pool).await?;
                postgres::check_role(&pool).await?;
            }
        }
        let store = Self {
            pool,
            engine,
            name,
            writer: Mutex::new(()),
        };
        store.assert_durable().await?;
        Ok(store)
    }

    async fn assert_durable(&self) -> Result<(), StoreError> {
        let settings: &[(&'static str, &'static str, &[&'static str])] = match self.engine {
            Engine::Sqlite => &[
                ("journal_mode", "PRAGMA journal_mode", &["wal"]),
                (
                    "synchronous",
                    "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous",
                    &["2"],
                ),
                (
                    "foreign_keys",
                    "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys",
                    &["1"],
                ),
            ],
            Engine::Postgres => postgres::DURABLE,
        };
        for (name, query, needed) in settings {
            let row = sqlx::query(*query).fetch_one(&self.pool).await?;
            let value: String = row.try_get(0)?;
            if !needed.contains(&value.as_str()) {
                return Err(StoreError::NotDurable {
                    name,
                    value,
                    needed: needed.first().copied().unwrap_or_default(),
                });
            }
        }
        Ok(())
    }

    /// Which database engine this is.
    #[must_use]
    pub const fn engine(&self) -> Engine {
        self.engine
    }

    /// What this process is called in the database.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the writer's seat and begins a transaction.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn write(&self) -> Result<Write<'_>, StoreError> {
        let seat = self.writer.lock().await;
        // Made before the transaction begins, so that a caller who gives up in between leaves no open one in the pool.
        let mut write = Write {
            transaction: self.pool.acquire().await?,
            committed: false,
            _seat: seat,
        };
        match self.engine {
            Engine::Sqlite => {
                write.transaction.execute("BEGIN IMMEDIATE").await?;
            }
            Engine::Postgres => {
                // One sequencer over all replicas. In one message: while it holds the lock, every round trip is everybody's.
                write
                    .transaction
                    .execute("BEGIN; SELECT CAST(pg_advisory_xact_lock(7306) AS TEXT)")
                    .await?;
            }
        }
        Ok(write)
    }

    /// Runs a statement outside any transaction.
    pub(crate) async fn execute(&self, query: Query<'_>) -> Result<u64, StoreError> {
        let _seat = self.writer.lock().await;
        Ok(query.execute(&self.pool).await?.rows_affected())
    }

    pub(crate) async fn optional(&self, query: Query<'_>) -> Result<Option<AnyRow>, StoreError> {
        Ok(query.fetch_optional(&self.pool).await?)
    }

    pub(crate) async fn all(&self, query: Query<'_>) -> Result<Vec<AnyRow>, StoreError> {
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// A sealed setting of the installation.
    ///
    /// # Errors
    /// The database failed.
    pub async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let query =
            sqlx::query("SELECT value_sealed FROM setting WHERE name = $1").bind(name.to_owned());
        self.optional(query)
            .await?
            .map(|row| Ok(row.try_get(0)?))
            .transpose()
    }

    /// Stores a sealed setting once; an existing one is never replaced.
    ///
    /// # Errors
    /// The database failed, or it exists.
    pub async fn add_setting(&self, name: &str, sealed: Vec<u8>) -> Result<(), StoreError> {
        let query = sqlx::query("INSERT INTO setting (name, value_sealed) VALUES ($1, $2)")
            .bind(name.to_owned())
            .bind(sealed);
        self.execute(query).await.map(drop)
    }

    /// Closes all connections after their work is done.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[cfg(test)]
mod tests;
