//! Free text: logs, units, scripts, messages. Everything stays that no rule takes out.

use super::settings::is_secret_word;
use super::{Kind, REMOVED, Redactor, public, uri};
use crate::systemd;

/// A longer line is cut.
const LINE: usize = 4_000;
/// Between words.
const MARKS: &str = "\"'`<>()[]{}|,;";
/// Words before a name of a person or of a machine, in `user=alice` and the like.
#[rustfmt::skip]
const PEOPLE: &[&str] = &[
    "user", "username", "users", "owner", "principal", "ugi", "realuser", "proxyuser", "remoteuser", "login",
    "submitter", "ruser", "author", "uid", "cn", "dn", "ou", "dc", "loginname", "sparkuser", "acls",
];
const HOSTS: &[&str] = &["host", "hostname", "node", "nodename", "server", "remotehost", "localhost", "fqdn"];
/// What follows `user` in sentences that name nobody.
#[rustfmt::skip]
const NO_NAMES: &[&str] = &[
    "is", "was", "must", "may", "can", "cannot", "has", "not", "the", "to", "of", "in", "on", "and", "or", "with",
    "by", "for", "that", "does", "did", "from", "as", "at", "a", "an", "class", "defined", "name", "names", "who",
    "whose", "id", "ids", "interface", "account", "unit", "mode", "data", "space", "agent", "session", "sessions",
    "slice", "manager", "runtime", "directory", "login", "logged", "file", "files", "group", "groups", "needs",
    "information", "code", "jar", "jars", "could", "should", "will", "would", "no", "but", "if", "when",
    "permissions", "have", "be", "it", "its", "limit", "process", "memory", "time", "service", "services",
    "accounts", "authentication", "set", "empty", "view", "modify", "ui", "are", "were",
];
/// What follows `bucket` in sentences that name no bucket.
#[rustfmt::skip]
const NO_BUCKETS: &[&str] = &[
    "is", "was", "does", "do", "of", "in", "the", "a", "named", "name", "settings", "region", "policy", "owner",
    "key", "location", "and", "or", "that", "exists", "has", "must", "not", "for", "by", "to", "at", "with",
    "names", "can", "cannot", "versioning", "probe", "you", "are", "encrypts", "demands", "itself", "from", "on",
];

/// How the settings of S3A begin that can follow the name of a bucket.
#[rustfmt::skip]
const S3A_KEYS: &[&str] = &[
    ".endpoint", ".access.", ".secret.", ".session.", ".aws.", ".server-side", ".encryption.", ".path.", ".acl.",
    ".proxy.", ".assumed.", ".requester.", ".accesspoint.", ".connection.", ".create.", ".impl", ".committer.",
    ".fast.", ".security.", ".signing", ".multipart.", ".block.", ".threads.", ".change.", ".input.",
    ".experimental.", ".retry.", ".attempts.", ".select.", ".audit.", ".etag", ".bucket.", ".metadatastore.",
    ".readahead.", ".optimized.",
];

/// What the words before tell of the next one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Plain,
    /// A word that can name a secret; `=` or `:` must follow.
    MayBeSecret,
    Secret,
    Person,
    Host,
    Bucket,
}

