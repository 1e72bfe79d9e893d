//! What is found, and what is not: values that a generator makes and breaks, the ways to write them, and texts that
//! only look like having some.

mod forms;
mod lookalikes;
mod makers;
mod texts;
mod values;

use super::find;
use crate::hit::{Certainty, Hit};

/// Everything in `text`.
fn hits(text: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    find(text, &mut |hit| hits.push(hit));
    hits
}

/// How sure the detector is of this category, which covers all of `value`; if it found it at all.
fn certainty(text: &str, value: &str, category: &str) -> Option<Certainty> {
    let start = text.find(value).expect("the value stands in the text");
    let covers = |hit: &Hit| hit.range.start <= start && hit.range.end >= start + value.len();
    hits(text)
        .into_iter()
        .filter(|hit| hit.category == category && covers(hit))
        .map(|hit| hit.certainty)
        .max()
}

/// The categories in `text` that are more than a chance.
fn likely(text: &str) -> Vec<&'static str> {
    let sure = hits(text).into_iter().filter(|hit| hit.certainty > Certainty::Weak);
    let mut categories: Vec<_> = sure.map(|hit| hit.category).collect();
    categories.sort_unstable();
    categories.dedup();
    categories
}
