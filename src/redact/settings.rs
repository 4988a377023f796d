//! Settings: keys and values. A value stays only if its shape is known to be harmless.

use super::{REMOVED, Redactor, public};
use serde_json::Value;

/// Names that end so have secrets as values.
#[rustfmt::skip]
const SECRETS: &[&str] = &[
    "password", "passcode", "pw", "sig", "passwd", "pwd", "passphrase", "pass", "secret", "secrets", "token", "tokens", "credential",
    "credentials", "apikey", "accesskey", "secretkey", "signature", "jwt", "auth", "cookie", "login", "accesskeyid",
    "htpasswd",
];
/// Names that contain this, without regard to dots, have secrets as values.
#[rustfmt::skip]
const PARTS: &[&str] = &[
    "password", "passwd", "passphrase", "secretkey", "secretaccess", "accesskey", "apikey", "privatekey",
    "sessiontoken", "securitytoken", "accesstoken", "clientsecret", "amzcredential", "amzsignature", "amzsecurity",
];

/// Whether a word of free text names a secret, so that what follows is one.
pub(super) fn is_secret_word(name: &str) -> bool {
    let tokens = tokens(name);
    let Some(last) = tokens.last() else { return false };
    let joined = tokens.concat();
    let is_place = ["file", "path", "provider", "providers", "enabled", "dir", "alias", "manager", "type"]
        .contains(&last.as_str());
    let is_key_of_secrets = last == "key"
        && tokens.iter().rev().nth(1).is_some_and(|t| {
            ["secret", "access", "api", "private", "encryption", "account", "signing", "master", "ssh"]
                .contains(&t.as_str())
        });
    // `login` and `auth` are words of sentences, too.
    let is_name = SECRETS.contains(&last.as_str())
        && (!["login", "auth", "pass", "htpasswd"].contains(&last.as_str()) || name.starts_with("--"));
    !is_place && (is_name || is_key_of_secrets || PARTS.iter().any(|part| joined.contains(part)))
}

/// Whether a key of a configuration has a secret as its value. In doubt it has.
pub(crate) fn is_secret_key(key: &str) -> bool {
    let tokens = tokens(key);
    let joined = tokens.concat();
    tokens.iter().any(|token| SECRETS.contains(&token.as_str()) || token == "key")
        || PARTS.iter().any(|part| joined.contains(part))
}

/// The words of a name, in small letters: `fs.s3a.secretKey` gives `fs`, `s3a`, `secret`, `key`.
fn tokens(name: &str) -> Vec<String> {
    let mut tokens: Vec<String> = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        let begins = c.is_ascii_uppercase() && before.is_ascii_lowercase();
        if !c.is_alphanumeric() || begins {
            tokens.push(String::new());
        }
        if let Some(last) = tokens.last_mut().filter(|_| c.is_alphanumeric()) {
            last.extend(c.to_lowercase());
        }
        before = c;
    }
    tokens.retain(|token| !token.is_empty());
    tokens
}

impl Redactor {
    /// A key of a configuration. Keys can contain the name of a bucket, of a user or of a host.
    pub fn key(&mut self, key: &str) -> String {
        let key = self.without_known(key);
        if let Some((head, user)) = key.split_once("proxyuser.") {
            let (user, tail) = user.split_at(user.find('.').unwrap_or(user.len()));
            return format!("{head}proxyuser.{}{tail}", self.person(user, "="));
        }
        match key.find("fs.s3a.bucket.") {
            Some(at) => self.bucket_key(&key, at + "fs.s3a.bucket.".len()),
            None => self.word(&key),
        }
    }

    /// The value of a key.
    pub fn value(&mut self, key: &str, value: &str) -> String {
        let value = value.trim();
        let is_classes = || value.split(',').all(|class| public::is_class(class.trim()));
        if is_secret_key(key) && !value.is_empty() {
            return if is_switch(value) || is_classes() { value.into() } else { REMOVED.into() };
        }
        let known = self.without_known(value);
        self.shaped(&known).unwrap_or_else(|| format!("<text of {} characters>", value.chars().count()))
    }

    /// A value of harmless shape, with its names replaced; `None` for another one.
    fn shaped(&mut self, value: &str) -> Option<String> {
        let is_words = |is: &dyn Fn(&str) -> bool| value.split([',', ' ', ';']).all(|word| is(word.trim()));
        if value.is_empty()
            || is_switch(value)
            || value == REMOVED
            || is_words(&|word| word.is_empty() || is_plain(word))
        {
            return Some(self.word_by_word(value));
        }
        if self.is_placeholder(value) || is_words(&|word| public::is_class(word)) {
            return Some(value.into());
        }
        if value.contains("://") && !value.contains(char::is_whitespace) && super::uri::scheme_at(value) == Some(0) {
            return Some(self.text(value));
        }
        if value.starts_with('/') && !value.contains(char::is_whitespace) {
            let paths: Vec<String> = value.split(':').map(|path| self.file_paths(path)).collect();
            return Some(paths.join(":"));
        }
        if value.starts_with('-') {
            let words: Vec<&str> = value.split_whitespace().collect();
            return Some(words.iter().map(|word| self.java_option(word)).collect::<Vec<_>>().join(" "));
        }
        if let Ok(address) = value.parse::<std::net::SocketAddr>() {
            return Some(match public::is_public_address(address.ip()) {
                true => value.into(),
                false => self.text(value),
            });
        }
        // Hosts, clusters and the like: what the rules for words replace as a whole.
        let shown: Option<Vec<String>> = value.split(',').map(|name| self.whole_name(name.trim())).collect();
        shown.map(|names| names.join(","))
    }

