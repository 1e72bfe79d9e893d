//! Listings of the audit log, filtered, newest first, page by page: one statement for either database.

use jiff::Timestamp;
use synapse_core::{
    audit::entry::{EntryKind, Owned},
    id::{KeyId, TeamName},
    store::audit::AuditFilter,
};

/// A statement, and what is bound to its `$1`, `$2` and so on, each of which it has once.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) sql: String,
    pub(crate) values: Vec<Owned>,
}

impl Listing {
    fn bind(&mut self, before: &str, value: Owned) {
        self.values.push(value);
        self.sql.push_str(before);
        self.sql.push_str(&format!("${}", self.values.len()));
    }

    fn text(&mut self, column: &str, text: String) {
        self.bind(&format!(" AND {column} = "), Owned::Text(text));
    }
}

/// The entries of a table that fit. Only what is asked for stands in the statement: an index serves no condition that
/// might not be one. What indices are limited to stands there in their very words.
pub(crate) fn entries(select: String, filter: &AuditFilter, limit: u32, pack: fn(&str) -> String) -> Listing {
    let mut listing = Listing { sql: select + " WHERE TRUE", values: Vec::new() };
    let number = |time: Timestamp| Owned::Integer(time.as_microsecond());
    for (sign, time) in [(" AND at >= ", filter.since), (" AND at < ", filter.until)] {
        if let Some(time) = time {
            listing.bind(sign, number(time));
        }
    }
    let texts = [
        ("request", filter.request.as_deref()),
        ("team", filter.team.as_ref().map(TeamName::as_str)),
        ("key", filter.key.as_ref().map(KeyId::as_str)),
        ("actor", filter.actor.as_deref()),
        ("outcome", filter.outcome.as_deref()),
        ("model_asked", filter.model.as_deref()),
        ("incident", filter.incident.as_deref()),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            listing.text(column, pack(text));
        }
    }
    if filter.outcome.as_deref().is_some_and(|outcome| outcome != "completed") {
        listing.sql.push_str(" AND outcome <> 'completed'");
    }
    let is_asked = |kind| filter.kinds.is_empty() && filter.accepted || filter.kinds.contains(&kind);
    if !is_asked(EntryKind::RequestAccepted) {
        listing.sql.push_str(" AND kind <> 'request.accepted'");
    }
    for (place, kind) in filter.kinds.iter().enumerate() {
        listing.bind(if place == 0 { " AND kind IN (" } else { ", " }, Owned::Text(kind.name().to_owned()));
    }
    if !filter.kinds.is_empty() {
        listing.sql.push(')');
    }
    if let Some(digest) = &filter.digest {
        listing.bind(" AND (request_digest = ", Owned::Bytes(digest.to_vec()));
        listing.bind(" OR reply_digest = ", Owned::Bytes(digest.to_vec()));
        listing.sql.push(')');
    }
    if let Some((at, id)) = &filter.before {
        listing.bind(" AND (at, id) < (", number(*at));
        listing.bind(", ", Owned::Bytes(id.as_bytes().to_vec()));
        listing.sql.push(')');
    }
    listing.bind(" ORDER BY at DESC, id DESC LIMIT ", Owned::Integer(limit.into()));
    listing
}
