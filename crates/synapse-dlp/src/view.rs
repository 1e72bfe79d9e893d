//! Texts as detectors see them, and the way back to the places in the text that was given.
//!
//! A view is made only where something in the text asks for it: most texts are their own only view.

mod decode;
mod fold;
mod look_alikes;
mod spread;
mod survey;

use std::{borrow::Cow, ops::Range};

pub(crate) use fold::{is_digit, stands_for_itself};
pub(crate) use survey::Survey;

/// How much of what surrounds something decoded is looked at again, on each side, in bytes.
const NEAR: usize = 128;

/// A stretch of a view, up to where the next one begins.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Where it begins in the view.
    at: usize,
    /// Where its source begins.
    source: usize,
    /// How long its source is, when the stretch stands for it as a whole; 0 when it is the same text.
    whole: usize,
}

/// A text made from another one.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) text: String,
    stretches: Vec<Stretch>,
}

impl View {
    /// An empty one, with room for a text of that length.
    fn with_room(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), stretches: Vec::new() }
    }

    /// Goes on with `source[range]` as it is.
    fn keep(&mut self, source: &str, range: Range<usize>) {
        let Some(text) = source.get(range.clone()).filter(|text| !text.is_empty()) else { return };
        let at = self.text.len();
        let goes_on = self
            .stretches
            .last()
            .is_some_and(|last| last.whole == 0 && last.source + (at - last.at) == range.start);
        if !goes_on {
            self.stretches.push(Stretch { at, source: range.start, whole: 0 });
        }
        self.text.push_str(text);
    }

    /// Goes on with the ends of `source[range]` as they are: what is near to something that is not. What is left
    /// out between them becomes a gap across which nothing links.
    fn keep_near(&mut self, source: &str, range: Range<usize>) {
        if range.len() <= 3 * NEAR {
            return self.keep(source, range);
        }
        let first = source.floor_char_boundary(range.start + NEAR);
        let last = source.ceil_char_boundary(range.end - NEAR);
        self.keep(source, range.start..first);
        self.put("\n\n\n\n", first..last);
        self.keep(source, last..range.end);
    }

    /// Whether a part of the view has anything that its source has not.
    fn is_made(&self, range: Range<usize>) -> bool {
        let first = self.stretch(range.start);
        !first.is_some_and(|first| {
            first.whole == 0
                && self.stretch(range.end.saturating_sub(1)).is_some_and(|last| last.at == first.at)
        })
    }

    /// Goes on with `text`, which stands for the source's `range` as a whole.
    fn put(&mut self, text: &str, range: Range<usize>) {
        if !text.is_empty() {
            self.stretches.push(Stretch { at: self.text.len(), source: range.start, whole: range.len() });
            self.text.push_str(text);
        }
    }

    /// The stretch that byte `at` is part of.
    fn stretch(&self, at: usize) -> Option<&Stretch> {
        self.stretches.get(self.stretches.partition_point(|stretch| stretch.at <= at).checked_sub(1)?)
    }

    /// Where the view goes on with what stands at `place` of its source, or before it.
    fn place(&self, place: usize) -> usize {
        let next = self.stretches.partition_point(|stretch| stretch.source <= place);
        let Some(stretch) = next.checked_sub(1).and_then(|at| self.stretches.get(at)) else { return 0 };
        let end = self.stretches.get(next).map_or(self.text.len(), |next| next.at);
        let inside = if stretch.whole == 0 { place - stretch.source } else { 0 };
        (stretch.at + inside).min(end)
    }

    /// What of the source a part of the view stands for.
    fn source(&self, range: Range<usize>) -> Option<Range<usize>> {
        let first = self.stretch(range.start)?;
        let last = self.stretch(range.end.checked_sub(1)?)?;
        let start = first.source + if first.whole == 0 { range.start - first.at } else { 0 };
        let end = last.source + if last.whole == 0 { range.end - last.at } else { last.whole };
        Some(start..end)
    }
}

/// What a view is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The text itself, with other forms of the same characters folded.
    Plain,
    /// With what was encoded decoded in its place.
    Decoded,
    /// With characters moved together that were set apart. Detectors of identifiers do that themselves.
    Joined,
}

