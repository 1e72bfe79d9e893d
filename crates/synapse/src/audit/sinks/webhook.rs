//! Checkpoints to a receiver over HTTP: signed messages, as alerts are.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use synapse_audit::sink::message;
use synapse_core::config::snapshot::SinkWebhook;

use super::{Failure, Given, Sink};
use crate::{
    outside::Outside,
    webhook::{Message, post},
};

/// A receiver.
pub(super) struct Receiver {
    to: SinkWebhook,
    outside: Arc<Outside>,
}

impl Receiver {
    pub(super) fn new(to: SinkWebhook, outside: Arc<Outside>) -> Self {
        Self { to, outside }
    }
}

#[async_trait]
impl Sink for Receiver {
    async fn give(&mut self, given: &Given) -> Result<(), Failure> {
        let body = message::of(&given.checkpoint, &given.note);
        // It stays the same when it is sent again.
        let id = format!("checkpoint-{}-{}", given.checkpoint.chain, given.checkpoint.last);
        let message = Message::signed(id, body, Some(&self.to.secret), Timestamp::now());
        let posted = post(&self.outside, &self.to.url, self.to.allow_private, &message).await;
        posted.map(drop).map_err(|failure| Failure::Away(failure.to_string()))
    }
}
