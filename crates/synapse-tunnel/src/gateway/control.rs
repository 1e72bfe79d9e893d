//! The control stream of a worker that is in: what it says, echoes, and the time it must hold.

use std::{collections::HashSet, sync::Arc};

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
const LINES: usize = 250;
/// A longer line counts as several.
const LINE: usize = 16 * 1024;
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
                    left = left.saturating_sub(1 + line.len() / LINE);
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

/// A status with nothing in it that cannot be: it is shown to people, and names become labels.
pub(super) fn sound(mut status: Status) -> Status {
    let fine = |text: &str, most: usize| text.len() <= most && !text.chars().any(char::is_control);
    status.models.retain(|model| !model.id.is_empty() && fine(&model.id, MAX_MODEL));
    let mut known = HashSet::new();
    status.models.retain(|model| known.insert(model.id.clone()));
    status.models.truncate(MAX_MODELS);
    status.reason = status.reason.filter(|reason| fine(reason, MAX_REASON));
    status.engine = status.engine.filter(|engine| fine(engine, MAX_MODEL));
    status.load.kv_usage = status.load.kv_usage.filter(|usage| (0.0..=1.0).contains(usage));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Model;

    #[test]
    fn what_cannot_be_is_left_out_of_a_status() {
        let named = |id: String| Model { id, ..Model::default() };
        let mut models: Vec<_> = ["", "a\nb"].map(|id| named(id.into())).into();
        models.push(named("x".repeat(MAX_MODEL + 1)));
        models.extend((0..MAX_MODELS + 1).map(|n| named(n.to_string())));
        let mut status = Status { models, reason: Some("a\u{1b}[31m".into()), ..Status::default() };
        status.engine = Some("e".repeat(MAX_MODEL + 1));
        status.load.kv_usage = Some(7.0);
        let status = sound(status);
        assert_eq!((status.models.len(), status.models[0].id.as_str()), (MAX_MODELS, "0"));
        assert_eq!((status.reason, status.engine, status.load.kv_usage), (None, None, None));
    }
}
