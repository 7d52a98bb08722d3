//! Who serves cannot change the log, and a database that could lose a commit is not used.

use sallyport_server::store::{Store, StoreError};
use sallyport_server::{audit, installation};
use sqlx::{Connection as _, PgConnection};

use crate::common::{Rig, cluster, config, data, mate};

async fn run(address: &str, sql: &str) -> Result<u64, sqlx::Error> {
    let mut connection = PgConnection::connect(address).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .map(|done| done.rows_affected())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_serves_may_only_add_to_the_log_and_the_owner_is_stopped_by_triggers() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    gate.pass(&gate.request(rig.transaction(1), mate(1, 9)))
        .await;
    audit::publish(&rig.state).await.unwrap().unwrap();
    let database = rig.database.clone().unwrap();
    let mut tried = 0;
    for table in ["log_entry", "log_node", "log_checkpoint", "log_detail"] {
        let column = match table {
            "log_checkpoint" => "note",
            "log_detail" => "salt",
            "log_node" => "hash",
            _ => "bytes",
        };
        for sql in [
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
            format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
            format!("DROP TABLE {table} CASCADE"),
        ] {
            let error = run(&database.application(), &sql).await.unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("permission denied") || text.contains("must be owner"),
                "{sql}: {text}"
            );
            tried += 1;
        }
        for sql in [
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
        ] {
            let error = run(&database.owner(), &sql).await.unwrap_err();
            assert!(error.to_string().contains("append-only"), "{sql}: {error}");
            tried += 1;
        }
    }
    assert_eq!(tried, 32);
    audit::check(&rig.state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_could_change_the_log_is_refused() {
    let rig = Rig::start().await;
    let database = rig.database.clone().unwrap();
    for address in [database.owner(), database.superuser()] {
        let error = Store::open(&address).await.unwrap_err();
        assert!(matches!(error, StoreError::RoleTooStrong { .. }), "{error}");
        assert!(error.to_string().contains("refusing to start"));
    }
    for right in ["UPDATE", "DELETE", "TRUNCATE", "TRIGGER"] {
        run(
            &database.superuser(),
            &format!("GRANT {right} ON log_node TO sallyport"),
        )
        .await
        .unwrap();
        let error = Store::open(&database.application()).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::RoleTooStrong { role } if role == "sallyport"),
            "{right}: {error}"
        );
        run(
            &database.superuser(),
            &format!("REVOKE {right} ON log_node FROM sallyport"),
        )
        .await
        .unwrap();
    }
    Store::open(&database.application()).await.unwrap();
    let error = Store::install(&database.owner(), &database.owner())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::OneRole { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_could_lose_a_commit_is_refused() {
    let rig = Rig::start().await;
    let database = rig.database.clone().unwrap();
    let name = &database.name;
    for value in ["off", "local"] {
        run(
            &database.superuser(),
            &format!("ALTER DATABASE {name} SET synchronous_commit = {value}"),
        )
        .await
        .unwrap();
        let error = Store::open(&database.application()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("synchronous_commit")
                && text.contains(value)
                && text.contains("refusing"),
            "{text}"
        );
    }
    run(
        &database.superuser(),
        &format!("ALTER DATABASE {name} SET synchronous_commit = remote_apply"),
    )
    .await
    .unwrap();
    Store::open(&database.application()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_older_and_newer_tables_are_said_plainly() {
    let database = cluster().database().await;
    let error = Store::open(&database.application()).await.unwrap_err();
    assert!(matches!(error, StoreError::SchemaBehind), "{error}");
    assert!(error.to_string().contains("--database-owner"));
    Store::install(&database.owner(), &database.application())
        .await
        .unwrap();
    Store::open(&database.application()).await.unwrap();
    for (sql, ahead) in [
        (
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', true, '', 0)",
            true,
        ),
        (
            "DELETE FROM _sqlx_migrations WHERE version IN (9999, 20)",
            false,
        ),
    ] {
        run(&database.superuser(), sql).await.unwrap();
        let error = Store::open(&database.application()).await.unwrap_err();
        assert_eq!(matches!(error, StoreError::SchemaAhead), ahead, "{error}");
        assert_eq!(matches!(error, StoreError::SchemaBehind), !ahead, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn init_never_takes_over_a_database_that_holds_an_installation() {
    let rig = Rig::start().await;
    let database = rig.database.clone().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(0);
    config.database = database.application();
    let said = |error: anyhow::Error| format!("{error:#}");
    let error = said(
        installation::create(&data(&folder), &config, &*rig.clock)
            .await
            .unwrap_err(),
    );
    assert!(error.contains("--database-owner"), "{error}");
    let error = said(
        installation::create_with_owner(
            &data(&folder),
            &config,
            Some(&database.owner()),
            &*rig.clock,
        )
        .await
        .unwrap_err(),
    );
    assert!(error.contains("already"), "{error}");
    audit::check(&rig.state).await.unwrap();
}
