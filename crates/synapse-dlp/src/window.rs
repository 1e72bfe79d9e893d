//! A text that streams by, and what of it may go out.

mod atoms;

use std::{ops::Range, sync::Arc};

pub(crate) use self::atoms::is_delimiter;
use self::atoms::{Cut, Cutter, Next};
use crate::{
    custom::Compiled,
    finding::{Action, Category, Direction, Finding},
    hit::Certainty,
    policy::Policy,
    redact::label,
};

/// How much of what has gone out is context for what follows, in bytes.
const CONTEXT: usize = 256;

/// When this much has gone out, all but the context is forgotten.
const FORGET: usize = 4096;

/// A finding that still may grow waits no longer than this, in bytes.
const GROWTH: usize = 2048;

/// What a window lets out.
#[derive(Debug, Default)]
pub struct Step {
    /// What may go out, disguised where the policy asks for it. Findings become labels, whatever the policy
    /// makes of those in prompts: what is taken out of a reply does not come back.
    pub text: String,
    /// What was found in it; ranges count from the beginning of the stream, before anything was disguised.
    pub findings: Vec<Finding>,
    /// Whether nothing more may go out.
    pub blocked: bool,
}

/// One stream of text under a policy. What goes out does not depend on how the text was cut into pieces.
pub struct Window {
    policy: Arc<Policy>,
    direction: Direction,
    cutter: Cutter,
    /// The context, and what has not gone out.
    buffer: String,
    /// Where in the buffer that begins.
    released: usize,
    /// Where in the stream the buffer begins.
    offset: usize,
    /// What was found in what has not gone out; ranges are those of the buffer.
    found: Vec<Finding>,
    /// Whether the token that goes on is part of a finding that has gone out.
    swallowing: bool,
    blocked: bool,
    /// How much custom rules need to see at once; none without such rules.
    reach: Option<usize>,
    /// Whether nothing goes out before the end.
    whole: bool,
}

impl Window {
    /// At the beginning of a text.
    pub fn new(policy: Arc<Policy>, direction: Direction) -> Self {
        let keys = policy.action(&Category::built_in("private_key"), direction) >= Action::Redact;
        Self {
            cutter: Cutter::new(keys),
            buffer: String::new(),
            released: 0,
            offset: 0,
            found: Vec::new(),
            swallowing: false,
            blocked: false,
            reach: policy.custom_rules(direction).map(Compiled::reach).max(),
            whole: policy.needs_whole(direction),
            policy,
            direction,
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, text: &str) -> Step {
        let mut step = Step::default();
        if !self.policy.is_active(self.direction) {
            step.text.push_str(text);
            return step;
        }
        if !self.blocked {
            self.buffer.push_str(text);
            if !self.whole {
                self.advance(false, &mut step);
            }
        }
        step.blocked = self.blocked;
        step
    }

    /// The end of the text.
    pub fn finish(&mut self) -> Step {
        let mut step = Step::default();
        if self.whole && !self.blocked {
            self.look(self.buffer.len());
            self.release(self.buffer.len(), &mut step);
        } else if !self.blocked {
            self.advance(true, &mut step);
        }
        step.blocked = self.blocked;
        step
    }

    /// How many bytes wait for what comes next.
    pub fn held(&self) -> usize {
        if self.blocked { 0 } else { self.buffer.len() - self.released }
    }

    fn advance(&mut self, last: bool, step: &mut Step) {
        while !self.blocked {
            match self.cutter.next(&self.buffer, last) {
                Next::Cut(cut) => self.take(cut, step),
                Next::More => break,
                Next::Endless(range) => self.block(range, step),
            }
        }
        if last && !self.blocked {
            self.release(self.buffer.len(), step);
        }
        if self.released > FORGET {
            self.forget();
        }
    }

    /// Looks at an atom, and lets out what may go.
    fn take(&mut self, cut: Cut, step: &mut Step) {
        if self.swallowing {
            self.released = cut.at;
            self.swallowing = cut.open;
            return;
        }
        // What was kept back is looked at again.
        let lagging = self.found.last().is_some_and(|finding| finding.range.end > self.released);
        if cut.look || self.reach.is_some() || lagging || cut.lag > 0 {
            self.look(cut.at);
        }
        let lag = cut.lag.max(self.reach.unwrap_or(0));
        let mut frontier = self.buffer.floor_char_boundary(cut.at.saturating_sub(lag)).max(self.released);
        if lag > 0 {
            let across = self.found.iter().find(|f| f.range.start < frontier && frontier < f.range.end);
            if let Some(across) = across {
                let grown = across.range.start <= self.released && cut.at - self.released >= GROWTH;
                frontier = if grown { across.range.end } else { across.range.start };
                self.swallowing = grown && cut.open && frontier == cut.at;
            }
        }
        self.release(frontier, step);
    }

    /// Looks at everything that has not gone out, up to `end`.
    fn look(&mut self, end: usize) {
        let from = self.buffer.floor_char_boundary(self.released.saturating_sub(CONTEXT));
        let Some(text) = self.buffer.get(from..end) else { return };
        self.found = self.policy.scan_behind(self.direction, text, self.released - from);
        for finding in &mut self.found {
            finding.range = finding.range.start + from..finding.range.end + from;
        }
    }

    /// Lets out what stands before `end`; no finding stands across it.
    fn release(&mut self, end: usize, step: &mut Step) {
        let count = self.found.iter().take_while(|finding| finding.range.end <= end).count();
        let mut findings: Vec<Finding> = self.found.drain(..count).collect();
        let from = self.released;
        let end = match findings.iter().position(|finding| finding.action == Action::Block) {
            Some(at) => {
                self.blocked = true;
                findings.truncate(at + 1);
                findings[at].range.start
            }
            None => end,
        };
        let Some(text) = self.buffer.get(from..end.max(from)) else { return };
        let local = |finding: &Finding| {
            let range = finding.range.start - from..finding.range.end - from;
            Finding { range, ..finding.clone() }
        };
        if findings.is_empty() {
            step.text.push_str(text);
        } else {
            let inside: Vec<Finding> = findings.iter().filter(|f| f.range.end <= end).map(local).collect();
            step.text.push_str(&label(text, &inside));
        }
        for finding in &mut findings {
            finding.range = finding.range.start + self.offset..finding.range.end + self.offset;
        }
        step.findings.append(&mut findings);
        self.released = end.max(from);
    }

    /// Lets nothing more out, because of a private key that goes on and on.
    fn block(&mut self, range: Range<usize>, step: &mut Step) {
        self.blocked = true;
        let key = Category::built_in("private_key");
        let range = range.start + self.offset..range.end + self.offset;
        let finding = self.policy.judge(key, Certainty::Sure, range, self.direction);
        step.findings.extend(finding.map(|finding| Finding { action: Action::Block, ..finding }));
    }

    /// Forgets what has gone out and is not context.
    fn forget(&mut self) {
        let gone = self.buffer.floor_char_boundary(self.released - CONTEXT);
        self.buffer.drain(..gone);
        self.cutter.shift(gone);
        for finding in &mut self.found {
            finding.range = finding.range.start - gone..finding.range.end - gone;
        }
        self.released -= gone;
        self.offset += gone;
    }
}

#[cfg(test)]
mod tests;
