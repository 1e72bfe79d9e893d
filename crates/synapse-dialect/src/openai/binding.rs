//! What a key is bound to, put into its requests: bounds of parameters, values for those that are left open,
//! and a system prompt in place of everything by which a caller could set one. Pure; `prompt` has the latter.

use synapse_core::{
    binding::{ParameterCaps, SystemPrompt},
    error::{Fault, FaultKind},
    operation::Operation,
};

use super::{
    prompt::{self, is_like},
    request::{invalid, max_output, whole_tokens},
};
use crate::json::{Edits, Object};

/// What is put into a request.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'r> {
    /// The system prompt, if one is bound.
    pub prompt: Option<&'r SystemPrompt>,
    /// Bounds of parameters.
    pub caps: &'r ParameterCaps,
    /// Values, in JSON, for parameters that are left open.
    pub defaults: &'r [(&'static str, String)],
    /// Whether only engines get the request, and no provider. Not all of them know `max_completion_tokens`;
    /// but providers refuse it beside `max_tokens`.
    pub engines_only: bool,
}

impl Rules<'_> {
    /// Whether requests pass as they are.
    pub fn is_empty(&self) -> bool {
        self.prompt.is_none() && self.caps.is_empty() && self.defaults.is_empty()
    }
}

/// The temperature of engines that are told none.
const USUAL_TEMPERATURE: f64 = 1.0;
/// Where callers may offer tools, or demand one.
const TOOL_FIELDS: [&str; 6] =
    ["tools", "functions", "tool_choice", "function_call", "web_search_options", "plugins"];
/// Where callers say how many tokens a reply has.
const TOKEN_FIELDS: [&str; 4] = ["max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens"];
/// Other engines' names for the most tokens of a reply, which would pass the bound by.
const OTHER_LIMITS: [&str; 4] = ["n_predict", "num_predict", "max_new_tokens", "max_length"];

/// What binds a request.
#[derive(Debug)]
pub struct Changes {
    /// What to change in the body.
    pub edits: Edits,
    /// The most tokens of reply that it allows then, where it says so.
    pub max_output: Option<u32>,
}

/// The changes that bind a request, which was read before.
///
/// # Errors
/// `unsupported_field` or `invalid_field` for what the key does not allow, by the field's name.
pub fn bind(operation: Operation, body: &[u8], rules: Rules<'_>) -> Result<Changes, Fault> {
    let mut edits = Edits::default();
    let object = Object::of_checked(body).map_err(|error| {
        Fault::new(FaultKind::InvalidJson, format!("The request cannot be read: {error}."))
    })?;
    if !rules.caps.is_empty() {
        refuse_misspelt(&object)?;
    }
    if rules.caps.tools == Some(false) {
        refuse_tools(&object)?;
    }
    let mut removed = match rules.prompt {
        Some(prompt) => prompt::bind(operation, &object, prompt, &mut edits)?,
        None => Vec::new(),
    };
    let mut max_output = max_output(&object);
    if let Some(fields) = Limits::of(operation) {
        max_output = fields.bind(&object, &rules, &mut edits)?.or(max_output);
        if rules.caps.max_tokens.is_some() {
            removed.extend(OTHER_LIMITS.into_iter().filter(|key| object.get(key).is_some()));
        }
    }
    for range in object.ranges_of(&removed) {
        edits.replace(range, "");
    }
    Ok(Changes { edits, max_output })
}

/// Some engines read keys without regard to case: what is bounded must not pass under another spelling.
fn refuse_misspelt(object: &Object<'_>) -> Result<(), Fault> {
    let bounded = [&TOOL_FIELDS[..], &OTHER_LIMITS, &TOKEN_FIELDS, &["temperature"]].concat();
    match object.keys().find(|key| is_like(key, &bounded)) {
        Some(key) => Err(invalid(key, "is not spelled as the API has it")),
        None => Ok(()),
    }
}

