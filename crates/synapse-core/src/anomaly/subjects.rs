//! What is remembered of whom, with a bound: those that have been quiet longest give way.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Histories by name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Subjects<T> {
    #[serde(skip)]
    most: usize,
    /// Counts up with every look.
    now: u64,
    all: HashMap<String, (u64, T)>,
}

impl<T: Default> Subjects<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, now: 0, all: HashMap::new() }
    }

    /// The same, with this bound.
    pub(super) fn within(mut self, most: usize) -> Self {
        self.most = most;
        self.make_room();
        self
    }

    /// The history of that name; a new one where there is none.
    pub(super) fn of(&mut self, name: &str, new: impl FnOnce() -> T) -> &mut T {
        self.now += 1;
        if !self.all.contains_key(name) {
            self.make_room();
        }
        let now = self.now;
        let (seen, history) = self.all.entry(name.to_owned()).or_insert_with(|| (now, new()));
        *seen = now;
        history
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// One that comes in moves out an eighth of all, so that a flood of new names costs little each.
    fn make_room(&mut self) {
        if self.all.len() < self.most {
            return;
        }
        let mut looks: Vec<u64> = self.all.values().map(|(seen, _)| *seen).collect();
        let gone = (looks.len() - self.most) + self.most.div_ceil(8);
        let at = gone.min(looks.len()).saturating_sub(1);
        let (_, last_to_go, _) = looks.select_nth_unstable(at);
        let last_to_go = *last_to_go;
        self.all.retain(|_, (seen, _)| *seen > last_to_go);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_names_pushes_out_the_quiet_ones_and_not_the_busy_one() {
        let mut subjects: Subjects<u32> = Subjects::new(16);
        for number in 0..1000 {
            *subjects.of("busy", Default::default) += 1;
            subjects.of(&number.to_string(), Default::default);
            assert!(subjects.all.len() <= 16);
        }
        assert_eq!(*subjects.of("busy", Default::default), 1000);
    }
}
