//! Documents for use outside the node: configurations, steps, policies, and the guide to EMR Serverless.
//! The functions here turn plain requests into text. They read no file and send no request.

pub(crate) mod cluster_config;
#[expect(unreachable_pub, reason = "the macro of askama writes `pub`")]
mod filters;
pub(crate) mod iam;
mod release;
pub(crate) mod serverless;
pub(crate) mod serverless_in_place;
pub(crate) mod step;

use crate::error::Fault;
use anyhow::{Context, Result};
use askama::Template;
use serde::Serialize;
use serverless::Part;

/// A document, and the notes that `render` prints beside it.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) is_json: bool,
    /// One paragraph each.
    pub(crate) notes: Vec<String>,
}

impl Rendered {
    fn json(document: &impl Serialize) -> Result<Self> {
        Ok(Self { text: to_json(document)?, is_json: true, notes: Vec::new() })
    }

    fn template(template: &impl Template) -> Result<Self> {
        Ok(Self { text: fill(template)?, is_json: false, notes: Vec::new() })
    }

    /// One part of the way to EMR Serverless, or the guide with all of them.
    fn part_or_guide(
        part: Option<Part>,
        text: impl FnOnce(Part) -> Result<String>,
        guide: impl FnOnce() -> Result<String>,
    ) -> Result<Self> {
        let is_json = part.is_some_and(Part::is_json);
        Ok(Self { text: part.map_or_else(guide, text)?, is_json, notes: Vec::new() })
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }
}

/// JSON whose members stand in the order in which the struct declares them.
fn to_json(document: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(document).context("writing JSON")
}

fn fill(template: &impl Template) -> Result<String> {
    template.render().context("filling a template")
}

/// A command line that a user can paste into a shell.
fn shell_command(words: &[&str]) -> Result<String> {
    shlex::try_join(words.iter().copied()).context("quoting a command line")
}

/// Refuses a name that has not the form of a region's name.
fn check_region(name: &str) -> Result<&str, Fault> {
    let parts: Vec<&str> = name.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if (3..=4).contains(&parts.len())
        && parts.split_last().is_some_and(|(last, first)| is_number(last) && first.iter().all(is_word))
    {
        return Ok(name);
    }
    Err(Fault::usage(format!("“{name}” is not the name of an AWS region"))
        .detail("wanted a name of its form: words and a number, joined by hyphens")
        .hint("add the region, such as --region eu-west-3"))
}

fn check_account(id: &str) -> Result<&str, Fault> {
    if id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(id);
    }
    Err(Fault::usage(format!("“{id}” is not the id of an AWS account"))
        .detail("wanted twelve digits")
        .hint("--account 123456789012; `aws sts get-caller-identity` prints yours"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_and_accounts_are_told_from_what_is_none() {
        for good in ["eu-west-3", "us-gov-west-1", "cn-north-1", "ap-southeast-10"] {
            assert!(check_region(good).is_ok(), "{good}");
        }
        for bad in ["", "eu", "eu-west", "eu-west-3a", "EU-WEST-3", "eu--3", "eu-west-3/", "*"] {
            assert!(check_region(bad).is_err(), "{bad}");
        }
        assert!(check_account("123456789012").is_ok());
        assert!(check_account("12345678901").is_err() && check_account("12345678901a").is_err());
    }
}
