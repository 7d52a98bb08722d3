//! Whole copies of a database, engine to engine: what backup, restore and the move to PostgreSQL stand on.
//!
//! Tables, columns and their order are read from the database itself, so that a table added later is never forgotten. Both engines
//! hold text, 64-bit integers and bytes only.

use futures_util::{Stream, TryStreamExt as _};
use sqlx::any::AnyRow;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AssertSqlSafe, Executor as _, Row as _};

use super::{Engine, Store, StoreError, postgres};

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Text.
    Text,
    /// 64-bit integer.
    Integer,
    /// Bytes.
    Bytes,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Columns in their order.
    pub columns: Vec<(String, Kind)>,
}

/// A value of a row. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// None.
    Null,
    /// Text.
    Text(String),
    /// Integer.
    Integer(i64),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value([hidden])")
    }
}

/// All tables as they were at one moment.
pub struct Snapshot {
    connection: PoolConnection<Any>,
    engine: Engine,
}

/// An empty database being filled, in one transaction.
pub struct Filling {
    connection: PoolConnection<Any>,
    engine: Engine,
}

impl Store {
    /// Versions of the schema that this program knows.
    #[must_use]
    pub fn schema() -> Vec<i64> {
        postgres::MIGRATIONS
            .iter()
            .map(|migration| migration.version)
            .collect()
    }

