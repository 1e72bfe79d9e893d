//! Puts the rules to every window of a run in which a value may stand.

use super::{
    cards,
    categories::Cat::{self, AccountNumber},
    context::Context,
    crypto, dates, iban, network, phone,
    rules::{Proof, Window},
    run::{Run, gap, is_glue},
    tables::{MOST_DIGITS, SHORTEST, Tables, fits},
};
use crate::hit::{Certainty, Hit};

/// As many characters written as usual are one value, even with more beside them.
const LONG: usize = 14;
/// How many characters an IPv4 address has at most.
const ADDRESS: usize = 12;
/// How many a hardware address has.
const MAC: usize = 12;

/// What looks at a run needs to know, computed when first needed.
struct Look<'a, 't> {
    run: &'a Run<'t>,
    tables: &'static Tables,
    /// Behind what windows end that have not been looked at.
    ends: u128,
    context: &'a mut Context<'t>,
    /// Whether that is the one around the run.
    listened: bool,
    sink: &'a mut dyn FnMut(Hit),
}

/// Reports the values in a run.
pub(super) fn look<'t>(run: &Run<'t>, context: &mut Context<'t>, sink: &mut dyn FnMut(Hit)) {
    // A few digits by themselves are nothing.
    if run.len < SHORTEST && run.words == 1 && run.digits == low_bits(run.len) as u64 {
        return;
    }
    let seen = (0..run.len).take_while(|place| run.place(*place) < run.seen).count();
    let ends = run.bounds & !low_bits(seen + 1);
    let mut look = Look { run, tables: Tables::get(), ends, context, listened: false, sink };
    let mut starts = run.bounds & !(1 << run.len);
    while starts != 0 {
        let start = starts.trailing_zeros() as usize;
        starts &= starts - 1;
        let rest = run.digits >> start;
        if rest == 0 {
            break;
        }
        look.at(start, (!rest).trailing_zeros() as usize);
    }
}

fn low_bits(count: usize) -> u128 {
    1_u128.checked_shl(count as u32).map_or(u128::MAX, |bit| bit - 1)
}

impl Look<'_, '_> {
    /// Everything that begins at `start` with so many digits.
    fn at(&mut self, start: usize, digits: usize) {
        let run = self.run;
        self.iban(start);
        self.word(start);
        if digits > 0 {
            self.telephone(start, digits);
            self.date(start, digits);
        }
        self.mixed(start, digits);
        // Digits that go on before their start are no value; what has letters may have a checksum.
        let stuck = run.stuck_left >> start & 1 == 1;
        if digits == 0 || stuck && run.gaps[start] != gap::DASH {
            return;
        }
        let addresses = self.ipv4(start, digits);
        if stuck || digits < SHORTEST {
            return;
        }
        let within = low_bits(start + digits.min(MOST_DIGITS) + 1) & !low_bits(start + SHORTEST);
        let mut ends = self.ends & within & !run.stuck_right & !addresses;
        while ends != 0 {
            let end = ends.trailing_zeros() as usize;
            ends &= ends - 1;
            self.digits(Window::new(run, start, end));
        }
    }

