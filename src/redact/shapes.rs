//! Shapes of files whose content is nobody's business: the names of their members, and the types of the values.

use serde_json::{Map, Value};

/// A longer list is cut.
const ITEMS: usize = 3;

/// JSON with each value replaced by its type.
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "true or false".into(),
        Value::Number(_) => "number".into(),
        Value::String(text) => text_type(text).into(),
        Value::Array(items) => {
            let more = items.len().saturating_sub(ITEMS);
            let cut = (more > 0).then(|| Value::from(format!("{more} more")));
            items.iter().take(ITEMS).map(shape).chain(cut).collect()
        }
        Value::Object(members) => {
            // A member's name can be content: the id of an instance, say.
            let mut shown = Map::new();
            for (number, (name, value)) in members.iter().enumerate() {
                shown.insert(member(name).unwrap_or_else(|| format!("member {}", number + 1)), shape(value));
            }
            Value::Object(shown)
        }
    }
}

/// A text in the form that protobuf prints, `name: value` and `name { … }`, with each value replaced by its type. The
/// words in capital letters stay: they are the constants of an enumeration, such as a state.
pub fn protobuf_shape(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let trimmed = line.trim();
        let shown = match (trimmed.split_once(':'), trimmed.strip_suffix('{')) {
            _ if trimmed.is_empty() || trimmed == "}" => trimmed.to_string(),
            (None, Some(name)) if member(name.trim()).is_some() => format!("{} {{", name.trim()),
            (Some((name, value)), _) if member(name.trim()).is_some() => {
                format!("{}: {}", name.trim(), protobuf_value(value.trim()))
            }
            _ => "(another line)".into(),
        };
        out.push_str(&" ".repeat(indent.min(40)));
        out.push_str(&shown);
        out.push('\n');
    }
    out
}

fn protobuf_value(value: &str) -> String {
    let is_constant = value.len() <= 32
        && value.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
        && value.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    match value {
        _ if is_constant => value.into(),
        "true" | "false" => "true or false".into(),
        _ if value.parse::<f64>().is_ok() => "number".into(),
        _ if value.starts_with('"') => format!("\"{}\"", text_type(value.trim_matches('"'))),
        _ => "(another value)".into(),
    }
}

/// The name of a member, if a program chose it.
fn member(name: &str) -> Option<String> {
    let is_name = (1..=60).contains(&name.len())
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().filter(u8::is_ascii_digit).count() <= 3;
    is_name.then(|| name.to_string())
}

fn text_type(text: &str) -> &'static str {
    match text {
        "" => "empty text",
        _ if text.contains("://") => "URI",
        _ if text.starts_with('/') => "path",
        _ if text.bytes().all(|b| b.is_ascii_digit()) => "digits",
        _ => "text",
    }
}
