//! Secrets: keys and tokens in their issuers' formats, and what is told by the words around it.
//!
//! One pass finds keywords; each is followed by a look at the few hundred bytes around it, so that the time
//! stays linear.

mod assignment;
mod credentials;
mod formats;
mod issued;
mod jwt;
mod keywords;
mod measure;
mod pattern;
pub(crate) mod pem;
mod published;
mod vendors;

use std::ops::Range;

pub(crate) use keywords::prepare;

use crate::hit::{CategoryInfo, Certainty, Group, Hit, Severity};

/// What is found by something else than a row of the tables.
const OTHERS: &[(&str, Group, Severity)] = &[
    ("private_key", Group::PrivateKey, Severity::Critical),
    ("synapse_key", Group::Secret, Severity::Critical),
    ("facebook-access-token", Group::Secret, Severity::Critical),
    ("jwt", Group::Credential, Severity::Critical),
    ("connection_string", Group::Credential, Severity::Critical),
    ("authorization_header", Group::Credential, Severity::Critical),
    ("curl-auth-user", Group::Credential, Severity::Critical),
    ("kubernetes-secret-yaml", Group::Credential, Severity::Critical),
    ("nuget-config-password", Group::Credential, Severity::Critical),
    ("generic_secret", Group::GenericSecret, Severity::High),
];

/// Every category that is found here.
pub(crate) fn categories() -> impl Iterator<Item = CategoryInfo> {
    let formats = formats::FORMATS.iter().map(|(name, ..)| *name);
    let vendors = vendors::VENDORS.iter().map(|(name, ..)| *name);
    let secret = |name| CategoryInfo { name, group: Group::Secret, severity: Severity::Critical };
    let others = OTHERS.iter().map(|&(name, group, severity)| CategoryInfo { name, group, severity });
    formats.chain(vendors).map(secret).chain(others)
}

/// Reports what stands in `text`, which is normalised.
pub(crate) fn find(text: &str, sink: &mut dyn FnMut(Hit)) {
    let mut latest = Latest { sink, category: "", end: 0, manifest: 0 };
    keywords::find(text, &mut latest);
    jwt::find(text, &mut latest);
    credentials::find_urls(text, &mut latest);
    credentials::find_app_tokens(text, &mut latest);
    pem::find(text, &mut latest);
}

/// Passes hits on, but not one that begins inside the one before of the same category: keywords that follow
/// each other closely would have a long token found again and again.
pub(crate) struct Latest<'s> {
    sink: &'s mut dyn FnMut(Hit),
    category: &'static str,
    end: usize,
    /// Up to where the lines of manifests have been read.
    manifest: usize,
}

impl Latest<'_> {
    fn covers(&self, category: &'static str, at: usize) -> bool {
        self.category == category && at < self.end
    }

    fn report(&mut self, category: &'static str, range: Range<usize>, certainty: Certainty) {
        if !self.covers(category, range.start) {
            self.category = category;
            self.end = range.end;
            (self.sink)(Hit { category, range, certainty });
        }
    }
}

#[cfg(any(test, feature = "samples"))]
pub mod samples;
#[cfg(test)]
mod tests;
