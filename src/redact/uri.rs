//! URIs in text: the bucket or the host, the parts of the path that somebody chose, and everything behind `?`.

use super::{Kind, REMOVED, Redactor, public};

/// Where the scheme of a URI begins in a word, if a URI begins there.
pub(super) fn scheme_at(word: &str) -> Option<usize> {
    let mark = word.find("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    let begin = word[..mark].rfind(|c| !is_scheme(c)).map_or(0, |at| at + 1);
    let begin = (begin..=mark).find(|at| word.is_char_boundary(*at)).unwrap_or(mark);
    (begin < mark).then_some(begin)
}

/// Where a URI ends that begins a text.
pub(super) fn end_of(text: &str) -> usize {
    let is_end = |c: char| c.is_whitespace() || "\"'<>()[]|`;".contains(c);
    let end = text.find(is_end).unwrap_or(text.len());
    // A list of URIs.
    let list = text[..end].match_indices(',').find(|(at, _)| scheme_at(&text[at + 1..end]) == Some(0));
    let end = list.map_or(end, |(at, _)| at);
    let uri = text[..end].trim_end_matches(['.', ',', ':', '!']);
    match uri.contains('{') {
        true => uri.len(),
        false => uri.trim_end_matches('}').len(),
    }
}

impl Redactor {
    /// A whole URI.
    pub(super) fn uri(&mut self, uri: &str) -> String {
        let Some((scheme, rest)) = uri.split_once("://") else { return uri.into() };
        // A password can contain slashes and question marks, although it should not.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((_, rest)) => (format!("{REMOVED}@"), rest),
            None => (String::new(), rest),
        };
        let query = rest.find(['?', '#']);
        let tail = query.map_or(String::new(), |at| format!("{}{REMOVED}", &rest[at..=at]));
        let rest = &rest[..query.unwrap_or(rest.len())];
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let is_s3 = ["s3", "s3a", "s3n"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
        let place = match is_s3 {
            _ if authority.is_empty() => String::new(),
            true => self.placeholder(Kind::Bucket, authority),
            false => self.authority(authority),
        };
        let path = match scheme.to_ascii_lowercase().as_str() {
            "file" | "hdfs" | "viewfs" | "jar" => self.word(path),
            _ => self.path(path),
        };
        format!("{scheme}://{login}{place}{path}{tail}")
    }

    /// `host:port`, or several with commas between them.
    fn authority(&mut self, authority: &str) -> String {
        let places: Vec<String> = authority
            .split(',')
            .map(|place| {
                let (host, port) = match place.rsplit_once(':') {
                    Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, format!(":{port}")),
                    _ => (place, String::new()),
                };
                format!("{}{port}", self.named_host(host))
            })
            .collect();
        places.join(",")
    }

    /// A word that is a host because of where it stands.
    pub(super) fn named_host(&mut self, host: &str) -> String {
        match host.parse::<std::net::IpAddr>() {
            Ok(address) if public::is_public_address(address) => host.into(),
            Ok(address) => self.placeholder(Kind::Address, &address.to_string()),
            // Of a pattern such as `{{HOST}}` nothing is known.
            Err(_) if host.is_empty() || host.starts_with("{{") || host.starts_with('$') => host.into(),
            Err(_) => self.host(host),
        }
    }

    /// A path: parts that no program chose become `name-1`, …
    pub(super) fn path(&mut self, path: &str) -> String {
        let parts: Vec<String> = path.split('/').map(|part| self.path_part(part)).collect();
        parts.join("/")
    }

    fn path_part(&mut self, part: &str) -> String {
        if public::is_part(part) || self.is_placeholder(part) {
            return part.into();
        }
        // A cluster and the like are known by their shape, and a jar by its end.
        match self.word(part) {
            shown if self.is_placeholder(&shown) => shown,
            _ => self.placeholder(Kind::Name, part),
        }
    }
}
