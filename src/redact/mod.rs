//! Takes secrets and names out of what leaves this machine.
//!
//! A secret becomes `***`. A name becomes a placeholder that stays the same for the life of a [`Redactor`], so that a
//! reader sees that two files speak of one bucket: `bucket-1`. Two ways lead to a removal:
//!
//! - What is **known** of this node, such as its buckets and its passwords, is removed wherever it occurs.
//! - What is **not known to be harmless** is removed by its shape or by the word before it. The value of a setting stays
//!   only if its shape is harmless; in free text, such as a line of a log, everything stays that no rule takes out.

mod public;
mod settings;
mod shapes;
mod text;
mod uri;
mod words;

pub(crate) use settings::is_secret_key;
pub use shapes::{protobuf_shape, shape};

use std::collections::BTreeMap;

/// What stands in the place of a secret.
pub(crate) const REMOVED: &str = "***";
/// A shorter known name counts only as a word of its own: as a part of other words it would hide half the text.
const WHOLE_NAME: usize = 8;
/// The same for a secret. A part of a secret in a longer word is a secret still.
const WHOLE_SECRET: usize = 4;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Bucket,
    Account,
    Host,
    Address,
    Cluster,
    Instance,
    /// Another id that AWS gives: of an instance group, a step, a network, …
    Id,
    Arn,
    User,
    /// A part of a path that somebody chose.
    Name,
}

const KINDS: [(Kind, &str); 10] = [
    (Kind::Bucket, "bucket"),
    (Kind::Account, "account"),
    (Kind::Host, "host"),
    (Kind::Address, "address"),
    (Kind::Cluster, "cluster"),
    (Kind::Instance, "instance"),
    (Kind::Id, "id"),
    (Kind::Arn, "arn"),
    (Kind::User, "user"),
    (Kind::Name, "name"),
];

impl Kind {
    fn word(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("name", |(_, word)| word)
    }
}

/// A value that must not leave this machine, and what stands in its place.
struct Known {
    /// In small letters.
    value: String,
    placeholder: String,
    whole_word: bool,
}

/// Removes secrets and names, and remembers the placeholders.
#[derive(Default)]
pub struct Redactor {
    /// The longest first.
    known: Vec<Known>,
    issued: BTreeMap<(Kind, String), usize>,
    counts: BTreeMap<Kind, usize>,
    /// The domains of the hosts of this network: `.corp.example`.
    domains: Vec<String>,
}

impl Redactor {
    /// A secret of this node, to be removed wherever it occurs, in every spelling that logs and files have for it.
    pub fn know_secret(&mut self, secret: &str) {
        let secret = secret.trim();
        let percent = || {
            let spelled = secret.bytes().map(|b| match b {
                b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
                b => format!("%{b:02x}"),
            });
            spelled.collect::<String>()
        };
        let xml = || secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let json = || serde_json::Value::from(secret).to_string().trim_matches('"').to_string();
        let shell = || secret.replace('\'', "'\\''");
        for spelling in [secret.to_string(), percent(), xml(), json(), json().replace('/', "\\/"), shell()] {
            self.know(&spelling, REMOVED.into());
        }
    }

    /// A name of this node, to be replaced wherever it occurs.
    pub fn know_name(&mut self, kind: Kind, name: &str) {
        let name = name.trim().trim_matches('.');
        let is_word =
            name.starts_with(char::is_alphanumeric) && name.contains(char::is_alphabetic) || kind == Kind::Account;
        if name.len() < 2 || !is_word || public::is_common(name) || self.is_placeholder(name) {
            return;
        }
        let placeholder = self.placeholder(kind, name);
        self.know(name, placeholder);
        if kind == Kind::Host
            && let Some((_, domain)) = name.split_once('.').filter(|(_, domain)| domain.contains('.'))
            && !public::is_public_host(&domain.to_ascii_lowercase())
        {
            self.know_domain(domain);
        }
    }

    /// A domain of this network. Every name below it is the name of a host.
    pub fn know_domain(&mut self, domain: &str) {
        let domain = format!(".{}", domain.trim_matches('.').to_ascii_lowercase());
        if domain.len() > 3 && !self.domains.contains(&domain) {
            self.domains.push(domain);
        }
    }

    fn know(&mut self, value: &str, placeholder: String) {
        let value = value.to_ascii_lowercase();
        if value.is_empty() || self.known.iter().any(|known| known.value == value) {
            return;
        }
        let whole_word = value.len() < if placeholder == REMOVED { WHOLE_SECRET } else { WHOLE_NAME };
        let at = self.known.partition_point(|known| known.value.len() >= value.len());
        self.known.insert(at, Known { value, placeholder, whole_word });
    }

    /// The placeholder for a name: the same for the same name.
    fn placeholder(&mut self, kind: Kind, name: &str) -> String {
        if self.is_placeholder(name) {
            return name.into();
        }
        let key = (kind, name.to_ascii_lowercase());
        let number = match self.issued.get(&key) {
            Some(number) => *number,
            None => {
                let count = self.counts.entry(kind).or_default();
                *count += 1;
                self.issued.insert(key, *count);
                *count
            }
        };
        format!("{}-{number}", kind.word())
    }

    fn is_placeholder(&self, word: &str) -> bool {
        word == REMOVED
            || word.rsplit_once('-').is_some_and(|(kind, number)| {
                KINDS.iter().any(|(_, word)| *word == kind)
                    && number.len() < 6
                    && number.bytes().all(|b| b.is_ascii_digit())
                    && !number.is_empty()
            })
    }

    /// The text without any known value.
    fn without_known(&self, text: &str) -> String {
        // A change of ASCII letters alone keeps every position.
        let lower = text.to_ascii_lowercase();
        let mut found: Vec<(usize, usize, &str)> = Vec::new();
        for known in &self.known {
            let ends = |at: usize| at + known.value.len();
            let is_word = |at: usize| {
                let before = lower[..at].chars().next_back();
                let after = lower[ends(at)..].chars().next();
                ![before, after].into_iter().flatten().any(char::is_alphanumeric)
            };
            for (at, _) in lower.match_indices(known.value.as_str()) {
                if !known.whole_word || is_word(at) {
                    found.push((at, ends(at), known.placeholder.as_str()));
                }
            }
        }
        if found.is_empty() {
            return text.into();
        }
        found.sort_by_key(|(from, to, _)| (*from, std::cmp::Reverse(*to)));
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for (from, to, placeholder) in found {
            if from >= done {
                out.push_str(&text[done..from]);
                out.push_str(placeholder);
            }
            // What only the second of two values covers goes, too.
            done = done.max(to);
        }
        out.push_str(&text[done..]);
        out
    }
}
