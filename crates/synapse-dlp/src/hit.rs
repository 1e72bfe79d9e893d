//! What a detector says of a text: a place, a category, and how sure it is.

use std::ops::Range;

/// How sure a detector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// A weak check (one check digit of ten or eleven) passes, and neither the format nor a word nearby says
    /// more. One random number in ten is such a hit.
    Weak,
    /// A weak check with a telling format or a word nearby; no check at all, but both of these.
    Likely,
    /// A strong check (mod 97, two check digits, a checksum), or a format that nothing else has.
    Sure,
}

/// A hit of a built-in detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The category's name, such as `us_ssn`.
    pub category: &'static str,
    /// Where it stands in the text that the detector was given, in bytes.
    pub range: Range<usize>,
    /// How sure the detector is.
    pub certainty: Certainty,
}

/// What a category is part of. Policies name groups where they mean all their categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Private keys.
    PrivateKey,
    /// Keys and tokens of cloud providers, services and tools, in their issuers' formats.
    Secret,
    /// JSON web tokens, URLs with a password, authorization headers, assignments.
    Credential,
    /// A word such as `password`, and something that looks like one.
    GenericSecret,
    /// Payment cards.
    PaymentCard,
    /// IBANs.
    BankAccount,
    /// Other financial identifiers.
    Finance,
    /// National and tax identifiers of persons and companies.
    NationalId,
    /// Passports, driving licences, number plates.
    Document,
    /// Health identifiers.
    Health,
    /// E-mail addresses, telephone numbers, postal codes.
    Contact,
    /// Addresses of machines, URLs.
    Network,
    /// Dates.
    Date,
    /// Links that carry data away.
    Exfiltration,
    /// Text that readers do not see.
    InvisibleText,
    /// The operator's own rules.
    Custom,
}

/// How bad a leak of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Public in many cases.
    Low,
    /// Personal.
    Medium,
    /// Identifies a person or an account.
    High,
    /// Opens something.
    Critical,
}

impl Severity {
    /// Its name in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A built-in category.
#[derive(Clone, Copy, Debug)]
pub struct CategoryInfo {
    /// Its name in policies, findings and metrics.
    pub name: &'static str,
    /// What it is part of.
    pub group: Group,
    /// How bad a leak of it is.
    pub severity: Severity,
}
