//! Incidents in SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use synapse_core::{
    incident::Incident,
    store::{
        StoreError,
        incidents::{IncidentFilter, IncidentStore},
    },
};

use super::SqliteStore;
use crate::{
    listing::{self, Words},
    records,
    rows::{backend, not_found, to_json},
};

const WORDS: Words = Words { findings: "json_each(i.findings) AS f", pack: str::to_owned };

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
            .bind(to_json(&incident.findings)?)
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        }
        tx.commit().await.map_err(backend)
    }

    async fn list_incidents(&self, filter: &IncidentFilter, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let mut query = listing::incidents(filter, limit, &WORDS);
        let rows = query.build().fetch_all(&self.readers).await.map_err(backend)?;
        rows.iter().map(records::incident).collect()
    }

    async fn get_incident(&self, id: &str) -> Result<Incident, StoreError> {
        let row = sqlx::query("SELECT * FROM incidents WHERE id = ?1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(backend)?;
        records::incident(&row.ok_or_else(|| not_found("incident", &id))?)
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

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Execute, Row, Sqlite};

    use super::*;

    /// How SQLite goes about a listing, step by step.
    async fn plan(store: &SqliteStore, filter: IncidentFilter) -> String {
        let mut query = listing::incidents::<Sqlite>(&filter, 50, &WORDS);
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
