//! Filters that the templates in assets/render/ use to quote strings.

use askama::{Result, Values};

/// A YAML string. YAML reads the strings of JSON.
#[askama::filter_fn]
pub(super) fn yaml(text: impl AsRef<str>, _: &dyn Values) -> Result<String> {
    Ok(json_string(text.as_ref()))
}

/// A string for Terraform, in which `${` and `%{` begin a template.
#[askama::filter_fn]
pub(super) fn hcl(text: impl AsRef<str>, _: &dyn Values) -> Result<String> {
    Ok(json_string(text.as_ref()).replace("${", "$${").replace("%{", "%%{"))
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
