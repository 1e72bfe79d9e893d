//! Backends that lead nowhere, for tests of the choice among them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Map;
use synapse_core::{
    config::snapshot::{BackendSpec, BaseUrl, Breaker, Discovery, EngineKind, Locality, Timeouts},
    id::{BackendId, GroupName},
};

use super::{
    catalog::Candidate,
    fleet::{BackendHandle, ListedModel},
};
use crate::{
    backend::{Backend, BackendError, FailedAt, UpstreamCall, UpstreamReply},
    metrics::Metrics,
};

pub(super) const LIMITS: Breaker =
    Breaker { failures: 5, open_for: Duration::from_secs(30), success_rate: 0.5 };

struct Nowhere(BackendId);

#[async_trait]
impl Backend for Nowhere {
    fn id(&self) -> &BackendId {
        &self.0
    }

    async fn call(&self, _: UpstreamCall) -> Result<UpstreamReply, BackendError> {
        Err(BackendError::new(FailedAt::Connect, "nowhere"))
    }
}

/// A backend of this name that takes this many requests at once.
pub(super) fn backend(name: &str, max_in_flight: Option<u32>) -> Arc<BackendHandle> {
    let url = BaseUrl { https: false, host: "localhost".to_owned(), port: 1, path: String::new() };
    let spec = BackendSpec {
        id: name.into(),
        groups: vec![GroupName::default()],
        is_worker: false,
        kind: EngineKind::OpenAi,
        url,
        api_key: None,
        locality: Locality::OnPrem,
        is_confined: false,
        timeouts: Timeouts::default(),
        max_in_flight,
        ca_file: None,
    };
    let pace = Discovery { local: false, models_every: Duration::MAX, health_every: Duration::MAX };
    BackendHandle::new(Arc::new(spec), Arc::new(Nowhere(name.into())), pace, &Metrics::new())
}

/// A backend of these groups that lists these models.
pub(super) fn backend_of(name: &str, groups: Vec<GroupName>, models: &[String]) -> Arc<BackendHandle> {
    let plain = backend(name, None);
    let spec = BackendSpec { groups, ..(*plain.spec).clone() };
    let handle =
        BackendHandle::new(Arc::new(spec), Arc::clone(&plain.transport), plain.pace(), &Metrics::new());
    let listed = |id: &String| ListedModel { id: id.clone(), fields: Map::new(), loaded: None };
    handle.set_models(models.iter().map(listed).collect());
    handle
}

/// A deployment of the model `m` there.
pub(super) fn candidate(name: &str, weight: u32) -> Candidate {
    let endpoint = backend(name, None).endpoint("m");
    Candidate { endpoint, order: 1, weight, timeouts: Timeouts::default(), price: None }
}
