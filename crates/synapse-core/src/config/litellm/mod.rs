//! LiteLLM's `config.yaml`, turned into the tree of a Synapse configuration. Every node keeps its
//! place in the LiteLLM file, so mistakes are reported where the user wrote them; references to the
//! environment stay references.

mod deployments;
mod providers;
mod router;
#[cfg(test)]
mod tests;

use std::fmt;

use deployments::Deployments;
use router::Router;

use super::{
    interpolate::escape,
    problem::{Place, Problem},
    writer,
    yaml::{self, Content, Node, Scalar},
};

/// The id of LiteLLM's master key in records.
const MASTER_KEY_ID: &str = "litellm-master-key";

/// A LiteLLM file as a Synapse one.
#[derive(Debug)]
pub struct Import {
    /// A configuration for `synapse serve --config`. References to the environment stay references;
    /// a secret that the file spells out is spelt out here, too.
    pub yaml: String,
    /// What has no place in it.
    pub not_carried: Vec<NotCarried>,
}

/// A setting that Synapse has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCarried {
    /// Where it stands in the LiteLLM file.
    pub place: Place,
    /// Why it was left behind.
    pub reason: String,
}

impl fmt::Display for NotCarried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: not carried over: {}", self.place.line, self.place.path, self.reason)
    }
}

/// Converts a LiteLLM file.
///
/// # Errors
/// When it is not a LiteLLM file, or its structure is broken.
pub fn import(text: &str) -> Result<Import, Vec<Problem>> {
    let mut problems = Vec::new();
    let root = yaml::parse(text, &mut problems);
    let conversion = root.as_ref().and_then(|root| convert(root, &mut problems));
    if let (Some(root), None) = (&root, &conversion) {
        problems.push(Problem::new(&root.place, "not a LiteLLM configuration: there is no `model_list`"));
    }
    match conversion {
        Some(conversion) if problems.is_empty() => {
            Ok(Import { yaml: writer::write(&conversion.config), not_carried: conversion.not_carried })
        }
        _ => Err(problems),
    }
}

/// The class of traffic that may go anywhere.
const NON_SENSITIVE: &str = "non_sensitive";

/// The result of [`convert`].
pub(super) struct Conversion {
    /// The tree of a Synapse configuration.
    pub(super) config: Node,
    pub(super) not_carried: Vec<NotCarried>,
}

/// Converts the tree of a LiteLLM file; `None` if it is not one.
pub(super) fn convert(root: &Node, problems: &mut Vec<Problem>) -> Option<Conversion> {
    let list = root.get("model_list")?;
    let mut notes = Notes::default();
    let mut deployments = Deployments::default();
    deployments.read(list, &mut notes, problems);
    let mut router = Router::default();
    // Where both say something, LiteLLM's router goes by its own settings.
    for section in ["litellm_settings", "router_settings"] {
        root.get(section).into_iter().for_each(|section| router.read(section, &mut notes));
    }
    let master_key = master_key(root, &mut notes);
    unread_sections(root, &mut notes);
    let wiring = router.wire(&deployments.model_names(), &mut notes);
    let config = Node::mapping(
        &root.place,
        [
            ("auth", master_key.map(auth)),
            ("backends", Some(deployments.backends(&list.place, &router, &mut notes))),
            ("models", Some(deployments.models(&list.place, &wiring))),
            ("routing", Some(router.routing(&root.place))),
        ],
    );
    notes.0.sort_by_key(|note| (note.place.line, note.place.column));
    Some(Conversion { config, not_carried: notes.0 })
}

/// What `general_settings` has for us: the master key.
fn master_key(root: &Node, notes: &mut Notes) -> Option<Node> {
    let mut master_key = None;
    for entry in root.get("general_settings").map(Node::entries).unwrap_or_default() {
        let reason = match entry.key.as_str() {
            "master_key" => {
                master_key = carried(&entry.value);
                continue;
            }
            "database_url" => "Synapse keeps its keys in a database of its own: see `database.url`",
            _ => router::NO_COUNTERPART,
        };
        notes.add(&entry.place, reason);
    }
    if master_key.is_none() {
        let place = root.place.key("general_settings").key("master_key");
        notes.add(&place, "without one LiteLLM serves anyone; Synapse asks for a key of its own");
    }
    master_key
}

fn unread_sections(root: &Node, notes: &mut Notes) {
    for entry in root.entries() {
        let reason = match entry.key.as_str() {
            "model_list" | "litellm_settings" | "router_settings" | "general_settings" => continue,
            "environment_variables" => "set these in the environment of Synapse itself",
            _ => router::NO_COUNTERPART,
        };
        notes.add(&entry.place, reason);
    }
}

fn auth(secret: Node) -> Node {
    let place = secret.place.clone();
    let id = Node::text(&place, MASTER_KEY_ID);
    // LiteLLM sends everything everywhere; who takes over its file expects that.
    let class = Node::text(&place, NON_SENSITIVE);
    let key =
        Node::mapping(&place, [("id", Some(id)), ("secret", Some(secret)), ("data_class", Some(class))]);
    Node::mapping(&place, [("static_keys", Some(Node::sequence(&place, vec![key])))])
}

/// What has no place in Synapse, as far as it was found.
#[derive(Default)]
struct Notes(Vec<NotCarried>);

impl Notes {
    fn add(&mut self, place: &Place, reason: impl Into<String>) {
        self.0.push(NotCarried { place: place.clone(), reason: reason.into() });
    }

    /// A whole number; anything else is noted.
    fn whole(&mut self, node: &Node) -> Option<u64> {
        let number = node.as_text()?.parse().ok();
        if number.is_none() {
            self.add(&node.place, "not a whole number");
        }
        number
    }
}

/// A scalar in Synapse's spelling: `os.environ/X` becomes `${X}`, and what only looks like a
/// reference of ours is escaped. `None` where nothing, or no scalar, was written.
fn carried(node: &Node) -> Option<Node> {
    let text = respelt(node.as_text()?);
    let plain = matches!(&node.content, Content::Scalar(scalar) if scalar.plain);
    Some(Node { place: node.place.clone(), content: Content::Scalar(Scalar { text, plain }) })
}

fn respelt(text: &str) -> String {
    match text.strip_prefix("os.environ/") {
        Some(name) => format!("${{{}}}", name.trim()),
        None => escape(text),
    }
}
