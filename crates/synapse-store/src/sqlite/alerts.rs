//! Alerts and their deliveries in SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use synapse_core::{
    alert::{Alert, State},
    id::{KeyId, TeamName},
    store::{
        StoreError,
        alerts::{AlertFilter, AlertStore, Attempt, Delivery, Progress},
    },
};

use super::SqliteStore;
use crate::{
    listing,
    records::{self, alert_time},
    rows::{Cells, backend, moment, not_found, now},
};

#[async_trait]
impl AlertStore for SqliteStore {
    async fn add_alert(&self, alert: &Alert, webhooks: &[&str]) -> Result<Alert, StoreError> {
        let mut tx = self.write().await?;
        let mut kept = alert.clone();
        if let Some(until) = muted_until(&mut tx, alert).await? {
            kept.state = State::Muted { until };
        }
        let is_new = insert(&mut tx, &kept).await?;
        if is_new && kept.state == State::Open {
            for webhook in webhooks {
                sqlx::query(
                    "INSERT INTO deliveries (alert, webhook, progress, next_at) VALUES (?1, ?2, 'pending', ?3)",
                )
                .bind(&kept.id)
                .bind(*webhook)
                .bind(kept.at.as_microsecond())
                .execute(&mut *tx)
                .await
                .map_err(backend)?;
            }
        }
        let kept = read(&mut tx, &alert.id).await?;
        tx.commit().await.map_err(backend)?;
        Ok(kept)
    }

    async fn list_alerts(&self, filter: &AlertFilter, limit: u32) -> Result<Vec<Alert>, StoreError> {
        let mut query = listing::alerts(filter, limit, str::to_owned);
        let rows = query.build().fetch_all(&self.readers).await.map_err(backend)?;
        rows.iter().map(records::alert).collect()
    }

    async fn get_alert(&self, id: &str) -> Result<Alert, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(backend)?;
        read(&mut connection, id).await
    }

    async fn acknowledge_alert(&self, id: &str, at: Timestamp) -> Result<Alert, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE alerts SET state = 'acknowledged', state_time = ?2 WHERE id = ?1 AND state <> 'acknowledged'",
        )
        .bind(id)
        .bind(at.as_microsecond())
        .execute(&mut *tx)
        .await
        .map_err(backend)?;
        let alert = read(&mut tx, id).await?;
        tx.commit().await.map_err(backend)?;
        Ok(alert)
    }

    async fn mute_alert(&self, id: &str, until: Timestamp) -> Result<Alert, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE alerts SET state = 'muted', state_time = ?2 WHERE id = ?1")
            .bind(id)
            .bind(until.as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let alert = read(&mut tx, id).await?;
        tx.commit().await.map_err(backend)?;
        Ok(alert)
    }

    async fn forget_alerts(&self, end: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM deliveries WHERE alert IN (SELECT id FROM alerts WHERE at < ?1)")
            .bind(end.as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let gone = sqlx::query("DELETE FROM alerts WHERE at < ?1")
            .bind(end.as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        tx.commit().await.map_err(backend)?;
        Ok(gone.rows_affected())
    }

    async fn claim_deliveries(
        &self,
        webhook: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<(Delivery, Alert)>, StoreError> {
        let due = "SELECT d.*, a.* FROM deliveries AS d JOIN alerts AS a ON a.id = d.alert
                   WHERE d.webhook = ?1 AND d.progress = 'pending' AND d.next_at <= ?2
                   ORDER BY a.rank DESC, d.attempts, a.at, a.id LIMIT ?3";
        // Most looks find nothing, and must not keep writers waiting.
        let is_due = "SELECT 1 FROM deliveries WHERE webhook = ?1 AND progress = 'pending' AND next_at <= ?2";
        let found = sqlx::query(is_due)
            .bind(webhook)
            .bind(now.as_microsecond())
            .fetch_optional(&self.readers)
            .await
            .map_err(backend)?;
        if found.is_none() {
            return Ok(Vec::new());
        }
        let mut tx = self.write().await?;
        let rows = sqlx::query(due)
            .bind(webhook)
            .bind(now.as_microsecond())
            .bind(limit)
            .fetch_all(&mut *tx)
            .await
            .map_err(backend)?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in &rows {
            let delivery = Delivery { next_at: until, ..records::delivery(row)? };
            set(&mut tx, &delivery).await?;
            claimed.push((delivery, records::alert(row)?));
        }
        tx.commit().await.map_err(backend)?;
        Ok(claimed)
    }

    async fn record_attempt(&self, delivery: &Delivery, attempt: &Attempt) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        set(&mut tx, &delivery.after(attempt)).await?;
        tx.commit().await.map_err(backend)
    }

    async fn abandon_deliveries(&self, end: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let gone = sqlx::query(
            "UPDATE deliveries SET progress = 'dead', error = coalesce(error, 'nobody tried to deliver it in time')
             WHERE progress = 'pending' AND alert IN (SELECT id FROM alerts WHERE at < ?1)",
        )
        .bind(end.as_microsecond())
        .execute(&mut *tx)
        .await
        .map_err(backend)?;
        tx.commit().await.map_err(backend)?;
        Ok(gone.rows_affected())
    }

    async fn list_deliveries(&self, alert: &str) -> Result<Vec<Delivery>, StoreError> {
        let rows = sqlx::query("SELECT * FROM deliveries WHERE alert = ?1 ORDER BY webhook")
            .bind(alert)
            .fetch_all(&self.readers)
            .await
            .map_err(backend)?;
        rows.iter().map(records::delivery).collect()
    }

    async fn count_deliveries(&self) -> Result<Vec<(String, Progress, u64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT webhook, progress, count(*) AS n FROM deliveries GROUP BY webhook, progress ORDER BY 1, 2",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(backend)?;
        rows.iter().map(records::count_of_deliveries).collect()
    }

    async fn save_baselines(&self, instance: &str, state: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO baselines (instance, saved_at, state) VALUES (?1, ?2, ?3)
             ON CONFLICT (instance) DO UPDATE SET saved_at = excluded.saved_at, state = excluded.state",
        )
        .bind(instance)
        .bind(now().as_microsecond())
        .bind(state)
        .execute(&mut *tx)
        .await
        .map_err(backend)?;
        tx.commit().await.map_err(backend)
    }

    async fn load_baselines(&self, instance: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT state FROM baselines WHERE instance = ?1")
            .bind(instance)
            .fetch_optional(&self.readers)
            .await
            .map_err(backend)?;
        row.map(|row| row.text("state")).transpose()
    }
}

