//! A text that streams by, and what of it may go out.

use std::sync::Arc;

use crate::{
    finding::{Action, Direction, Finding},
    policy::Policy,
    redact::{Placeholders, label},
};

/// What a window lets out.
#[derive(Debug, Default)]
pub struct Step {
    /// What may go out, disguised where the policy asks for it.
    pub text: String,
    /// What was found in what has gone out; ranges are those of `text` before it was disguised.
    pub findings: Vec<Finding>,
    /// Whether nothing more may go out.
    pub blocked: bool,
}

/// One stream of text under a policy. What goes out does not depend on how the text was cut into pieces.
pub struct Window {
    policy: Arc<Policy>,
    direction: Direction,
    held: String,
    blocked: bool,
}

impl Window {
    /// At the beginning of a text.
    pub fn new(policy: Arc<Policy>, direction: Direction) -> Self {
        Self { policy, direction, held: String::new(), blocked: false }
    }

    /// Takes the next piece.
    pub fn push(&mut self, text: &str, _placeholders: &mut Placeholders) -> Step {
        if !self.blocked {
            self.held.push_str(text);
        }
        Step { blocked: self.blocked, ..Step::default() }
    }

    /// The end of the text.
    pub fn finish(&mut self, _placeholders: &mut Placeholders) -> Step {
        let text = std::mem::take(&mut self.held);
        let findings = self.policy.scan(self.direction, &text);
        self.blocked |= findings.iter().any(|finding| finding.action == Action::Block);
        let text = if self.blocked { String::new() } else { label(&text, &findings).into_owned() };
        Step { text, findings, blocked: self.blocked }
    }

    /// How many bytes wait for what comes next.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}
