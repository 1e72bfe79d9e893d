//! `${NAME}` and `${NAME:-default}` in scalars, and `file:/path` in secrets. The world is reached
//! through [`Surroundings`] only; this crate reads neither environment nor files itself.

use std::{borrow::Cow, io, path::Path};

/// What a configuration may refer to outside itself.
pub trait Surroundings {
    /// The value of an environment variable; `None` if it is not set or not Unicode.
    fn env(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// As the file system gives them.
    fn read_file(&self, path: &Path) -> io::Result<String>;
}

/// Why a scalar could not be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FillError {
    #[error("environment variable `{0}` is not set")]
    NotSet(String),
    #[error("`${{` without a closing `}}`")]
    Unclosed,
    // Without what was written: it may be a piece of a password with an unlucky spelling.
    #[error("`${{…}}` must hold the name of an environment variable")]
    BadName,
}

/// Replaces `${NAME}` and `${NAME:-default}` (used where the variable is unset or empty); `$${`
/// stands for `${` itself. Text without any of these is handed back as it is.
pub(super) fn fill<'t>(text: &'t str, world: &dyn Surroundings) -> Result<Cow<'t, str>, FillError> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = reference;
            continue;
        }
        filled.push_str(before);
        let (inside, after) = reference.split_once('}').ok_or(FillError::Unclosed)?;
        filled.push_str(&lookup(inside, world)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(Cow::Owned(filled))
}

/// Writes `text` so that [`fill`] gives it back unchanged.
pub(super) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

fn lookup(inside: &str, world: &dyn Surroundings) -> Result<String, FillError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let head = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !name.starts_with(head) || !name.chars().all(|c| head(c) || c.is_ascii_digit()) {
        return Err(FillError::BadName);
    }
    match (world.env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(FillError::NotSet(name.to_owned())),
    }
}

/// The path of a secret that is kept in a file (`file:/run/secrets/x`).
pub(super) fn secret_file(text: &str) -> Option<&Path> {
    text.strip_prefix("file:").map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::World;

    fn filled(text: &str) -> Result<String, FillError> {
        fill(text, &World::default().var("HOST", "gpu-1").var("EMPTY", "")).map(Cow::into_owned)
    }

    #[test]
    fn variables_are_replaced_wherever_they_stand() {
        assert_eq!(filled("http://${HOST}:8000/${HOST}"), Ok("http://gpu-1:8000/gpu-1".into()));
    }

    #[test]
    fn a_default_stands_in_for_an_unset_or_empty_variable() {
        assert_eq!(filled("${NONE:-a:-b}"), Ok("a:-b".into()));
        assert_eq!(filled("${EMPTY:-x}"), Ok("x".into()));
        assert_eq!(filled("${EMPTY}${NONE:-}"), Ok(String::new()));
        assert_eq!(filled("${HOST:-x}"), Ok("gpu-1".into()));
    }

    #[test]
    fn an_unset_variable_without_default_is_an_error() {
        assert_eq!(filled("${NONE}"), Err(FillError::NotSet("NONE".into())));
    }

    #[test]
    fn a_doubled_dollar_escapes() {
        assert_eq!(filled("$${HOST} costs $5 ${HOST}"), Ok("${HOST} costs $5 gpu-1".into()));
    }

    #[test]
    fn malformed_references_are_errors() {
        assert_eq!(filled("${HOST"), Err(FillError::Unclosed));
        assert_eq!(filled("${1A}"), Err(FillError::BadName));
        assert_eq!(filled("${}"), Err(FillError::BadName));
    }

    proptest::proptest! {
        #[test]
        fn escaped_text_comes_back_unchanged(text in "[${}a:-]{0,30}") {
            proptest::prop_assert_eq!(filled(&escape(&text)), Ok(text));
        }
    }
}
