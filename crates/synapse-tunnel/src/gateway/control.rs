//! The control stream of a worker that is in: what it says, echoes, and the time it must hold.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    host::Said,
    hub::Hub,
    session::{End, Session},
};
use crate::{
    lines::LineError,
    message::{Echo, FromGateway, FromWorker, Status, read},
    protocol::{Close, MAX_MODELS, code},
};

/// Lines that are read between two pings: what a worker says beyond that waits.
const LINES: u32 = 250;
/// The longest name of a model.
const MAX_MODEL: usize = 512;
/// The longest reason.
const MAX_REASON: usize = 1024;

/// Listens to a worker until its control stream ends.
pub(super) async fn attend(hub: &Arc<Hub>, session: &Session, mut said: Said) -> End {
    let mut echoes = interval(hub.options.liveness.ask_after);
    echoes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = (0, Instant::now());
    let mut left = LINES;
    let holds_at = Instant::now() + hub.options.settle;
    loop {
        tokio::select! {
            line = said.next(), if left > 0 => match line {
                Ok(Some(line)) => {
                    left -= 1;
                    match read(&line) {
                        Ok(FromWorker::Status(status)) => {
                            session.set_status(sound(*status));
                            hub.changed();
                        }
                        Ok(FromWorker::Echo(echo)) if echo.number == asked.0 => {
                            session.set_round_trip(asked.1.elapsed());
                        }
                        Ok(_) => {}
                        Err(error) => return End::Closed(Close::new(code::PROTOCOL, error.to_string())),
                    }
                }
                Ok(None) if session.status().draining => return End::Left,
                Ok(None) | Err(LineError::Broken) => return End::Lost,
                Err(error @ LineError::TooLong(_)) => {
                    return End::Closed(Close::new(code::TOO_BIG, error.to_string()));
                }
            },
            _ = echoes.tick() => {
                left = LINES;
                asked = (asked.0 + 1, Instant::now());
                let _asked = session.lines().offer(&FromGateway::Echo(Echo { number: asked.0 }));
            }
            () = sleep_until(holds_at), if !session.is_settled() => {
                session.settle();
                hub.changed();
            }
        }
    }
}

/// A status with no more and no other models than can be.
pub(super) fn sound(mut status: Status) -> Status {
    let fine = |id: &str| !id.is_empty() && id.len() <= MAX_MODEL && !id.chars().any(char::is_control);
    status.models.retain(|model| fine(&model.id));
    status.models.truncate(MAX_MODELS);
    if status.reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON) {
        status.reason = None;
    }
    status.load.kv_usage = status.load.kv_usage.filter(|usage| (0.0..=1.0).contains(usage));
    status
}
