//! What was found in one request, counted by category: what its incident will say.

use jiff::Timestamp;
use synapse_core::{
    id::RequestId,
    incident::{Incident, IncidentFinding, MAX_PATHS},
};
use synapse_dlp::{Action, Category, Direction, Finding, Policy, Severity};

use crate::audit::Subject;

/// How many categories are told apart in one request; a custom rule set may have very many.
const MAX_ENTRIES: usize = 256;

/// What was found.
#[derive(Default)]
pub(crate) struct Tally {
    id: Option<String>,
    entries: Vec<Entry>,
    /// In which directions nothing more may pass.
    stopped: [bool; 2],
}

/// Findings of one category in one direction with one action.
pub(crate) struct Entry {
    direction: Direction,
    pub(crate) category: Category,
    severity: Severity,
    action: Action,
    count: u64,
    places: Vec<usize>,
    pub(crate) paths: Vec<String>,
}

impl Tally {
    /// Counts what was found in the text at `path`.
    /// `at` tells the places apart.
    pub(crate) fn note(
        &mut self,
        direction: Direction,
        finding: &Finding,
        at: usize,
        path: impl FnOnce() -> String,
    ) {
        self.id.get_or_insert_with(|| format!("inc_{}", RequestId::generate()));
        self.stopped[direction as usize] |= finding.action == Action::Block;
        let same = |entry: &&mut Entry| {
            entry.direction == direction
                && entry.category == finding.category
                && entry.action == finding.action
        };
        if let Some(entry) = self.entries.iter_mut().find(same) {
            entry.count += 1;
            // To tell a place takes a walk over the whole body.
            if entry.places.len() < MAX_PATHS && !entry.places.contains(&at) {
                entry.places.push(at);
                let path = path();
                if !entry.paths.contains(&path) {
                    entry.paths.push(path);
                }
            }
        } else if self.entries.len() < MAX_ENTRIES {
            self.entries.push(Entry {
                direction,
                category: finding.category.clone(),
                severity: finding.severity,
                action: finding.action,
                count: 1,
                places: vec![at],
                paths: vec![path()],
            });
        }
    }

    /// Nothing more may pass.
    pub(crate) fn stop(&mut self, direction: Direction) {
        self.id.get_or_insert_with(|| format!("inc_{}", RequestId::generate()));
        self.stopped[direction as usize] = true;
    }

    /// Whether anything may pass.
    pub(crate) const fn is_stopped(&self, direction: Direction) -> bool {
        self.stopped[direction as usize]
    }

    /// The incident's identifier; empty where there is none.
    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// What stopped the request or the reply.
    pub(crate) fn blocking(&self, direction: Direction) -> Vec<&Entry> {
        let blocks = |entry: &&Entry| entry.direction == direction && entry.action == Action::Block;
        self.entries.iter().filter(blocks).collect()
    }

    /// What a caller is told of findings.
    pub(crate) fn summary(&self, direction: Direction) -> Vec<serde_json::Value> {
        let entries = self.entries.iter().filter(|entry| entry.direction == direction);
        let told = |entry: &Entry| {
            serde_json::json!({
                "category": entry.category.as_str(),
                "severity": entry.severity.as_str(),
                "action": entry.action.as_str(),
                "count": entry.count,
            })
        };
        entries.map(told).collect()
    }

    /// How often what was found, by category, action and direction.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&Category, Action, Direction, u64)> {
        self.entries.iter().map(|entry| (&entry.category, entry.action, entry.direction, entry.count))
    }

    /// The incident of a closing request.
    pub(crate) fn incident(&self, policy: &Policy, at: Timestamp, subject: Subject<'_>) -> Option<Incident> {
        let action = self.entries.iter().map(|entry| entry.action).max()?;
        let severity = self.entries.iter().map(|entry| entry.severity).max()?;
        let finding = |entry: &Entry| IncidentFinding {
            direction: direction_name(entry.direction).to_owned(),
            category: entry.category.as_str().to_owned(),
            severity: entry.severity.as_str().to_owned(),
            action: entry.action.as_str().to_owned(),
            count: entry.count,
            paths: entry.paths.clone(),
        };
        Some(Incident {
            id: self.id.clone()?,
            at,
            request: subject.request.clone(),
            key: subject.actor.key.clone(),
            team: subject.actor.team.clone(),
            model: subject.target.model.clone(),
            policy: policy.name().into(),
            policy_version: policy.version().to_owned(),
            action: action.as_str().to_owned(),
            severity: severity.as_str().to_owned(),
            findings: self.entries.iter().map(finding).collect(),
        })
    }
}

/// A direction's name in records and metrics.
pub(crate) const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Prompt => "prompt",
        Direction::Reply => "reply",
    }
}
