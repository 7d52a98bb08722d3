//! The audit log's rows: entries, tree nodes, checkpoints.

use std::collections::BTreeMap;

use sallyport_transparency::{Hash, NodeId, NodeMap};
use sqlx::Row;

use super::{Store, StoreError, Write};

fn hash(bytes: Vec<u8>) -> Result<Hash, StoreError> {
    bytes
        .try_into()
        .map(Hash)
        .map_err(|_| StoreError::Corrupt("log_node.hash"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("log_entry.idx"))
}

const SIZE: &str = "SELECT idx FROM log_entry ORDER BY idx DESC LIMIT 1";
const NODE: &str = "SELECT hash FROM log_node WHERE level = $1 AND idx = $2";

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Place in the log.
    pub index: u64,
    /// Server time, microseconds; the entry says the same.
    pub time: i64,
    /// What is hashed.
    pub bytes: Vec<u8>,
    /// Its leaf hash.
    pub leaf: Hash,
    /// The server's code; none in entries of before there were codes.
    pub code: Option<String>,
}

/// What the log's tables hold, seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogCounts {
    /// Entries.
    pub entries: u64,
    /// Largest index and one.
    pub newest: u64,
    /// Tree nodes.
    pub nodes: u64,
    /// Size of the largest checkpoint; 0 without any.
    pub largest_checkpoint: u64,
    /// Size of the smallest checkpoint; 1 without any.
    pub smallest_checkpoint: u64,
    /// Sealed details of entries that are not there.
    pub details_outside: u64,
}

