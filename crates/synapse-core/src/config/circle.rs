//! Which model falls back to which, kept free of circles.

/// Edges between nodes `0..n` that never form a circle.
pub(super) struct Acyclic(Vec<Vec<usize>>);

impl Acyclic {
    /// `count` nodes without edges.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![Vec::new(); count])
    }

    /// Adds an edge; refused, with `false`, if it would close a circle.
    pub(super) fn connect(&mut self, from: usize, to: usize) -> bool {
        if self.reaches(to, from) {
            return false;
        }
        self.0[from].push(to);
        true
    }

    fn reaches(&self, start: usize, goal: usize) -> bool {
        let mut open = vec![start];
        let mut seen = vec![false; self.0.len()];
        while let Some(at) = open.pop() {
            if at == goal {
                return true;
            }
            if !std::mem::replace(&mut seen[at], true) {
                open.extend(&self.0[at]);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_closes_a_circle_is_refused() {
        let mut edges = Acyclic::new(3);
        assert!(edges.connect(0, 1) && edges.connect(1, 2) && edges.connect(0, 2));
        assert!(!edges.connect(2, 0) && !edges.connect(1, 1));
    }
}
