//! Enrolment orders, what stations submitted under them, and who looked at it. Everything personal is sealed before it comes here.

use sallyport_domain::{EnrolmentId, GateId, OfficerId, ReferenceId, SubjectId, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::registry::ReferenceRow;
use super::{Store, StoreError, Write};

/// What an officer opened: one enrolment, or a batch of them.
#[derive(Debug, Clone)]
pub struct OrderRow {
    /// Which.
    pub id: EnrolmentId,
    /// SHA-256 of the one-time code.
    pub code_sha256: String,
    /// The station that may use it.
    pub gate: GateId,
    /// Many people, or one?
    pub batch: bool,
    /// Who opened it, and so cannot decide.
    pub opened_by: OfficerId,
    /// Reason and document reference, sealed.
    pub detail_sealed: Vec<u8>,
    /// When.
    pub opened_at: Timestamp,
    /// Until when the station may submit.
    pub expires_at: Timestamp,
    /// When the station first used the code.
    pub capturing_at: Option<Timestamp>,
    /// When submission ended.
    pub closed_at: Option<Timestamp>,
    /// Of a batch: `approved` or `rejected`.
    pub decision: Option<String>,
    /// Of a batch: by whom.
    pub decided_by: Option<OfficerId>,
    /// Of a batch: the decision's log entry.
    pub decided_index: Option<u64>,
    /// Log entry of the opening.
    pub log_index: u64,
}

/// One person's enrolment.
#[derive(Debug, Clone)]
pub struct EnrolmentRow {
    /// Which.
    pub id: EnrolmentId,
    /// Under which order.
    pub order: EnrolmentId,
    /// Whom.
    pub subject: SubjectId,
    /// `under_review`, `approved`, `rejected` or `abandoned`.
    pub state: String,
    /// SHA-256 of the content that is reviewed.
    pub content_sha256: String,
    /// SHA-256 of what the station sent.
    pub submission_sha256: String,
    /// The content, sealed; none after the decision.
    pub content_sealed: Option<Vec<u8>>,
    /// What the checks found, sealed; none after the decision.
    pub findings_sealed: Option<Vec<u8>>,
    /// Drawn for the review of its batch?
    pub sampled: bool,
    /// When.
    pub submitted_at: Timestamp,
    /// Log entry of the submission.
    pub log_index: u64,
}

macro_rules! order_query {
    ($tail:literal) => {
        concat!(
            "SELECT id, code_sha256, gate_id, batch, opened_by, detail_sealed, opened_at, expires_at, capturing_at, closed_at, ",
            "decision, decided_by, decided_index, log_index FROM enrolment_order ",
            $tail
        )
    };
}

macro_rules! enrolment_query {
    ($tail:literal) => {
        concat!(
            "SELECT id, order_id, subject_id, state, content_sha256, submission_sha256, content_sealed, findings_sealed, sampled, ",
            "submitted_at, log_index FROM enrolment ",
            $tail
        )
    };
}

const ORDER: &str = order_query!("WHERE id = $1");
const ENROLMENT: &str = enrolment_query!("WHERE id = $1");
const OF_ORDER: &str = enrolment_query!("WHERE order_id = $1 ORDER BY id");
const OF_SUBJECT: &str = enrolment_query!("WHERE subject_id = $1 ORDER BY id DESC");

fn index(value: i64, what: &'static str) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Corrupt(what))
}

fn parsed<T: std::str::FromStr>(
    row: &AnyRow,
    at: usize,
    what: &'static str,
) -> Result<T, StoreError> {
    row.try_get::<String, _>(at)?
        .parse()
        .map_err(|_| StoreError::Corrupt(what))
}

fn time(row: &AnyRow, at: usize) -> Result<Option<Timestamp>, StoreError> {
    Ok(row
        .try_get::<Option<i64>, _>(at)?
        .map(Timestamp::from_micros))
}

fn order_row(row: &AnyRow) -> Result<OrderRow, StoreError> {
    Ok(OrderRow {
        id: parsed(row, 0, "enrolment_order.id")?,
        code_sha256: row.try_get(1)?,
        gate: parsed(row, 2, "enrolment_order.gate_id")?,
        batch: row.try_get::<i64, _>(3)? != 0,
        opened_by: parsed(row, 4, "enrolment_order.opened_by")?,
        detail_sealed: row.try_get(5)?,
        opened_at: Timestamp::from_micros(row.try_get(6)?),
        expires_at: Timestamp::from_micros(row.try_get(7)?),
        capturing_at: time(row, 8)?,
        closed_at: time(row, 9)?,
        decision: row.try_get(10)?,
        decided_by: row
            .try_get::<Option<String>, _>(11)?
            .map(|id| id.parse())
            .transpose()
            .map_err(|_| StoreError::Corrupt("enrolment_order.decided_by"))?,
        decided_index: row
            .try_get::<Option<i64>, _>(12)?
            .map(|value| index(value, "enrolment_order.decided_index"))
            .transpose()?,
        log_index: index(row.try_get(13)?, "enrolment_order.log_index")?,
    })
}

fn enrolment_row(row: &AnyRow) -> Result<EnrolmentRow, StoreError> {
    Ok(EnrolmentRow {
        id: parsed(row, 0, "enrolment.id")?,
        order: parsed(row, 1, "enrolment.order_id")?,
        subject: parsed(row, 2, "enrolment.subject_id")?,
        state: row.try_get(3)?,
        content_sha256: row.try_get(4)?,
        submission_sha256: row.try_get(5)?,
        content_sealed: row.try_get(6)?,
        findings_sealed: row.try_get(7)?,
        sampled: row.try_get::<i64, _>(8)? != 0,
        submitted_at: Timestamp::from_micros(row.try_get(9)?),
        log_index: index(row.try_get(10)?, "enrolment.log_index")?,
    })
}

fn staged_row(row: &AnyRow, subject: SubjectId) -> Result<ReferenceRow, StoreError> {
    Ok(ReferenceRow {
        id: parsed(row, 0, "enrolment_reference.id")?,
        subject,
        modality: row.try_get(1)?,
        model: row.try_get(2)?,
        secret_version: u32::try_from(row.try_get::<i64, _>(3)?)
            .map_err(|_| StoreError::Corrupt("enrolment_reference.secret_version"))?,
        template_sealed: row.try_get(4)?,
        source_sha256: row.try_get(5)?,
        photograph_sealed: row.try_get(6)?,
        origin: None,
    })
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Write<'_> {
    /// Adds an order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn order_insert(&mut self, row: &OrderRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO enrolment_order (id, code_sha256, gate_id, batch, opened_by, detail_sealed, opened_at, expires_at, log_index) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(row.id.to_string())
        .bind(row.code_sha256.clone())
        .bind(row.gate.to_string())
        .bind(i64::from(row.batch))
        .bind(row.opened_by.to_string())
        .bind(row.detail_sealed.clone())
        .bind(row.opened_at.as_micros())
        .bind(row.expires_at.as_micros())
        .bind(signed(row.log_index))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// One order, as the transaction sees it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn order(&mut self, id: EnrolmentId) -> Result<Option<OrderRow>, StoreError> {
        sqlx::query(ORDER)
            .bind(id.to_string())
            .fetch_optional(&mut *self.transaction)
            .await?
            .as_ref()
            .map(order_row)
            .transpose()
    }

    /// The station uses the code for the first time; `false` when it did before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn order_capturing(
        &mut self,
        id: EnrolmentId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE enrolment_order SET capturing_at = $1 WHERE id = $2 AND capturing_at IS NULL",
        )
        .bind(now.as_micros())
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends submission; `false` when it had ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn order_close(
        &mut self,
        id: EnrolmentId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE enrolment_order SET closed_at = $1 WHERE id = $2 AND closed_at IS NULL",
        )
        .bind(now.as_micros())
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Decides a batch; `false` when it was decided before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn order_decide(
        &mut self,
        id: EnrolmentId,
        decision: &str,
        by: OfficerId,
        log_index: u64,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE enrolment_order SET decision = $1, decided_by = $2, decided_index = $3 WHERE id = $4 AND decision IS NULL",
        )
        .bind(decision.to_owned())
        .bind(by.to_string())
        .bind(signed(log_index))
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Puts an enrolment aside with its references.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolment_insert(
        &mut self,
        row: &EnrolmentRow,
        references: &[ReferenceRow],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO enrolment (id, order_id, subject_id, state, content_sha256, submission_sha256, content_sealed, \
             findings_sealed, sampled, submitted_at, log_index) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(row.id.to_string())
        .bind(row.order.to_string())
        .bind(row.subject.to_string())
        .bind(row.state.clone())
        .bind(row.content_sha256.clone())
        .bind(row.submission_sha256.clone())
        .bind(row.content_sealed.clone())
        .bind(row.findings_sealed.clone())
        .bind(i64::from(row.sampled))
        .bind(row.submitted_at.as_micros())
        .bind(signed(row.log_index))
        .execute(&mut *self.transaction)
        .await?;
        for reference in references {
            sqlx::query(
                "INSERT INTO enrolment_reference (id, enrolment_id, modality, model, secret_version, template_sealed, source_sha256, \
                 photograph_sealed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(reference.id.to_string())
            .bind(row.id.to_string())
            .bind(reference.modality.clone())
            .bind(reference.model.clone())
            .bind(i64::from(reference.secret_version))
            .bind(reference.template_sealed.clone())
            .bind(reference.source_sha256.clone())
            .bind(reference.photograph_sealed.clone())
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    /// One enrolment, as the transaction sees it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolment(&mut self, id: EnrolmentId) -> Result<Option<EnrolmentRow>, StoreError> {
        sqlx::query(ENROLMENT)
            .bind(id.to_string())
            .fetch_optional(&mut *self.transaction)
            .await?
            .as_ref()
            .map(enrolment_row)
            .transpose()
    }

    /// Enrolments of an order, as the transaction sees them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolments_of(
        &mut self,
        order: EnrolmentId,
    ) -> Result<Vec<EnrolmentRow>, StoreError> {
        sqlx::query(OF_ORDER)
            .bind(order.to_string())
            .fetch_all(&mut *self.transaction)
            .await?
            .iter()
            .map(enrolment_row)
            .collect()
    }

    /// Ends an enrolment: its sealed content, findings and references go. `false` when it had ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolment_end(
        &mut self,
        id: EnrolmentId,
        state: &str,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE enrolment SET state = $1, content_sealed = NULL, findings_sealed = NULL \
             WHERE id = $2 AND state = 'under_review'",
        )
        .bind(state.to_owned())
        .bind(id.to_string())
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query("DELETE FROM enrolment_reference WHERE enrolment_id = $1")
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Draws an enrolment for the review of its batch.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolment_sample(&mut self, id: EnrolmentId) -> Result<(), StoreError> {
        sqlx::query("UPDATE enrolment SET sampled = 1 WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Notes that an officer looked at an enrolment.
    ///
    /// # Errors
    /// The database failed.
    pub async fn look_insert(
        &mut self,
        id: EnrolmentId,
        officer: OfficerId,
        log_index: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO enrolment_look (enrolment_id, officer_id, log_index) VALUES ($1, $2, $3) \
             ON CONFLICT (enrolment_id, officer_id) DO UPDATE SET log_index = excluded.log_index",
        )
        .bind(id.to_string())
        .bind(officer.to_string())
        .bind(signed(log_index))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Is anything under review?
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolments_pending(&mut self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) FROM enrolment WHERE state = 'under_review'")
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }
}

