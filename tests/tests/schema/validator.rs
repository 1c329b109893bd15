//! JSON Schema (draft 2020-12), as far as the generated schema uses it: a keyword that is not
//! here is a panic, so that nothing is passed over.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// Whether a value is valid, or where it is not and why.
pub(crate) fn validate(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let object = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Bool(false) => return Err(format!("{value}: nothing is valid here")),
        Value::Object(object) => object,
        other => panic!("{other} is no schema"),
    };
    object.iter().try_for_each(|(keyword, argument)| {
        let is_so = keyword_holds(root, object, keyword, argument, value)?;
        if is_so { Ok(()) } else { Err(format!("{value}: not {keyword} {argument}")) }
    })
}

fn keyword_holds(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    argument: &Value,
    value: &Value,
) -> Result<bool, String> {
    let is_valid = |schema: &Value| validate(root, schema, value).is_ok();
    let list = || argument.as_array().expect("a list");
    let limit = || argument.as_f64().expect("a number");
    let count = |count: Option<usize>| count.map(|count| count as f64);
    let chars = count(value.as_str().map(|text| text.chars().count()));
    let items = count(value.as_array().map(Vec::len));
    Ok(match keyword {
        "$schema" | "$defs" | "title" | "description" | "default" => true,
        "$ref" => {
            let pointer = argument.as_str().and_then(|target| target.strip_prefix('#'));
            let target = pointer.and_then(|pointer| root.pointer(pointer)).expect("a definition");
            validate(root, target, value)?;
            true
        }
        "const" => value == argument,
        "not" => !is_valid(argument),
        "enum" => list().contains(value),
        "anyOf" => list().iter().any(is_valid),
        "oneOf" => list().iter().filter(|schema| is_valid(schema)).count() == 1,
        "type" => match argument {
            Value::Array(names) => names.iter().any(|name| is_type(name, value)),
            name => is_type(name, value),
        },
        "minimum" => value.as_f64().is_none_or(|number| number >= limit()),
        "maximum" => value.as_f64().is_none_or(|number| number <= limit()),
        "minLength" => chars.is_none_or(|chars| chars >= limit()),
        "maxLength" => chars.is_none_or(|chars| chars <= limit()),
        "minItems" => items.is_none_or(|items| items >= limit()),
        "maxItems" => items.is_none_or(|items| items <= limit()),
        "pattern" => {
            let pattern = Regex::new(argument.as_str().expect("a pattern")).expect("a sound one");
            value.as_str().is_none_or(|text| pattern.is_match(text))
        }
        "items" => {
            for item in value.as_array().into_iter().flatten() {
                validate(root, argument, item)?;
            }
            true
        }
        "required" => value.as_object().is_none_or(|object| {
            list().iter().all(|name| object.contains_key(name.as_str().expect("a name")))
        }),
        "properties" => {
            for (name, schema) in argument.as_object().expect("properties") {
                if let Some(property) = value.get(name) {
                    validate(root, schema, property)?;
                }
            }
            true
        }
        "propertyNames" => {
            for name in value.as_object().into_iter().flat_map(Map::keys) {
                validate(root, argument, &Value::String(name.clone()))?;
            }
            true
        }
        "additionalProperties" => {
            for (name, property) in value.as_object().into_iter().flatten() {
                if schema.get("properties").is_none_or(|known| known.get(name).is_none()) {
                    validate(root, argument, property)?;
                }
            }
            true
        }
        other => panic!("the keyword {other} is not known here"),
    })
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a name") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("{other} is no type of JSON Schema"),
    }
}

#[test]
fn what_is_not_valid_is_said() {
    let schema = serde_json::json!({ "type": "object", "required": ["a"], "properties": {
        "a": { "type": ["integer", "null"], "minimum": 1 }, "b": { "enum": ["x"] },
    }});
    let is_valid = |value| validate(&schema, &schema, &value);
    assert_eq!(is_valid(serde_json::json!({ "a": 1, "c": [] })), Ok(()));
    assert_eq!(is_valid(serde_json::json!({ "a": null, "b": "x" })), Ok(()));
    for (value, problem) in [
        (serde_json::json!({}), "{}: not required [\"a\"]"),
        (serde_json::json!({ "a": 0 }), "0: not minimum 1"),
        (serde_json::json!({ "a": 1.5 }), "1.5: not type [\"integer\",\"null\"]"),
        (serde_json::json!({ "a": 1, "b": "y" }), "\"y\": not enum [\"x\"]"),
    ] {
        assert_eq!(is_valid(value), Err(problem.to_owned()));
    }
}
