//! Counting what was found in prompts and replies.

use super::{FindingLabels, Metrics};
use crate::inspect::{Tally, direction_name};

impl Metrics {
    /// Counts the findings of a closing request.
    pub(crate) fn count_findings(&self, tally: &Tally) {
        for (category, action, direction, count) in tally.counts() {
            let labels = FindingLabels {
                category: self.categories.label(category.as_str()),
                action: action.as_str(),
                direction: direction_name(direction),
            };
            self.findings.get_or_create(&labels).inc_by(count);
        }
    }
}
