//! What the database still holds about somebody; for the proof that nothing is left.

use sallyport_domain::SubjectId;
use sqlx::Row as _;

use super::{StoreError, Write};

/// Rows by what they hold, in words; each query counts.
const HELD: [(&str, &str); 8] = [
    ("record", "SELECT COUNT(*) FROM subject WHERE id = $1"),
    (
        "references",
        "SELECT COUNT(*) FROM reference WHERE subject_id = $1",
    ),
    (
        "data keys",
        "SELECT COUNT(*) FROM data_key WHERE owner = $1",
    ),
    (
        "enrolments under review",
        "SELECT COUNT(*) FROM enrolment WHERE subject_id = $1 AND content_sealed IS NOT NULL",
    ),
    (
        "references under review",
        "SELECT COUNT(*) FROM enrolment_reference r JOIN enrolment e ON e.id = r.enrolment_id WHERE e.subject_id = $1",
    ),
    (
        "document numbers",
        "SELECT COUNT(*) FROM enrolment e JOIN enrolment_order o ON o.id = e.order_id \
         WHERE e.subject_id = $1 AND o.batch = 0 AND LENGTH(o.detail_sealed) > 0",
    ),
    (
        "wing",
        "SELECT COUNT(*) FROM subject_wing WHERE subject_id = $1",
    ),
    (
        "demographic group",
        "SELECT COUNT(*) FROM subject_group WHERE subject_id = $1",
    ),
];

impl Write<'_> {
    /// How many rows hold something personal about somebody, by what they hold; in the writer's seat, so nobody adds one meanwhile.
    ///
    /// # Errors
    /// The database failed.
    pub async fn held_about(
        &mut self,
        subject: SubjectId,
    ) -> Result<Vec<(&'static str, u64)>, StoreError> {
        let mut held = Vec::with_capacity(HELD.len());
        for (what, query) in HELD {
            let row = sqlx::query(query)
                .bind(subject.to_string())
                .fetch_one(&mut *self.transaction)
                .await?;
            let count = u64::try_from(row.try_get::<i64, _>(0)?);
            held.push((what, count.map_err(|_| StoreError::Corrupt("COUNT(*)"))?));
        }
        Ok(held)
    }
}
