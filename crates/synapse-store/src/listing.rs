//! Listings that are filtered, newest first, page by page, in the words of either database.

use jiff::Timestamp;
use sqlx::{Database, Encode, QueryBuilder, Type};
use synapse_core::{
    alert::{Rule, Severity},
    id::{KeyId, TeamName},
    store::{alerts::AlertFilter, incidents::IncidentFilter},
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
}

impl<DB: Database> Binds for DB
where
    i64: for<'q> Encode<'q, DB> + Type<DB>,
    String: for<'q> Encode<'q, DB> + Type<DB>,
{
    fn number(query: &mut QueryBuilder<Self>, number: i64) {
        query.push_bind(number);
    }

    fn text(query: &mut QueryBuilder<Self>, text: String) {
        query.push_bind(text);
    }
}

/// Adds conditions on times: `at` names the column.
fn within<DB: Binds>(
    query: &mut QueryBuilder<DB>,
    at: &str,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) {
    for (sign, time) in [(" >= ", since), (" < ", until)] {
        if let Some(time) = time {
            query.push(" AND ").push(at).push(sign);
            DB::number(query, time.as_microsecond());
        }
    }
}

/// Adds conditions on texts: columns, and what they are to be.
fn with_texts<DB: Binds, const N: usize>(
    query: &mut QueryBuilder<DB>,
    texts: [(&str, Option<&str>); N],
    pack: fn(&str) -> String,
) {
    for (column, text) in texts {
        if let Some(text) = text {
            query.push(" AND ").push(column).push(" = ");
            DB::text(query, pack(text));
        }
    }
}

/// Incidents. Only what is asked for stands in the statement: an index serves no condition that might not be one.
pub(crate) fn incidents<DB: Binds>(filter: &IncidentFilter, limit: u32, words: &Words) -> QueryBuilder<DB> {
    let mut query = QueryBuilder::new("SELECT i.* FROM incidents AS i WHERE TRUE");
    within(&mut query, "i.at", filter.since, filter.until);
    let texts = [
        ("i.team", filter.team.as_ref().map(TeamName::as_str)),
        ("i.key", filter.key.as_ref().map(KeyId::as_str)),
        ("i.action", filter.action.as_deref()),
        ("i.severity", filter.severity.as_deref()),
    ];
    with_texts(&mut query, texts, words.pack);
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
    within(&mut query, "a.at", filter.since, filter.until);
    let texts = [
        ("a.team", filter.team.as_ref().map(TeamName::as_str)),
        ("a.key", filter.key.as_ref().map(KeyId::as_str)),
        ("a.rule", filter.rule.map(Rule::name)),
        ("a.severity", filter.severity.map(Severity::name)),
        ("a.state", filter.state.as_deref()),
    ];
    with_texts(&mut query, texts, pack);
    if let Some(before) = &filter.before {
        query.push(" AND (a.at, a.id) < (SELECT b.at, b.id FROM alerts AS b WHERE b.id = ");
        DB::text(&mut query, pack(before));
        query.push(")");
    }
    query.push(" ORDER BY a.at DESC, a.id DESC LIMIT ");
    DB::number(&mut query, limit.into());
    query
}
