//! Structure: a tree of nodes read against the JSON Schema of [`raw::Config`]. Whatever does not fit
//! is reported and left out, and reading goes on beside it, so that one run finds every mistake.
//! What values mean together is not checked here.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    interpolate::{self, Surroundings},
    problem::{Place, Problem, nearest},
    raw, reference,
    yaml::{Content, Node, Scalar},
};

/// A configuration whose structure was read.
pub(super) struct Reading {
    /// What could be read.
    pub(super) config: raw::Config,
    /// Where each value of it was written.
    pub(super) places: Places,
}

/// Where values were written, by their JSON pointer in what could be read.
#[derive(Default)]
pub(super) struct Places {
    read: HashMap<String, Place>,
    broken: HashSet<String>,
}

impl Places {
    /// Where the value at `pointer` was written; for a default, where it would have to be.
    pub(super) fn of(&self, pointer: &str) -> Place {
        if let Some(place) = self.read.get(pointer) {
            return place.clone();
        }
        match pointer.rsplit_once('/') {
            Some((parent, key)) => self.of(parent).key(key),
            None => Place { path: String::new(), line: 1, column: 1 },
        }
    }

    /// Whether what was written at `pointer` was reported and left out: its default means nothing.
    pub(super) fn is_broken(&self, pointer: &str) -> bool {
        self.broken.contains(pointer)
    }
}

/// Reads `root`, fills in variables and secret files, and adds every mistake to `problems`.
pub(super) fn read(root: &Node, world: &dyn Surroundings, problems: &mut Vec<Problem>) -> Reading {
    let mut reader = Reader { world, problems, places: Places::default() };
    let value = reader.value(root, reference::schema(), "").unwrap_or_else(|| Value::Object(Map::new()));
    let places = reader.places;
    let config = serde_json::from_value(value).unwrap_or_else(|_| {
        // Not reachable while schema and types agree. The error's text may hold a secret.
        problems.push(Problem::new(&places.of(""), "the configuration does not fit its own schema"));
        raw::Config::default()
    });
    Reading { config, places }
}

struct Reader<'a> {
    world: &'a dyn Surroundings,
    problems: &'a mut Vec<Problem>,
    places: Places,
}

