//! Learning of changes: PostgreSQL tells of them, and whoever watches looks from time to time anyway, since what is
//! told while a connection is down is lost.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

/// Where changes are told.
const CHANNEL: &str = "synapse_changes";
/// Between two looks while nothing is told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Before another attempt to listen.
const PAUSE: Duration = Duration::from_millis(250);
/// A server that takes longer to answer is as good as none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Two connections that wait for nothing else. Neither is made before it is needed.
#[derive(Debug)]
pub(super) struct Watch {
    options: PgConnectOptions,
    asking: Mutex<Option<PgConnection>>,
    listening: Mutex<Option<PgListener>>,
    /// Of one connection, for the listener.
    pool: PgPool,
}

impl Watch {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LOOK_EVERY)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options.clone());
        Self { options, asking: Mutex::default(), listening: Mutex::default(), pool }
    }

    /// The mark of changes.
    pub(super) async fn mark(&self) -> sqlx::Result<i64> {
        let ask = async {
            let mut asking = self.asking.lock().await;
            // One that fails, or is left waiting, is not used again.
            let mut connection = match asking.take() {
                Some(connection) => connection,
                None => self.options.connect().await?,
            };
            let mark = sqlx::query_scalar("SELECT mark FROM changes").fetch_one(&mut connection).await?;
            *asking = Some(connection);
            Ok(mark)
        };
        timeout(ANSWER_WITHIN, ask).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Returns when a change is told, and when it is time to look anyway.
    pub(super) async fn next_look(&self) {
        if matches!(timeout(LOOK_EVERY, self.hear()).await, Ok(Err(_))) {
            sleep(PAUSE).await;
        }
    }

    /// Returns when a change is told, or when some may not have been.
    pub(super) async fn hear(&self) -> sqlx::Result<()> {
        let mut listening = self.listening.lock().await;
        let Some(listener) = listening.as_mut() else {
            let mut listener = PgListener::connect_with(&self.pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            *listening = Some(listener);
            // What changed before is told to nobody.
            return Ok(());
        };
        match listener.try_recv().await {
            // A connection that was lost is made anew next time; until then, whoever looks sees.
            Ok(Some(_) | None) => {
                while listener.next_buffered().is_some() {}
                Ok(())
            }
            Err(error) => {
                *listening = None;
                Err(error)
            }
        }
    }

    pub(super) async fn close(&self) {
        *self.listening.lock().await = None;
        if let Some(connection) = self.asking.lock().await.take() {
            // Nothing is under way there.
            let _closed = connection.close().await;
        }
        self.pool.close().await;
    }
}
