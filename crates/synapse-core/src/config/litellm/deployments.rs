//! `model_list`: entries with one `model_name` become one model with several deployments, and what
//! they connect to becomes a list of backends, each named once.

use std::collections::{HashMap, HashSet};

use url::Url;

use super::{
    Notes, carried,
    providers::{Resolved, is_default_base, resolve},
    respelt,
    router::{NO_COUNTERPART, Router, Wiring},
};
use crate::config::{
    problem::{Place, Problem},
    yaml::{Content, Entry, Node},
};

/// What `model_list` says.
#[derive(Default)]
pub(super) struct Deployments {
    backends: Vec<Backend>,
    /// Where each combination of engine, URL and key is in `backends`.
    known: HashMap<(&'static str, String, Option<String>), usize>,
    taken: HashSet<String>,
    models: Vec<Model>,
    /// Where each public name is in `models`.
    groups: HashMap<String, usize>,
}

struct Backend {
    name: String,
    engine: &'static str,
    place: Place,
    url: Node,
    key: Option<Node>,
    /// What each of its deployments says about requests at once.
    limits: Vec<Option<(Place, u64)>>,
}

struct Model {
    name: Node,
    deployments: Vec<Deployment>,
}

struct Deployment {
    place: Place,
    backend: usize,
    model: Node,
    order: Option<u64>,
    weight: Option<Node>,
    total: Option<Node>,
    first_token: Option<Node>,
}

impl Deployments {
    pub(super) fn read(&mut self, list: &Node, notes: &mut Notes, problems: &mut Vec<Problem>) {
        if !matches!(list.content, Content::Sequence(_)) && !list.is_null() {
            problems.push(Problem::new(&list.place, "expected a list"));
        }
        for item in list.items() {
            let params = item.get("litellm_params");
            let required = |node: Option<&Node>, place: Place| match node.and_then(Node::as_text) {
                Some(text) => Ok(text.to_owned()),
                None => Err(Problem::new(&place, "is required, but missing")),
            };
            let name = required(item.get("model_name"), item.place.key("model_name"));
            let at = params.map_or_else(|| item.place.key("litellm_params"), |params| params.place.clone());
            let model = required(params.and_then(|params| params.get("model")), at.key("model"));
            match (name, model, params) {
                (Ok(name), Ok(model), Some(params)) => self.entry(item, &name, &model, params, notes),
                (name, model, _) => problems.extend(name.err().into_iter().chain(model.err())),
            }
        }
    }

    fn entry(&mut self, item: &Node, name: &str, model: &str, params: &Node, notes: &mut Notes) {
        let extra = item.entries().iter().filter(|e| !matches!(&*e.key, "model_name" | "litellm_params"));
        extra.for_each(|entry| notes.add(&entry.place, "prices and descriptions of models are not read"));
        let target = match Target::of(params, model) {
            Ok(target) => target,
            Err(reason) => return notes.add(&item.place, reason),
        };
        let mut deployment = Deployment {
            place: item.place.clone(),
            model: target.model.clone(),
            backend: self.backend(target),
            order: None,
            weight: None,
            total: None,
            first_token: None,
        };
        let limit = deployment.settings(params, notes);
        self.backends[deployment.backend].limits.push(limit);
        let name = respelt(name);
        let group = *self.groups.entry(name.clone()).or_insert_with(|| {
            let place = item.get("model_name").map_or(&item.place, |name| &name.place);
            self.models.push(Model { name: Node::text(place, name), deployments: Vec::new() });
            self.models.len() - 1
        });
        self.models[group].deployments.push(deployment);
    }

    /// The index of the backend with this engine, URL and key; a new one where there is none.
    fn backend(&mut self, target: Target<'_>) -> usize {
        let Target { label, engine, url, key, .. } = target;
        let text = |node: &Node| node.as_text().unwrap_or_default().to_owned();
        let identity = (engine, text(&url).trim_end_matches('/').to_owned(), key.as_ref().map(text));
        if let Some(index) = self.known.get(&identity) {
            return *index;
        }
        let wish = readable_name(label, &identity.1);
        let numbered = (2_u32..).map(|n| format!("{wish}-{n}"));
        let is_free = |name: &String| !self.taken.contains(name);
        let name = std::iter::once(wish.clone()).chain(numbered).find(is_free).unwrap_or_default();
        self.taken.insert(name.clone());
        let place = url.place.clone();
        self.backends.push(Backend { name, engine, place, url, key, limits: Vec::new() });
        self.known.insert(identity, self.backends.len() - 1);
        self.backends.len() - 1
    }

    /// The public names, in order.
    pub(super) fn model_names(&self) -> Vec<String> {
        self.models.iter().filter_map(|model| model.name.as_text()).map(str::to_owned).collect()
    }

    /// The section `backends`.
    pub(super) fn backends(&self, place: &Place, router: &Router, notes: &mut Notes) -> Node {
        let items = self.backends.iter().map(|backend| {
            let engine = Node::text(&backend.place, backend.engine);
            Node::mapping(
                &backend.place,
                [
                    ("name", Some(Node::text(&backend.place, backend.name.as_str()))),
                    ("type", Some(engine)),
                    ("url", Some(backend.url.clone())),
                    ("api_key", backend.key.clone()),
                    ("timeouts", timeouts(router.first_token.clone(), router.total.clone())),
                    ("max_in_flight", in_flight(&backend.limits, notes)),
                ],
            )
        });
        Node::sequence(place, items.collect())
    }

