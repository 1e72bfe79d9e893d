//! What an entry of a policy speaks of, and everything that it could speak of.

use std::{collections::HashSet, convert::Infallible, str::FromStr, sync::OnceLock};

use crate::{
    finding::Category,
    hit::{CategoryInfo, Group, Severity},
    identifiers, secrets,
};

/// What an entry of a policy speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Every category.
    All,
    /// Every category of a group.
    Group(Group),
    /// One category, by its name.
    Category(String),
}

impl Selector {
    pub(super) fn selects(&self, category: &Category, group: Group) -> bool {
        match self {
            Self::All => true,
            Self::Group(selected) => *selected == group,
            Self::Category(name) => name == category.as_str(),
        }
    }
}

impl FromStr for Selector {
    type Err = Infallible;

    /// Whether a category exists is known when a policy is compiled: it may be one of its own rules.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let group = GROUPS.iter().find(|(name, _)| *name == text);
        Ok(match group {
            _ if text == "*" => Self::All,
            Some((_, group)) => Self::Group(*group),
            None => Self::Category(text.to_owned()),
        })
    }
}

impl Group {
    /// Its name in policies.
    pub fn as_str(self) -> &'static str {
        GROUPS.iter().find(|(_, group)| *group == self).map_or("", |(name, _)| name)
    }
}

/// The groups' names in policies.
const GROUPS: &[(&str, Group)] = &[
    ("private_key", Group::PrivateKey),
    ("secret", Group::Secret),
    ("credential", Group::Credential),
    ("generic_secret", Group::GenericSecret),
    ("payment_card", Group::PaymentCard),
    ("bank_account", Group::BankAccount),
    ("finance", Group::Finance),
    ("national_id", Group::NationalId),
    ("document", Group::Document),
    ("health", Group::Health),
    ("contact", Group::Contact),
    ("network", Group::Network),
    ("date", Group::Date),
    ("exfiltration", Group::Exfiltration),
    ("invisible_text", Group::InvisibleText),
    ("custom", Group::Custom),
];

/// What the engine itself finds.
const OF_ENGINE: &[CategoryInfo] = &[
    CategoryInfo { name: "url_exfiltration", group: Group::Exfiltration, severity: Severity::High },
    CategoryInfo { name: "invisible_text", group: Group::InvisibleText, severity: Severity::Medium },
];

/// Every built-in category.
pub fn categories() -> &'static [CategoryInfo] {
    static ALL: OnceLock<Vec<CategoryInfo>> = OnceLock::new();
    ALL.get_or_init(|| {
        let found = identifiers::CATEGORIES.iter().copied().chain(secrets::categories());
        let mut names = HashSet::new();
        // Some have a format of their own and another one that only a name tells of.
        found.chain(OF_ENGINE.iter().copied()).filter(|info| names.insert(info.name)).collect()
    })
}
