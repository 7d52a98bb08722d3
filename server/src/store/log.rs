//! The audit log's rows: entries, tree nodes, checkpoints.

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
        for id in ids {
            let query = sqlx::query(NODE)
                .bind(i64::from(id.level))
                .bind(signed(id.index));
            if let Some(row) = query.fetch_optional(&mut *self.transaction).await? {
                nodes.insert(*id, hash(row.try_get(0)?)?);
            }
        }
        Ok(nodes)
    }

    /// Inserts an entry and the nodes that it completes.
    ///
    /// # Errors
    /// The database failed.
    pub async fn log_insert(
        &mut self,
        index: u64,
        time: i64,
        bytes: Vec<u8>,
        leaf: Hash,
        nodes: &[(NodeId, Hash)],
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO log_entry (idx, time, bytes, leaf_hash) VALUES ($1, $2, $3, $4)")
            .bind(signed(index))
            .bind(time)
            .bind(bytes)
            .bind(leaf.0.to_vec())
            .execute(&mut *self.transaction)
            .await?;
        for (id, hash) in nodes {
            sqlx::query("INSERT INTO log_node (level, idx, hash) VALUES ($1, $2, $3)")
                .bind(i64::from(id.level))
                .bind(signed(id.index))
                .bind(hash.0.to_vec())
                .execute(&mut *self.transaction)
                .await?;
        }
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
