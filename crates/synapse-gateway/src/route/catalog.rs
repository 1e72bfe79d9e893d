//! The catalogue: every public model name, and where it is served. Built anew when the
//! configuration or a backend's list of models changes; requests only read it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};
use synapse_core::{
    config::snapshot::{ModelSpec, Snapshot, Timeouts},
    id::ModelName,
    price::{Price, Prices},
    principal::Principal,
};

use super::{
    endpoint::Endpoint,
    fleet::{Fleet, Health, ListedModel},
    reach::Reach,
};

/// How long a model that nobody lists any more is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Of so many models at most.
const MAX_REMEMBERED: usize = 4096;

/// Where a model is served, for one backend.
#[derive(Clone)]
pub struct Candidate {
    /// The model at the backend.
    pub endpoint: Arc<Endpoint>,
    /// Lower is tried first.
    pub order: u32,
    /// The share among equals.
    pub weight: u32,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// What it costs, where that is known.
    pub price: Option<Arc<Price>>,
}

/// A public name's way to its backends.
pub struct Route {
    /// The public name.
    pub model: ModelName,
    /// The model's own name, where it was asked for by an alias.
    pub alias_of: Option<ModelName>,
    /// The pattern that the name matched, unless it is a name of its own.
    pub pattern: Option<ModelName>,
    /// Sorted by order.
    pub candidates: Vec<Candidate>,
    /// Since when nobody lists it.
    gone_since: Option<Instant>,
    /// Whether a backend's list is all that speaks for it.
    discovered: bool,
    /// Whether it was a worker's, and nobody has it now.
    awaited: bool,
    /// Public names to try when all of these failed.
    pub fallbacks: Vec<String>,
    /// Public names to try when a request is too long for this one.
    pub context_fallbacks: Vec<String>,
    /// Values, in JSON, for parameters that a request leaves open.
    pub defaults: Arc<[(&'static str, String)]>,
}

impl Route {
    fn discovered(model: ModelName, candidates: Vec<Candidate>, gone_since: Option<Instant>) -> Self {
        let (fallbacks, context_fallbacks) = (Vec::new(), Vec::new());
        let (alias_of, pattern, discovered, awaited) = (None, None, true, false);
        Self {
            model,
            alias_of,
            pattern,
            candidates,
            gone_since,
            discovered,
            awaited,
            fallbacks,
            context_fallbacks,
            defaults: Arc::default(),
        }
    }

    /// Whether `caller` may use it: by this name, or by the name that this one is an alias of.
    pub fn is_allowed(&self, caller: &Principal) -> bool {
        let names = [Some(&self.model), self.alias_of.as_ref()];
        names.into_iter().flatten().any(|name| caller.allows_model(name.as_str()))
    }

    /// Whether any of its backends may be alive.
    pub fn has_live_backend(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.endpoint.backend.health() != Health::Down)
    }

    /// The name for metrics: from a bounded set, whatever callers ask for.
    pub fn label(&self) -> &str {
        self.pattern.as_ref().unwrap_or(&self.model).as_str()
    }
}

/// Every public name.
#[derive(Default)]
pub struct Catalog {
    routes: HashMap<String, Arc<Route>>,
    /// Names with a `*`, the most specific first.
    patterns: Vec<(Arc<ModelSpec>, synapse_core::glob::Glob)>,
    listing: Vec<(String, Map<String, Value>)>,
    prices: Arc<Prices>,
    /// How many routes are only remembered.
    remembered: usize,
}

impl Catalog {
    /// Builds the catalogue from the configuration and what backends list. Configured names win. What
    /// `before` had discovered at a backend that does not answer any more is remembered for a while,
    /// unlisted: a caller is to hear that the backend is down, not that there is no such model.
    pub fn build(snapshot: &Snapshot, fleet: &Fleet, before: &Self) -> Self {
        let mut catalog = Self { prices: Arc::clone(&snapshot.prices), ..Self::default() };
        let listed = merge_listings(fleet);
        for spec in &snapshot.models {
            for name in std::iter::once(&spec.name).chain(&spec.aliases) {
                // Its deployments may all be another group's.
                if !spec.deployments.iter().any(|place| fleet.get(&place.backend).is_some()) {
                    continue;
                }
                if name.is_literal() {
                    let route = Arc::new(route_of(spec, name.as_str(), "", fleet, &catalog.prices));
                    catalog.list(name.as_str(), configured_fields(&route));
                    catalog.routes.insert(name.as_str().to_owned(), route);
                } else {
                    catalog.patterns.push((Arc::clone(spec), name.clone()));
                }
            }
        }
        catalog.patterns.sort_by_key(|(_, glob)| std::cmp::Reverse(glob.as_str().len()));
        for (id, places) in listed {
            if catalog.routes.contains_key(&id) {
                continue;
            }
            catalog.list(&id, shared_fields(&places));
            let candidates =
                places.iter().map(|(endpoint, _)| discovered(&id, endpoint, &catalog.prices)).collect();
            let model = ModelName::from(id.as_str());
            let route = Route::discovered(model, candidates, None);
            catalog.routes.insert(id, Arc::new(route));
        }
        catalog.remember(before, fleet);
        catalog.listing.sort_by(|a, b| a.0.cmp(&b.0));
        catalog
    }

