//! Names that become labels of counters. Counters cannot be dropped when their backend leaves, and workers
//! choose their own names and list whatever models they like: there is a bound to how many are told apart.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::Label;

/// Names that are told apart, of backends and of models each.
const MOST: usize = 1024;
/// Stands for all others.
const OTHERS: &str = "others";

/// Names of one kind.
#[derive(Default)]
pub(super) struct Names(Mutex<HashSet<Arc<str>>>);

impl Names {
    /// The name as a label.
    pub(super) fn label(&self, name: &str) -> Label {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(name) {
            return Label(Arc::clone(known));
        }
        if known.len() >= MOST {
            return Label::from(OTHERS);
        }
        let name: Arc<str> = name.into();
        known.insert(Arc::clone(&name));
        Label(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_names_are_not_told_apart() {
        let names = Names::default();
        for number in 0..MOST {
            assert_eq!(&*names.label(&number.to_string()).0, number.to_string());
        }
        assert_eq!(&*names.label("one more").0, OTHERS);
        assert_eq!(&*names.label("7").0, "7", "known ones stay");
    }
}
