//! Entries to test with.

use jiff::Timestamp;
use synapse_core::audit::entry::{ColumnKind, Entry, EntryKind, Owned};

/// An entry of about the usual size, about this request.
pub(crate) fn entry(kind: EntryKind, request: &str) -> Entry {
    let mut entry = Entry::new(kind, Timestamp::now());
    entry.request = Some(request.into());
    entry.key = Some("key_7hq2".into());
    entry.team = Some("research".into());
    entry.source = Some("10.1.2.0/24".into());
    entry.route = Some("/v1/chat/completions".into());
    entry.operation = Some("chat".into());
    entry.model_asked = Some("small".into());
    entry.zone = Some("on_prem".into());
    entry.request_digest = Some([7; 32]);
    entry.request_bytes = Some(1234);
    entry
}

pub(crate) fn accepted(request: &str) -> Entry {
    entry(EntryKind::RequestAccepted, request)
}

pub(crate) fn closed(request: &str) -> Entry {
    let mut entry = entry(EntryKind::RequestClosed, request);
    entry.outcome = Some("completed".into());
    entry.status = Some(200);
    entry.reply_digest = Some([9; 32]);
    entry.tokens_out = Some(17);
    entry
}

/// Another one about nothing in particular.
pub(crate) fn change(detail: &str) -> Entry {
    let mut entry = Entry::new(EntryKind::AdminChange, Timestamp::now());
    entry.detail = Some(detail.into());
    entry
}

/// The values of an entry.
pub(crate) fn values(entry: &Entry) -> Vec<Owned> {
    let owned = |value: &_| match *value {
        synapse_core::audit::entry::Value::Null => Owned::Null,
        synapse_core::audit::entry::Value::Integer(number) => Owned::Integer(number),
        synapse_core::audit::entry::Value::Text(text) => Owned::Text(text.to_owned()),
        synapse_core::audit::entry::Value::Bytes(bytes) => Owned::Bytes(bytes.to_vec()),
    };
    entry.values().iter().map(owned).collect()
}

/// An entry with something in every column.
pub(crate) fn full() -> Entry {
    let filled = values(&closed("r")).into_iter().enumerate().map(|(at, value)| {
        match (value, Entry::COLUMNS[at].kind) {
            (Owned::Null, ColumnKind::Integer) => Owned::Integer(at as i64),
            (Owned::Null, ColumnKind::Text) => Owned::Text(format!("text {at}")),
            (Owned::Null, ColumnKind::Bytes) => Owned::Bytes(vec![at as u8; 32]),
            (value, _) => value,
        }
    });
    Entry::from_values(filled).expect("an entry")
}
