//! Enrolment with two people. An officer opens an enrolment or a batch and gets a one-time code for one station; what the station
//! submits is checked and put aside, sealed, not in the gallery; a second officer sees it beside whoever looks alike, and approves
//! exactly that or rejects it. There is no other way into the registry, and no switch that turns the second officer off.

mod content;
mod decide;
mod keep;
pub mod ledger;
mod stage;

use sallyport_domain::{EnrolmentId, GateId, OfficerId, SubjectId};
use sallyport_transparency::Entry;
use sha2::{Digest as _, Sha256};

use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::registry::RegistryError;
use crate::state::AppState;
use crate::store::enrolments::{EnrolmentRow, OrderRow};

pub use content::{Content, ContentReference, Findings, Opened, OrderDetail};
pub use decide::{
    Batch, DecisionError, Outcome, Picture, Reviewed, batch, candidate_picture, decide,
    decide_batch, look, picture, review,
};
pub use keep::{Kept, house};
pub use stage::submit;

/// A station may use the code of a single enrolment this long.
pub const CODE_LIFETIME_MS: i64 = 24 * 60 * 60 * 1_000;
/// And that of a batch.
pub const BATCH_LIFETIME_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// What nobody decides within this long is erased.
pub const PENDING_LIFETIME_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// Longest reason or document reference, characters.
pub const MAX_WORDS: usize = 500;

/// An order just opened. The code is shown once and kept nowhere.
#[derive(Clone)]
pub struct Order {
    /// Which.
    pub id: EnrolmentId,
    /// What the station must be given.
    pub code: String,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Order({})", self.id)
    }
}

fn code_sha256(code: &str) -> String {
    hex::encode(Sha256::digest(code.trim()))
}

/// Opens an enrolment, or a batch of them, for one station. `through`: how, where it was not the console.
///
/// # Errors
/// Reason or document missing, no such station, database or log failed.
pub async fn open(
    state: &AppState,
    officer: OfficerId,
    station: &GateId,
    batch: bool,
    detail: OrderDetail,
    through: Option<&str>,
) -> Result<Order, RegistryError> {
    for words in [&detail.reason, &detail.document] {
        let count = words.trim().chars().count();
        if count == 0 || count > MAX_WORDS || words.chars().any(char::is_control) {
            return Err(RegistryError::Invalid(
                "give a reason, and the document that shows who the person is (or the file of a batch), each in 1 to 500 characters",
            ));
        }
    }
    if state.store.gate(station).await?.is_none() {
        return Err(RegistryError::Invalid(
            "there is no such station; add it first: sallyport-server gate add",
        ));
    }
    let now = state.clock.now();
    let id = EnrolmentId::new(now, random().map_err(|_| AuditError::Random)?);
    let code = hex::encode(random::<16>().map_err(|_| AuditError::Random)?);
    let lifetime = if batch {
        BATCH_LIFETIME_MS
    } else {
        CODE_LIFETIME_MS
    };
    let detail_sealed = content::seal_detail(state, &id.to_string(), &detail)?;
    let mut write = state.store.write().await?;
    let entry = Entry {
        gate: Some(station.to_string()),
        actor: Some(officer.to_string()),
        about: Some(id.to_string()),
        decision: Some(if batch { "batch" } else { "single" }.to_owned()),
        reason: through.map(str::to_owned),
        ..audit::entry("enrolment_opened", now)?
    };
    let log_index = ledger::append(state, &mut write, entry, Some(&detail.reason)).await?;
    write
        .order_insert(&OrderRow {
            id,
            code_sha256: code_sha256(&code),
            gate: station.clone(),
            batch,
            opened_by: officer,
            detail_sealed,
            opened_at: now,
            expires_at: now.plus_millis(lifetime),
            capturing_at: None,
            closed_at: None,
            decision: None,
            decided_by: None,
            decided_index: None,
            log_index,
        })
        .await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(Order { id, code })
}

/// Ends submission under an order. Of a batch the server then draws whom the second officer must look at.
///
/// # Errors
/// No such order, or database or log failed.
pub async fn close(state: &AppState, id: EnrolmentId, actor: &str) -> Result<(), RegistryError> {
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let order = write.order(id).await?.ok_or(RegistryError::Unknown)?;
    if !write.order_close(id, now).await? {
        return Ok(());
    }
    let rows = write.enrolments_of(id).await?;
    let mut drawn = 0;
    if order.batch {
        let mut certain = Vec::new();
        for row in rows.iter().filter(|row| row.state == "under_review") {
            if !is_doubtful(state, row).await? {
                certain.push(row.id);
            }
        }
        for id in draw(certain)? {
            write.enrolment_sample(id).await?;
            drawn += 1;
        }
    }
    let entry = Entry {
        gate: Some(order.gate.to_string()),
        actor: Some(actor.to_owned()),
        about: Some(id.to_string()),
        decision: Some(
            if rows.is_empty() {
                "abandoned"
            } else {
                "closed"
            }
            .to_owned(),
        ),
        reason: order
            .batch
            .then(|| format!("{} submitted, {drawn} drawn for review", rows.len())),
        ..audit::entry("enrolment_closed", now)?
    };
    ledger::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(())
}

