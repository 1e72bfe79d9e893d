//! A value that satisfies a JSON Schema, for structured output and tool arguments. It covers what such
//! schemas use in practice: types, enums, const, objects, arrays, unions and local references.

use serde_json::{Map, Value, json};

/// References may lead in circles.
const DEPTH: u32 = 12;

/// A value for `schema`, with the required properties of every object. `text` fills free strings.
pub(crate) fn instance(schema: &Value, text: &str) -> Value {
    Builder { root: schema, text }.value(schema, DEPTH)
}

struct Builder<'a> {
    root: &'a Value,
    text: &'a str,
}

impl Builder<'_> {
    fn value(&self, schema: &Value, depth: u32) -> Value {
        let Some(depth) = depth.checked_sub(1) else { return Value::Null };
        if let Some(target) = schema["$ref"].as_str() {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.value(target, depth));
        }
        if let Some(constant) = schema.get("const").or_else(|| schema["enum"].get(0)) {
            return constant.clone();
        }
        for union in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema[union].get(0) {
                return self.value(first, depth);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => Value::String(self.string(schema)),
            "integer" => json!(integer(schema)),
            "number" => json!(number(schema)),
            "boolean" => Value::Bool(true),
            _ => Value::Null,
        }
    }

    fn object(&self, schema: &Value, depth: u32) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut object = Map::new();
        for name in required {
            let property = schema["properties"].get(name).unwrap_or(&Value::Null);
            object.insert(name.to_owned(), self.value(property, depth));
        }
        Value::Object(object)
    }

    fn array(&self, schema: &Value, depth: u32) -> Value {
        let count = schema["minItems"].as_u64().unwrap_or(1).min(64);
        let item = schema.get("items").unwrap_or(&Value::Null);
        Value::Array((0..count).map(|_| self.value(item, depth)).collect())
    }

    fn string(&self, schema: &Value) -> String {
        match schema["format"].as_str() {
            Some("date") => return "2026-01-31".to_owned(),
            Some("date-time") => return "2026-01-31T12:00:00Z".to_owned(),
            Some("email") => return "someone@example.com".to_owned(),
            Some("uri") => return "https://example.com/".to_owned(),
            Some("uuid") => return "00000000-0000-4000-8000-000000000000".to_owned(),
            _ => {}
        }
        let length = |key: &str| schema[key].as_u64().and_then(|length| usize::try_from(length).ok());
        let mut string: String = self.text.chars().take(length("maxLength").unwrap_or(usize::MAX)).collect();
        let missing = length("minLength").unwrap_or(0).min(4096).saturating_sub(string.chars().count());
        string.extend(std::iter::repeat_n('x', missing));
        string
    }
}

/// The type a value for `schema` has: the first one that is named and not null.
fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema["properties"].is_object() => "object",
        _ => "string",
    }
}

fn integer(schema: &Value) -> i64 {
    let above = schema["exclusiveMinimum"].as_i64().map(|bound| bound + 1);
    schema["minimum"].as_i64().or(above).unwrap_or_else(|| schema["maximum"].as_i64().unwrap_or(1).min(1))
}

fn number(schema: &Value) -> f64 {
    schema["minimum"].as_f64().unwrap_or_else(|| schema["maximum"].as_f64().unwrap_or(1.5).min(1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_its_required_properties_and_no_others() {
        let schema = json!({"type": "object", "required": ["city", "days", "unit"], "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 3},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "note": {"type": "string"},
        }});
        assert_eq!(instance(&schema, "Bern"), json!({"city": "Bern", "days": 3, "unit": "celsius"}));
    }

    #[test]
    fn nested_arrays_unions_and_references_are_followed() {
        let schema = json!({
            "type": "object", "required": ["steps"],
            "properties": {"steps": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/step"}}},
            "$defs": {"step": {"type": "object", "required": ["ok"], "properties": {
                "ok": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            }}},
        });
        assert_eq!(instance(&schema, ""), json!({"steps": [{"ok": true}, {"ok": true}]}));
    }

    #[test]
    fn a_schema_that_contains_itself_comes_to_an_end() {
        let schema = json!({"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}});
        assert!(instance(&schema, "").is_object());
    }

    #[test]
    fn strings_keep_to_their_lengths() {
        assert_eq!(instance(&json!({"type": "string", "maxLength": 2}), "long"), "lo");
        assert_eq!(instance(&json!({"type": ["null", "string"], "minLength": 6}), "long"), "longxx");
    }
}
