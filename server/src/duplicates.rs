//! Who is enrolled more than once, as far as the references say: everybody is searched among all, by the rule that finds doubles at an
//! enrolment. Nothing is changed by it.

use std::collections::{BTreeMap, BTreeSet};

use sallyport_domain::{ModelDigest, SubjectId, Template};
use sallyport_transparency::Entry;

use crate::registry::{self, RegistryError};
use crate::state::AppState;
use crate::store::StoreError;
use crate::{audit, enrolment, gates};

/// People who are enrolled more than once, as far as their references say: pairs that look alike. `progress` is told how many people
/// were looked at. The gallery must be loaded. Its entry of the log says who asked, before anything is returned.
///
/// # Errors
/// Database, log or memory.
pub async fn find(
    state: &AppState,
    actor: &str,
    mut progress: impl FnMut(usize, usize),
) -> Result<BTreeSet<(SubjectId, SubjectId)>, RegistryError> {
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some("duplicates".to_owned()),
        ..audit::entry("consultation", state.clock.now())?
    };
    audit::record(state, entry).await?;
    let rows = state.store.subjects().await?;
    let mut pairs = BTreeSet::new();
    for (at, row) in rows.iter().enumerate() {
        progress(at, rows.len());
        let key = registry::subject_key(state, row)?;
        let mut samples = BTreeMap::<ModelDigest, Vec<(ModelDigest, Template)>>::new();
        for reference in state.store.references(row.id).await? {
            let model = registry::model_of(&reference)?;
            let template = registry::opened(state, &key, &reference)?;
            let secrets = &state.keys.templates;
            let taken = secrets.taken_out(state, reference.secret_version, template);
            let template = taken.await?;
            samples.entry(model).or_default().push((model, template));
        }
        // Each model by itself: while models change, a person has references of two, and they are never compared.
        for samples in samples.into_values() {
            let (gallery, calibration) = (state.gallery.clone(), state.fusion.clone());
            let own = row.id;
            let found = tokio::task::spawn_blocking(move || {
                let gallery = gallery.read().ok()?;
                let policy = gates::default_policy();
                enrolment::alike(&gallery, &samples, &calibration, &policy, own)
            });
            let found = found
                .await
                .ok()
                .flatten()
                .ok_or(StoreError::Corrupt("the gallery in memory"))?;
            for other in found {
                pairs.insert((own.min(other), own.max(other)));
            }
        }
    }
    progress(rows.len(), rows.len());
    Ok(pairs)
}
