//! Both engines have the same tables: names, columns, types, keys, references and indexes.

use std::collections::BTreeSet;

use sqlx::{Connection as _, PgConnection, Row as _, SqliteConnection};

use crate::common::{Rig, cluster};

type Facts = BTreeSet<String>;

async fn sqlite() -> Facts {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    sqlx::migrate!("../migrations/sqlite")
        .run(&mut connection)
        .await
        .unwrap();
    let mut facts = Facts::new();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for table in tables {
        let columns = sqlx::query(
            "SELECT name, type, \"notnull\", pk FROM pragma_table_info($1) ORDER BY cid",
        )
        .bind(&table)
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let mut key: Vec<(i64, String)> = Vec::new();
        for (at, row) in columns.iter().enumerate() {
            let (name, kind, not_null): (String, String, bool) =
                (row.get(0), row.get(1), row.get(2));
            facts.insert(format!(
                "{table}: column {at} {name} {kind}{}",
                if not_null { "" } else { " or null" }
            ));
            if row.get::<i64, _>(3) > 0 {
                key.push((row.get(3), name));
            }
        }
        key.sort();
        let key: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
        facts.insert(format!("{table}: key {}", key.join(", ")));
        let indexes = sqlx::query("SELECT name, \"unique\", origin FROM pragma_index_list($1)")
            .bind(&table)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        for index in indexes {
            let (name, unique, origin): (String, bool, String) =
                (index.get(0), index.get(1), index.get(2));
            let columns: Vec<String> =
                sqlx::query_scalar("SELECT name FROM pragma_index_info($1) ORDER BY seqno")
                    .bind(&name)
                    .fetch_all(&mut connection)
                    .await
                    .unwrap();
            if origin != "pk" {
                let what = if unique { "unique" } else { "index" };
                facts.insert(format!("{table}: {what} {}", columns.join(", ")));
            }
        }
        let references = sqlx::query(
            "SELECT \"from\", \"table\", \"to\", on_delete FROM pragma_foreign_key_list($1)",
        )
        .bind(&table)
        .fetch_all(&mut connection)
        .await
        .unwrap();
        for row in references {
            let (from, other, to, delete): (String, String, String, String) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            facts.insert(format!("{table}: {from} refers to {other}.{to}, {delete}"));
        }
    }
    facts
}

async fn postgres(address: &str) -> Facts {
    let mut connection = PgConnection::connect(address).await.unwrap();
    let mut facts = Facts::new();
    let columns = sqlx::query(
        "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text, \
         row_number() OVER (PARTITION BY table_name ORDER BY ordinal_position) - 1 FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for row in columns {
        let (table, name, kind, null): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let kind = match kind.as_str() {
            "bigint" => "INTEGER",
            "text" => "TEXT",
            "bytea" => "BLOB",
            other => other,
        };
        facts.insert(format!(
            "{table}: column {} {name} {kind}{}",
            row.get::<i64, _>(4),
            if null == "NO" { "" } else { " or null" }
        ));
    }
    let indexes = sqlx::query(
        "SELECT t.relname::text, i.indisprimary, i.indisunique, (SELECT string_agg(a.attname::text, ', ' ORDER BY k.place) \
         FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number) \
         FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
         WHERE n.nspname = 'public' AND t.relname NOT LIKE '\\_%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for row in indexes {
        let (table, primary, unique, columns): (String, bool, bool, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let what = match (primary, unique) {
            (true, _) => "key",
            (false, true) => "unique",
            (false, false) => "index",
        };
        facts.insert(format!("{table}: {what} {columns}"));
    }
    let references = sqlx::query(
        "SELECT t.relname::text, a.attname::text, o.relname::text, b.attname::text, c.confdeltype::text FROM pg_constraint c \
         JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class o ON o.oid = c.confrelid \
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1] \
         JOIN pg_attribute b ON b.attrelid = o.oid AND b.attnum = c.confkey[1] WHERE c.contype = 'f'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for row in references {
        let (table, from, other, to, delete): (String, String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        let delete = match delete.as_str() {
            "a" => "NO ACTION",
            "c" => "CASCADE",
            other => other,
        };
        facts.insert(format!("{table}: {from} refers to {other}.{to}, {delete}"));
    }
    facts
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_have_the_same_tables_columns_and_keys() {
    let rig = Rig::start().await;
    let (sqlite, postgres) = (
        sqlite().await,
        postgres(&rig.database.as_ref().unwrap().superuser()).await,
    );
    assert!(sqlite.len() > 100, "{}", sqlite.len());
    let only_sqlite: Vec<_> = sqlite.difference(&postgres).collect();
    let only_postgres: Vec<_> = postgres.difference(&sqlite).collect();
    assert!(
        only_sqlite.is_empty() && only_postgres.is_empty(),
        "only SQLite: {only_sqlite:#?}\nonly PostgreSQL: {only_postgres:#?}"
    );
}

#[test]
fn both_engines_have_the_same_migrations() {
    let names = |migrator: &sqlx::migrate::Migrator| -> Vec<(i64, String)> {
        migrator
            .iter()
            .map(|migration| (migration.version, migration.description.to_string()))
            .collect()
    };
    assert_eq!(
        names(&sqlx::migrate!("../migrations/sqlite")),
        names(&sqlx::migrate!("../migrations/postgres"))
    );
}

/// The comparison itself finds a difference.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_more_is_seen() {
    let database = cluster().database().await;
    let mut connection = PgConnection::connect(&database.superuser()).await.unwrap();
    sqlx::raw_sql("CREATE TABLE gate (id TEXT PRIMARY KEY NOT NULL, extra BIGINT)")
        .execute(&mut connection)
        .await
        .unwrap();
    let facts = postgres(&database.superuser()).await;
    assert!(
        facts.contains("gate: column 1 extra INTEGER or null"),
        "{facts:?}"
    );
    assert!(facts.contains("gate: key id"));
}