impl Store {
    /// The order of a code.
    ///
    /// # Errors
    /// The database failed.
    pub async fn order_of_code(&self, code_sha256: &str) -> Result<Option<OrderRow>, StoreError> {
        let query =
            sqlx::query(order_query!("WHERE code_sha256 = $1")).bind(code_sha256.to_owned());
        self.optional(query)
            .await?
            .as_ref()
            .map(order_row)
            .transpose()
    }

    /// One order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn order(&self, id: EnrolmentId) -> Result<Option<OrderRow>, StoreError> {
        self.optional(sqlx::query(ORDER).bind(id.to_string()))
            .await?
            .as_ref()
            .map(order_row)
            .transpose()
    }

    /// Orders that are open or have something under review, the newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn orders_live(&self) -> Result<Vec<OrderRow>, StoreError> {
        let query = sqlx::query(order_query!(
            "WHERE closed_at IS NULL OR EXISTS (SELECT 1 FROM enrolment e WHERE e.order_id = enrolment_order.id AND \
             e.state = 'under_review') ORDER BY id DESC"
        ));
        self.all(query).await?.iter().map(order_row).collect()
    }

    /// One enrolment.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolment(&self, id: EnrolmentId) -> Result<Option<EnrolmentRow>, StoreError> {
        self.optional(sqlx::query(ENROLMENT).bind(id.to_string()))
            .await?
            .as_ref()
            .map(enrolment_row)
            .transpose()
    }

    /// Enrolments of an order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolments_of(&self, order: EnrolmentId) -> Result<Vec<EnrolmentRow>, StoreError> {
        let query = sqlx::query(OF_ORDER).bind(order.to_string());
        self.all(query).await?.iter().map(enrolment_row).collect()
    }

    /// Enrolments of a subject, the newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolments_of_subject(
        &self,
        subject: SubjectId,
    ) -> Result<Vec<EnrolmentRow>, StoreError> {
        let query = sqlx::query(OF_SUBJECT).bind(subject.to_string());
        self.all(query).await?.iter().map(enrolment_row).collect()
    }

    /// Everything under review.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolments_under_review(&self) -> Result<Vec<EnrolmentRow>, StoreError> {
        let query = sqlx::query(enrolment_query!("WHERE state = 'under_review' ORDER BY id"));
        self.all(query).await?.iter().map(enrolment_row).collect()
    }

    /// References put aside with an enrolment.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolment_references(
        &self,
        row: &EnrolmentRow,
    ) -> Result<Vec<ReferenceRow>, StoreError> {
        let query = sqlx::query(
            "SELECT id, modality, model, secret_version, template_sealed, source_sha256, photograph_sealed \
             FROM enrolment_reference WHERE enrolment_id = $1 ORDER BY id",
        )
        .bind(row.id.to_string());
        let rows = self.all(query).await?;
        rows.iter()
            .map(|reference| staged_row(reference, row.subject))
            .collect()
    }

    /// The log entry of an officer's look at an enrolment.
    ///
    /// # Errors
    /// The database failed.
    pub async fn look(
        &self,
        id: EnrolmentId,
        officer: OfficerId,
    ) -> Result<Option<u64>, StoreError> {
        let query = sqlx::query(
            "SELECT log_index FROM enrolment_look WHERE enrolment_id = $1 AND officer_id = $2",
        )
        .bind(id.to_string())
        .bind(officer.to_string());
        self.optional(query)
            .await?
            .map(|row| index(row.try_get(0)?, "enrolment_look.log_index"))
            .transpose()
    }

    /// Every reference's identifier with its subject's.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reference_ids(&self) -> Result<Vec<(SubjectId, ReferenceId)>, StoreError> {
        let query = sqlx::query("SELECT subject_id, id FROM reference ORDER BY subject_id, id");
        let rows = self.all(query).await?;
        rows.iter()
            .map(|row| {
                Ok((
                    parsed(row, 0, "reference.subject_id")?,
                    parsed(row, 1, "reference.id")?,
                ))
            })
            .collect()
    }
}
