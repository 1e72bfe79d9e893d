//! The rules, put in the order in which windows ask for them.

use std::sync::LazyLock;

use super::{
    cards,
    categories::Cat::{self, AccountNumber, Iban},
    documents, europe,
    forms::Form,
    mixed,
    rules::{Digits, Mixed},
    world,
};

/// No value is longer.
pub(super) const LONGEST: usize = 34;
/// Of those that are digits alone.
pub(super) const MOST_DIGITS: usize = 19;
/// Of those, none is shorter.
pub(super) const SHORTEST: usize = 5;

/// So many first characters choose the rules that are tried.
const KEY: usize = 6;

/// A rule for digits alone with its forms.
pub(super) struct Plain {
    pub(super) rule: &'static Digits,
    pub(super) forms: Vec<Form>,
}

/// A mixed rule with its shape as bits.
#[derive(Clone)]
pub(super) struct Shaped {
    pub(super) rule: &'static Mixed,
    pub(super) len: usize,
    digits: u64,
    letters: u64,
    /// Whether its check is enough by itself.
    pub(super) checksummed: bool,
    pub(super) forms: Vec<Form>,
}

impl Shaped {
    fn new(rule: &'static Mixed) -> Self {
        let bits = |wanted: u8| {
            let places = rule.shape.bytes().enumerate().filter(|(_, byte)| *byte == wanted);
            places.fold(0, |bits, (place, _)| bits | 1 << place)
        };
        let checksummed =
            matches!(rule.cat, Cat::InGstin | Cat::ItCf | Cat::FrNir | Cat::CnRic | Cat::MxCurp);
        Self {
            rule,
            len: rule.shape.len(),
            digits: bits(b'9'),
            letters: bits(b'A'),
            checksummed,
            forms: forms(rule.forms),
        }
    }

    /// Whether characters have its shape, of which bits say which are digits.
    pub(super) fn fits(&self, digits: u64) -> bool {
        digits & self.digits == self.digits && !digits & self.letters == self.letters
    }
}

fn forms(texts: &[&str]) -> Vec<Form> {
    texts.iter().map(|text| Form::new(text)).collect()
}

/// The rules for every window.
pub(super) struct Tables {
    /// Those for digits alone, by the length of the values.
    digits: Vec<Vec<Plain>>,
    /// The mixed ones by which of the first characters are digits, the shortest first.
    mixed: Vec<Vec<Shaped>>,
    pub(super) cards: Vec<Form>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut digits: Vec<Vec<Plain>> = (0..=LONGEST).map(|_| Vec::new()).collect();
    for rule in europe::RULES.iter().chain(world::RULES) {
        digits[rule.len].push(Plain { rule, forms: forms(rule.forms) });
    }
    let mut all: Vec<Shaped> = mixed::RULES.iter().chain(documents::RULES).map(Shaped::new).collect();
    all.sort_by_key(|shaped| shaped.len);
    let first = (1 << KEY) - 1;
    let fits = |key: u64, shaped: &&Shaped| {
        key & shaped.digits & first == shaped.digits & first
            && !key & shaped.letters & first == shaped.letters & first
    };
    let mixed = (0..=first).map(|key| all.iter().filter(|shaped| fits(key, shaped)).cloned().collect());
    Tables { digits, mixed: mixed.collect(), cards: forms(cards::FORMS) }
});

impl Tables {
    /// The ones of the process, built when first asked for.
    pub(super) fn get() -> &'static Self {
        &TABLES
    }

    /// The rules for values of digits alone of that length.
    pub(super) fn digits(&self, len: usize) -> &[Plain] {
        self.digits.get(len).map_or(&[], Vec::as_slice)
    }

    /// The mixed rules that characters may have the shape of, of which bits say which are digits.
    pub(super) fn mixed(&self, digits: u64) -> &[Shaped] {
        &self.mixed[(digits & ((1 << KEY) - 1)) as usize]
    }
}

/// Whether values of the category may have this length.
pub(super) fn fits(cat: Cat, length: usize) -> bool {
    use Cat::{
        CardAmex, CardDiners, CardDiscover, CardJcb, CardMaestro, CardMc, CardUnionpay, CardVisa, Phone,
    };
    match cat {
        Iban => (5..=LONGEST).contains(&length),
        CardVisa | CardMc | CardAmex | CardDiscover | CardDiners | CardJcb | CardUnionpay | CardMaestro => {
            (12..=19).contains(&length)
        }
        AccountNumber => (6..=17).contains(&length),
        Phone => (7..=15).contains(&length),
        _ => {
            let mut mixed = mixed::RULES.iter().chain(documents::RULES);
            TABLES.digits(length).iter().any(|plain| plain.rule.cat == cat)
                || mixed.any(|rule| rule.cat == cat && rule.shape.len() == length)
        }
    }
}