impl Reader<'_> {
    /// The value of `node` as `schema` wants it. `None` where nothing was written, and where the
    /// mistake was reported.
    fn value(&mut self, node: &Node, schema: &Value, pointer: &str) -> Option<Value> {
        if node.is_null() {
            return None;
        }
        let problems_before = self.problems.len();
        let value = match (schema_type(schema), &node.content) {
            ("object", Content::Mapping(_)) => Some(self.object(node, schema, pointer)),
            ("array", Content::Sequence(items)) => Some(self.array(node, items, schema, pointer)),
            ("string" | "integer" | "number" | "boolean", Content::Scalar(scalar)) => {
                self.scalar(&node.place, scalar, schema)
            }
            (wanted, found) => {
                self.report(wrong_type(&node.place, wanted, found));
                None
            }
        };
        if value.is_some() {
            self.places.read.insert(pointer.to_owned(), node.place.clone());
        } else if self.problems.len() > problems_before {
            self.places.broken.insert(pointer.to_owned());
        }
        value
    }

    fn object(&mut self, node: &Node, schema: &Value, pointer: &str) -> Value {
        let mut object = Map::new();
        // Keys of the operator's choosing.
        let any = schema.get("additionalProperties").filter(|any| any.is_object());
        for entry in node.entries() {
            if let Some(schema) = any {
                let at = format!("{pointer}/{}", entry.key);
                if let Some(value) = self.value(&entry.value, schema, &at) {
                    object.insert(entry.key.clone(), value);
                }
                continue;
            }
            let known = &schema["properties"];
            let key = match known.get(&entry.key) {
                Some(_) => Some(&*entry.key),
                None => self.unknown_key(node, &entry.key, &entry.place, schema),
            };
            // A misspelt key is read as what it was meant to be: its value has mistakes of its own,
            // and others refer to it.
            if let Some(key) = key
                && let Some(value) = self.value(&entry.value, &known[key], &format!("{pointer}/{key}"))
            {
                object.insert(key.to_owned(), value);
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let at = format!("{pointer}/{required}");
            if !object.contains_key(required) && !self.places.is_broken(&at) {
                self.report(Problem::new(&node.place.key(required), "is required, but missing"));
                self.places.broken.insert(at);
            }
        }
        Value::Object(object)
    }

    /// Reports a key that does not exist; the key that was meant, if it is not there as well.
    fn unknown_key<'s>(
        &mut self,
        node: &Node,
        key: &str,
        place: &Place,
        schema: &'s Value,
    ) -> Option<&'s str> {
        let names = || schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
        let problem = Problem::new(place, "unknown key");
        if is_planned(schema, key) {
            self.report(problem.hint("not available in this version of Synapse"));
            return None;
        }
        let meant = nearest(key, names());
        self.report(match meant {
            Some(name) => problem.hint(format!("did you mean `{name}`?")),
            None => problem.hint(format!("known here: {}", names().collect::<Vec<_>>().join(", "))),
        });
        meant.filter(|name| node.get(name).is_none())
    }

    fn array(&mut self, node: &Node, items: &[Node], schema: &Value, pointer: &str) -> Value {
        let problems_before = self.problems.len();
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            if item.is_null() {
                self.report(Problem::new(&item.place, "an empty entry").hint("remove the dash"));
            }
            let at = format!("{pointer}/{}", values.len());
            match self.value(item, &schema["items"], &at) {
                Some(value) => values.push(value),
                // What was left out may have been the name that others refer to.
                None => {
                    self.places.broken.insert(pointer.to_owned());
                    self.places.broken.remove(&at);
                }
            }
        }
        // Entries of empty variables count as left out.
        let none_left = values.is_empty() && self.problems.len() == problems_before;
        if none_left && schema["minItems"].as_u64().unwrap_or(0) > 0 {
            self.report(Problem::new(&node.place, "must not be empty"));
        }
        Value::Array(values)
    }

    fn scalar(&mut self, place: &Place, scalar: &Scalar, schema: &Value) -> Option<Value> {
        let filled = match interpolate::fill(&scalar.text, self.world) {
            Ok(filled) => filled,
            Err(error) => {
                self.report(Problem::new(place, error.to_string()));
                return None;
            }
        };
        // A variable's text may stand for any type, quoted or not.
        let replaced = filled != scalar.text;
        if replaced && filled.is_empty() {
            return None;
        }
        let result = match schema_type(schema) {
            "string" if is_secret(schema) => self.secret(&filled).map(Value::String),
            "string" => text(&filled, &scalar.text, schema),
            wanted if scalar.plain || replaced => number_or_bool(&filled, wanted, schema),
            wanted => Err(Mistake::because(format!("expected {}, found text", type_name(wanted)))
                .hint("remove the quotes")),
        };
        result.map_err(|mistake| self.report(mistake.at(place))).ok()
    }

    fn secret(&self, text: &str) -> Result<String, Mistake> {
        let Some(path) = interpolate::secret_file(text) else {
            return if text.is_empty() {
                Err(Mistake::because("must not be empty"))
            } else {
                Ok(text.into())
            };
        };
        match self.world.read_file(path) {
            Ok(content) => {
                let content = content.trim_end_matches(['\n', '\r']);
                if content.is_empty() {
                    return Err(Mistake::because("the secret file is empty"));
                }
                Ok(content.to_owned())
            }
            Err(error) => Err(Mistake::because(format!("the secret file cannot be read: {error}"))),
        }
    }

    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// A mistake in a scalar whose place its finder does not know.
struct Mistake {
    message: String,
    hint: Option<String>,
}

