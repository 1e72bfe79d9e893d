//! Public model names: where they are served, and what they fall back to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Check, Names, Unique, backends::timeouts, raw};
use crate::{
    config::{
        circle::Acyclic,
        snapshot::{BackendSpec, Deployment, ModelSpec, Timeouts},
    },
    glob::Glob,
};

pub(super) fn check(
    raw: Vec<raw::Model>,
    backends: &Names,
    specs: &[Arc<BackendSpec>],
    check: &mut Check<'_>,
) -> Vec<Arc<ModelSpec>> {
    names(&raw, check);
    fallbacks(&raw, check);
    let timeouts_of: HashMap<&str, Timeouts> =
        specs.iter().map(|spec| (spec.id.as_str(), spec.timeouts)).collect();
    let mut models = Vec::with_capacity(raw.len());
    for (index, model) in raw.into_iter().enumerate() {
        let at = format!("/models/{index}");
        let stars = globs_agree(&model, &at, check);
        let written = model.deployments.unwrap_or_default();
        weights(&written, &at, check);
        let mut deployments = Vec::with_capacity(written.len());
        for (index, raw) in written.into_iter().enumerate() {
            let at = format!("{at}/deployments/{index}");
            deployments.extend(deployment(raw, &at, stars, backends, &timeouts_of, check));
        }
        if let Some(name) = model.name {
            models.push(Arc::new(ModelSpec {
                name: Glob::new(name),
                aliases: model.aliases.into_iter().map(Glob::new).collect(),
                deployments,
                fallbacks: model.fallbacks,
                context_fallbacks: model.context_fallbacks,
                defaults: defaults(&model.defaults),
            }));
        }
    }
    models
}