    /// What stands around the run, listened to when first needed.
    fn context(&mut self) -> &Context<'_> {
        if !self.listened {
            self.context.listen(self.run.range(0, self.run.len));
            self.listened = true;
        }
        self.context
    }

    fn report(&mut self, category: &'static str, window: Window, certainty: Certainty) {
        (self.sink)(Hit { category, range: self.run.range(window.start, window.end), certainty });
    }

    fn iban(&mut self, start: usize) {
        let run = self.run;
        if run.digits >> start & 0b1111 != 0b1100 {
            return;
        }
        let Some((length, category)) = iban::begins(&run.chars[start..run.len]) else { return };
        let end = start + length;
        if self.ends >> end & 1 == 1 {
            let window = Window::new(run, start, end);
            if iban::is_valid(window.chars()) {
                self.report(category, window, Certainty::Sure);
            }
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
        let end = run.word_end(start);
        if end - start < crypto::SHORTEST {
            return;
        }
        let range = run.range(start, end);
        if range.end > run.seen
            && let Some((cat, certainty)) = crypto::address(&run.text[range.clone()])
        {
            (self.sink)(Hit { category: cat.name(), range, certainty });
        }
    }

    fn date(&mut self, start: usize, digits: usize) {
        let run = self.run;
        let end = run.word_end(start);
        let marked = run.gaps[end] & (gap::DASH | gap::SLASH | gap::DOT) != 0;
        if end - start > digits.min(4) || !marked || is_glue(run.gaps[start]) {
            return;
        }
        let place = run.place(start);
        if let Some((end, certainty)) =
            dates::date(run.text.as_bytes(), place).filter(|(end, _)| *end > run.seen)
        {
            (self.sink)(Hit { category: Cat::Date.name(), range: place..end, certainty });
        }
    }

    /// Reports the IPv4 addresses that begin at `start`. Says where they end.
    fn ipv4(&mut self, start: usize, digits: usize) -> u128 {
        let run = self.run;
        let mut dots = run.marks[gap::DOT.trailing_zeros() as usize] & (u64::MAX << start) & !(1 << start);
        // Behind the third dot, and before the fourth.
        dots &= dots.wrapping_sub(1);
        dots &= dots.wrapping_sub(1);
        let third = dots.trailing_zeros() as usize;
        let longest = start + digits.min(ADDRESS);
        if dots == 0 || third > longest {
            return 0;
        }
        let fourth = dots & (dots - 1);
        let last = if fourth == 0 { longest } else { longest.min(fourth.trailing_zeros() as usize - 1) };
        let mut ends = self.ends & low_bits(last + 1) & !low_bits(third + 1);
        let mut found = 0;
        while ends != 0 {
            let end = ends.trailing_zeros() as usize;
            ends &= ends - 1;
            if let Some((whole, certainty)) = network::ipv4(Window::new(run, start, end)) {
                let range = run.range(start, whole);
                (self.sink)(Hit { category: Cat::IpAddress.name(), range, certainty });
                found |= 1 << end;
            }
        }
        found
    }

    fn digits(&mut self, window: Window) {
        let chars = window.chars();
        let apart = window.stands_apart();
        if !apart && chars.len() < LONG || chars.iter().all(|byte| *byte == chars[0]) {
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
        for plain in self.tables.digits(chars.len()) {
            let form = window.has_one_of(&plain.forms);
            // What has neither is weighed and found wanting.
            if reported == Some(plain.rule.cat) || !(form || apart) {
                continue;
            }
            let Some(proof) = (plain.rule.check)(chars) else { continue };
            if self.weigh(window, plain.rule.cat, proof, form) {
                reported = Some(plain.rule.cat);
            }
        }
        for (cat, proof) in cards::check(chars) {
            self.weigh(window, cat, proof, window.has_one_of(&self.tables.cards));
        }
        let lone = apart && window.inside == 0 && (6..=17).contains(&chars.len());
        if lone && chain(self.run, window) == (window.start, window.end) {
            self.weigh(window, AccountNumber, Proof::Told, false);
        }
    }

    /// What has letters, and begins at `start` with so many digits.
    fn mixed(&mut self, start: usize, digits: usize) {
        let run = self.run;
        let stuck = run.stuck_left >> start & 1 == 1;
        let ends = self.ends >> start & !low_bits(digits + 1);
        if ends >> MAC & 1 == 1 {
            self.dotted_mac(Window::new(run, start, start + MAC));
        }
        let bits = run.digits >> start;
        let mut reported = (0, None);
        for shaped in self.tables.mixed(bits).iter().filter(|shaped| shaped.fits(bits)) {
            let (len, cat) = (shaped.len, shaped.rule.cat);
            if ends >> len & 1 == 0 || reported == (len, Some(cat)) {
                continue;
            }
            let window = Window::new(run, start, start + len);
            let free = !stuck && run.stuck_right >> window.end & 1 == 0;
            // Where it stands says nothing against what has a checksum.
            if !shaped.checksummed && !(free && (len >= LONG || window.stands_apart())) {
                continue;
            }
            let Some(proof) = (shaped.rule.check)(window.chars()) else { continue };
            // Hashes look like everything; and nobody writes a security's number small.
            let unlike = window.is_hexadecimal() || (cat == Cat::Isin && window.has_small());
            if self.weigh(window, cat, proof, !unlike && window.has_one_of(&shaped.forms)) {
                reported = (len, Some(cat));
            }
        }
    }

    fn dotted_mac(&mut self, window: Window) {
        if window.inside == gap::DOT && network::is_dotted_mac(window) {
            self.report(Cat::MacAddress.name(), window, Certainty::Likely);
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
        let Some(word) = self.context().named(place) else { return Some(certainty) };
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