/// Until when an alert like this one is muted, if it is.
async fn muted_until(
    connection: &mut SqliteConnection,
    alert: &Alert,
) -> Result<Option<Timestamp>, StoreError> {
    let row = sqlx::query(
        "SELECT max(state_time) AS until FROM alerts
         WHERE state = 'muted' AND rule = ?1 AND subject = ?2 AND state_time > ?3",
    )
    .bind(alert.rule.name())
    .bind(alert.subject())
    .bind(alert.at.as_microsecond())
    .fetch_one(connection)
    .await
    .map_err(backend)?;
    moment(&row, "until")
}

/// Whether it was not there before.
async fn insert(connection: &mut SqliteConnection, alert: &Alert) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO alerts (id, at, rule, severity, rank, subject, key, team, source, title, explanation,
                             state, state_time)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(&alert.id)
    .bind(alert.at.as_microsecond())
    .bind(alert.rule.name())
    .bind(alert.severity.name())
    .bind(alert.severity as i64)
    .bind(alert.subject())
    .bind(alert.key.as_ref().map(KeyId::as_str))
    .bind(alert.team.as_ref().map(TeamName::as_str))
    .bind(&alert.source)
    .bind(&alert.title)
    .bind(&alert.explanation)
    .bind(alert.state.name())
    .bind(alert_time(alert.state).map(Timestamp::as_microsecond))
    .execute(connection)
    .await
    .map_err(backend)?;
    Ok(done.rows_affected() > 0)
}

async fn read(connection: &mut SqliteConnection, id: &str) -> Result<Alert, StoreError> {
    let row = sqlx::query("SELECT * FROM alerts WHERE id = ?1")
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(backend)?;
    records::alert(&row.ok_or_else(|| not_found("alert", &id))?)
}

async fn set(connection: &mut SqliteConnection, delivery: &Delivery) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET progress = ?3, attempts = ?4, next_at = ?5, error = ?6
         WHERE alert = ?1 AND webhook = ?2",
    )
    .bind(&delivery.alert)
    .bind(&delivery.webhook)
    .bind(delivery.progress.name())
    .bind(delivery.attempts)
    .bind(delivery.next_at.as_microsecond())
    .bind(&delivery.error)
    .execute(connection)
    .await
    .map_err(backend)?;
    Ok(())
}