/// The values in JSON, by the names that requests have for them.
fn defaults(raw: &raw::Defaults) -> Arc<[(&'static str, String)]> {
    let values = [
        ("temperature", raw.temperature.map(|value| value.to_string())),
        ("top_p", raw.top_p.map(|value| value.to_string())),
        ("top_k", raw.top_k.map(|value| value.to_string())),
        ("presence_penalty", raw.presence_penalty.map(|value| value.to_string())),
        ("frequency_penalty", raw.frequency_penalty.map(|value| value.to_string())),
        ("max_tokens", raw.max_tokens.map(|value| value.to_string())),
        ("seed", raw.seed.map(|value| value.to_string())),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Names and aliases share one namespace.
fn names(models: &[raw::Model], check: &mut Check<'_>) {
    let mut unique = Unique::default();
    for (index, model) in models.iter().enumerate() {
        let at = format!("/models/{index}");
        if let Some(name) = &model.name {
            check.name(&format!("{at}/name"), name);
            unique.claim(name, &format!("{at}/name"), check);
        }
        for (index, alias) in model.aliases.iter().enumerate() {
            check.name(&format!("{at}/aliases/{index}"), alias);
            unique.claim(alias, &format!("{at}/aliases/{index}"), check);
        }
    }
}

/// Whether the model's name has a `*` for its deployments to take over; `None` if nobody can tell.
fn globs_agree(model: &raw::Model, at: &str, check: &mut Check<'_>) -> Option<bool> {
    let has_star = model.name.as_ref()?.contains('*');
    let needed =
        model.deployments.iter().flatten().any(|d| d.model.as_ref().is_some_and(|m| m.contains('*')));
    for (index, alias) in model.aliases.iter().enumerate() {
        if has_star && needed && !alias.contains('*') {
            check.report(&format!("{at}/aliases/{index}"), "needs a `*`, as the model's name has one");
        }
    }
    Some(has_star)
}

fn weights(deployments: &[raw::Deployment], at: &str, check: &mut Check<'_>) {
    if !deployments.is_empty() && deployments.iter().all(|deployment| deployment.weight == 0) {
        check.report(&format!("{at}/deployments"), "every deployment has weight 0, so none would be used");
    }
}

fn deployment(
    raw: raw::Deployment,
    at: &str,
    name_has_star: Option<bool>,
    backends: &Names,
    timeouts_of: &HashMap<&str, Timeouts>,
    check: &mut Check<'_>,
) -> Option<Deployment> {
    if let Some(name) = &raw.backend {
        check.problems.extend(backends.problem_with(name, &format!("{at}/backend"), check));
    }
    if let Some(model) = &raw.model {
        check.name(&format!("{at}/model"), model);
        if model.contains('*') && name_has_star == Some(false) {
            check.report(&format!("{at}/model"), "has a `*`, but the model's name has none to fill it");
        }
    }
    let (backend, model) = (raw.backend?, raw.model?);
    let base = timeouts_of.get(backend.as_str()).copied().unwrap_or_default();
    Some(Deployment {
        backend: backend.into(),
        model: Glob::new(model),
        order: raw.order,
        weight: raw.weight,
        timeouts: raw.timeouts.map(|raw| timeouts(raw, base)),
    })
}

type FallbackList = fn(&raw::Model) -> &Vec<String>;

/// Both kinds of fallbacks. Each kind may form no circle; together they cannot be followed in one.
const FALLBACKS: [(&str, FallbackList); 2] =
    [("fallbacks", |model| &model.fallbacks), ("context_fallbacks", |model| &model.context_fallbacks)];

fn fallbacks(models: &[raw::Model], check: &mut Check<'_>) {
    let incomplete = check.places.is_broken("/models") || models.iter().any(|model| model.name.is_none());
    let targets = Targets::new(models);
    for (key, list) in FALLBACKS {
        let mut edges = Acyclic::new(models.len());
        for (at, index, fallback) in entries(models, key, list) {
            match targets.find(fallback) {
                Some(target) if target == index => check.report(&at, "the model cannot fall back to itself"),
                Some(target) => {
                    if !edges.connect(index, target) {
                        check.report(&at, "this fallback closes a circle");
                    }
                }
                None if incomplete => {}
                None => unknown_fallback(&at, fallback, &targets, check),
            }
        }
    }
}

/// Every name in the lists called `key`, with its place and its model.
fn entries<'m>(
    models: &'m [raw::Model],
    key: &'m str,
    list: FallbackList,
) -> impl Iterator<Item = (String, usize, &'m String)> {
    models.iter().enumerate().flat_map(move |(index, model)| {
        let place = move |position| format!("/models/{index}/{key}/{position}");
        list(model).iter().enumerate().map(move |(position, name)| (place(position), index, name))
    })
}

/// Discovery may find a model of this name later; but a typo must not wait for an outage.
fn unknown_fallback(at: &str, fallback: &str, targets: &Targets<'_>, check: &mut Check<'_>) {
    let problem = check.problem(at, "there is no model of this name").nearest(fallback, targets.names());
    if problem.hint.is_some() {
        check.problems.push(problem);
    } else {
        check.warn(at, "is no model of this file; it helps only while a backend lists it");
    }
}

/// Which model serves a public name.
struct Targets<'m> {
    /// Sorted, so that of equally near names the same is always suggested.
    literal: BTreeMap<&'m str, usize>,
    globs: Vec<(Glob, usize)>,
}

impl<'m> Targets<'m> {
    fn new(models: &'m [raw::Model]) -> Self {
        let mut targets = Self { literal: BTreeMap::new(), globs: Vec::new() };
        for (index, model) in models.iter().enumerate() {
            for name in model.name.iter().chain(&model.aliases) {
                targets.literal.entry(name).or_insert(index);
                if name.contains('*') {
                    targets.globs.push((Glob::new(name), index));
                }
            }
        }
        targets
    }

    fn find(&self, name: &str) -> Option<usize> {
        let by_glob = || self.globs.iter().find(|(glob, _)| glob.matches(name)).map(|(_, index)| *index);
        self.literal.get(name).copied().or_else(by_glob)
    }

    fn names(&self) -> impl Iterator<Item = &'m str> {
        self.literal.keys().copied()
    }
}
