//! The policies that Synapse brings along.

use super::{Placeholder, PolicySpec, Selector, categories};
use crate::{
    finding::Action::{self, Alert, Allow, Block, Redact},
    hit::Group,
};

/// For prompts: what of, on the way to machines of one's own, on the way to somebody else's.
const GROUPS: &[(Group, Action, Action)] = &[
    (Group::PrivateKey, Block, Block),
    (Group::Secret, Redact, Block),
    (Group::Credential, Redact, Block),
    (Group::GenericSecret, Alert, Alert),
    (Group::PaymentCard, Redact, Redact),
    (Group::BankAccount, Redact, Redact),
    (Group::Finance, Redact, Redact),
    (Group::NationalId, Redact, Redact),
    (Group::Document, Alert, Redact),
    (Group::Health, Redact, Block),
    (Group::Contact, Alert, Redact),
    (Group::Network, Alert, Redact),
    (Group::Date, Allow, Allow),
    (Group::Exfiltration, Allow, Allow),
    (Group::InvisibleText, Alert, Alert),
    (Group::Custom, Redact, Redact),
];

/// Categories that differ from their groups.
const CATEGORIES: &[(&str, Action, Action)] = &[
    ("jwt", Redact, Redact),
    ("connection_string", Redact, Redact),
    ("isin", Alert, Alert),
    ("lei", Alert, Alert),
    ("bic", Alert, Alert),
];

/// What replies may have: they answer to the one who asked, who knows such things from elsewhere.
const FREE_IN_REPLIES: [Group; 3] = [Group::Contact, Group::Network, Group::Date];

impl PolicySpec {
    /// One that looks for nothing.
    pub fn empty() -> Self {
        Self {
            name: String::new(),
            prompt: Vec::new(),
            reply: Vec::new(),
            custom: Vec::new(),
            placeholder: Placeholder::Label,
            allowed_hosts: Vec::new(),
        }
    }

    /// For prompts that go to somebody else's machines.
    pub fn cloud() -> Self {
        Self::built_in("cloud", |(_, cloud)| cloud)
    }

    /// For prompts that stay on machines of one's own.
    pub fn on_prem() -> Self {
        Self::built_in("on_prem", |(on_prem, _)| on_prem)
    }

    fn built_in(name: &str, pick: fn((Action, Action)) -> Action) -> Self {
        let groups =
            GROUPS.iter().map(|&(group, on_prem, cloud)| (Selector::Group(group), pick((on_prem, cloud))));
        let known = |name: &str| categories().iter().any(|info| info.name == name);
        let single = CATEGORIES
            .iter()
            .filter(|(name, ..)| known(name))
            .map(|&(name, on_prem, cloud)| (Selector::Category(name.to_owned()), pick((on_prem, cloud))));
        let prompt: Vec<_> = groups.chain(single).collect();
        let mut reply: Vec<_> =
            prompt.iter().map(|(selector, action)| (selector.clone(), (*action).min(Redact))).collect();
        reply.extend(FREE_IN_REPLIES.map(|group| (Selector::Group(group), Allow)));
        reply.push((Selector::Group(Group::Exfiltration), Redact));
        Self { name: name.to_owned(), prompt, reply, ..Self::empty() }
    }

    pub(super) fn entries(&self, direction: crate::Direction) -> &[(Selector, Action)] {
        match direction {
            crate::Direction::Prompt => &self.prompt,
            crate::Direction::Reply => &self.reply,
        }
    }
}
