//! Teams in PostgreSQL.

use async_trait::async_trait;
use sqlx::{Executor, Postgres};
use synapse_core::{
    id::TeamName,
    limits::Limits,
    store::{
        StoreError,
        teams::{Team, TeamChange, TeamStore},
    },
};

use super::{PostgresStore, text::packed};
use crate::{
    records,
    rows::{backend, not_found, now, taken, to_json},
};

const KIND: &str = "team";

#[async_trait]
impl TeamStore for PostgresStore {
    async fn create_team(&self, name: &TeamName, limits: &Limits) -> Result<Team, StoreError> {
        Team::check_name(name)?;
        limits.check()?;
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO teams (name, created_at, limits) VALUES ($1, $2, $3)")
            .bind(packed(name.as_str()))
            .bind(now().as_microsecond())
            .bind(packed(&to_json(limits)?))
            .execute(&mut *tx)
            .await
            .map_err(|error| taken(error, KIND, name))?;
        let team = read_team(&mut *tx, name).await?;
        tx.commit().await.map_err(backend)?;
        Ok(team)
    }

    async fn list_teams(&self) -> Result<Vec<Team>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM teams ORDER BY name").fetch_all(&self.pool).await.map_err(backend)?;
        rows.iter().map(records::team).collect()
    }

    async fn get_team(&self, name: &TeamName) -> Result<Team, StoreError> {
        read_team(&self.pool, name).await
    }

    async fn update_team(&self, name: &TeamName, change: &TeamChange) -> Result<Team, StoreError> {
        let mut tx = self.write().await?;
        let team = change.apply(read_team(&mut *tx, name).await?)?;
        sqlx::query("UPDATE teams SET disabled = $2, limits = $3 WHERE name = $1")
            .bind(packed(name.as_str()))
            .bind(team.disabled)
            .bind(packed(&to_json(&team.limits)?))
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        tx.commit().await.map_err(backend)?;
        Ok(team)
    }
}

async fn read_team<'c>(
    from: impl Executor<'c, Database = Postgres>,
    name: &TeamName,
) -> Result<Team, StoreError> {
    let row = sqlx::query("SELECT * FROM teams WHERE name = $1")
        .bind(packed(name.as_str()))
        .fetch_optional(from)
        .await
        .map_err(backend)?;
    records::team(&row.ok_or_else(|| not_found(KIND, name))?)
}
