//! What stands, for lists, banners and the status: the credential in the envelope, and all uses. Nobody is named here.

use sallyport_domain::{OfficerId, Timestamp};

use super::ledger::Used;
use super::{LIMIT_MS, ask, log, review, review_due};
use crate::state::AppState;
use crate::store::StoreError;

/// A use, for lists and banners. It names nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The entry of the opening; its number for people.
    pub entry: u64,
    /// Who acted, in the entries of this use.
    pub actor: OfficerId,
    /// When it was opened.
    pub at: Timestamp,
    /// When it ends by itself, while it is open.
    pub open_until: Option<Timestamp>,
    /// When it was ended, as far as the log says.
    pub ended: Option<Timestamp>,
    /// The entry of its review.
    pub reviewed: Option<u64>,
    /// When it is, or was, to be reviewed.
    pub due: Timestamp,
}

impl Use {
    pub(super) fn new(state: &AppState, used: &Used, now: Timestamp) -> Self {
        Self {
            entry: used.entry,
            actor: used.actor,
            at: used.at,
            open_until: used.is_open(now).then(|| used.at.plus_millis(LIMIT_MS)),
            ended: used.ended,
            reviewed: review::genuine(state, used).map(|review| review.entry),
            due: review_due(used.at, state.config.utc_offset_minutes),
        }
    }

    /// Should it have been reviewed by now?
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.reviewed.is_none() && now >= self.due
    }
}

/// All uses, the newest first.
///
/// # Errors
/// The database failed.
pub async fn uses(state: &AppState) -> Result<Vec<Use>, StoreError> {
    log::catch_up(state).await?;
    Ok(known_uses(state, |_| true))
}

fn known_uses(state: &AppState, wanted: impl Fn(&Use) -> bool) -> Vec<Use> {
    let now = state.clock.now();
    state.rights(|rights| {
        let uses = rights.break_glass().uses();
        let uses = uses.map(|used| Use::new(state, used, now));
        uses.filter(wanted).collect()
    })
}

/// Uses that are open or not reviewed, as far as the log was read; for banners.
#[must_use]
pub fn outstanding(state: &AppState) -> Vec<Use> {
    known_uses(state, |used| used.reviewed.is_none())
}

/// The credential in the envelope, as far as the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The entry of its making.
    pub entry: u64,
    /// When it was made.
    pub at: Timestamp,
    /// When somebody last tried whether it is the right one.
    pub drilled: Option<Timestamp>,
    /// It was not tried for half a year.
    pub drill_due: bool,
}

/// The credential that stands.
///
/// # Errors
/// The database failed.
pub async fn envelope(state: &AppState) -> Result<Option<Envelope>, StoreError> {
    let now = state.clock.now();
    ask(state, |glass| {
        glass.sealed().map(|sealed| Envelope {
            entry: sealed.entry,
            at: sealed.at,
            drilled: sealed.drilled,
            drill_due: sealed.is_drill_due(now),
        })
    })
    .await
}