impl Redactor {
    /// The text without secrets and names.
    pub fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut is_key = false;
        for line in text.split_inclusive('\n') {
            let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
            // A key or a certificate has many lines without any mark of their own.
            if line.contains("-----BEGIN ") || is_key {
                let begins = !is_key;
                is_key = !line.contains("-----END ");
                if begins {
                    out.push_str(REMOVED);
                    out.push_str(end);
                }
                continue;
            }
            out.push_str(&self.line(line));
            out.push_str(end);
        }
        out
    }

    /// A unit file, or what `systemctl show` prints: text, but the variables of an environment are settings.
    pub fn unit(&mut self, text: &str) -> String {
        let (mut out, mut continues) = (String::with_capacity(text.len()), false);
        for line in text.lines() {
            let assigned = line.trim_start().strip_prefix("Environment=").or(continues.then_some(line));
            match assigned {
                Some(variables) => {
                    let head = if continues { "" } else { "Environment=" };
                    let words = systemd::words(variables.trim_end_matches('\\'));
                    let shown = words.iter().map(|word| match word.split_once('=') {
                        Some((name, value)) => format!("{}={}", self.key(name), self.value(name, value)),
                        None => self.value("", word),
                    });
                    out.push_str(&format!("{head}{}", shown.collect::<Vec<_>>().join(" ")));
                    continues = variables.ends_with('\\');
                }
                None => out.push_str(&self.line(line)),
            }
            out.push('\n');
        }
        out
    }

    fn line(&mut self, line: &str) -> String {
        let cut = (0..=LINE.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        let note = if cut < line.len() { format!(" … {} more bytes", line.len() - cut) } else { String::new() };
        // A secret must be known as a whole, so the line is cut behind that.
        let known = self.without_known(line);
        let cut = (0..=LINE.min(known.len())).rev().find(|at| known.is_char_boundary(*at)).unwrap_or(0);
        let head = without_header(&known[..cut]);
        format!("{}{note}", self.words(&head))
    }

    fn words(&mut self, line: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(line.len()), line);
        let mut next = Next::Plain;
        let mut before = String::new();
        let lists_people = line.contains("acls") || line.contains("permissions:");
        // `curl -u NAME:PASSWORD`; other programs have another `-u`.
        let is_client = line.contains("curl") || line.contains("wget");
        let mut is_list = false;
        while let Some(c) = rest.chars().next() {
            if next == Next::Secret && !c.is_whitespace() && !"<>()[]{}|,;".contains(c) {
                let (value, length) = secret_value(rest);
                out.push_str(&value);
                rest = &rest[length..];
                next = Next::Plain;
                continue;
            }
            if c.is_whitespace() || MARKS.contains(c) {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
            let mut end = rest.find(|c: char| c.is_whitespace() || MARKS.contains(c)).unwrap_or(rest.len());
            if let Some(at) = uri::scheme_at(&rest[..end]) {
                end = at + uri::end_of(&rest[at..]);
                let (head, uri) = rest[..end].split_at(at);
                // `spark.x.token=https://…`
                let (head, is_secret) = self.assigned(head, &before);
                out.push_str(&head);
                out.push_str(&if is_secret { REMOVED.into() } else { self.uri(uri) });
                rest = &rest[end..];
                (next, before) = (Next::Plain, String::new());
                continue;
            }
            let word = &rest[..end];
            if next == Next::MayBeSecret && word.starts_with([':', '=']) {
                let value = word.find(|c| !":=>".contains(c)).unwrap_or(word.len());
                out.push_str(&rest[..value]);
                rest = &rest[value..];
                next = Next::Secret;
                continue;
            }
            let is_joint =
                word.chars().all(|c| ":=>-".contains(c)) || matches!(word, "is" | "was" | "/name" | "value" | "/key");
            if next == Next::MayBeSecret && is_joint {
                // `<name>x.secret</name><value>`: the value follows the last of these.
                next = if word == "/name" || word == "/key" { Next::MayBeSecret } else { Next::Secret };
                out.push_str(word);
                rest = &rest[end..];
                continue;
            }
            let is_request =
                word.starts_with('/') && ["GET", "HEAD", "POST", "PUT", "DELETE"].contains(&before.as_str());
            let shown = match next {
                // A path in the log of a server of HTTP.
                _ if is_request => {
                    let (path, query) = word.split_at(word.find(['?', '#']).unwrap_or(word.len()));
                    let query = query.get(..1).map(|mark| format!("{mark}{REMOVED}")).unwrap_or_default();
                    format!("{}{query}", self.path(path))
                }
                Next::Person if is_joint => word.into(),
                Next::Person => self.person(word, &before),
                Next::Host if !is_joint && is_label(word) && !public::is_common(word) => self.named_host(word),
                Next::Bucket => self.bucket_word(word),
                _ if is_list && is_label(word) && !NO_NAMES.contains(&word.to_ascii_lowercase().as_str()) => {
                    self.person(word, "")
                }
                _ => {
                    // An assignment takes its value as it stands, with marks in it.
                    let (length, shown) = self.assignments(rest, end, &before);
                    end = length;
                    shown
                }
            };
            out.push_str(&shown);
            let ended = &rest[..end];
            is_list |= lists_people && matches!(ended, "to:" | "permissions:");
            next = after(ended, &before, is_client);
            before = ended.trim_end_matches([':', '=']).to_string();
            rest = &rest[end..];
        }
        out
    }

    /// The head of a word up to its last `=`, and whether that names a secret.
    fn assigned(&mut self, head: &str, before: &str) -> (String, bool) {
        let name = head.trim_end_matches(['=', ':']);
        let is_secret = name.len() < head.len() && names_secret(name, before);
        (self.word(head), is_secret)
    }

    /// A word with assignments in it: `name=value`, `name:value`, `a=b&c=d`. Gives how much of the text that is.
    fn assignments(&mut self, text: &str, end: usize, before: &str) -> (usize, String) {
        let word = &text[..end];
        for (at, _) in word.match_indices(['=', ':']) {
            let name_at = word[..at].rfind(['=', '&', '?', ':', '/', '%']).map_or(0, |before| before + 1);
            let name = &word[name_at..at];
            let value = &text[at + 1..];
            if value.is_empty() || value.starts_with(char::is_whitespace) {
                continue;
            }
            if names_secret(name, if name_at == 0 { before } else { "" }) {
                let (shown, length) = secret_value(value);
                return (at + 1 + length, format!("{}{shown}", self.word(&word[..=at])));
            }
            let named = last_token(name);
            // `cn`, `dc` and the like are regions and countries, too.
            let is_short = named.len() <= 3 && !word[at..].starts_with('=');
            let of = |list: &[&str]| list.contains(&named.as_str()) && !is_short;
            let value = &word[at + 1..];
            if of(PEOPLE) && !value.is_empty() {
                return (end, format!("{}{}", self.word(&word[..=at]), self.person(value, "=")));
            }
            if of(HOSTS) && !value.is_empty() && !value.starts_with('/') {
                let (host, rest) = value.split_at(value.find([':', '/', '&']).unwrap_or(value.len()));
                let shown =
                    if public::is_common(host) || !is_label(host) { self.word(host) } else { self.named_host(host) };
                return (end, format!("{}{shown}{}", self.word(&word[..=at]), self.word(rest)));
            }
            if named == "bucket" && is_label(value) {
                return (end, format!("{}{}", self.word(&word[..=at]), self.placeholder(Kind::Bucket, value)));
            }
        }
        // `fs.s3a.bucket.NAME.endpoint`
        if let Some(at) = word.find("fs.s3a.bucket.").map(|at| at + "fs.s3a.bucket.".len()) {
            return (end, self.bucket_key(word, at));
        }
        (end, self.word(word))
    }

    /// A key of S3A for one bucket, whose name can contain dots. `at` is where the bucket's name begins.
    pub(super) fn bucket_key(&mut self, word: &str, at: usize) -> String {
        let inner = &word[at..];
        // The last of them: a bucket's name can contain such a part, too.
        let end = S3A_KEYS.iter().filter_map(|end| inner.rfind(end)).max();
        let end = end.or_else(|| inner.find(['=', ':'])).or_else(|| inner.find('.')).unwrap_or(inner.len());
        let bucket =
            if inner[..end].is_empty() { String::new() } else { self.placeholder(Kind::Bucket, &inner[..end]) };
        format!("{}{bucket}{}", self.word(&word[..at]), self.word(&inner[end..]))
    }

    pub(super) fn person(&mut self, word: &str, before: &str) -> String {
        let bare = word.trim_end_matches(['.', ':', '!', '?']);
        let is_name = bare.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b >= 0x80)
            && bare.chars().all(|c| c.is_alphanumeric() || "._-+\\$".contains(c));
        let lower = bare.to_ascii_lowercase();
        // In a sentence the next word can be any; behind `=` it is a name.
        let is_sentence = before != "=" && NO_NAMES.contains(&lower.as_str());
        if !is_name || is_sentence || public::is_account(bare) || public::is_value(bare) || self.is_placeholder(bare) {
            return self.word(word);
        }
        format!("{}{}", self.placeholder(Kind::User, bare), &word[bare.len()..])
    }

    fn bucket_word(&mut self, word: &str) -> String {
        let bare = word.trim_end_matches(['.', ':', '!', '?']);
        let is_name = (3..=63).contains(&bare.len())
            && bare.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b));
        if !is_name || NO_BUCKETS.contains(&bare) || self.is_placeholder(bare) {
            return self.word(word);
        }
        format!("{}{}", self.placeholder(Kind::Bucket, bare), &word[bare.len()..])
    }
}