fn refuse_tools(object: &Object<'_>) -> Result<(), Fault> {
    let asks =
        |key: &&str| object.get(key).is_some_and(|text| !matches!(text, "null" | "[]" | "{}" | "\"none\""));
    match TOOL_FIELDS.iter().find(|key| asks(key)) {
        Some(key) => {
            let message =
                format!("This API key may not offer tools to a model. Leave the field `{key}` out.");
            Err(Fault::new(FaultKind::UnsupportedField, message).param(*key))
        }
        None => Ok(()),
    }
}

/// How an operation calls the most tokens of a reply; the first name is for requests that say nothing.
struct Limits(&'static [&'static str]);

impl Limits {
    /// `None` for operations without parameters of this kind.
    const fn of(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Chat => Some(Self(&["max_tokens", "max_completion_tokens"])),
            Operation::Completion => Some(Self(&["max_tokens"])),
            Operation::Responses => Some(Self(&["max_output_tokens"])),
            _ => None,
        }
    }

    /// Gives the most tokens of reply, where that is bound here.
    fn bind(&self, object: &Object<'_>, rules: &Rules<'_>, edits: &mut Edits) -> Result<Option<u32>, Fault> {
        let most = self.bind_tokens(object, rules, edits)?;
        bind_temperature(object, rules, edits)?;
        for (key, value) in rules.defaults {
            if !matches!(*key, "max_tokens" | "temperature") && !is_set(object, key) {
                edits.set(object, key, value);
            }
        }
        Ok(most)
    }

    fn bind_tokens(
        &self,
        object: &Object<'_>,
        rules: &Rules<'_>,
        edits: &mut Edits,
    ) -> Result<Option<u32>, Fault> {
        let cap = rules.caps.max_tokens;
        let (mut is_said, mut most) = (false, None);
        for key in self.0.iter().filter(|key| is_set(object, key)) {
            is_said = true;
            let asked = number(object, key)?;
            let within =
                |cap: u32| if asked >= 1.0 { whole_tokens(asked).map_or(cap, |n| n.min(cap)) } else { cap };
            most = most.max(cap.map(within));
            // To some engines, 0 or -1 means without limit.
            if let Some(cap) = cap
                && !(1.0..=f64::from(cap)).contains(&asked)
            {
                edits.set(object, key, &cap.to_string());
            }
        }
        if let Some(cap) = cap
            && is_set(object, "min_tokens")
            && number(object, "min_tokens")? > f64::from(cap)
        {
            edits.set(object, "min_tokens", &cap.to_string());
        }
        let default = default_of(rules, "max_tokens").map(|value| value as u32);
        let open = default.map_or(cap, |value| Some(cap.map_or(value, |cap| cap.min(value))));
        let Some(first) = self.0.first() else { return Ok(most) };
        match (is_said, open, cap) {
            (false, Some(value), _) => {
                most = Some(value);
                edits.set(object, first, &value.to_string());
            }
            (true, _, Some(cap)) if rules.engines_only && !is_set(object, first) => {
                edits.set(object, first, &cap.to_string());
            }
            _ => {}
        }
        Ok(most)
    }
}

fn bind_temperature(object: &Object<'_>, rules: &Rules<'_>, edits: &mut Edits) -> Result<(), Fault> {
    let least = rules.caps.min_temperature.unwrap_or(f64::NEG_INFINITY);
    let most = rules.caps.max_temperature.unwrap_or(f64::INFINITY);
    let said = if is_set(object, "temperature") { Some(number(object, "temperature")?) } else { None };
    let default = default_of(rules, "temperature");
    // Not `clamp`, which panics on bounds that it does not like.
    let within = said.or(default).unwrap_or(USUAL_TEMPERATURE).max(least).min(most);
    let is_usual = said.is_none() && default.is_none() && within == USUAL_TEMPERATURE;
    if said != Some(within) && !is_usual {
        edits.set(object, "temperature", &within.to_string());
    }
    Ok(())
}

fn default_of(rules: &Rules<'_>, key: &str) -> Option<f64> {
    rules.defaults.iter().find(|(name, _)| *name == key)?.1.parse().ok()
}