/// How many of a batch must be looked at: all up to five, then five or one in twenty.
#[must_use]
pub fn sample_size(people: usize) -> usize {
    people.min(5.max(people.div_ceil(20)))
}

/// Draws by the system's randomness, after submission ended: nobody knows before who will be looked at.
fn draw(mut from: Vec<EnrolmentId>) -> Result<Vec<EnrolmentId>, RegistryError> {
    let wanted = sample_size(from.len());
    let mut drawn = Vec::with_capacity(wanted);
    while drawn.len() < wanted {
        let random = u64::from_le_bytes(random().map_err(|_| AuditError::Random)?);
        let at = usize::try_from(random % from.len() as u64).unwrap_or(0);
        drawn.push(from.swap_remove(at));
    }
    Ok(drawn)
}

/// Did the checks find somebody alike? As the log says.
async fn is_doubtful(state: &AppState, row: &EnrolmentRow) -> Result<bool, RegistryError> {
    let submitted = ledger::entry_of(state, row.log_index, "enrolment_submitted").await?;
    Ok(submitted.is_none_or(|entry| entry.reason.is_some()))
}

/// The reason and the document of an order.
///
/// # Errors
/// Changed in the database.
pub fn detail(state: &AppState, order: &OrderRow) -> Result<OrderDetail, RegistryError> {
    content::open_detail(state, order)
}

/// What the list shows of an order. Nothing in it is personal.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The order.
    pub order: OrderRow,
    /// What is under review, and whether it is doubtful.
    pub pending: Vec<(EnrolmentRow, bool)>,
}

/// Orders that are open or have something under review.
///
/// # Errors
/// Database.
pub async fn list(state: &AppState) -> Result<Vec<Listed>, RegistryError> {
    let mut listed = Vec::new();
    for order in state.store.orders_live().await? {
        let mut pending = Vec::new();
        for row in state.store.enrolments_of(order.id).await? {
            if row.state == "under_review" {
                let doubtful = is_doubtful(state, &row).await?;
                pending.push((row, doubtful));
            }
        }
        listed.push(Listed { order, pending });
    }
    Ok(listed)
}

/// Puts the templates of what is under review into the search for duplicates.
pub(crate) async fn load(state: &AppState) -> Result<(), RegistryError> {
    for row in state.store.enrolments_under_review().await? {
        load_one(state, &row).await?;
    }
    Ok(())
}

/// The same for one subject, as the database has it now.
pub(crate) async fn reload(state: &AppState, subject: SubjectId) -> Result<(), RegistryError> {
    if let Ok(mut pending) = state.pending.write() {
        pending.remove_subject(subject);
    }
    for row in state.store.enrolments_of_subject(subject).await? {
        if row.state == "under_review" {
            load_one(state, &row).await?;
        }
    }
    Ok(())
}

async fn load_one(state: &AppState, row: &EnrolmentRow) -> Result<(), RegistryError> {
    let opened = async {
        if ledger::is_decided(state, &row.id.to_string()).await {
            return Err(RegistryError::NotInLog);
        }
        let order = state.store.order(row.order).await?;
        let opened = content::open(state, row, &order.ok_or(RegistryError::Changed)?).await?;
        let mut templates = Vec::new();
        for staged in opened.references {
            let model = crate::registry::model_of(&staged.row)?;
            let version = staged.row.secret_version;
            let taken = state
                .keys
                .templates
                .taken_out(state, version, staged.template);
            templates.push((model, staged.row.id, taken.await?));
        }
        Ok(templates)
    };
    match opened.await {
        Ok(templates) => {
            if let Ok(mut pending) = state.pending.write() {
                for (model, reference, template) in &templates {
                    let protection = pending.insert(*model, *reference, row.subject, template);
                    state.note_protection(protection);
                }
            }
            Ok(())
        }
        Err(error @ RegistryError::Unavailable(AuditError::Store(_))) => Err(error),
        Err(error) => {
            tracing::error!(enrolment = %row.id, %error, "this enrolment was not loaded and cannot be decided");
            Ok(ledger::not_in_log(state, &error, "enrolment", &row.id.to_string()).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_are_looked_at_whole_and_large_ones_by_one_in_twenty() {
        let sizes = [0, 1, 5, 6, 100, 101, 2_000].map(sample_size);
        assert_eq!(sizes, [0, 1, 5, 5, 5, 6, 100]);
    }

    #[test]
    fn a_drawing_takes_nobody_twice_and_leaves_nobody_out_for_ever() {
        let ids: Vec<EnrolmentId> = (0..40_u8)
            .map(|n| EnrolmentId::from_uuid(uuid::Uuid::from_bytes([n; 16])))
            .collect();
        let mut ever = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            let drawn = draw(ids.clone()).unwrap();
            let different: std::collections::BTreeSet<_> = drawn.iter().copied().collect();
            assert_eq!((drawn.len(), different.len()), (5, 5));
            ever.extend(different);
        }
        // That one of 40 is never among 5 in 1,000 drawings has a chance of 40 · (7/8)^1000, below 10^-56.
        assert_eq!(ever.len(), 40);
    }
}