/// What a word tells of the next one.
fn after(word: &str, before: &str, is_client: bool) -> Next {
    let is_assigning = word.ends_with([':', '=']);
    let name = word.trim_end_matches([':', '=']);
    if name.is_empty() {
        return Next::Plain;
    }
    if names_secret(name, before) {
        let is_option = name.starts_with("--");
        return if is_assigning || is_option { Next::Secret } else { Next::MayBeSecret };
    }
    let named = last_token(name);
    match named.as_str() {
        _ if name == "--login" || name == "--user" => Next::Secret,
        "u" if is_client && name == "-u" => Next::Secret,
        "user" | "principal" | "ugi" | "owner" => Next::Person,
        "host" | "hostname" if is_assigning || before.is_empty() => Next::Host,
        "bucket" => Next::Bucket,
        _ if is_assigning && PEOPLE.contains(&named.as_str()) => Next::Person,
        _ if is_assigning && HOSTS.contains(&named.as_str()) => Next::Host,
        _ => Next::Plain,
    }
}

fn names_secret(name: &str, before: &str) -> bool {
    if is_secret_word(name) {
        return true;
    }
    let before = before.to_ascii_lowercase();
    let is_kind = ["secret", "access", "api", "private", "session", "security", "signing", "account"]
        .iter()
        .any(|kind| before.ends_with(kind));
    is_kind && ["key", "token", "keys"].contains(&name.to_ascii_lowercase().as_str())
}

