//! Engines and providers.

use std::sync::Arc;

use super::{
    Check, Names, Unique,
    access::{header_safe, known_group},
    raw, seconds,
};
use crate::{
    config::snapshot::{BackendSpec, BaseUrl, EngineKind, Locality, Timeouts},
    id::GroupName,
};

/// The backends, and the names of all of them, the faulty ones included.
pub(super) fn check(
    raw: Vec<raw::Backend>,
    groups: &Names,
    check: &mut Check<'_>,
) -> (Vec<Arc<BackendSpec>>, Names) {
    let mut unique = Unique::default();
    let mut names =
        Names { kind: "backend", known: Vec::new(), incomplete: check.places.is_broken("/backends") };
    let mut specs = Vec::with_capacity(raw.len());
    for (index, backend) in raw.into_iter().enumerate() {
        let at = format!("/backends/{index}");
        match &backend.name {
            Some(name) => {
                check.name(&format!("{at}/name"), name);
                unique.claim(name, &format!("{at}/name"), check);
                names.known.push(name.clone());
            }
            None => names.incomplete = true,
        }
        let mut once = Unique::default();
        for (index, group) in backend.groups.iter().enumerate() {
            let at = format!("{at}/groups/{index}");
            known_group(&at, group, groups, check);
            once.claim(group, &at, check);
        }
        specs.extend(spec(backend, &at, check).map(Arc::new));
    }
    (specs, names)
}

fn spec(raw: raw::Backend, at: &str, check: &mut Check<'_>) -> Option<BackendSpec> {
    if let Some(key) = &raw.api_key {
        header_safe(&format!("{at}/api_key"), &key.0, check);
    }
    let ca_file = raw.ca_file.and_then(|path| check.pem_file(&format!("{at}/ca_file"), &path));
    let url = BaseUrl::parse(&raw.url?)
        .map_err(|error| check.report(&format!("{at}/url"), error.to_string()))
        .ok()?;
    let is_confined = raw.locality.is_none() && Locality::of_host(&url.host) == Locality::OnPrem;
    let locality = match raw.locality {
        Some(written) => written.into(),
        None => Locality::of_host(&url.host),
    };
    if raw.api_key.is_some() && !url.https && locality == Locality::Cloud {
        check.warn(&format!("{at}/url"), "the API key travels unencrypted; use https");
    }
    Some(BackendSpec {
        id: raw.name?.into(),
        groups: raw.groups.into_iter().map(GroupName::from).collect(),
        is_worker: false,
        kind: kind(raw.kind),
        url,
        api_key: raw.api_key.map(|key| key.0),
        locality,
        is_confined,
        timeouts: timeouts(raw.timeouts, Timeouts::default()),
        max_in_flight: raw.max_in_flight,
        ca_file,
    })
}

impl From<raw::Locality> for Locality {
    fn from(raw: raw::Locality) -> Self {
        match raw {
            raw::Locality::OnPrem => Self::OnPrem,
            raw::Locality::Cloud => Self::Cloud,
        }
    }
}

const fn kind(raw: raw::EngineType) -> EngineKind {
    match raw {
        raw::EngineType::Openai => EngineKind::OpenAi,
        raw::EngineType::Vllm => EngineKind::Vllm,
        raw::EngineType::Sglang => EngineKind::Sglang,
        raw::EngineType::LlamaCpp => EngineKind::LlamaCpp,
        raw::EngineType::Ollama => EngineKind::Ollama,
        raw::EngineType::Tgi => EngineKind::Tgi,
        raw::EngineType::TensorrtLlm => EngineKind::TensorRtLlm,
    }
}

/// What is written, and `base` for the rest.
pub(super) fn timeouts(raw: raw::Timeouts, base: Timeouts) -> Timeouts {
    Timeouts {
        connect: raw.connect_s.map_or(base.connect, seconds),
        first_token: raw.first_token_s.map_or(base.first_token, seconds),
        idle: raw.idle_s.map_or(base.idle, seconds),
        total: raw.total_s.map_or(base.total, seconds),
    }
}