impl Mistake {
    fn because(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn at(self, place: &Place) -> Problem {
        Problem { hint: self.hint, ..Problem::new(place, self.message) }
    }
}

/// Text as `schema` wants it. Messages quote `written`, never `filled`.
fn text(filled: &str, written: &str, schema: &Value) -> Result<Value, Mistake> {
    let choices: Vec<&str> = reference::choices(schema).map(|(choice, _)| choice).collect();
    if !choices.is_empty() && !choices.contains(&filled) {
        let mistake = Mistake::because(format!("`{}` is none of {}", shown(written), choices.join(", ")));
        return Err(match nearest(filled, choices.iter().copied()) {
            _ if is_planned(schema, filled) => mistake.hint("not available in this version of Synapse"),
            Some(name) => mistake.hint(format!("did you mean `{name}`?")),
            None => mistake,
        });
    }
    let length = filled.chars().count() as u64;
    if length < schema["minLength"].as_u64().unwrap_or(0) {
        return Err(Mistake::because("must not be empty"));
    }
    match schema["maxLength"].as_u64() {
        Some(most) if length > most => Err(Mistake::because(format!("longer than {most} characters"))),
        _ => Ok(Value::String(filled.to_owned())),
    }
}

/// A piece of the file, fit for one line of a terminal.
fn shown(written: &str) -> String {
    const LONGEST: usize = 40;
    let short: String = written.chars().take(LONGEST).collect();
    let dots = if short.len() < written.len() { "…" } else { "" };
    format!("{}{dots}", short.escape_debug())
}

fn number_or_bool(text: &str, wanted: &str, schema: &Value) -> Result<Value, Mistake> {
    let unfit = || Mistake::because(format!("expected {}, found text", type_name(wanted)));
    match wanted {
        "boolean" => match text {
            "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
            "yes" | "on" => Err(unfit().hint("write `true`")),
            "no" | "off" => Err(unfit().hint("write `false`")),
            _ => Err(unfit()),
        },
        "integer" => {
            let number: i64 = text.parse().map_err(|_| match text.parse::<f64>() {
                Ok(_) => Mistake::because("expected a whole number"),
                Err(_) => unfit(),
            })?;
            in_range(number as f64, schema)?;
            Ok(number.into())
        }
        _ => {
            let number: f64 = text.parse().map_err(|_| unfit())?;
            in_range(number, schema)?;
            Ok(number.into())
        }
    }
}

fn in_range(number: f64, schema: &Value) -> Result<(), Mistake> {
    let least = schema["minimum"].as_f64().unwrap_or(f64::MIN);
    let most = schema["maximum"].as_f64().unwrap_or(f64::MAX);
    if (least..=most).contains(&number) {
        return Ok(());
    }
    Err(Mistake::because(format!("must be between {least} and {most}")))
}

fn wrong_type(place: &Place, wanted: &str, found: &Content) -> Problem {
    let found_name = match found {
        Content::Scalar(_) => "a single value",
        Content::Sequence(_) => "a list",
        Content::Mapping(_) => "a section",
    };
    let problem = Problem::new(place, format!("expected {}, found {found_name}", type_name(wanted)));
    match (wanted, found) {
        ("array", Content::Mapping(_)) => problem.hint("begin each entry with a dash"),
        ("array", Content::Scalar(_)) => problem.hint("put it in brackets: [ … ]"),
        _ => problem,
    }
}

/// The schema's `type`. Ours have exactly one, because null stands for "not written" everywhere.
fn schema_type(schema: &Value) -> &str {
    schema["type"].as_str().unwrap_or("string")
}

fn type_name(schema_type: &str) -> &'static str {
    match schema_type {
        "object" => "a section of keys",
        "array" => "a list",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "text",
    }
}

fn is_secret(schema: &Value) -> bool {
    schema["writeOnly"] == true
}

/// Whether `name` is on the way: a better answer than a nearby spelling.
fn is_planned(schema: &Value, name: &str) -> bool {
    schema["x-planned"].as_array().is_some_and(|names| names.iter().any(|planned| planned == name))
}
