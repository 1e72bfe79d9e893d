//! What the audit log says of a request: made of its draft when it is accepted, and of its record when it closes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use synapse_core::{
    audit::{
        Actor, RequestRecord, Target,
        entry::{Entry, EntryKind},
    },
    incident::Incident,
};

use super::Draft;

/// The entry that accepts a request.
pub(super) fn accepted(draft: &Draft) -> Entry {
    let mut entry = Entry::new(EntryKind::RequestAccepted, Timestamp::now());
    entry.request = Some(draft.id.as_str().into());
    entry.route = Some(draft.route.into());
    say_who(&mut entry, &draft.actor);
    say_what(&mut entry, &draft.target);
    if let Some(inspection) = &draft.inspection {
        entry.policy = Some(inspection.policy.name().into());
        entry.policy_version = Some(inspection.policy.version().into());
    }
    entry.request_bytes = number(draft.bytes.0);
    entry
}

/// The entry that closes a request.
pub(super) fn closed(record: &RequestRecord) -> Entry {
    let mut entry = Entry::new(EntryKind::RequestClosed, Timestamp::now());
    entry.request = Some(record.id.as_str().into());
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
    if let Some(incident) = &record.incident {
        say_what_was_found(&mut entry, incident);
    }
    entry
}

fn say_who(entry: &mut Entry, actor: &Actor) {
    entry.key = actor.key.as_ref().map(|key| key.as_str().into());
    entry.team = actor.team.as_ref().map(|team| team.as_str().into());
    entry.source = actor.address.map(network);
}

fn say_what(entry: &mut Entry, target: &Target) {
    entry.operation = target.operation.map(|operation| operation.name().into());
    entry.model_asked = target.asked.as_ref().or(target.model.as_ref()).map(|model| model.as_str().into());
    let served = target.model.as_ref().filter(|_| target.backend.is_some());
    entry.model_served = served.map(|model| model.as_str().into());
    entry.backend = target.backend.as_ref().map(|backend| backend.as_str().into());
    entry.zone = target.zone.map(|zone| zone.name().into());
    entry.data_class = target.data_class.as_ref().map(|class| class.as_str().into());
    entry.attempts = Some(target.attempts.into());
    entry.stream = Some(target.stream.into());
    if let Some(prompt) = &target.prompt {
        entry.prompt_version = Some(prompt.version.into());
        entry.prompt_mark = Some(Arc::clone(&prompt.digest));
    }
}

fn say_what_was_found(entry: &mut Entry, incident: &Incident) {
    entry.incident = Some(incident.id.as_str().into());
    entry.policy = Some(incident.policy.as_str().into());
    entry.policy_version = Some(incident.policy_version.as_str().into());
    let finding = |found: &synapse_core::incident::IncidentFinding| {
        json!({
            "direction": found.direction, "category": found.category, "severity": found.severity,
            "action": found.action, "count": found.count,
        })
    };
    let found: Vec<_> = incident.findings.iter().map(finding).collect();
    entry.findings = Some(json!(found).to_string().into());
}

/// The network of an address: what tells places apart, and people less.
pub(super) fn network(address: IpAddr) -> Arc<str> {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24").into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)).into()
        }
    }
}

fn number(count: u64) -> Option<i64> {
    Some(i64::try_from(count).unwrap_or(i64::MAX))
}

fn micros(time: Duration) -> Option<i64> {
    Some(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_by_its_network() {
        for (address, want) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(&*network(address.parse().expect("an address")), want);
        }
    }
}
