//! Teams in SQLite.

use async_trait::async_trait;
use sqlx::{Executor, Row, Sqlite, sqlite::SqliteRow};
use synapse_core::{
    id::TeamName,
    store::{
        StoreError,
        teams::{Team, TeamStore},
    },
};

use super::{SqliteStore, backend, not_found, now, timestamp};

const KIND: &str = "team";

#[async_trait]
impl TeamStore for SqliteStore {
    async fn create_team(&self, name: &TeamName) -> Result<Team, StoreError> {
        Team::check_name(name)?;
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO teams (name, created_at) VALUES (?1, ?2)")
            .bind(name.as_str())
            .bind(now().as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(|error| match error.as_database_error() {
                Some(cause) if cause.is_unique_violation() => {
                    StoreError::AlreadyExists { kind: KIND, name: name.to_string() }
                }
                _ => backend(error),
            })?;
        let team = read_team(&mut *tx, name).await?;
        tx.commit().await.map_err(backend)?;
        Ok(team)
    }

    async fn list_teams(&self) -> Result<Vec<Team>, StoreError> {
        let rows = sqlx::query("SELECT name, created_at, disabled FROM teams ORDER BY name")
            .fetch_all(&self.readers)
            .await
            .map_err(backend)?;
        rows.iter().map(team_from_row).collect()
    }

    async fn get_team(&self, name: &TeamName) -> Result<Team, StoreError> {
        read_team(&self.readers, name).await
    }

    async fn set_team_disabled(&self, name: &TeamName, disabled: bool) -> Result<Team, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE teams SET disabled = ?2 WHERE name = ?1")
            .bind(name.as_str())
            .bind(disabled)
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let team = read_team(&mut *tx, name).await?;
        tx.commit().await.map_err(backend)?;
        Ok(team)
    }
}

async fn read_team<'c>(
    from: impl Executor<'c, Database = Sqlite>,
    name: &TeamName,
) -> Result<Team, StoreError> {
    let row = sqlx::query("SELECT name, created_at, disabled FROM teams WHERE name = ?1")
        .bind(name.as_str())
        .fetch_optional(from)
        .await
        .map_err(backend)?;
    team_from_row(&row.ok_or_else(|| not_found(KIND, name))?)
}

fn team_from_row(row: &SqliteRow) -> Result<Team, StoreError> {
    Ok(Team {
        name: row.try_get::<&str, _>("name").map_err(backend)?.into(),
        created_at: timestamp(row.try_get("created_at").map_err(backend)?)?,
        disabled: row.try_get("disabled").map_err(backend)?,
    })
}
