//! Prices: those of the configuration, those of its price file, and those that Synapse ships with.

use std::sync::Arc;

use super::{Check, raw};
use crate::{
    config::{
        Surroundings, interpolate,
        problem::Problem,
        reader,
        yaml::{self, Content, Entry, Node},
    },
    glob::Glob,
    limits::Money,
    price::{Price, Priced, Prices},
};

/// What well-known providers ask for, with its date in the first lines.
pub(in crate::config) const PROVIDERS: &str = include_str!("../prices.yaml");

pub(super) fn check(raw: raw::Prices, check: &mut Check<'_>) -> Prices {
    let mut prices = Prices {
        currency: raw.currency.into(),
        own: raw.models.into_iter().filter_map(priced).collect(),
        providers: Vec::new(),
    };
    match raw.file {
        Some(path) => match check.world.read_file(path.as_ref()) {
            Ok(text) => match read(&text, check.world) {
                Ok(models) => prices.providers = models,
                Err(problem) => check.report("/prices/file", format!("in the file: {problem}")),
            },
            Err(error) => check.report("/prices/file", format!("the file cannot be read: {error}")),
        },
        // That the embedded list can be read is tested.
        None => prices.providers = read(PROVIDERS, &Nowhere).unwrap_or_default(),
    }
    prices
}

/// An amount that the schema has bounded.
pub(super) fn money(units: f64) -> Money {
    Money::from_nanos((units * 1e9).round() as u64)
}

fn priced(raw: raw::ModelPrice) -> Option<Priced> {
    let price = Price {
        input: money(raw.input_per_million),
        output: money(raw.output_per_million),
        cached_input: money(raw.cached_input_per_million.unwrap_or(raw.input_per_million)),
        per_request: money(raw.per_request),
        per_gpu_second: money(raw.per_gpu_second),
    };
    Some((Glob::new(raw.model?), Arc::new(price)))
}

/// The models of a price file, which is read as if it stood under `prices`.
pub(in crate::config) fn read(text: &str, world: &dyn Surroundings) -> Result<Vec<Priced>, Problem> {
    let mut problems = Vec::new();
    if let Some(root) = yaml::parse(text, &mut problems) {
        let place = root.place.clone();
        let entry = Entry { key: "prices".to_owned(), place: place.clone(), value: root };
        let root = Node { place, content: Content::Mapping(vec![entry]) };
        let reading = reader::read(&root, world, &mut problems);
        if problems.is_empty() {
            return Ok(reading.config.prices.models.into_iter().filter_map(priced).collect());
        }
    }
    Err(problems.swap_remove(0))
}

/// Surroundings without anything in them.
struct Nowhere;

impl interpolate::Surroundings for Nowhere {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn read_file(&self, _: &std::path::Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_that_synapse_ships_with_can_be_read_and_bears_a_date() {
        let models = read(PROVIDERS, &Nowhere).expect("a list");
        assert!(models.len() > 20);
        assert!(
            models.iter().all(|(_, price)| price.input <= price.output && price.cached_input <= price.input
                || price.output == Money::default())
        );
        let date = PROVIDERS.lines().find_map(|line| line.strip_prefix("# As of ")).expect("a date");
        date.trim_end_matches('.').parse::<jiff::civil::Date>().expect("a date");
    }
}
