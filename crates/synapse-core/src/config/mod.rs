//! Configuration in three types: raw (as written) → validated (every error at once) → a
//! [`snapshot::Snapshot`] that requests hold and reloads replace. A LiteLLM file is turned into the
//! same tree first, so there is one way to a snapshot.

mod address;
mod circle;
mod external;
mod interpolate;
mod litellm;
mod problem;
mod raw;
mod reader;
mod reference;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod validate;
mod writer;
mod yaml;

pub use address::UrlError;
pub use external::ExternalUrl;
pub use interpolate::Surroundings;
pub use litellm::{Import, NotCarried, import};
pub use problem::{Place, Problem};
pub use reference::{reference_markdown, schema};

use snapshot::Snapshot;

/// Reads a configuration, Synapse's own or a LiteLLM one. An empty text is a valid configuration.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub fn load(text: &str, world: &dyn Surroundings) -> Result<Snapshot, Vec<Problem>> {
    let mut problems = Vec::new();
    let snapshot = yaml::parse(text, &mut problems).map(|root| {
        let (root, not_carried) = match litellm::convert(&root, &mut problems) {
            Some(conversion) => (conversion.config, conversion.not_carried),
            None => (root, Vec::new()),
        };
        let mut snapshot = validate::snapshot(&root, world, &mut problems);
        snapshot.warnings.extend(not_carried.iter().map(ToString::to_string));
        snapshot
    });
    // Stable: of several mistakes at one place, the first found comes first.
    problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
    match snapshot {
        Some(snapshot) if problems.is_empty() => Ok(snapshot),
        _ => Err(problems),
    }
}