    /// The placeholder of a name that is known or has the shape of one, with the port behind it.
    fn whole_name(&mut self, name: &str) -> Option<String> {
        let (head, port) = match name.rsplit_once(':') {
            Some((head, port)) if port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) => {
                (head, format!(":{port}"))
            }
            _ => (name, String::new()),
        };
        let shown = self.word(head);
        (self.is_placeholder(&shown) || public::is_public_host(head)).then(|| format!("{shown}{port}"))
    }

    fn word_by_word(&mut self, value: &str) -> String {
        value.split(' ').map(|word| self.word(word)).collect::<Vec<_>>().join(" ")
    }

    /// Paths with commas between them.
    fn file_paths(&mut self, paths: &str) -> String {
        const SOFTWARE: [&str; 4] = ["/usr/lib/", "/usr/share/", "/usr/bin/", "/docker/usr/"];
        let shown: Vec<String> = paths
            .split(',')
            .map(|path| match SOFTWARE.iter().any(|place| path.starts_with(place)) {
                true => self.word(path),
                false => self.path(path),
            })
            .collect();
        shown.join(",")
    }

    /// One option of a JVM.
    pub fn java_option(&mut self, option: &str) -> String {
        if let Some((key, value)) = option.strip_prefix("-D").and_then(|property| property.split_once('=')) {
            return format!("-D{}={}", self.key(key), self.value(key, value));
        }
        let is_known = ["-XX:", "-Xm", "-Xs", "-verbose", "-server", "-Xlog:gc", "--add-opens", "-9", "%p'", "-cp"]
            .iter()
            .any(|known| option.starts_with(known));
        let is_command = option.contains("OnError=") || option.contains("OnOutOfMemoryError=");
        match is_known && !is_command || option.ends_with("OnOutOfMemoryError='kill") {
            true => self.text(option),
            false => format!("<text of {} characters>", option.chars().count()),
        }
    }

    /// JSON whose texts are messages.
    pub fn messages(&mut self, value: &Value) -> Value {
        self.walk("", value, &mut |this, _, text| this.text(text))
    }

    /// JSON whose texts are settings: emr-shs's own receipt.
    pub fn settings(&mut self, value: &Value) -> Value {
        self.walk("", value, &mut |this, key, text| match key {
            "content" => format!("<{} characters>", text.chars().count()),
            "raw" => {
                let key = text.trim_start().split([' ', '\t', '=', ':']).next().unwrap_or_default();
                let value = text.trim_start()[key.len()..].trim_start_matches([' ', '\t', '=', ':']);
                format!("{} {}", this.key(key), this.value(key, value))
            }
            "host_names" => this.named_host(text),
            "why" | "hint" => this.text(text),
            // The name of a key, and not a secret one.
            "key" => this.key(text),
            key => this.value(key, text),
        })
    }

    fn walk(&mut self, key: &str, value: &Value, of_text: &mut dyn FnMut(&mut Self, &str, &str) -> String) -> Value {
        match value {
            Value::String(text) => Value::String(of_text(self, key, text)),
            Value::Array(items) => items.iter().map(|item| self.walk(key, item, of_text)).collect(),
            Value::Object(members) => {
                let members = members.iter().map(|(key, value)| (self.key(key), self.walk(key, value, of_text)));
                Value::Object(members.collect())
            }
            Value::Number(number) => {
                let text = number.to_string();
                let is_harmless = !is_secret_key(key) && self.word(&text) == text;
                if is_harmless { value.clone() } else { Value::String(REMOVED.into()) }
            }
            other => other.clone(),
        }
    }
}

fn is_switch(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

/// A number with a unit, a version, a release, a region, a type of instance, a word of Spark's.
fn is_plain(word: &str) -> bool {
    let body = word.strip_prefix('-').unwrap_or(word);
    let digits = body.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    let suffix = &body[digits.len()..];
    let is_number = !digits.is_empty()
        && digits.len() <= 14
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.bytes().filter(|b| *b == b'.').count() <= 2
        && suffix.len() <= 3;
    let is_release = ["emr-", "emr-spark-"]
        .iter()
        .any(|head| word.strip_prefix(head).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')));
    let is_version = word.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && word.len() <= 24
        && word
            .split(['.', '-'])
            .all(|part| part == "amzn" || part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit()));
    let is_pattern = word.starts_with("{{") && word.ends_with("}}");
    is_number || is_release || is_version || is_pattern || public::is_region(word) || public::is_value(word)
}
