//! `router_settings` and `litellm_settings`: retries, timeouts, cooldowns, fallbacks and aliases.

use std::collections::HashMap;

use super::{Notes, carried, respelt};
use crate::config::{
    circle::Acyclic,
    problem::Place,
    yaml::{Entry, Node},
};

/// The reason for everything that needs no other.
pub(super) const NO_COUNTERPART: &str = "Synapse has no counterpart for it";

const NO_SUCH_MODEL: &str = "no model of this name is carried over";
/// The most that `routing.retries` takes.
const MOST_RETRIES: u64 = 10;

/// What the settings say; the last one read wins.
#[derive(Default)]
pub(super) struct Router {
    strategy: Option<Node>,
    retries: Option<Node>,
    pub(super) total: Option<Node>,
    pub(super) first_token: Option<Node>,
    failures: Option<Node>,
    open: Option<Node>,
    fallbacks: Vec<Fallbacks>,
    context_fallbacks: Vec<Fallbacks>,
    defaults: Vec<Node>,
    /// Another name, and the model that it stands for.
    aliases: Vec<(Node, Node)>,
}

/// `{from: [to, …]}`
struct Fallbacks {
    from: String,
    place: Place,
    to: Vec<Node>,
}

impl Router {
    /// Takes over one section.
    pub(super) fn read(&mut self, section: &Node, notes: &mut Notes) {
        for Entry { key, place, value } in section.entries() {
            if value.is_null() {
                continue;
            }
            match key.as_str() {
                "routing_strategy" => self.strategy = Some(strategy(value, notes)),
                "num_retries" => self.retries = retries(value, notes),
                "timeout" | "request_timeout" => self.total = carried(value),
                "stream_timeout" => self.first_token = carried(value),
                "allowed_fails" => {
                    // LiteLLM cools a deployment down when it failed more often than this.
                    let failures = notes.whole(value).map(|fails| fails.saturating_add(1));
                    self.failures = failures.map(|failures| Node::number(&value.place, failures));
                }
                "cooldown_time" => self.open = carried(value),
                "fallbacks" => {
                    let (by_model, of_star) = fallbacks(value, notes);
                    self.fallbacks = by_model;
                    if let Some(of_star) = of_star {
                        self.defaults = of_star;
                    }
                }
                "context_window_fallbacks" => self.context_fallbacks = fallbacks(value, notes).0,
                "default_fallbacks" => self.defaults = names(value, notes),
                "model_group_alias" => self.aliases(value),
                "content_policy_fallbacks" => {
                    notes.add(place, "what an engine refuses to say, no other engine is asked for");
                }
                "drop_params" => notes.add(place, "parameters are passed to the engine as they are"),
                _ => notes.add(place, NO_COUNTERPART),
            }
        }
    }

    fn aliases(&mut self, section: &Node) {
        self.aliases.clear();
        for Entry { key, place, value } in section.entries() {
            if let Some(target) = carried(value.get("model").unwrap_or(value)) {
                self.aliases.push((Node::text(place, respelt(key)), target));
            }
        }
    }

    /// The section `routing`.
    pub(super) fn routing(&self, place: &Place) -> Node {
        let breaker = self.failures.as_ref().or(self.open.as_ref()).map(|given| {
            Node::mapping(&given.place, [("failures", self.failures.clone()), ("open_s", self.open.clone())])
        });
        // LiteLLM shuffles by weight unless told otherwise.
        let strategy = self.strategy.clone().unwrap_or_else(|| Node::text(place, "weighted"));
        let retries = self.retries.clone();
        Node::mapping(place, [("strategy", Some(strategy)), ("retries", retries), ("breaker", breaker)])
    }

