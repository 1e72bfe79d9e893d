//! Payment cards: who issues which numbers, and how long they are.

use super::{
    categories::Cat::{self, *},
    checks::{luhn, number},
    rules::Proof,
};

/// How cards of each length are written.
pub(super) const FORMS: &[&str] = &[
    "13",
    "14",
    "15",
    "16",
    "19",
    "4 4 4 4",
    "4-4-4-4",
    "4.4.4.4",
    "4 6 5",
    "4-6-5",
    "4 6 4",
    "4-6-4",
    "4 4 4 4 3",
];

/// Whose card it is, by its first digits and its length. Some belong to two schemes.
fn issuers(d: &[u8]) -> [Option<Cat>; 2] {
    let first = number(&d[..6]);
    let (two, three, four) = (first / 10_000, first / 1000, first / 100);
    let scheme = match (d.len(), two) {
        (13 | 16 | 19, 40..=49) => Some(CardVisa),
        (16, 51..=55) => Some(CardMc),
        (16, 22..=27) if (2221..=2720).contains(&four) => Some(CardMc),
        (15, 34 | 37) => Some(CardAmex),
        (14..=19, 36 | 38 | 39) => Some(CardDiners),
        (14..=19, 30) if matches!(three, 300..=305 | 309) => Some(CardDiners),
        (16..=19, 35) if (3528..=3589).contains(&four) => Some(CardJcb),
        (16..=19, 62) => Some(CardUnionpay),
        (16..=19, 60 | 64 | 65) if four == 6011 || (644..=659).contains(&three) => Some(CardDiscover),
        _ => None,
    };
    let maestro = matches!((d.len(), two), (12..=19, 50 | 56..=61 | 63 | 66..=69));
    let co_branded = d.len() >= 16 && (622_126..=622_925).contains(&first);
    let second = match (scheme, maestro, co_branded) {
        (None, true, _) => Some(CardMaestro),
        (_, _, true) => Some(CardDiscover),
        _ => None,
    };
    [scheme, second]
}

/// The cards that it may be a number of, and what its check proves.
pub(super) fn check(d: &[u8]) -> impl Iterator<Item = (Cat, Proof)> {
    let known = if (12..=19).contains(&d.len()) { issuers(d) } else { [None, None] };
    let valid = known != [None, None] && luhn(d);
    known.into_iter().flatten().filter(move |_| valid).map(|cat| (cat, Proof::Weak))
}