    /// The section `models`.
    pub(super) fn models(&self, place: &Place, wiring: &Wiring) -> Node {
        let items = self.models.iter().enumerate().map(|(index, model)| {
            // Where some entries of a name have an order, LiteLLM takes those without one last.
            let last = model.deployments.iter().filter_map(|d| d.order).max().map(|order| order + 1);
            let deployments = model.deployments.iter().map(|d| self.deployment(d, d.order.or(last)));
            let place = &model.name.place;
            Node::mapping(
                place,
                [
                    ("name", Some(model.name.clone())),
                    ("aliases", list(place, wiring.aliases(index))),
                    ("deployments", Some(Node::sequence(place, deployments.collect()))),
                    ("fallbacks", list(place, wiring.fallbacks(index))),
                    ("context_fallbacks", list(place, wiring.context_fallbacks(index))),
                ],
            )
        });
        Node::sequence(place, items.collect())
    }

    fn deployment(&self, deployment: &Deployment, order: Option<u64>) -> Node {
        let place = &deployment.place;
        let backend = Node::text(place, self.backends[deployment.backend].name.as_str());
        Node::mapping(
            place,
            [
                ("backend", Some(backend)),
                ("model", Some(deployment.model.clone())),
                ("order", order.map(|order| Node::number(place, order))),
                ("weight", deployment.weight.clone()),
                ("timeouts", timeouts(deployment.first_token.clone(), deployment.total.clone())),
            ],
        )
    }
}

impl Deployment {
    /// Takes over what `params` say beside the target; hands back the bound on requests at once.
    fn settings(&mut self, params: &Node, notes: &mut Notes) -> Option<(Place, u64)> {
        let mut limit = None;
        for Entry { key, place, value } in params.entries().iter().filter(|entry| !entry.value.is_null()) {
            match key.as_str() {
                "model" | "api_base" | "base_url" | "api_key" | "custom_llm_provider" => {}
                "order" => self.order = notes.whole(value),
                "weight" => self.weight = notes.whole(value).map(|n| Node::number(&value.place, n)),
                "timeout" => self.total = carried(value),
                "stream_timeout" => self.first_token = carried(value),
                "max_parallel_requests" => limit = notes.whole(value).map(|n| (value.place.clone(), n)),
                "rpm" | "tpm" => notes.add(place, "rates are limits of keys, not of deployments"),
                _ => notes.add(place, NO_COUNTERPART),
            }
        }
        limit
    }
}

/// What a deployment connects to.
struct Target<'n> {
    label: &'n str,
    engine: &'static str,
    url: Node,
    key: Option<Node>,
    model: Node,
}

impl<'n> Target<'n> {
    /// The target of `litellm_params`, or the reason why there is none for us.
    fn of(params: &'n Node, model: &'n str) -> Result<Self, String> {
        let base = params.get("api_base").or_else(|| params.get("base_url")).and_then(carried);
        let custom = params.get("custom_llm_provider").and_then(Node::as_text);
        if model.starts_with("os.environ/") {
            return Err("which provider it is would only be known at the start".to_owned());
        }
        let (provider, model) = match resolve(model, custom) {
            Resolved::Model(provider, model) => (provider, model),
            Resolved::Foreign(name) => {
                return Err(format!("`{name}` speaks a protocol that this version does not translate"));
            }
            Resolved::Anything => {
                return Err("`*` names no provider; write `openai/*` or the like".to_owned());
            }
        };
        let place = params.get("model").map_or(&params.place, |model| &model.place);
        let own_base = || provider.base.map(|base| Node::text(place, base));
        // A key from the environment is for the provider itself, not for whatever `api_base` names.
        let own_key = || {
            let variable = provider.key_variable.filter(|_| base.is_none())?;
            Some(Node::text(place, format!("${{{variable}}}")))
        };
        let key = params.get("api_key").and_then(carried).or_else(own_key);
        let url =
            base.or_else(own_base).ok_or_else(|| format!("`{}` needs an `api_base`", provider.label))?;
        let model = Node::text(place, respelt(model));
        Ok(Self { label: provider.label, engine: provider.engine, url, key, model })
    }
}

fn timeouts(first_token: Option<Node>, total: Option<Node>) -> Option<Node> {
    let place = first_token.as_ref().or(total.as_ref())?.place.clone();
    Some(Node::mapping(&place, [("first_token_s", first_token), ("total_s", total)]))
}

fn list(place: &Place, items: &[Node]) -> Option<Node> {
    (!items.is_empty()).then(|| Node::sequence(place, items.to_vec()))
}

/// LiteLLM bounds each deployment, Synapse each backend. Where every deployment of a backend has a
/// bound, their sum is the same promise to it; otherwise some were meant to be without one.
fn in_flight(limits: &[Option<(Place, u64)>], notes: &mut Notes) -> Option<Node> {
    let given = || limits.iter().flatten();
    if given().count() < limits.len() {
        for (place, _) in given() {
            notes.add(place, "the bound of one deployment; others at the same backend have none");
        }
        return None;
    }
    let sum = given().fold(0_u64, |sum, (_, limit)| sum.saturating_add(*limit));
    given().next().map(|(place, _)| Node::number(place, sum))
}

/// `vllm-10.0.0.5-8001` for an address, the provider's own name for anything else.
fn readable_name(label: &str, url: &str) -> String {
    let own_address = is_default_base(url);
    let host = Url::parse(url).ok().filter(|_| !own_address).and_then(|url| {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(url.port().map_or(host.clone(), |port| format!("{host}-{port}")))
    });
    match host {
        Some(host) if host.starts_with(label) => host,
        Some(host) => format!("{label}-{host}"),
        None => label.to_owned(),
    }
}
