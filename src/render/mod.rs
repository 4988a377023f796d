//! What users paste elsewhere: configurations, steps, policies. Text is made here and nothing else
//! happens.

pub mod cluster_config;
pub mod iam;
pub mod serverless;
pub mod step;

use crate::error::Fault;
use anyhow::{Context, Result};
use serde::Serialize;

/// A document, and what its reader should know.
#[derive(Debug)]
pub struct Rendered {
    /// What is pasted.
    pub text: String,
    /// Whether that is JSON.
    pub is_json: bool,
    /// What to know about it: a paragraph each.
    pub notes: Vec<String>,
}

impl Rendered {
    /// JSON, its members in the order in which they are declared.
    fn json(document: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_string_pretty(document).context("writing JSON")?;
        Ok(Self { text, is_json: true, notes: Vec::new() })
    }

    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into().trim_end().into(), is_json: false, notes: Vec::new() }
    }
}

/// The AWS partition of a region; the usual one where the region is not known.
pub fn partition(region: Option<&str>) -> &'static str {
    match region.unwrap_or_default() {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The end of AWS's host names in a region.
fn dns_suffix(region: &str) -> &'static str {
    if partition(Some(region)) == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// A region, as far as its name can be one.
pub(crate) fn region(name: &str) -> Result<&str, Fault> {
    let parts: Vec<&str> = name.split('-').collect();
    let named = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let numbered = parts.last().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if (3..=4).contains(&parts.len()) && numbered && parts[..parts.len() - 1].iter().all(named) {
        return Ok(name);
    }
    Err(Fault::usage(format!("“{name}” is no region")).hint("--region eu-west-3"))
}

pub(crate) fn account(id: &str) -> Result<&str, Fault> {
    if id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(id);
    }
    Err(Fault::usage(format!("“{id}” is no account id"))
        .detail("wanted twelve digits")
        .hint("--account 123456789012; `aws sts get-caller-identity` tells yours"))
}

/// One word of a command line, as a POSIX shell reads it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A string for JSON and for YAML, which reads JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A string for Terraform, where `${` and `%{` begin a template.
fn quoted_for_terraform(text: &str) -> String {
    quoted(text).replace("${", "$${").replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_same_word_after_a_shell_has_read_it() {
        for word in ["a", "--set=a=b", "", "it's", "two words", "$HOME `id` \"x\"", "a\nb", "*"] {
            let line = format!("printf %s {}", shell(word));
            let out = std::process::Command::new("sh").args(["-c", &line]).output().map(|out| out.stdout);
            assert_eq!(out.ok().as_deref(), Some(word.as_bytes()), "{line}");
        }
    }

    #[test]
    fn regions_and_accounts_are_told_from_what_is_none() {
        for good in ["eu-west-3", "us-gov-west-1", "cn-north-1", "ap-southeast-10"] {
            assert!(region(good).is_ok(), "{good}");
        }
        for bad in ["", "eu", "eu-west", "eu-west-3a", "EU-WEST-3", "eu--3", "eu-west-3/", "*"] {
            assert!(region(bad).is_err(), "{bad}");
        }
        assert!(account("123456789012").is_ok());
        assert!(account("12345678901").is_err() && account("12345678901a").is_err());
    }
}
