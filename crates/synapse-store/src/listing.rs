//! Listings that are filtered, newest first, page by page, in the words of either database.

use sqlx::{Database, Encode, QueryBuilder, Type};
use synapse_core::{
    alert::{Rule, Severity},
    id::{KeyId, TeamName},
    store::{alerts::AlertFilter, audit::AuditFilter, incidents::IncidentFilter},
};

/// What databases say differently.
pub(crate) struct Words {
    /// The findings of an incident `i`, as rows `f` with a `value`.
    pub(crate) findings: &'static str,
    /// A text as the database takes it.
    pub(crate) pack: fn(&str) -> String,
}

/// What a condition may compare with.
pub(crate) trait Binds: Database {
    fn number(query: &mut QueryBuilder<Self>, number: i64);
    fn text(query: &mut QueryBuilder<Self>, text: String);
    fn bytes(query: &mut QueryBuilder<Self>, bytes: Vec<u8>);
}

impl<DB: Database> Binds for DB
where
    i64: for<'q> Encode<'q, DB> + Type<DB>,
    String: for<'q> Encode<'q, DB> + Type<DB>,
    Vec<u8>: for<'q> Encode<'q, DB> + Type<DB>,
{
    fn number(query: &mut QueryBuilder<Self>, number: i64) {
        query.push_bind(number);
    }

    fn text(query: &mut QueryBuilder<Self>, text: String) {
        query.push_bind(text);
    }

    fn bytes(query: &mut QueryBuilder<Self>, bytes: Vec<u8>) {
        query.push_bind(bytes);
    }
}

/// Incidents. Only what is asked for stands in the statement: an index serves no condition that might not be one.
pub(crate) fn incidents<DB: Binds>(filter: &IncidentFilter, limit: u32, words: &Words) -> QueryBuilder<DB> {
    let mut query = QueryBuilder::new("SELECT i.* FROM incidents AS i WHERE TRUE");
    for (condition, time) in [(" AND i.at >= ", filter.since), (" AND i.at < ", filter.until)] {
        if let Some(time) = time {
            query.push(condition);
            DB::number(&mut query, time.as_microsecond());
        }
    }
    let texts = [
        (" AND i.team = ", filter.team.as_ref().map(TeamName::as_str)),
        (" AND i.key = ", filter.key.as_ref().map(KeyId::as_str)),
        (" AND i.action = ", filter.action.as_deref()),
        (" AND i.severity = ", filter.severity.as_deref()),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition);
            DB::text(&mut query, (words.pack)(text));
        }
    }
    if let Some(category) = &filter.category {
        query.push(" AND EXISTS (SELECT 1 FROM ").push(words.findings);
        query.push(" WHERE f.value ->> 'category' = ");
        DB::text(&mut query, (words.pack)(category));
        query.push(")");
    }
    if let Some(before) = &filter.before {
        query.push(" AND (i.at, i.id) < (SELECT b.at, b.id FROM incidents AS b WHERE b.id = ");
        DB::text(&mut query, (words.pack)(before));
        query.push(")");
    }
    query.push(" ORDER BY i.at DESC, i.id DESC LIMIT ");
    DB::number(&mut query, limit.into());
    query
}

/// Alerts.
pub(crate) fn alerts<DB: Binds>(
    filter: &AlertFilter,
    limit: u32,
    pack: fn(&str) -> String,
) -> QueryBuilder<DB> {
    let mut query = QueryBuilder::new("SELECT a.* FROM alerts AS a WHERE TRUE");
    for (condition, time) in [(" AND a.at >= ", filter.since), (" AND a.at < ", filter.until)] {
        if let Some(time) = time {
            query.push(condition);
            DB::number(&mut query, time.as_microsecond());
        }
    }
    let texts = [
        (" AND a.team = ", filter.team.as_ref().map(TeamName::as_str)),
        (" AND a.key = ", filter.key.as_ref().map(KeyId::as_str)),
        (" AND a.rule = ", filter.rule.map(Rule::name)),
        (" AND a.severity = ", filter.severity.map(Severity::name)),
        (" AND a.state = ", filter.state.as_deref()),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition);
            DB::text(&mut query, pack(text));
        }
    }
    if let Some(before) = &filter.before {
        query.push(" AND (a.at, a.id) < (SELECT b.at, b.id FROM alerts AS b WHERE b.id = ");
        DB::text(&mut query, pack(before));
        query.push(")");
    }
    query.push(" ORDER BY a.at DESC, a.id DESC LIMIT ");
    DB::number(&mut query, limit.into());
    query
}

/// Entries of the audit log, from a statement that names columns and table.
pub(crate) fn entries<DB: Binds>(
    select: String,
    filter: &AuditFilter,
    limit: u32,
    pack: fn(&str) -> String,
) -> QueryBuilder<DB> {
    let mut query = QueryBuilder::new(select);
    query.push(" WHERE TRUE");
    for (condition, time) in [(" AND at >= ", filter.since), (" AND at < ", filter.until)] {
        if let Some(time) = time {
            query.push(condition);
            DB::number(&mut query, time.as_microsecond());
        }
    }
    let texts = [
        (" AND request = ", filter.request.as_deref()),
        (" AND team = ", filter.team.as_ref().map(TeamName::as_str)),
        (" AND key = ", filter.key.as_ref().map(KeyId::as_str)),
        (" AND actor = ", filter.actor.as_deref()),
        (" AND outcome = ", filter.outcome.as_deref()),
        (" AND model_asked = ", filter.model.as_deref()),
        (" AND incident = ", filter.incident.as_deref()),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition);
            DB::text(&mut query, pack(text));
        }
    }
    for (place, kind) in filter.kinds.iter().enumerate() {
        query.push(if place == 0 { " AND kind IN (" } else { ", " });
        DB::text(&mut query, kind.name().to_owned());
    }
    if !filter.kinds.is_empty() {
        query.push(")");
    }
    if let Some(digest) = &filter.digest {
        query.push(" AND (request_digest = ");
        DB::bytes(&mut query, digest.to_vec());
        query.push(" OR reply_digest = ");
        DB::bytes(&mut query, digest.to_vec());
        query.push(")");
    }
    if let Some((at, id)) = &filter.before {
        query.push(" AND (at, id) < (");
        DB::number(&mut query, at.as_microsecond());
        query.push(", ");
        DB::bytes(&mut query, id.as_bytes().to_vec());
        query.push(")");
    }
    query.push(" ORDER BY at DESC, id DESC LIMIT ");
    DB::number(&mut query, limit.into());
    query
}