    /// A view of everything as it is now; others go on writing meanwhile.
    ///
    /// # Errors
    /// The database failed.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.begin_snapshot(match self.engine {
            Engine::Sqlite => "BEGIN",
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })
        .await
    }

    /// As [`Store::snapshot`], and nobody else may write until it is dropped.
    ///
    /// # Errors
    /// The database failed, or somebody is writing.
    pub async fn frozen(&self) -> Result<Snapshot, StoreError> {
        self.begin_snapshot(match self.engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        })
        .await
    }

    async fn begin_snapshot(&self, begin: &'static str) -> Result<Snapshot, StoreError> {
        let mut connection = self.pool.acquire().await?;
        // Its transaction ends with it.
        connection.close_on_drop();
        connection.execute(begin).await?;
        // The view begins with the first read.
        connection.execute("SELECT COUNT(*) FROM setting").await?;
        Ok(Snapshot {
            connection,
            engine: self.engine,
        })
    }

    /// Begins to fill this database, which must hold no installation.
    ///
    /// # Errors
    /// The database failed or is not empty.
    pub async fn fill(&self) -> Result<Filling, StoreError> {
        let mut connection = self.pool.acquire().await?;
        connection.close_on_drop();
        connection
            .execute(match self.engine {
                Engine::Sqlite => "BEGIN IMMEDIATE",
                Engine::Postgres => "BEGIN",
            })
            .await?;
        for table in ["setting", "log_entry", "subject"] {
            let query = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
            let row = sqlx::query(query).fetch_one(&mut *connection).await?;
            if row.try_get::<i64, _>(0)? != 0 {
                return Err(StoreError::NotEmpty);
            }
        }
        Ok(Filling {
            connection,
            engine: self.engine,
        })
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn strings(
    connection: &mut PoolConnection<Any>,
    sql: String,
) -> Result<Vec<Vec<String>>, StoreError> {
    let rows = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(&mut **connection)
        .await?;
    rows.iter()
        .map(|row| {
            (0..row.columns().len())
                .map(|at| Ok(row.try_get(at)?))
                .collect()
        })
        .collect()
}

/// All tables but the migrations' own, each after those to which it refers.
async fn tables(
    connection: &mut PoolConnection<Any>,
    engine: Engine,
) -> Result<Vec<Table>, StoreError> {
    let names = match engine {
        Engine::Sqlite => {
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name <> '_sqlx_migrations' ORDER BY name"
        }
        Engine::Postgres => {
            "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations' ORDER BY tablename"
        }
    };
    let mut waiting = Vec::new();
    for name in strings(connection, names.to_owned()).await?.concat() {
        let columns = match engine {
            Engine::Sqlite => {
                format!("SELECT name, type FROM pragma_table_info('{name}') ORDER BY cid")
            }
            Engine::Postgres => format!(
                "SELECT CAST(column_name AS TEXT), CAST(data_type AS TEXT) FROM information_schema.columns \
                 WHERE table_schema = 'public' AND table_name = '{name}' ORDER BY ordinal_position"
            ),
        };
        let mut typed = Vec::new();
        for pair in strings(connection, columns).await? {
            let [column, kind] = <[String; 2]>::try_from(pair)
                .map_err(|_| StoreError::Corrupt("the database's own catalogue"))?;
            let kind = match kind.as_str() {
                "TEXT" | "text" => Kind::Text,
                "INTEGER" | "bigint" => Kind::Integer,
                "BLOB" | "bytea" => Kind::Bytes,
                _ => return Err(StoreError::Corrupt("the database's own catalogue")),
            };
            typed.push((column, kind));
        }
        let references = match engine {
            Engine::Sqlite => {
                format!("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list('{name}')")
            }
            Engine::Postgres => format!(
                "SELECT DISTINCT CAST(o.relname AS TEXT) FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid \
                 JOIN pg_class o ON o.oid = c.confrelid WHERE c.contype = 'f' AND t.relname = '{name}'"
            ),
        };
        let references = strings(connection, references).await?.concat();
        waiting.push((
            Table {
                name,
                columns: typed,
            },
            references,
        ));
    }
    let mut ordered: Vec<Table> = Vec::new();
    while !waiting.is_empty() {
        let before = waiting.len();
        let placed = |ordered: &[Table], name: &str| ordered.iter().any(|table| table.name == name);
        for (table, references) in std::mem::take(&mut waiting) {
            if references
                .iter()
                .all(|other| *other == table.name || placed(&ordered, other))
            {
                ordered.push(table);
            } else {
                waiting.push((table, references));
            }
        }
        if waiting.len() == before {
            return Err(StoreError::Corrupt("the database's own catalogue"));
        }
    }
    Ok(ordered)
}

fn values(row: &AnyRow, table: &Table) -> Result<Vec<Value>, StoreError> {
    let columns = table.columns.iter().enumerate();
    columns
        .map(|(at, (_, kind))| {
            Ok(match kind {
                Kind::Text => row
                    .try_get::<Option<String>, _>(at)?
                    .map_or(Value::Null, Value::Text),
                Kind::Integer => row
                    .try_get::<Option<i64>, _>(at)?
                    .map_or(Value::Null, Value::Integer),
                Kind::Bytes => row
                    .try_get::<Option<Vec<u8>>, _>(at)?
                    .map_or(Value::Null, Value::Bytes),
            })
        })
        .collect()
}

fn columns(table: &Table) -> String {
    let names: Vec<String> = table.columns.iter().map(|(name, _)| quoted(name)).collect();
    names.join(", ")
}

impl Snapshot {
    /// All tables, each after those to which it refers.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tables(&mut self) -> Result<Vec<Table>, StoreError> {
        tables(&mut self.connection, self.engine).await
    }

    /// Ends a [`Store::frozen`] view of SQLite; the database takes no entry of the log any more.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn seal_off(mut self) -> Result<(), StoreError> {
        self.connection
            .execute(
                "CREATE TRIGGER moved_away BEFORE INSERT ON log_entry BEGIN \
                 SELECT RAISE(ABORT, 'this database was moved to PostgreSQL'); END",
            )
            .await?;
        self.connection.execute("COMMIT").await?;
        Ok(())
    }

    /// All rows of a table, a few at a time.
    pub fn rows(
        &mut self,
        table: &Table,
    ) -> impl Stream<Item = Result<Vec<Value>, StoreError>> + Unpin {
        let sql = format!("SELECT {} FROM {}", columns(table), quoted(&table.name));
        let table = table.clone();
        Box::pin(
            sqlx::query(AssertSqlSafe(sql))
                .fetch(&mut *self.connection)
                .map_err(StoreError::from)
                .and_then(move |row| std::future::ready(values(&row, &table))),
        )
    }
}

impl Filling {
    /// All tables.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tables(&mut self) -> Result<Vec<Table>, StoreError> {
        tables(&mut self.connection, self.engine).await
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn insert(&mut self, table: &Table, row: Vec<Value>) -> Result<(), StoreError> {
        let places: Vec<String> = (1..=table.columns.len())
            .map(|at| format!("${at}"))
            .collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            quoted(&table.name),
            columns(table),
            places.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (value, (_, kind)) in row.into_iter().zip(&table.columns) {
            query = match (value, kind) {
                (Value::Text(text), _) => query.bind(text),
                (Value::Integer(number), _) => query.bind(number),
                (Value::Bytes(bytes), _) => query.bind(bytes),
                (Value::Null, Kind::Text) => query.bind(None::<String>),
                (Value::Null, Kind::Integer) => query.bind(None::<i64>),
                (Value::Null, Kind::Bytes) => query.bind(None::<Vec<u8>>),
            };
        }
        query.execute(&mut *self.connection).await?;
        Ok(())
    }

    /// Makes it all durable at once.
    ///
    /// # Errors
    /// The database refuses; nothing is there then.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.connection.execute("COMMIT").await?;
        Ok(())
    }
}
