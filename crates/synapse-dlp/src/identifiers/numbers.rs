//! Puts the rules to every window of a run in which a value may stand.

use std::sync::LazyLock;

use super::{
    cards,
    categories::Cat::{self, AccountNumber, Iban},
    context::Context,
    crypto, dates, documents, europe, iban, mixed, network, phone,
    rules::{Digits, Mixed, Proof, Window},
    run::{Run, gap, is_glue},
    world,
};
use crate::hit::{Certainty, Hit};

/// No value is longer.
const LONGEST: usize = 34;
/// Of those that are digits alone.
const MOST_DIGITS: usize = 19;
/// Of those, none is shorter.
const SHORTEST: usize = 5;

/// A mixed rule with its shape as bits.
#[derive(Clone, Copy)]
struct Shaped {
    rule: &'static Mixed,
    digits: u64,
    letters: u64,
}

/// The mixed rules for values of a length.
#[derive(Default)]
struct Kinds {
    all: Vec<Shaped>,
    /// Those whose check is enough by itself.
    checksummed: Vec<Shaped>,
}

/// Rules by the length of the values.
struct Tables {
    digits: Vec<Vec<&'static Digits>>,
    mixed: Vec<Kinds>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut digits: Vec<Vec<_>> = (0..=LONGEST).map(|_| Vec::new()).collect();
    europe::RULES.iter().chain(world::RULES).for_each(|rule| digits[rule.len].push(rule));
    let mut mixed: Vec<Kinds> = (0..=LONGEST).map(|_| Kinds::default()).collect();
    for rule in mixed::RULES.iter().chain(documents::RULES) {
        let bits = |wanted: u8| {
            let places = rule.shape.bytes().enumerate().filter(|(_, byte)| *byte == wanted);
            places.fold(0, |bits, (place, _)| bits | 1 << place)
        };
        let shaped = Shaped { rule, digits: bits(b'9'), letters: bits(b'A') };
        let kinds = &mut mixed[rule.shape.len()];
        kinds.all.push(shaped);
        if matches!(rule.cat, Cat::InGstin | Cat::ItCf | Cat::FrNir | Cat::CnRic | Cat::MxCurp) {
            kinds.checksummed.push(shaped);
        }
    }
    Tables { digits, mixed }
});

/// What looks at a run needs to know, computed when first needed.
struct Look<'a> {
    run: &'a Run<'a>,
    context: Option<Context>,
    sink: &'a mut dyn FnMut(Hit),
}

/// Reports the values in a run.
pub(super) fn look(run: &Run, sink: &mut dyn FnMut(Hit)) {
    let tables = &*TABLES;
    let mut look = Look { run, context: None, sink };
    let mut starts = run.bounds & !(1 << run.len);
    while starts != 0 {
        let start = starts.trailing_zeros() as usize;
        starts &= starts - 1;
        let digits = (!(run.digits >> start)).trailing_zeros() as usize;
        if run.digits >> start == 0 {
            break;
        }
        look.iban(start);
        look.word(start);
        if digits > 0 {
            look.telephone(start, digits);
            look.date(start, digits);
        }
        let mut ends = run.bounds >> (start + 1) << (start + 1) & low_bits(start + LONGEST + 1);
        let mut window = Window { run, start, end: start + 1, inside: 0 };
        let (left, _) = window.outside();
        if is_glue(left) && left != gap::DASH {
            // Digits that go on before their start are no value; what has letters may have a checksum.
            ends = ends >> (start + digits + 1) << (start + digits + 1);
        }
        while ends != 0 {
            let end = ends.trailing_zeros() as usize;
            ends &= ends - 1;
            window.extend(end);
            if run.range(start, end).end <= run.seen {
                continue;
            }
            if end - start <= digits {
                if end - start <= MOST_DIGITS {
                    look.digits(window, &tables.digits[end - start]);
                }
            } else {
                look.mixed(window, &tables.mixed[end - start]);
            }
        }
    }
}

fn low_bits(count: usize) -> u128 {
    1_u128.checked_shl(count as u32).map_or(u128::MAX, |bit| bit - 1)
}

