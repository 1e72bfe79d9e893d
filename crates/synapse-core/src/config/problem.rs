//! What is wrong with a configuration, and where. Texts never carry a resolved value: what came
//! from the environment or from a secret file stays out of them.

use std::fmt;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `backends[2].url`; empty for the document itself.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

impl Place {
    /// The place of a key that belongs here.
    pub(super) fn key(&self, key: &str) -> Self {
        Self { path: key_path(&self.path, key), ..self.clone() }
    }
}

/// The path of `key` within `parent`. Keys that would make the path ambiguous are quoted.
pub(super) fn key_path(parent: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    match (parent.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{parent}.{key}"),
        (_, false) => format!("{parent}[{key:?}]"),
    }
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A mistake at `place`.
    pub(super) fn new(place: &Place, message: impl Into<String>) -> Self {
        Self { place: place.clone(), message: message.into(), hint: None }
    }

    /// Adds advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the name that was probably meant, if any of `known` comes near.
    pub(super) fn nearest<'n>(self, written: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        match nearest(written, known) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// `LINE:COLUMN: path: message`; the hint is left to the caller's layout.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { path, line, column } = &self.place;
        write!(f, "{line}:{column}: ")?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// The one of `known` that `written` was probably meant to be. Case, `_` and `-` do not count.
pub(super) fn nearest<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Long enough to be a pasted text rather than a name: comparing would only cost time.
    const LONGEST: usize = 128;
    const ALIKE: f64 = 0.6;
    // `base_url` for `url`: better than a far spelling, worse than a near one.
    const PART: f64 = 0.7;
    if written.len() > LONGEST {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], "");
    let wanted = plain(written);
    let likeness = |name: &str| {
        let part = if written.split(['_', '-']).any(|part| part == name) { PART } else { 0.0 };
        strsim::normalized_damerau_levenshtein(&wanted, &plain(name)).max(part)
    };
    known
        .into_iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_through_typos_and_other_spellings() {
        let known = ["url", "max_in_flight", "timeouts"];
        for (written, want) in [
            ("ulr", Some("url")),
            ("maxInFlight", Some("max_in_flight")),
            ("timeout", Some("timeouts")),
            ("base_url", Some("url")),
            ("zebra", None),
        ] {
            assert_eq!(nearest(written, known), want, "{written}");
        }
    }

    #[test]
    fn a_key_that_could_be_mistaken_for_a_path_is_quoted() {
        assert_eq!(key_path("server", "port"), "server.port");
        assert_eq!(key_path("", "a.b"), "[\"a.b\"]");
        assert_eq!(key_path("x", "a\nb"), "x[\"a\\nb\"]");
    }
}
