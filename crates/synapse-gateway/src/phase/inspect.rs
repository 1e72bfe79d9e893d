//! The prompt, searched for sensitive data before any engine sees it.

use std::sync::Arc;

use bytes::Bytes;
use synapse_core::error::Fault;
use synapse_dialect::json::Edits;
use synapse_dlp::Direction;

use super::{admit::Admitted, bind::Bound};
use crate::{
    audit::Record,
    gateway::{Gateway, Live},
    inspect::{Document, Inspection, Verdict, failed},
};

/// A call whose prompt may go to an engine.
pub struct Cleared {
    pub(super) bound: Bound,
    /// What the reply is searched under.
    pub(super) inspection: Option<Arc<Inspection>>,
}

/// Searches the prompt under the policy that its key and class decide.
///
/// # Errors
/// `dlp_blocked`, `content_unscannable` or `dlp_failed`.
pub async fn inspect(
    gateway: &Gateway,
    live: &Live,
    admitted: Admitted,
    record: &mut Record,
) -> Result<Cleared, Fault> {
    let Admitted { mut bound } = admitted;
    let policy = live.policies.find(bound.policy());
    let new = |policy| Inspection::new(Arc::clone(policy), &gateway.searches);
    let Some(inspection) = policy.and_then(new) else {
        return Ok(Cleared { bound, inspection: None });
    };
    record.inspects(Arc::clone(&inspection));
    if inspection.policy.is_active(Direction::Prompt) {
        search(&inspection, &mut bound, record).await?;
    }
    Ok(Cleared { bound, inspection: Some(inspection) })
}

async fn search(inspection: &Arc<Inspection>, bound: &mut Bound, record: &mut Record) -> Result<(), Fault> {
    if let Some(body) = bound.callers_body().cloned() {
        let edits = inspection.search(body.len(), move |this| search_json(this, &body)).await?;
        return bound.edit(edits, record);
    }
    let Some(text) = bound.call.body.form_text() else { return Ok(()) };
    let found = inspection.guarded(Direction::Prompt, None, || Ok(inspection.search_form_text(text)))?;
    if inspection.state().tally.is_stopped(Direction::Prompt) {
        return Err(inspection.blocked(Direction::Prompt));
    }
    if let Some(new) = found {
        bound.call.body.replace_form_text(&new);
    }
    Ok(())
}

fn search_json(inspection: &Inspection, body: &Bytes) -> Result<Edits, Fault> {
    let verdict = inspection.guarded(Direction::Prompt, Verdict::default(), || {
        // The body was read as JSON before.
        let text = std::str::from_utf8(body).map_err(|_| failed())?;
        let document = Document::of(text).ok_or_else(failed)?;
        Ok(document.search(text, inspection, Direction::Prompt))
    })?;
    if verdict.is_blocked {
        return Err(inspection.blocked(Direction::Prompt));
    }
    Ok(verdict.edits)
}
