//! What the audit log says of a request: made of its draft when it is accepted, and of its record when it closes.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use synapse_core::{
    audit::{
        Actor, RequestRecord, Target,
        entry::{Entry, EntryKind},
    },
    incident::{Incident, IncidentFinding},
    network::Network,
};

use super::Draft;

/// The entry that accepts a request.
pub(super) fn accepted(draft: &Draft) -> Entry {
    let mut entry = Entry::new(EntryKind::RequestAccepted, Timestamp::now());
    entry.request = Some((&draft.id).into());
    entry.route = Some(draft.route.into());
    say_who(&mut entry, &draft.actor);
    say_what(&mut entry, &draft.target);
    entry.request_bytes = number(draft.bytes.0);
    entry
}

/// The entry that closes a request.
pub(super) fn closed(record: &RequestRecord) -> Entry {
    let mut entry = Entry::new(EntryKind::RequestClosed, Timestamp::now());
    entry.request = Some((&record.id).into());
    entry.route = Some(record.route.into());
    say_who(&mut entry, &record.actor);
    say_what(&mut entry, &record.target);
    entry.outcome = Some(record.outcome.name().into());
    entry.status = Some(record.status.into());
    entry.code = record.code.map(Into::into);
    entry.finish_reason = record.finish_reason.as_deref().map(Into::into);
    if let Some(usage) = &record.usage {
        entry.tokens_in = number(usage.input_tokens);
        entry.tokens_out = number(usage.output_tokens);
        entry.tokens_estimated = Some(record.is_estimate.into());
    }
    entry.cost = record.cost.and_then(|cost| number(cost.nanos()));
    entry.request_bytes = number(record.bytes.0);
    entry.reply_bytes = number(record.bytes.1);
    entry.first_token_us = record.first_token.and_then(micros);
    entry.duration_us = micros(record.duration);
    entry.overhead_us = micros(record.overhead);
    let (receiving, upstream) = (record.receiving.as_micros(), record.upstream.as_micros());
    entry.timings = Some(format!(r#"{{"receiving":{receiving},"upstream":{upstream}}}"#).into());
    if let Some(incident) = &record.incident {
        say_what_was_found(&mut entry, incident);
    }
    entry
}

fn say_who(entry: &mut Entry, actor: &Actor) {
    entry.key = actor.key.as_ref().map(Into::into);
    entry.team = actor.team.as_ref().map(Into::into);
    entry.source = actor.address.map(|address| Network::from(address).to_string().into());
}

fn say_what(entry: &mut Entry, target: &Target) {
    entry.operation = target.operation.map(|operation| operation.name().into());
    entry.model_asked = target.asked.as_ref().or(target.model.as_ref()).map(Into::into);
    let served = target.model.as_ref().filter(|_| target.backend.is_some());
    entry.model_served = served.map(Into::into);
    entry.backend = target.backend.as_ref().map(Into::into);
    entry.zone = target.zone.map(|zone| zone.name().into());
    entry.key_class = target.key_class.as_ref().map(Into::into);
    entry.data_class = target.data_class.as_ref().map(Into::into);
    entry.attempts = Some(target.attempts.into());
    entry.stream = Some(target.stream.into());
    if let Some(prompt) = &target.prompt {
        entry.prompt_version = Some(prompt.version.into());
        entry.prompt_mark = Some(Arc::clone(&prompt.digest));
    }
}

fn say_what_was_found(entry: &mut Entry, incident: &Incident) {
    entry.incident = Some(incident.id.as_str().into());
    let finding = |found: &IncidentFinding| {
        json!({
            "direction": found.direction, "category": found.category, "severity": found.severity,
            "action": found.action, "count": found.count,
        })
    };
    let found: Vec<_> = incident.findings.iter().map(finding).collect();
    entry.findings = Some(json!(found).to_string().into());
}

fn number(count: u64) -> Option<i64> {
    Some(i64::try_from(count).unwrap_or(i64::MAX))
}

fn micros(time: Duration) -> Option<i64> {
    Some(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}
