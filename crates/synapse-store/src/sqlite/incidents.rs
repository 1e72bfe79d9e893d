//! Incidents in SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};
use synapse_core::{
    id::{KeyId, TeamName},
    incident::Incident,
    store::{
        StoreError,
        incidents::{IncidentFilter, IncidentStore},
    },
};

use super::{SqliteStore, backend, not_found, timestamp};

#[async_trait]
impl IncidentStore for SqliteStore {
    async fn add_incidents(&self, incidents: &[Incident]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for incident in incidents {
            sqlx::query(
                "INSERT INTO incidents (id, at, request, key, team, model, policy, policy_version, action,
                                        severity, findings)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (id) DO NOTHING",
            )
            .bind(&incident.id)
            .bind(incident.at.as_microsecond())
            .bind(incident.request.as_str())
            .bind(incident.key.as_ref().map(|key| key.as_str()))
            .bind(incident.team.as_ref().map(|team| team.as_str()))
            .bind(incident.model.as_ref().map(|model| model.as_str()))
            .bind(incident.policy.as_str())
            .bind(&incident.policy_version)
            .bind(&incident.action)
            .bind(&incident.severity)
            .bind(serde_json::to_string(&incident.findings).map_err(backend)?)
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        }
        tx.commit().await.map_err(backend)
    }

    async fn list_incidents(&self, filter: &IncidentFilter, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let mut query = listing(filter, limit);
        let rows = query.build().fetch_all(&self.readers).await.map_err(backend)?;
        rows.iter().map(incident_from_row).collect()
    }

    async fn get_incident(&self, id: &str) -> Result<Incident, StoreError> {
        let row = sqlx::query("SELECT * FROM incidents WHERE id = ?1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(backend)?;
        incident_from_row(&row.ok_or_else(|| not_found("incident", &id))?)
    }

    async fn forget_incidents(&self, end: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let gone = sqlx::query("DELETE FROM incidents WHERE at < ?1")
            .bind(end.as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        tx.commit().await.map_err(backend)?;
        Ok(gone.rows_affected())
    }
}

/// Only what is asked for stands in the statement: an index serves no condition that might not be one.
fn listing(filter: &IncidentFilter, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT i.* FROM incidents AS i WHERE TRUE");
    let times = [(" AND i.at >= ", filter.since), (" AND i.at < ", filter.until)];
    for (condition, time) in times {
        if let Some(time) = time {
            query.push(condition).push_bind(time.as_microsecond());
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
            query.push(condition).push_bind(text.to_owned());
        }
    }
    if let Some(category) = &filter.category {
        query.push(" AND EXISTS (SELECT 1 FROM json_each(i.findings) AS f WHERE f.value ->> 'category' = ");
        query.push_bind(category.clone()).push(")");
    }
    if let Some(before) = &filter.before {
        query.push(" AND (i.at, i.id) < (SELECT b.at, b.id FROM incidents AS b WHERE b.id = ");
        query.push_bind(before.clone()).push(")");
    }
    query.push(" ORDER BY i.at DESC, i.id DESC LIMIT ").push_bind(limit);
    query
}

fn incident_from_row(row: &SqliteRow) -> Result<Incident, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(backend);
    let optional = |column: &str| row.try_get::<Option<String>, _>(column).map_err(backend);
    Ok(Incident {
        id: text("id")?,
        at: timestamp(row.try_get("at").map_err(backend)?)?,
        request: text("request")?.into(),
        key: optional("key")?.map(Into::into),
        team: optional("team")?.map(Into::into),
        model: optional("model")?.map(Into::into),
        policy: text("policy")?.into(),
        policy_version: text("policy_version")?,
        action: text("action")?,
        severity: text("severity")?,
        findings: serde_json::from_str(&text("findings")?).map_err(backend)?,
    })
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Execute};

    use super::*;

    /// How SQLite goes about a listing, step by step.
    async fn plan(store: &SqliteStore, filter: IncidentFilter) -> String {
        let mut query = listing(&filter, 50);
        let query = query.build();
        let explained = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", query.sql().as_str()));
        let rows = sqlx::query(explained).fetch_all(&store.readers).await.expect("a plan");
        rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect()
    }

    #[tokio::test]
    async fn every_listing_is_read_in_order_from_the_index_that_serves_it() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let store = SqliteStore::open(temp.path().join("synapse.db")).await.expect("a store");
        let any = IncidentFilter::default;
        let (team, key, at) = (Some("lab".into()), Some("AbCd1234".into()), Some(Timestamp::UNIX_EPOCH));
        let before = Some("inc_1".to_owned());
        for (filter, way) in [
            (any(), "SCAN i USING INDEX incidents_by_time"),
            (IncidentFilter { since: at, ..any() }, "INDEX incidents_by_time (at>?)"),
            (IncidentFilter { before: before.clone(), ..any() }, "INDEX incidents_by_time (at<?)"),
            (IncidentFilter { team: team.clone(), ..any() }, "INDEX incidents_by_team (team=?)"),
            (
                IncidentFilter { team: team.clone(), until: at, ..any() },
                "INDEX incidents_by_team (team=? AND at<?)",
            ),
            (IncidentFilter { team, before, ..any() }, "INDEX incidents_by_team (team=? AND at<?)"),
            (IncidentFilter { key: key.clone(), ..any() }, "INDEX incidents_by_key (key=?)"),
            (
                IncidentFilter { key, since: at, category: Some("email".into()), ..any() },
                "INDEX incidents_by_key (key=? AND at>?)",
            ),
            (
                IncidentFilter { action: Some("block".into()), ..any() },
                "SCAN i USING INDEX incidents_by_time",
            ),
        ] {
            let plan = plan(&store, filter.clone()).await;
            assert!(plan.contains(way) && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
        }
    }
}