/// The last part of a name, in small letters: `user` of `spark.x.proxyUser`.
fn last_token(name: &str) -> String {
    let last = name.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or(name);
    last.to_ascii_lowercase()
}

fn is_label(word: &str) -> bool {
    let bare = word.trim_end_matches(['.', ':']);
    !bare.is_empty()
        && bare.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bare.bytes().any(|b| b.is_ascii_alphabetic())
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// What stands in the place of a secret that begins a text, and how long the secret is. A value in quotes ends with the
/// quote, another one with the next blank.
fn secret_value(text: &str) -> (String, usize) {
    let quote = text.chars().next().filter(|c| "\"'`".contains(*c));
    let begin = quote.map_or(0, char::len_utf8);
    let inner = &text[begin..];
    let mut is_escaped = false;
    let end = inner.find(|c: char| match quote {
        Some(quote) => {
            let ends = c == quote && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        }
        None => c.is_whitespace() || "\"'<>`".contains(c),
    });
    let end = end.unwrap_or(inner.len());
    let value = &inner[..end];
    let is_harmless = matches!(value, "true" | "false" | "null" | "none" | "");
    let shown = if is_harmless { value } else { REMOVED };
    (format!("{}{shown}", &text[..begin]), begin + end)
}

/// The line without the value of a header that authenticates. Such a value has blanks in it, and ends with the line.
fn without_header(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    for header in ["authorization", "cookie", "x-amz-security-token"] {
        for (at, _) in lower.match_indices(header) {
            let end = at + header.len();
            let gap = lower[end..].find(|c: char| !"\"' \\]".contains(c)).unwrap_or(0);
            let rest = &lower[end + gap..];
            let value = rest.strip_prefix([':', '=']).map(|rest| rest.trim_start_matches([' ', '"', '\'']));
            let is_switch = |value: &str| value.starts_with("true") || value.starts_with("false");
            if value.is_some_and(|value| !value.is_empty() && !is_switch(value)) {
                return format!("{}: {REMOVED}", &line[..end]);
            }
        }
    }
    for scheme in ["bearer ", "basic ", "aws4-hmac-sha256 ", "negotiate "] {
        let found = lower.match_indices(scheme).find(|(at, _)| {
            let value = lower[at + scheme.len()..].split_whitespace().next().unwrap_or_default();
            value.len() >= 12 && value.bytes().any(|b| b.is_ascii_digit() || b == b'=')
        });
        if let Some((at, _)) = found {
            return format!("{}{REMOVED}", &line[..at + scheme.len()]);
        }
    }
    line.into()
}