impl Write<'_> {
    /// Number of entries.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_size(&mut self) -> Result<u64, StoreError> {
        let row = sqlx::query(SIZE)
            .fetch_optional(&mut *self.transaction)
            .await?;
        row.map_or(Ok(0), |row| Ok(unsigned(row.try_get(0)?)? + 1))
    }

    /// Fetches stored nodes; those that are missing are left out.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_nodes(&mut self, ids: &[NodeId]) -> Result<NodeMap, StoreError> {
        let mut nodes = NodeMap::new();
        if ids.is_empty() {
            return Ok(nodes);
        }
        let places: Vec<String> = (0..ids.len())
            .map(|at| format!("(level = ${} AND idx = ${})", 2 * at + 1, 2 * at + 2))
            .collect();
        let sql = format!(
            "SELECT level, idx, hash FROM log_node WHERE {}",
            places.join(" OR ")
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for id in ids {
            query = query.bind(i64::from(id.level)).bind(signed(id.index));
        }
        for row in query.fetch_all(&mut *self.transaction).await? {
            let level: i64 = row.try_get(0)?;
            let id = NodeId {
                level: u8::try_from(level).map_err(|_| StoreError::Corrupt("log_node.level"))?,
                index: unsigned(row.try_get(1)?)?,
            };
            nodes.insert(id, hash(row.try_get(2)?)?);
        }
        Ok(nodes)
    }

    /// Inserts an entry with the server's code, and the nodes that it completes.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_insert(
        &mut self,
        index: u64,
        time: i64,
        bytes: Vec<u8>,
        leaf: Hash,
        code: &str,
        nodes: &[(NodeId, Hash)],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO log_entry (idx, time, bytes, leaf_hash, code) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(signed(index))
        .bind(time)
        .bind(bytes)
        .bind(leaf.0.to_vec())
        .bind(code.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        if nodes.is_empty() {
            return Ok(());
        }
        // One statement for the few nodes that an entry completes: fewer round trips under the sequencer's lock.
        let places: Vec<String> = (0..nodes.len())
            .map(|at| format!("(${}, ${}, ${})", 3 * at + 1, 3 * at + 2, 3 * at + 3))
            .collect();
        let sql = format!(
            "INSERT INTO log_node (level, idx, hash) VALUES {}",
            places.join(", ")
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (id, hash) in nodes {
            query = query
                .bind(i64::from(id.level))
                .bind(signed(id.index))
                .bind(hash.0.to_vec());
        }
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Stores an entry's sealed detail.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_detail_insert(
        &mut self,
        index: u64,
        salt: Vec<u8>,
        sealed: Vec<u8>,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO log_detail (idx, salt, sealed) VALUES ($1, $2, $3)")
            .bind(signed(index))
            .bind(salt)
            .bind(sealed)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Stores a signed checkpoint.
    ///
    /// # Errors
    /// The database failed.
    pub async fn checkpoint_insert(&mut self, size: u64, note: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO log_checkpoint (size, note) VALUES ($1, $2) ON CONFLICT (size) DO NOTHING",
        )
        .bind(signed(size))
        .bind(note.to_owned())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}

impl Store {
    /// Number of entries.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_size(&self) -> Result<u64, StoreError> {
        let row = self.optional(sqlx::query(SIZE)).await?;
        row.map_or(Ok(0), |row| Ok(unsigned(row.try_get(0)?)? + 1))
    }

    /// Latest time that any entry carries, microseconds; 0 when there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_newest_time(&self) -> Result<i64, StoreError> {
        let row = self
            .optional(sqlx::query(
                "SELECT time FROM log_entry ORDER BY time DESC LIMIT 1",
            ))
            .await?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// Fetches stored nodes; those that are missing are left out.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_nodes(&self, ids: &[NodeId]) -> Result<NodeMap, StoreError> {
        let mut nodes = NodeMap::new();
        for id in ids {
            let query = sqlx::query(NODE)
                .bind(i64::from(id.level))
                .bind(signed(id.index));
            if let Some(row) = self.optional(query).await? {
                nodes.insert(*id, hash(row.try_get(0)?)?);
            }
        }
        Ok(nodes)
    }

    /// Entries from `start` on, at most `limit`, in order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_entries(
        &self,
        start: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let query =
            sqlx::query("SELECT idx, bytes FROM log_entry WHERE idx >= $1 ORDER BY idx LIMIT $2")
                .bind(signed(start))
                .bind(i64::from(limit));
        let rows = self.all(query).await?;
        rows.iter()
            .map(|row| Ok((unsigned(row.try_get(0)?)?, row.try_get(1)?)))
            .collect()
    }

    /// Rows from `start` on, at most `limit`, in order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_rows(&self, start: u64, limit: u32) -> Result<Vec<LogRow>, StoreError> {
        let query = sqlx::query(
            "SELECT idx, time, bytes, leaf_hash, code FROM log_entry WHERE idx >= $1 ORDER BY idx LIMIT $2",
        )
        .bind(signed(start))
        .bind(i64::from(limit));
        let rows = self.all(query).await?;
        rows.iter()
            .map(|row| {
                Ok(LogRow {
                    index: unsigned(row.try_get(0)?)?,
                    time: row.try_get(1)?,
                    bytes: row.try_get(2)?,
                    leaf: hash(row.try_get(3)?)?,
                    code: row.try_get(4)?,
                })
            })
            .collect()
    }

    /// Does any entry carry a code?
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_has_codes(&self) -> Result<bool, StoreError> {
        let query = sqlx::query("SELECT idx FROM log_entry WHERE code IS NOT NULL LIMIT 1");
        Ok(self.optional(query).await?.is_some())
    }

    /// Stored nodes of a level, from `start` up to before `end`, in order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_nodes_between(
        &self,
        level: u8,
        start: u64,
        end: u64,
    ) -> Result<Vec<(u64, Hash)>, StoreError> {
        let query = sqlx::query(
            "SELECT idx, hash FROM log_node WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx",
        )
        .bind(i64::from(level))
        .bind(signed(start))
        .bind(signed(end));
        let rows = self.all(query).await?;
        rows.iter()
            .map(|row| Ok((unsigned(row.try_get(0)?)?, hash(row.try_get(1)?)?)))
            .collect()
    }

    /// Salt and ciphertext of the sealed details of entries from `start` up to before `end`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_details(
        &self,
        start: u64,
        end: u64,
    ) -> Result<BTreeMap<u64, (Vec<u8>, Vec<u8>)>, StoreError> {
        let query =
            sqlx::query("SELECT idx, salt, sealed FROM log_detail WHERE idx >= $1 AND idx < $2")
                .bind(signed(start))
                .bind(signed(end));
        let rows = self.all(query).await?;
        rows.iter()
            .map(|row| {
                Ok((
                    unsigned(row.try_get(0)?)?,
                    (row.try_get(1)?, row.try_get(2)?),
                ))
            })
            .collect()
    }

    /// Checkpoints of sizes above `after` up to `until`, in order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn checkpoints_between(
        &self,
        after: u64,
        until: u64,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let query = sqlx::query(
            "SELECT size, note FROM log_checkpoint WHERE size > $1 AND size <= $2 ORDER BY size",
        )
        .bind(signed(after))
        .bind(signed(until));
        let rows = self.all(query).await?;
        rows.iter()
            .map(|row| Ok((unsigned(row.try_get(0)?)?, row.try_get(1)?)))
            .collect()
    }

    /// Counts in one statement, so that an append in between does not disturb them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_counts(&self) -> Result<LogCounts, StoreError> {
        let query = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM log_entry), \
             (SELECT COALESCE(MAX(idx), -1) FROM log_entry), \
             (SELECT COUNT(*) FROM log_node), \
             (SELECT COALESCE(MAX(size), 0) FROM log_checkpoint), \
             (SELECT COALESCE(MIN(size), 1) FROM log_checkpoint), \
             (SELECT COUNT(*) FROM log_detail WHERE idx < 0 OR idx > (SELECT COALESCE(MAX(idx), -1) FROM log_entry))",
        );
        let row = self
            .optional(query)
            .await?
            .ok_or(StoreError::Corrupt("log_entry"))?;
        let count = |at: usize| -> Result<u64, StoreError> { unsigned(row.try_get(at)?) };
        Ok(LogCounts {
            entries: count(0)?,
            newest: unsigned(row.try_get::<i64, _>(1)? + 1)?,
            nodes: count(2)?,
            largest_checkpoint: count(3)?,
            smallest_checkpoint: count(4)?,
            details_outside: count(5)?,
        })
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// The database failed.
    pub async fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        let query = sqlx::query("SELECT note FROM log_checkpoint ORDER BY size DESC LIMIT 1");
        self.optional(query)
            .await?
            .map(|row| Ok(row.try_get(0)?))
            .transpose()
    }
}
