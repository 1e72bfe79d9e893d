//! From detectors' hits to a policy's findings.

use crate::{
    finding::{Action, Category, Direction, Finding},
    identifiers,
    policy::Policy,
};

/// What `text` has from byte `left` on.
pub(crate) fn scan(
    policy: &Policy,
    text: &str,
    left: usize,
    hint: &str,
    direction: Direction,
    all: bool,
) -> Vec<Finding> {
    let _ = hint;
    let mut found = Vec::new();
    identifiers::find(text, &mut |hit| {
        let finding = policy.judge(Category::built_in(hit.category), hit.certainty, hit.range, direction);
        found.extend(finding.filter(|finding| all || finding.action > Action::Allow));
    });
    found.retain(|finding| finding.range.start >= left);
    resolve(found)
}

/// Of findings that overlap, the one with the strongest action stays; then the longest; then the surest.
fn resolve(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by_key(|finding| {
        let rank = (finding.action, finding.range.len(), finding.certainty);
        (std::cmp::Reverse(rank), finding.range.start)
    });
    let mut kept: Vec<Finding> = Vec::new();
    for finding in found {
        if kept.iter().all(|k| finding.range.end <= k.range.start || k.range.end <= finding.range.start) {
            kept.push(finding);
        }
    }
    kept.sort_by_key(|finding| finding.range.start);
    kept
}