fn is_set(object: &Object<'_>, key: &str) -> bool {
    object.get(key).is_some_and(|text| text != "null")
}

fn number(object: &Object<'_>, key: &str) -> Result<f64, Fault> {
    let read = object.read::<f64>(key).ok().flatten();
    read.ok_or_else(|| invalid(key, "must be a number"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::openai::request;

    fn caps(max_tokens: Option<u32>, least: Option<f64>, most: Option<f64>) -> ParameterCaps {
        ParameterCaps { max_tokens, min_temperature: least, max_temperature: most, tools: None }
    }

    /// What an engine gets of a chat (or of another operation) with these fields.
    fn bound(operation: Operation, fields: Value, rules: Rules<'_>) -> Value {
        let body = Bytes::from(fields.to_string());
        let edits = bind(operation, &body, rules).expect("a request that may pass").edits;
        serde_json::from_slice(&edits.apply(&body)).expect("JSON")
    }

    fn capped(fields: Value, caps: &ParameterCaps) -> Value {
        bound(Operation::Chat, fields, Rules { prompt: None, caps, defaults: &[], engines_only: false })
    }

    #[test]
    fn what_is_known_of_a_bound_request_is_what_reading_it_anew_would_tell() {
        let caps = caps(Some(100), Some(0.1), Some(0.9));
        let defaults = [("seed", "7".to_owned()), ("max_tokens", "50".to_owned())];
        let message = json!([{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}]);
        for fields in [
            json!({"model": "m", "messages": message}),
            json!({"messages": message, "stream": true, "stream_options": {"x": 1}, "model": "m", "max_tokens": 7}),
            json!({"max_tokens": 900, "messages": message, "model": "m", "max_completion_tokens": 3, "evil": [1, 2]}),
            json!({"models": ["m", "n"], "messages": message, "provider": {"order": ["a"]}, "temperature": 2}),
            json!({"messages": message, "max_tokens": 0, "model": "m", "top_p": 0.5, "system": "evil"}),
            json!({"messages": message, "max_tokens": 42.5, "model": "m"}),
        ] {
            let bound = SystemPrompt::new(1, "bound");
            for (prompt, defaults) in
                [(None, &defaults[..]), (Some(&bound), &[]), (Some(&bound), &defaults[..])]
            {
                let rules = Rules { prompt, caps: &caps, defaults, engines_only: true };
                let body = Bytes::from(fields.to_string());
                let before = request::read(Operation::Chat, &body).expect("a request");
                let Changes { edits, max_output } = bind(Operation::Chat, &body, rules).expect("bound");
                let told = before.after(&edits, edits.length_after(body.len()), max_output);
                let read = request::read(Operation::Chat, &edits.apply(&body)).expect("a request");
                assert!(told.is_none() || told.as_ref() == Some(&read), "{fields}: {told:?} {read:?}");
                assert!(told.is_some() || fields.get("models").is_some(), "{fields}");
            }
        }
    }

    #[test]
    fn what_is_asked_for_stays_within_the_bounds() {
        let tight = caps(Some(10), Some(0.2), Some(0.5));
        for (asked, sent) in [
            (json!({"model": "m"}), json!({"max_tokens": 10, "temperature": 0.5, "model": "m"})),
            (json!({"max_tokens": 5, "temperature": 0.3}), json!({"max_tokens": 5, "temperature": 0.3})),
            (json!({"max_tokens": 50, "temperature": 2}), json!({"max_tokens": 10, "temperature": 0.5})),
            (json!({"max_tokens": -1, "temperature": 0}), json!({"max_tokens": 10, "temperature": 0.2})),
            (json!({"max_tokens": null, "temperature": null}), json!({"max_tokens": 10, "temperature": 0.5})),
            (
                json!({"max_completion_tokens": 50, "temperature": 0.4}),
                json!({"max_completion_tokens": 10, "temperature": 0.4}),
            ),
            (
                json!({"max_tokens": 1, "min_tokens": 99, "n_predict": 99, "temperature": 0.4}),
                json!({"max_tokens": 1, "min_tokens": 10, "temperature": 0.4}),
            ),
        ] {
            assert_eq!(capped(asked.clone(), &tight), sent, "{asked}");
        }
        let wide = caps(None, Some(0.0), Some(1.0));
        assert_eq!(
            capped(json!({"model": "m"}), &wide),
            json!({"model": "m"}),
            "the usual one is within them"
        );
    }

    #[test]
    fn an_engine_is_told_the_bound_in_the_word_that_all_engines_know() {
        let tight = caps(Some(10), None, None);
        let rules = Rules { prompt: None, caps: &tight, defaults: &[], engines_only: true };
        let sent = bound(Operation::Chat, json!({"max_completion_tokens": 99}), rules);
        assert_eq!(sent, json!({"max_completion_tokens": 10, "max_tokens": 10}));
    }

    #[test]
    fn what_is_bounded_does_not_pass_under_another_spelling() {
        let caps = caps(Some(10), None, None);
        let rules = Rules { prompt: None, caps: &caps, defaults: &[], engines_only: false };
        for key in ["Max_Tokens", "TEMPERATURE", "toolſ", "N_predict"] {
            let body = json!({"model": "m", key: 99}).to_string();
            let fault = bind(Operation::Chat, body.as_bytes(), rules).expect_err("a refusal");
            assert_eq!(fault.param.as_deref(), Some(key));
        }
    }

    #[test]
    fn each_operation_has_its_own_word_for_the_most_tokens() {
        let tight = caps(Some(10), None, None);
        let rules = Rules { prompt: None, caps: &tight, defaults: &[], engines_only: false };
        assert_eq!(bound(Operation::Responses, json!({}), rules), json!({"max_output_tokens": 10}));
        assert_eq!(bound(Operation::Completion, json!({}), rules), json!({"max_tokens": 10}));
        assert_eq!(bound(Operation::Embeddings, json!({}), rules), json!({}));
    }

    #[test]
    fn a_models_values_fill_what_is_open_and_the_bounds_hold_for_them() {
        let defaults =
            [("temperature", "0.9".to_owned()), ("max_tokens", "99".to_owned()), ("top_p", "0.5".to_owned())];
        let (none, tight) = (ParameterCaps::default(), caps(Some(10), None, Some(0.5)));
        let filled = |caps, fields| {
            bound(
                Operation::Chat,
                fields,
                Rules { prompt: None, caps, defaults: &defaults, engines_only: false },
            )
        };
        let open = json!({"model": "m"});
        let full = |temperature, max_tokens| json!({"model": "m", "temperature": temperature, "max_tokens": max_tokens, "top_p": 0.5});
        assert_eq!(filled(&none, open.clone()), full(0.9, 99));
        let said = json!({"temperature": 0.1, "max_completion_tokens": 7, "top_p": 1});
        assert_eq!(filled(&none, said.clone()), said);
        assert_eq!(filled(&tight, open), full(0.5, 10));
    }

    #[test]
    fn tools_are_refused_by_their_field_where_the_key_has_none() {
        let caps = ParameterCaps { tools: Some(false), ..ParameterCaps::default() };
        let rules = Rules { prompt: None, caps: &caps, defaults: &[], engines_only: false };
        for (field, value) in [
            ("tools", json!([{"type": "function"}])),
            ("functions", json!([{}])),
            ("tool_choice", json!("auto")),
            ("function_call", json!({"name": "f"})),
        ] {
            let body = json!({"model": "m", field: value}).to_string();
            let fault = bind(Operation::Chat, body.as_bytes(), rules).expect_err("a refusal");
            assert_eq!((fault.kind.code(), fault.param.as_deref()), ("unsupported_field", Some(field)));
        }
        for (field, value) in [("tools", json!([])), ("tool_choice", json!("none")), ("tools", Value::Null)] {
            let body = json!({"model": "m", field: value}).to_string();
            assert!(bind(Operation::Chat, body.as_bytes(), rules).is_ok(), "{body}");
        }
    }
}
