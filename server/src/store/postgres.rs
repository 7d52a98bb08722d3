//! What only PostgreSQL has: two roles, of which the one that serves cannot change the log, and connections over a network.
//!
//! The owner's role makes the tables (`Store::install`); its address is never stored. The application's role, which serves,
//! may only insert into and read the tables whose names begin with `log_`. The triggers refuse changes even to the owner, as long as
//! he does not switch them off; what a superuser does is found by the log's own checks.

use sqlx::any::AnyPoolOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AnyPool, AssertSqlSafe, Row as _};

use super::StoreError;

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/postgres");

/// Tables whose names begin so are append-only.
const APPEND_ONLY: &str = "log_";

/// Durability settings, the query for each and the values that will do.
pub(super) const DURABLE: &[(&str, &str, &[&str])] = &[
    ("fsync", "SHOW fsync", &["on"]),
    (
        "synchronous_commit",
        "SHOW synchronous_commit",
        &["on", "remote_apply"],
    ),
    ("full_page_writes", "SHOW full_page_writes", &["on"]),
];

/// Sent on every new connection: a replica that hangs must not hold up the others for ever.
pub(super) const SETTINGS: &[&str] = &[
    "SET lock_timeout = '10s'",
    "SET idle_in_transaction_session_timeout = '30s'",
];

/// Over a network the server's certificate must be checked; otherwise whoever sits in between reads and changes everything.
pub(super) fn check_address(url: &str) -> Result<(), StoreError> {
    let options: PgConnectOptions = url
        .parse()
        // The parser's own error may quote the address, and that may hold a password.
        .map_err(|_| StoreError::BadAddress)?;
    let host = options.get_host();
    let local = options.get_socket().is_some()
        || host.starts_with('/')
        || matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]");
    if local || matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
        Ok(())
    } else {
        Err(StoreError::NotEncrypted)
    }
}

/// Makes or updates the tables as their owner and gives the application's role what it needs and no more.
pub(super) async fn install(owner: &str, application: &str) -> Result<(), StoreError> {
    check_address(owner)?;
    check_address(application)?;
    let one = || AnyPoolOptions::new().max_connections(1);
    let pool = one().connect(application).await?;
    let role: String = sqlx::query("SELECT CAST(current_user AS TEXT)")
        .fetch_one(&pool)
        .await?
        .try_get(0)?;
    pool.close().await;
    let pool = one().connect(owner).await?;
    let own: String = sqlx::query("SELECT CAST(current_user AS TEXT)")
        .fetch_one(&pool)
        .await?
        .try_get(0)?;
    if own == role {
        return Err(StoreError::OneRole { role });
    }
    MIGRATIONS.run(&pool).await?;
    grant(&pool, &role).await?;
    pool.close().await;
    Ok(())
}

async fn grant(pool: &AnyPool, role: &str) -> Result<(), StoreError> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let role = quoted(role);
    let tables = sqlx::query(
        "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename",
    )
    .fetch_all(pool)
    .await?;
    for table in tables {
        let table: String = table.try_get(0)?;
        let rights = if table == "_sqlx_migrations" {
            "SELECT"
        } else if table.starts_with(APPEND_ONLY) {
            "SELECT, INSERT"
        } else {
            "SELECT, INSERT, UPDATE, DELETE"
        };
        let table = quoted(&table);
        for statement in [
            format!("REVOKE ALL ON TABLE {table} FROM {role}"),
            format!("GRANT {rights} ON TABLE {table} TO {role}"),
        ] {
            // Names cannot be bound; both are quoted above.
            sqlx::query(AssertSqlSafe(statement)).execute(pool).await?;
        }
    }
    Ok(())
}

/// The schema must be exactly this version's; only the owner can change it.
pub(super) async fn check_schema(pool: &AnyPool) -> Result<(), StoreError> {
    let there = sqlx::query(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM pg_tables WHERE schemaname = 'public' AND tablename = '_sqlx_migrations'",
    )
    .fetch_one(pool)
    .await?;
    if there.try_get::<i64, _>(0)? == 0 {
        return Err(StoreError::SchemaBehind);
    }
    let mut applied = Vec::new();
    for row in
        sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(pool)
            .await?
    {
        applied.push((row.try_get::<i64, _>(0)?, row.try_get::<Vec<u8>, _>(1)?));
    }
    let mut known = Vec::new();
    for migration in MIGRATIONS.iter() {
        known.push((migration.version, migration.checksum.to_vec()));
    }
    if applied == known {
        Ok(())
    } else if applied.len() > known.len() {
        Err(StoreError::SchemaAhead)
    } else {
        Err(StoreError::SchemaBehind)
    }
}

/// The role that serves must not be able to change or remove what was logged.
pub(super) async fn check_role(pool: &AnyPool) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT CAST(current_user AS TEXT), CAST(COUNT(*) AS BIGINT) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'public' AND c.relkind = 'r' AND LEFT(CAST(c.relname AS TEXT), 4) = $1 \
         AND (pg_has_role(current_user, c.relowner, 'MEMBER') OR has_table_privilege(current_user, c.oid, 'UPDATE') \
         OR has_table_privilege(current_user, c.oid, 'DELETE') OR has_table_privilege(current_user, c.oid, 'TRUNCATE') \
         OR has_table_privilege(current_user, c.oid, 'TRIGGER'))",
    )
    .bind(APPEND_ONLY)
    .fetch_one(pool)
    .await?;
    let role: String = row.try_get(0)?;
    if row.try_get::<i64, _>(1)? > 0 {
        return Err(StoreError::RoleTooStrong { role });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_across_the_network_needs_a_checked_certificate() {
        for good in [
            "postgres://a:b@localhost/x",
            "postgres://a:b@127.0.0.1:5433/x",
            "postgres://a:b@localhost/x?host=/run/postgresql",
            "postgres://a:b@db.example/x?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        ] {
            check_address(good).unwrap();
        }
        for bad in [
            "postgres://a:b@db.example/x",
            "postgres://a:b@10.0.0.7/x?sslmode=prefer",
            "postgres://a:b@db.example/x?sslmode=require",
            "postgres://a:b@db.example/x?sslmode=verify-ca",
            "postgres://a:b@localhost.example/x",
        ] {
            let error = check_address(bad).unwrap_err();
            assert!(matches!(error, StoreError::NotEncrypted), "{bad}");
            assert!(error.to_string().contains("sslmode=verify-full"));
        }
        let error = check_address("postgres://a:geheim@[x/").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
    }
}