    fn remember(&mut self, before: &Self, fleet: &Fleet) {
        let now = Instant::now();
        let lost = |candidate: &&Candidate| {
            let backend = &candidate.endpoint.backend;
            backend.is_listing_lost()
                && fleet.get(backend.id()).is_some_and(|known| Arc::ptr_eq(known, backend))
        };
        for (name, route) in &before.routes {
            let since = route.gone_since.unwrap_or(now);
            if !route.discovered || self.routes.contains_key(name) || now.duration_since(since) > REMEMBERED {
                continue;
            }
            let candidates: Vec<Candidate> = route.candidates.iter().filter(lost).cloned().collect();
            // A worker that has left may be back in a moment.
            let has_left = |c: &Candidate| {
                let backend = &c.endpoint.backend;
                backend.is_worker() && fleet.get(backend.id()).is_none()
            };
            let awaited = route.awaited || route.candidates.iter().any(has_left);
            if self.remembered < MAX_REMEMBERED && (awaited || !candidates.is_empty()) {
                self.remembered += 1;
                let gone =
                    Route { awaited, ..Route::discovered(route.model.clone(), candidates, Some(since)) };
                self.routes.insert(name.clone(), Arc::new(gone));
            }
        }
    }

    fn list(&mut self, id: &str, fields: Map<String, Value>) {
        self.listing.push((id.to_owned(), fields));
    }

    /// Whether no name leads anywhere.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.patterns.is_empty()
    }

    /// The way of a name: as configured or discovered, else by the most specific pattern.
    pub fn resolve(&self, name: &str, fleet: &Fleet) -> Option<Arc<Route>> {
        if let Some(route) = self.routes.get(name) {
            return Some(Arc::clone(route));
        }
        self.patterns.iter().find_map(|(spec, glob)| {
            let captured = glob.capture(name)?;
            let pattern = Some(ModelName::from(glob.as_str()));
            Some(Arc::new(Route { pattern, ..route_of(spec, name, captured, fleet, &self.prices) }))
        })
    }

    /// Every listed name that `caller` may use, and that has a place within `reach`.
    pub fn allowed<'c>(
        &'c self,
        caller: &'c Principal,
        reach: &'c Reach,
    ) -> impl Iterator<Item = &'c (String, Map<String, Value>)> {
        let may = |route: &Arc<Route>| route.is_allowed(caller) && reach.includes_any_of(route);
        self.listing.iter().filter(move |(id, _)| self.routes.get(id).is_some_and(may))
    }

    /// Every name that is no pattern, with its object in OpenAI's shape, sorted.
    pub fn listing(&self) -> &[(String, Map<String, Value>)] {
        &self.listing
    }
}

/// The models of all backends by name, with the places where each is served.
fn merge_listings(fleet: &Fleet) -> std::collections::BTreeMap<String, Vec<(Arc<Endpoint>, ListedModel)>> {
    let mut merged = std::collections::BTreeMap::<String, Vec<_>>::new();
    for backend in fleet.iter() {
        for model in backend.models.load().iter() {
            let endpoint = backend.endpoint(&model.id);
            merged.entry(model.id.clone()).or_default().push((endpoint, model.clone()));
        }
    }
    merged
}

fn route_of(spec: &ModelSpec, name: &str, captured: &str, fleet: &Fleet, prices: &Prices) -> Route {
    let mut candidates: Vec<Candidate> = spec
        .deployments
        .iter()
        .filter(|deployment| deployment.weight > 0)
        .filter_map(|deployment| {
            let backend = fleet.get(&deployment.backend)?;
            let model = deployment.model.fill(captured);
            Some(Candidate {
                endpoint: backend.endpoint(&model),
                price: prices.of(name, &model, backend.spec.locality),
                order: deployment.order,
                weight: deployment.weight,
                timeouts: deployment.timeouts.unwrap_or(backend.spec.timeouts),
            })
        })
        .collect();
    candidates.sort_by_key(|candidate| candidate.order);
    let own = spec.name.as_str();
    let alias_of = (spec.name.is_literal() && own != name).then(|| ModelName::from(own));
    Route {
        model: ModelName::from(name),
        alias_of,
        pattern: None,
        candidates,
        gone_since: None,
        discovered: false,
        awaited: false,
        fallbacks: spec.fallbacks.clone(),
        context_fallbacks: spec.context_fallbacks.clone(),
        defaults: Arc::clone(&spec.defaults),
    }
}

fn discovered(name: &str, endpoint: &Arc<Endpoint>, prices: &Prices) -> Candidate {
    let spec = &endpoint.backend.spec;
    let price = prices.of(name, &endpoint.model, spec.locality);
    Candidate { endpoint: Arc::clone(endpoint), order: 1, weight: 1, timeouts: spec.timeouts, price }
}

/// A configured name's object: what its backends agree on, under the public name.
fn configured_fields(route: &Route) -> Map<String, Value> {
    let places: Vec<_> = route
        .candidates
        .iter()
        .filter_map(|candidate| {
            let endpoint = &candidate.endpoint;
            let models = endpoint.backend.models.load();
            let model = models.iter().find(|m| *m.id == *endpoint.model)?;
            Some((Arc::clone(endpoint), model.clone()))
        })
        .collect();
    shared_fields(&places)
}

/// The fields on which all instances agree, and how many there are.
fn shared_fields(places: &[(Arc<Endpoint>, ListedModel)]) -> Map<String, Value> {
    let mut fields = places.first().map(|(_, model)| model.fields.clone()).unwrap_or_default();
    for (_, other) in places.iter().skip(1) {
        fields.retain(|key, value| other.fields.get(key) == Some(value));
    }
    fields.insert("instances".to_owned(), places.len().into());
    fields
}
