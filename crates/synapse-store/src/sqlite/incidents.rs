//! Incidents in SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};
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
        let rows = sqlx::query(
            "SELECT i.* FROM incidents AS i
             WHERE (?1 IS NULL OR i.at >= ?1) AND (?2 IS NULL OR i.at < ?2)
               AND (?3 IS NULL OR i.team = ?3) AND (?4 IS NULL OR i.key = ?4)
               AND (?5 IS NULL OR i.action = ?5) AND (?6 IS NULL OR i.severity = ?6)
               AND (?7 IS NULL OR EXISTS (
                   SELECT 1 FROM json_each(i.findings) AS f WHERE f.value ->> 'category' = ?7))
               AND (?8 IS NULL OR (i.at, i.id) < (SELECT b.at, b.id FROM incidents AS b WHERE b.id = ?8))
             ORDER BY i.at DESC, i.id DESC LIMIT ?9",
        )
        .bind(filter.since.map(Timestamp::as_microsecond))
        .bind(filter.until.map(Timestamp::as_microsecond))
        .bind(filter.team.as_ref().map(TeamName::as_str))
        .bind(filter.key.as_ref().map(KeyId::as_str))
        .bind(&filter.action)
        .bind(&filter.severity)
        .bind(&filter.category)
        .bind(&filter.before)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(backend)?;
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