/// How often what was decoded is decoded again.
const DEPTH: usize = 3;

struct Made {
    view: View,
    survey: Survey,
    parent: Option<usize>,
    kind: Kind,
}

/// All views of a text.
pub(crate) struct Views<'t> {
    raw: &'t str,
    survey: Survey,
    made: Vec<Made>,
    plain: Option<usize>,
}

impl<'t> Views<'t> {
    /// Makes those that a text asks for.
    pub(crate) fn of(raw: &'t str) -> Self {
        let mut views = Self { raw, survey: Survey::default(), made: Vec::new(), plain: None };
        if !raw.is_ascii() {
            views.add_plain(fold::fold);
            if fold::has_look_alikes(views.text(views.plain)) {
                views.add_plain(look_alikes::fold);
            }
        }
        if views.plain.is_none() {
            views.survey = Survey::of(raw);
        }
        let plain = views.plain;
        let mut latest = plain;
        // Folding may bring out what was not to be seen before.
        let survey = views.survey(plain);
        for _ in 0..if survey.encoded { DEPTH } else { 0 } {
            let Some(view) = decode::decode(views.text(latest)) else { break };
            latest = views.add(view, latest, Kind::Decoded);
        }
        if survey.spread
            && let Some(view) = spread::join(views.text(plain))
        {
            views.add(view, plain, Kind::Joined);
        }
        views
    }

    fn add(&mut self, view: View, parent: Option<usize>, kind: Kind) -> Option<usize> {
        let survey = Survey::of(&view.text);
        self.made.push(Made { view, survey, parent, kind });
        Some(self.made.len() - 1)
    }

    fn add_plain(&mut self, make: fn(&str) -> Option<View>) {
        if let Some(view) = make(self.text(self.plain)) {
            self.plain = self.add(view, self.plain, Kind::Plain);
        }
    }

    fn text(&self, view: Option<usize>) -> &str {
        view.and_then(|at| self.made.get(at)).map_or(self.raw, |made| &made.view.text)
    }

    fn survey(&self, view: Option<usize>) -> Survey {
        view.and_then(|at| self.made.get(at)).map_or(self.survey, |made| made.survey)
    }

    /// Each view's text, what it is good for, what it has, and what leads back from it.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, Kind, Survey, Origin<'_>)> {
        let made = self.made.iter().enumerate().filter(|(_, made)| made.kind != Kind::Plain);
        let made = made.map(|(at, made)| (Some(at), made.kind));
        std::iter::once((self.plain, Kind::Plain))
            .chain(made)
            .map(|(view, kind)| (self.text(view), kind, self.survey(view), Origin { views: self, view }))
    }
}

/// The way from a view back to the text that was given.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'v> {
    views: &'v Views<'v>,
    view: Option<usize>,
}

impl Origin<'_> {
    /// Where a view of the plain text goes on with what stands at byte `at` of it, or before; others may have
    /// that anywhere.
    pub(crate) fn place(&self, at: usize) -> usize {
        let made = |view: Option<usize>| view.and_then(|view| self.views.made.get(view));
        match made(self.view) {
            None => at,
            Some(last) if last.kind == Kind::Plain => {
                let first = made(last.parent).map_or(at, |first| first.view.place(at));
                last.view.place(first)
            }
            Some(_) => 0,
        }
    }

    /// What of the text a part of the view stands for; nothing if another view has the same.
    pub(crate) fn source(&self, mut range: Range<usize>) -> Option<Range<usize>> {
        let mut view = self.view;
        let made = view.and_then(|at| self.views.made.get(at));
        if made.is_some_and(|made| made.kind != Kind::Plain && !made.view.is_made(range.clone())) {
            return None;
        }
        while let Some(made) = view.and_then(|at| self.views.made.get(at)) {
            range = made.view.source(range)?;
            view = made.parent;
        }
        Some(range)
    }
}

/// `text` with other forms of the same characters folded: what dictionaries and hashes are compared with.
pub(crate) fn folded(text: &str) -> Cow<'_, str> {
    match fold::fold(text) {
        Some(view) => Cow::Owned(view.text),
        None => Cow::Borrowed(text),
    }
}