impl Look<'_> {
    fn context(&mut self) -> &Context {
        let run = self.run;
        self.context.get_or_insert_with(|| Context::around(run.text, run.range(0, run.len)))
    }

    fn report(&mut self, category: &'static str, window: Window, certainty: Certainty) {
        (self.sink)(Hit { category, range: self.run.range(window.start, window.end), certainty });
    }

    fn iban(&mut self, start: usize) {
        let run = self.run;
        let Some((length, category)) = iban::begins(&run.chars[start..run.len]) else { return };
        let end = start + length;
        if end > run.len || run.bounds >> end & 1 == 0 || run.range(start, end).end <= run.seen {
            return;
        }
        let window = Window { run, start, end, inside: 0 };
        if iban::is_valid(window.chars()) {
            self.report(category, window, Certainty::Sure);
        }
    }

    fn telephone(&mut self, start: usize, digits: usize) {
        let Some(end) = phone::international(self.run, start, digits) else { return };
        let range = self.run.range(start, end);
        if range.end > self.run.seen {
            let range = phone::with_signs(self.run.text, range);
            (self.sink)(Hit { category: Cat::Phone.name(), range, certainty: Certainty::Likely });
        }
    }

    /// What one word is by itself.
    fn word(&mut self, start: usize) {
        let run = self.run;
        let end = (start + 1..run.len).find(|place| run.gaps[*place] != 0).unwrap_or(run.len);
        let range = run.range(start, end);
        if range.len() >= crypto::SHORTEST
            && range.end > run.seen
            && let Some((cat, certainty)) = crypto::address(&run.text[range.clone()])
        {
            (self.sink)(Hit { category: cat.name(), range, certainty });
        }
    }

    fn date(&mut self, start: usize, digits: usize) {
        let run = self.run;
        let place = run.place(start);
        if digits > 4 && run.gaps[start + 1..start + 5].iter().all(|gap| *gap == 0)
            || is_glue(run.gaps[start])
        {
            return;
        }
        if let Some((end, certainty)) =
            dates::date(run.text.as_bytes(), place).filter(|(end, _)| *end > run.seen)
        {
            (self.sink)(Hit { category: Cat::Date.name(), range: place..end, certainty });
        }
    }

    fn ipv4(&mut self, window: Window) -> bool {
        let Some((end, certainty)) = network::ipv4(window) else { return false };
        let range = self.run.range(window.start, end);
        (self.sink)(Hit { category: Cat::IpAddress.name(), range, certainty });
        true
    }

    fn digits(&mut self, window: Window, rules: &[&Digits]) {
        let chars = window.chars();
        if window.inside & gap::DOT != 0 && self.ipv4(window) {
            return;
        }
        if chars.len() < SHORTEST || !window.may_be() || chars.iter().all(|byte| *byte == chars[0]) {
            return;
        }
        if phone::has_plus(self.run.text, self.run.place(window.start)) {
            return;
        }
        if let Some(proof) = phone::national(window) {
            self.weigh(window, Cat::Phone, proof, proof != Proof::Told);
        }
        if window.inside & gap::PAREN != 0 {
            return;
        }
        let mut reported = None;
        for rule in rules {
            if reported == Some(rule.cat) {
                continue;
            }
            let Some(proof) = (rule.check)(chars) else { continue };
            if self.weigh(window, rule.cat, proof, window.has_one_of(rule.forms)) {
                reported = Some(rule.cat);
            }
        }
        for (cat, proof) in cards::check(chars) {
            self.weigh(window, cat, proof, window.has_one_of(cards::FORMS));
        }
        if (6..=17).contains(&chars.len()) && chain(self.run, window) == (window.start, window.end) {
            self.weigh(window, AccountNumber, Proof::Told, false);
        }
    }

    fn mixed(&mut self, window: Window, table: &Kinds) {
        let run = self.run;
        let length = window.end - window.start;
        if length == 12 && window.inside == gap::DOT && network::is_dotted_mac(window) {
            self.report(Cat::MacAddress.name(), window, Certainty::Likely);
        }
        // Where it stands says nothing against what has a checksum.
        let rules = if window.may_be() { &table.all } else { &table.checksummed };
        let digits = run.digits >> window.start & (low_bits(length) as u64);
        let letters = !digits;
        let mut reported = None;
        for Shaped { rule, .. } in rules.iter().filter(|shaped| {
            digits & shaped.digits == shaped.digits && letters & shaped.letters == shaped.letters
        }) {
            if reported == Some(rule.cat) {
                continue;
            }
            let Some(proof) = (rule.check)(window.chars()) else { continue };
            // Hashes look like everything; and nobody writes a security's number small.
            let unlike = window.is_hexadecimal() || (rule.cat == Cat::Isin && window.has_small());
            if self.weigh(window, rule.cat, proof, !unlike && window.has_one_of(rule.forms)) {
                reported = Some(rule.cat);
            }
        }
    }

    /// Reports a value that passed its check, as far as that, how it is written, and the words around it go. Says whether it did: of two
    /// rules for one category the first that reports is enough.
    fn weigh(&mut self, window: Window, cat: Cat, proof: Proof, form: bool) -> bool {
        let run = self.run;
        let range = run.range(window.start, window.end);
        let lettered = window.is_lettered();
        let checked = lettered && proof == Proof::Strong;
        // Cards are followed by other numbers, and are long enough to be told from them.
        if !form && !checked && !window.stands_apart() {
            return false;
        }
        let mut spoken = || self.context().speaks_of(cat, &range);
        let certainty = match proof {
            Proof::Strong => Certainty::Sure,
            Proof::Good if form || window.inside == 0 || spoken() => Certainty::Likely,
            Proof::Good => Certainty::Weak,
            Proof::Weak if form || spoken() => Certainty::Likely,
            Proof::Weak => Certainty::Weak,
            Proof::Written if form => Certainty::Likely,
            Proof::Written if lettered || spoken() => Certainty::Weak,
            Proof::Bare => match (form, spoken()) {
                (true, true) => Certainty::Likely,
                (false, false) => return false,
                _ => Certainty::Weak,
            },
            // Years and pages stand beside words too, with dashes between them.
            Proof::Told if (form || window.inside == 0 || cat == Cat::Phone) && spoken() => Certainty::Likely,
            Proof::Written | Proof::Told => return false,
        };
        let Some(certainty) =
            (if checked { Some(certainty) } else { self.heed(window, cat, certainty, form) })
        else {
            return false;
        };
        let range = if cat == Cat::Phone { phone::with_signs(run.text, range) } else { range };
        (self.sink)(Hit { category: cat.name(), range, certainty });
        true
    }

    /// What the word before a number makes of a hit: nothing, if it names something else, which the number is not
    /// a valid one of; more, if it names just this.
    fn heed(&mut self, window: Window, cat: Cat, certainty: Certainty, form: bool) -> Option<Certainty> {
        let run = self.run;
        let (first, last) = chain(run, window);
        let place = run.place(first);
        let Some(word) = self.context().named(run.text, place) else { return Some(certainty) };
        if word.cats.contains(&cat) {
            return Some(if word.names { certainty.max(Certainty::Likely) } else { certainty });
        }
        let length = last - first;
        let meant = word.cats.iter().any(|cat| {
            fits(*cat, window.end - window.start) || (length..=length + 2).any(|length| fits(*cat, length))
        });
        let silent = meant
            && (word.names || certainty == Certainty::Weak || (!form && certainty == Certainty::Likely));
        (!silent).then_some(certainty)
    }
}

/// The words with digits that `window` stands among.
fn chain(run: &Run, window: Window) -> (usize, usize) {
    let numeric = |place: &usize| run.numeric >> place & 1 == 1;
    let before = (0..window.start).rev().take_while(numeric).count();
    let after = (window.end..run.len).take_while(numeric).count();
    (window.start - before, window.end + after)
}

/// Whether values of the category may have this length.
fn fits(cat: Cat, length: usize) -> bool {
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
            let tables = &*TABLES;
            length <= LONGEST
                && (tables.digits[length].iter().any(|rule| rule.cat == cat)
                    || tables.mixed[length].all.iter().any(|shaped| shaped.rule.cat == cat))
        }
    }
}