    /// Aliases and fallbacks by the index of their model in `models`.
    pub(super) fn wire(&self, models: &[String], notes: &mut Notes) -> Wiring {
        let mut wiring = Wiring::new(models.len());
        let mut names: HashMap<&str, usize> = models.iter().map(String::as_str).zip(0..).collect();
        for (alias, target) in &self.aliases {
            let (Some(name), Some(of)) = (alias.as_text(), target.as_text()) else { continue };
            match names.get(of).copied() {
                _ if names.contains_key(name) => notes.add(&alias.place, "a model has this name"),
                Some(index) => {
                    wiring.models[index].aliases.push(alias.clone());
                    names.insert(name, index);
                }
                None => notes.add(&alias.place, NO_SUCH_MODEL),
            }
        }
        let find = |name: &str| names.get(name).copied();
        let mut with_own = vec![false; models.len()];
        let lists = [(Kind::Failure, &self.fallbacks), (Kind::Context, &self.context_fallbacks)];
        for (kind, fallbacks) in
            lists.into_iter().flat_map(|(kind, list)| list.iter().map(move |f| (kind, f)))
        {
            let Some(from) = find(&fallbacks.from) else {
                notes.add(&fallbacks.place, NO_SUCH_MODEL);
                continue;
            };
            with_own[from] |= kind == Kind::Failure;
            for name in &fallbacks.to {
                match name.as_text().and_then(find) {
                    Some(to) if wiring.connect(kind, from, to, name) => {}
                    Some(_) => notes.add(&name.place, "this fallback would close a circle"),
                    None => notes.add(&name.place, NO_SUCH_MODEL),
                }
            }
        }
        for name in &self.defaults {
            let Some(to) = name.as_text().and_then(find) else {
                notes.add(&name.place, NO_SUCH_MODEL);
                continue;
            };
            for from in (0..models.len()).filter(|from| !with_own[*from]) {
                // Refused for the default itself and for what it falls back to: nobody asked for that.
                wiring.connect(Kind::Failure, from, to, name);
            }
        }
        wiring
    }
}

/// What a fallback is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Every deployment failed.
    Failure,
    /// The request is too long.
    Context,
}

/// Aliases and fallbacks of every model.
pub(super) struct Wiring {
    models: Vec<Wires>,
    circles: [Acyclic; 2],
}

#[derive(Clone, Default)]
struct Wires {
    aliases: Vec<Node>,
    fallbacks: [Vec<Node>; 2],
}

impl Wiring {
    fn new(models: usize) -> Self {
        let circles = [Acyclic::new(models), Acyclic::new(models)];
        Self { models: vec![Wires::default(); models], circles }
    }

    pub(super) fn aliases(&self, model: usize) -> &[Node] {
        self.models.get(model).map(|wires| wires.aliases.as_slice()).unwrap_or_default()
    }

    pub(super) fn fallbacks(&self, model: usize) -> &[Node] {
        self.list(Kind::Failure, model)
    }

    pub(super) fn context_fallbacks(&self, model: usize) -> &[Node] {
        self.list(Kind::Context, model)
    }

    fn list(&self, kind: Kind, model: usize) -> &[Node] {
        self.models.get(model).map(|wires| wires.fallbacks[kind as usize].as_slice()).unwrap_or_default()
    }

    /// Adds a fallback unless it would close a circle, which LiteLLM bounds by a count instead.
    fn connect(&mut self, kind: Kind, from: usize, to: usize, name: &Node) -> bool {
        let is_new = self.circles[kind as usize].connect(from, to);
        if is_new {
            self.models[from].fallbacks[kind as usize].push(name.clone());
        }
        is_new
    }
}

/// A list of fallbacks by model, and those of `*` where it has such.
fn fallbacks(list: &Node, notes: &mut Notes) -> (Vec<Fallbacks>, Option<Vec<Node>>) {
    let (mut by_model, mut of_star) = (Vec::new(), None);
    for Entry { key, place, value } in list.items().iter().flat_map(Node::entries) {
        let to = names(value, notes);
        if key == "*" {
            of_star = Some(to);
        } else {
            by_model.push(Fallbacks { from: respelt(key), place: place.clone(), to });
        }
    }
    (by_model, of_star)
}

fn names(list: &Node, notes: &mut Notes) -> Vec<Node> {
    let mut names = Vec::new();
    for item in list.items() {
        match carried(item) {
            Some(name) => names.push(Node { place: item.place.clone(), ..name }),
            None => notes.add(&item.place, "a fallback with parameters of its own"),
        }
    }
    names
}

fn retries(value: &Node, notes: &mut Notes) -> Option<Node> {
    let retries = notes.whole(value)?;
    if retries > MOST_RETRIES {
        notes.add(&value.place, format!("Synapse retries at most {MOST_RETRIES} times"));
    }
    Some(Node::number(&value.place, retries.min(MOST_RETRIES)))
}

fn strategy(value: &Node, notes: &mut Notes) -> Node {
    let name = value.as_text().unwrap_or_default();
    let ours = match name {
        "simple-shuffle" => "weighted",
        "least-busy" | "usage-based-routing" | "usage-based-routing-v2" => "least_loaded",
        "latency-based-routing" => "latency",
        _ => {
            notes.add(&value.place, format!("there is no strategy `{name}`; least_loaded is used"));
            "least_loaded"
        }
    };
    Node::text(&value.place, ours)
}
