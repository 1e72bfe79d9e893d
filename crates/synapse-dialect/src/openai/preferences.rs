//! What a caller may say about its request's way, in OpenRouter's fields: `models` (further models
//! to try) and `provider` (`order`, `only`, `ignore`, `allow_fallbacks`, `sort`). The gateway honours
//! them within what the caller's key allows, and keeps them to itself.
//!
//! Source: <https://openrouter.ai/docs/features/provider-routing> and `…/model-routing`.

use serde::Deserialize;
use synapse_core::error::Fault;

use super::request::{field, invalid};
use crate::{bounded::First, json::Object};

/// The fields that no engine gets to see.
pub(super) const FIELDS: [&str; 2] = ["models", "provider"];
/// Names in one list.
const MAX_NAMES: usize = 32;

/// A caller's wishes. Names are compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// Public names to try after the one asked for.
    pub models: Vec<String>,
    /// Backends to try first, in this order.
    pub order: Vec<String>,
    /// The only backends to try; empty allows all.
    pub only: Vec<String>,
    /// Backends not to try.
    pub ignore: Vec<String>,
    /// Whether others than the first choice may be tried.
    pub no_fallbacks: bool,
    /// What counts among equals.
    pub sort: Option<Sort>,
}

/// What counts among backends that are equal otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The fastest to begin.
    Latency,
    /// The least loaded.
    Throughput,
}

type Names = First<String, MAX_NAMES>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Provider {
    order: Option<Names>,
    only: Option<Names>,
    ignore: Option<Names>,
    allow_fallbacks: Option<bool>,
    sort: Option<String>,
}

/// Reads the caller's wishes; `None` where there are none.
///
/// # Errors
/// `invalid_field` for a wish that cannot be read.
pub(super) fn read(object: &Object<'_>) -> Result<Option<Box<Preferences>>, Fault> {
    if FIELDS.iter().all(|key| object.get(key).is_none()) {
        return Ok(None);
    }
    let models = field::<Names>(object, "models", "a list of model names")?.unwrap_or_default().0;
    if object.get("provider").is_some_and(|text| text != "null" && !text.starts_with('{')) {
        return Err(invalid("provider", "must be an object"));
    }
    let what = "an object with the lists of names `order`, `only` and `ignore`, \
                the truth value `allow_fallbacks` and the text `sort`";
    let provider = field::<Provider>(object, "provider", what)?.unwrap_or_default();
    let sort = match provider.sort.as_deref() {
        None | Some("price") => None,
        Some("latency") => Some(Sort::Latency),
        Some("throughput") => Some(Sort::Throughput),
        Some(_) => return Err(invalid("provider.sort", "must be `price`, `throughput` or `latency`")),
    };
    let preferences = Preferences {
        models,
        order: provider.order.unwrap_or_default().0,
        only: provider.only.unwrap_or_default().0,
        ignore: provider.ignore.unwrap_or_default().0,
        no_fallbacks: provider.allow_fallbacks == Some(false),
        sort,
    };
    let lists = [
        ("models", &preferences.models),
        ("provider.order", &preferences.order),
        ("provider.only", &preferences.only),
        ("provider.ignore", &preferences.ignore),
    ];
    if let Some((name, _)) = lists.iter().find(|(_, names)| names.len() > MAX_NAMES) {
        return Err(invalid(name, &format!("must have at most {MAX_NAMES} names")));
    }
    Ok(Some(Box::new(preferences)))
}

impl Preferences {
    /// The first of the further models, no longer among them.
    pub(super) fn take_first(&mut self) -> Option<String> {
        if self.models.is_empty() { None } else { Some(self.models.remove(0)) }
    }

    /// Whether the caller's lists allow a backend of this name.
    pub fn allow(&self, backend: &str) -> bool {
        let has = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(backend));
        let listed = !self.no_fallbacks || self.order.is_empty() || has(&self.order);
        listed && (self.only.is_empty() || has(&self.only)) && !has(&self.ignore)
    }

    /// A backend's place in the caller's order; those that are not in it come last.
    pub fn rank(&self, backend: &str) -> usize {
        let place = self.order.iter().position(|name| name.eq_ignore_ascii_case(backend));
        place.unwrap_or(self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferences(body: &str) -> Result<Option<Box<Preferences>>, Fault> {
        read(&Object::parse(body.as_bytes()).expect("an object"))
    }

    #[test]
    fn a_request_without_wishes_has_none() {
        assert_eq!(preferences(r#"{"model":"m"}"#).expect("read"), None);
    }

    #[test]
    fn wishes_are_read_and_unknown_ones_passed_over() {
        let body = r#"{"models":["a","b"],"provider":{"order":["X"],"ignore":["y"],"allow_fallbacks":false,
            "sort":"latency","data_collection":"deny"}}"#;
        let wishes = preferences(body).expect("read").expect("wishes");
        assert_eq!((wishes.models.len(), wishes.sort), (2, Some(Sort::Latency)));
        assert!(
            wishes.allow("x") && !wishes.allow("Y") && !wishes.allow("z"),
            "only the order, if no fallbacks"
        );
        assert_eq!((wishes.rank("x"), wishes.rank("z")), (0, 1));
    }

    #[test]
    fn a_wish_that_cannot_be_read_is_refused_by_its_name() {
        for (body, param) in [
            (r#"{"models":"a"}"#, "models"),
            (r#"{"provider":["a"]}"#, "provider"),
            (r#"{"provider":{"order":"a"}}"#, "provider"),
            (r#"{"provider":{"sort":"beauty"}}"#, "provider.sort"),
        ] {
            let fault = preferences(body).expect_err(body);
            assert_eq!((fault.kind.code(), fault.param.as_deref()), ("invalid_field", Some(param)));
        }
    }

    #[test]
    fn a_long_list_is_refused_by_its_name() {
        for list in ["models", "order"] {
            let names = format!("\"{list}\":[{}\"a\"]", "\"a\",".repeat(MAX_NAMES));
            let body = if list == "models" {
                format!("{{{names}}}")
            } else {
                format!("{{\"provider\":{{{names}}}}}")
            };
            let fault = preferences(&body).expect_err("a refusal");
            assert!(fault.param.is_some_and(|param| param.ends_with(list)));
        }
    }
}
