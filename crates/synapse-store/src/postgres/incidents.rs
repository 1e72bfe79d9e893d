//! Incidents in PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;
use synapse_core::{
    incident::Incident,
    store::{
        StoreError,
        incidents::{IncidentFilter, IncidentStore},
    },
};

use super::{PostgresStore, text::packed, written};
use crate::{
    listing::{self, Words},
    records,
    rows::{backend, not_found, to_json},
};

const WORDS: Words = Words {
    findings: "json_array_elements(i.findings::json) AS f (value)",
    pack: |text| packed(text).into_owned(),
};

#[async_trait]
impl IncidentStore for PostgresStore {
    async fn add_incidents(&self, incidents: &[Incident]) -> Result<(), StoreError> {
        written(self.add(incidents)).await
    }

    async fn list_incidents(&self, filter: &IncidentFilter, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let mut query = listing::incidents(filter, limit, &WORDS);
        let rows = query.build().fetch_all(&self.pool).await.map_err(backend)?;
        rows.iter().map(records::incident).collect()
    }

    async fn get_incident(&self, id: &str) -> Result<Incident, StoreError> {
        let row = sqlx::query("SELECT * FROM incidents WHERE id = $1")
            .bind(packed(id))
            .fetch_optional(&self.pool)
            .await
            .map_err(backend)?;
        records::incident(&row.ok_or_else(|| not_found("incident", &id))?)
    }

    async fn forget_incidents(&self, end: Timestamp) -> Result<u64, StoreError> {
        let gone = sqlx::query("DELETE FROM incidents WHERE at < $1")
            .bind(end.as_microsecond())
            .execute(&self.pool)
            .await
            .map_err(backend)?;
        Ok(gone.rows_affected())
    }
}

impl PostgresStore {
    async fn add(&self, incidents: &[Incident]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(backend)?;
        for incident in incidents {
            sqlx::query(
                "INSERT INTO incidents (id, at, request, key, team, model, policy, policy_version, action,
                                        severity, findings)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
                 ON CONFLICT (id) DO NOTHING",
            )
            .bind(packed(&incident.id))
            .bind(incident.at.as_microsecond())
            .bind(packed(incident.request.as_str()))
            .bind(incident.key.as_ref().map(|key| packed(key.as_str())))
            .bind(incident.team.as_ref().map(|team| packed(team.as_str())))
            .bind(incident.model.as_ref().map(|model| packed(model.as_str())))
            .bind(packed(incident.policy.as_str()))
            .bind(packed(&incident.policy_version))
            .bind(packed(&incident.action))
            .bind(packed(&incident.severity))
            .bind(packed(&to_json(&incident.findings)?))
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        }
        tx.commit().await.map_err(backend)
    }
}
