//! Which words of free text are ids, addresses, hosts or secrets, by their shape alone.

use super::{Kind, REMOVED, Redactor, public};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ends of host names that are no ends of class names, keys or files.
#[rustfmt::skip]
const ENDS: &[&str] = &[
    "com", "net", "org", "edu", "gov", "mil", "io", "cloud", "app", "internal", "local", "lan", "corp", "intra",
    "home", "biz", "localdomain", "tech", "int", "aws",
];
/// Ends of host names that are countries.
const COUNTRIES: &[&str] = &[
    "de", "fr", "uk", "jp", "cn", "eu", "us", "ca", "au", "br", "nl", "se", "ch", "at", "be", "dk", "es", "it", "pl",
    "pt", "fi", "no", "ie", "kr", "sg", "hk", "tw", "nz", "il", "mx", "ar", "za", "ru", "ua", "tr", "cz", "in",
];
/// The first parts of class names, of keys and of file names.
#[rustfmt::skip]
const CODE: &[&str] = &[
    "com", "org", "net", "io", "java", "javax", "scala", "software", "sun", "jdk", "spark", "hadoop", "fs", "dfs",
    "yarn", "mapreduce", "hive", "log4j", "log4j2", "logger", "appender", "rootlogger", "status", "edu", "gov",
    "dev",
];
/// Ids that AWS gives, as the letters before the hyphen.
const IDS: &[&str] = &[
    "ig", "if", "s", "eni", "vpc", "subnet", "sg", "vol", "ami", "vpce", "lt", "rtb", "igw", "nat", "acl", "fs",
    "eipalloc", "eipassoc", "snap", "r", "rtbassoc", "asg", "fsap", "mrk", "e", "l", "dopt", "pcx", "tgw", "cgw",
];
/// What the ids of access keys, users and roles begin with.
const UNIQUE_IDS: &[&str] = &["AKIA", "ASIA", "AROA", "AIDA", "ANPA", "ABIA", "ACCA", "AGPA", "APKA", "ASCA"];

/// What the tokens of other services begin with.
const TOKENS: &[&str] = &[
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "sk_live_",
    "sk-",
    "hvs.",
    "AIza",
    "ya29.",
];

impl Redactor {
    /// A word without blanks and quotes: its parts between `=`, `:`, `/` and the like, each by its shape.
    pub(super) fn word(&mut self, word: &str) -> String {
        if let Some(at) = word.find("arn:aws") {
            return format!("{}{}", self.word(&word[..at]), self.placeholder(Kind::Arn, &word[at..]));
        }
        if self.is_placeholder(word) || public::is_class(word) {
            return word.into();
        }
        if let Some(hidden) = without_random(word) {
            return self.parts(&hidden);
        }
        self.parts(word)
    }

    fn parts(&mut self, word: &str) -> String {
        if word.matches(':').count() > 1
            && let Some(address) = self.address_v6(word)
        {
            return address;
        }
        if word.contains('@') {
            return self.person_at(word);
        }
        if let Some((host, tail)) = host_by_place(word) {
            return format!("{}{}", self.named_host(host), self.parts(tail));
        }
        let is_mark = |c: char| !c.is_alphanumeric() && !"._-".contains(c);
        let (mut out, mut rest, mut before) = (String::new(), word, "");
        while !rest.is_empty() {
            let end = rest.find(is_mark).unwrap_or(rest.len());
            let part = &rest[..end];
            let is_home = out.ends_with('/') && matches!(before, "home" | "user" | "users" | "Users" | "usercache");
            if is_home
                && !part.is_empty()
                && !public::is_part(part)
                && !public::is_account(part)
                && !self.is_placeholder(part)
            {
                out.push_str(&self.placeholder(Kind::User, part));
            } else {
                out.push_str(&self.part(part));
            }
            before = part;
            let mark = rest[end..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[end..end + mark]);
            rest = &rest[end + mark..];
        }
        out
    }

    /// Letters, digits, dots, hyphens and underscores.
    fn part(&mut self, part: &str) -> String {
        let bare = part.trim_end_matches('.');
        let tail = &part[bare.len()..];
        if bare.is_empty() || self.is_placeholder(bare) {
            return part.into();
        }
        if let Ok(address) = bare.parse::<Ipv4Addr>() {
            return format!("{}{tail}", self.address(IpAddr::V4(address), bare));
        }
        if self.is_host(bare) {
            return format!("{}{tail}", self.host(bare));
        }
        format!("{}{tail}", self.ids(bare))
    }

    fn address(&mut self, address: IpAddr, text: &str) -> String {
        match public::is_public_address(address) {
            true => text.into(),
            false => self.placeholder(Kind::Address, &address.to_canonical().to_string()),
        }
    }

    /// An IPv6 address in a word, with what stands before and behind it.
    fn address_v6(&mut self, word: &str) -> Option<String> {
        let is_inner = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        let from = word.char_indices().find(|(at, c)| {
            let before = word[..*at].chars().next_back();
            is_inner(*c)
                && before.is_none_or(|c| !c.is_alphanumeric() && c != ':')
                && word[*at..].split(|c| !is_inner(c)).next().is_some_and(|run| run.matches(':').count() > 1)
        })?;
        let run = word[from.0..].split(|c| !is_inner(c)).next()?;
        let (address, text) = [run, run.trim_end_matches(':'), run.trim_end_matches('.')]
            .into_iter()
            .find_map(|text| Some((text.parse::<Ipv6Addr>().ok()?, text)))?;
        let (head, tail) = (&word[..from.0], &word[from.0 + text.len()..]);
        // The zone of a link-local address is the name of an interface.
        let shown = self.address(IpAddr::V6(address), text);
        Some(format!("{}{shown}{}", self.parts(head), self.parts(tail)))
    }

    /// `alice@example.org`, `spark/node@REALM`; an object of Java is `Class@1f2e3d`.
    fn person_at(&mut self, word: &str) -> String {
        let Some((left, right)) = word.rsplit_once('@') else { return word.into() };
        let end = right.find(|c: char| !c.is_alphanumeric() && !"._-".contains(c)).unwrap_or(right.len());
        let is_object = end > 0 && end <= 8 && right[..end].bytes().all(|b| b.is_ascii_hexdigit());
        let begin = left.rfind(|c: char| !c.is_alphanumeric() && !"._-+/$".contains(c)).map_or(0, |at| at + 1);
        // The character before can have several bytes.
        let begin = (begin..=left.len()).find(|at| left.is_char_boundary(*at)).unwrap_or(left.len());
        let (head, person) = left.split_at(begin);
        let is_class = person.contains(|c: char| c.is_ascii_uppercase()) || public::is_class(person);
        if person.is_empty() || end == 0 || is_object && is_class {
            return format!("{}@{}", self.parts(left), self.parts(right));
        }
        let who = self.placeholder(Kind::User, &format!("{person}@{}", &right[..end]));
        format!("{}{who}{}", self.parts(head), self.parts(&right[end..]))
    }

    fn is_host(&self, word: &str) -> bool {
        // `*.example.com`
        let lower = word.trim_start_matches('.').to_ascii_lowercase();
        if self.domains.iter().any(|domain| lower.ends_with(domain.as_str())) {
            return true;
        }
        let labels: Vec<&str> = lower.split('.').collect();
        let [first, .., last] = labels.as_slice() else { return false };
        let is_label = |label: &&str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let is_mixed = word.bytes().any(|b| b.is_ascii_uppercase()) && word.bytes().any(|b| b.is_ascii_lowercase());
        if !labels.iter().all(is_label) || is_mixed || CODE.contains(first) {
            return false;
        }
        ENDS.contains(last) || COUNTRIES.contains(last) || last.len() > 2 && lower.ends_with(".amazonaws.com.cn")
    }

    /// A host, with the bucket that its first labels can be.
    pub(super) fn host(&mut self, host: &str) -> String {
        let lower = host.to_ascii_lowercase();
        if public::is_public_host(&lower) || self.is_placeholder(host) {
            return host.into();
        }
        // `my.bucket.s3.eu-west-3.amazonaws.com`
        for (at, _) in lower.match_indices('.') {
            let service = &lower[at + 1..];
            if (service.starts_with("s3.") || service.starts_with("s3-")) && public::is_public_host(service) {
                let bucket = lower[..at].to_string();
                return format!("{}.{service}", self.placeholder(Kind::Bucket, &bucket));
            }
        }
        self.placeholder(Kind::Host, &lower)
    }

    /// Ids inside a word: accounts, clusters, instances, `ip-10-0-0-1`.
    fn ids(&mut self, word: &str) -> String {
        let bytes = word.as_bytes();
        let (mut out, mut at) = (String::new(), 0);
        while at < word.len() {
            let is_begin = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
            let found = if is_begin { self.id_at(&word[at..]) } else { None };
            if let Some((length, shown)) = found {
                out.push_str(&shown);
                at += length;
                continue;
            }
            let c = word[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&word[at..at + c]);
            at += c;
        }
        out
    }

    /// The id with which a text begins: its length, and what stands in its place.
    fn id_at(&mut self, text: &str) -> Option<(usize, String)> {
        let run = |from: usize, is: fn(&u8) -> bool| text.as_bytes()[from..].iter().take_while(|b| is(b)).count();
        let alphanumeric = run(0, u8::is_ascii_alphanumeric);
        let head = &text[..alphanumeric];
        if alphanumeric == 12 && head.bytes().all(|b| b.is_ascii_digit()) {
            return Some((12, self.placeholder(Kind::Account, head)));
        }
        if alphanumeric >= 16 && UNIQUE_IDS.iter().any(|begin| head.starts_with(begin)) {
            return Some((alphanumeric, REMOVED.into()));
        }
        if text.as_bytes().get(alphanumeric) != Some(&b'-') {
            return None;
        }
        let from = alphanumeric + 1;
        let body = run(from, u8::is_ascii_alphanumeric);
        let id = &text[from..from + body];
        let end = from + body;
        match head {
            "j" if is_id_body(id) => Some((end, self.placeholder(Kind::Cluster, &text[..end]))),
            "i" | "mi" if is_id_body(id) => Some((end, self.placeholder(Kind::Instance, &text[..end]))),
            "ip" | "ec2" => {
                let numbers: Vec<&str> = text[from..].splitn(5, '-').collect();
                let last = numbers.get(3)?;
                let digits = last.bytes().take_while(u8::is_ascii_digit).count();
                let dotted = format!("{}.{}.{}.{}", numbers[0], numbers[1], numbers[2], &last[..digits]);
                dotted.parse::<Ipv4Addr>().ok()?;
                let end = from + dotted.len();
                Some((end, self.placeholder(Kind::Host, &text[..end])))
            }
            head if is_id_body(id) && IDS.contains(&head) => Some((end, self.placeholder(Kind::Id, &text[..end]))),
            _ => None,
        }
    }
}

/// A host whose name alone does not tell that it is one: `node7/10.0.0.1:8020`, as Java writes addresses, and
/// `name-node:8020`.
fn host_by_place(word: &str) -> Option<(&str, &str)> {
    let end = word.find(['/', ':'])?;
    let (host, tail) = word.split_at(end);
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && host.starts_with(|c: char| c.is_ascii_alphabetic());
    if !is_name || public::is_common(host) {
        return None;
    }
    let place = tail[1..].split(['/', ']']).next().unwrap_or_default();
    let address = place.rsplit_once(':').map_or(place, |(address, _)| address);
    let is_before_address =
        tail.starts_with('/') && (address.parse::<IpAddr>().is_ok() || place.parse::<IpAddr>().is_ok());
    let port = place.trim_end_matches(['.', ':']);
    let is_plain = host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let has_sign = host.bytes().any(|b| b == b'-' || b.is_ascii_digit());
    let is_before_port = tail.starts_with(':')
        && (4..=5).contains(&port.len())
        && port.bytes().all(|b| b.is_ascii_digit())
        && is_plain
        && has_sign;
    (is_before_address || is_before_port).then_some((host, tail))
}

/// The word without its random parts: keys, digests, tokens. `None` if it has none.
fn without_random(word: &str) -> Option<String> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    // The hash of a password, as password files have it.
    let hash = ["$2a$", "$2b$", "$2y$", "$argon2", "$apr1$", "$1$", "$5$", "$6$", "{SHA}", "{SSHA}"];
    if let Some(at) = hash.iter().filter_map(|mark| word.find(mark)).min().filter(|at| word.len() - at > 12) {
        return Some(format!("{}{REMOVED}", &word[..at]));
    }
    // Tokens of other services.
    let begins = |part: &str| TOKENS.iter().any(|begin| part.len() > begin.len() + 8 && part.starts_with(begin));
    if let Some(at) = word.find(|c: char| c.is_ascii_alphanumeric()).filter(|at| begins(&word[*at..])) {
        return Some(format!("{}{REMOVED}", &word[..at]));
    }
    // A signed token: three such parts with dots between them.
    if let Some(at) = word.find("eyJ").filter(|at| word.len() - at > 20) {
        return Some(format!("{}{REMOVED}", &word[..at]));
    }
    let (mut out, mut rest, mut found) = (String::new(), word, false);
    while !rest.is_empty() {
        let end = rest.find(|c| !is_inner(c)).unwrap_or(rest.len());
        let run = &rest[..end];
        // The value of `name=value` counts by itself.
        let (name, value) = match run.find('=').filter(|at| run.len() - at > 8) {
            Some(at) => run.split_at(at + 1),
            None => ("", run),
        };
        out.push_str(name);
        if is_random(value) {
            out.push_str(REMOVED);
            found = true;
        } else {
            out.push_str(value);
        }
        let mark = rest[end..].chars().next().map_or(0, char::len_utf8);
        out.push_str(&rest[end..end + mark]);
        rest = &rest[end + mark..];
    }
    found.then_some(out)
}

/// Whether a text looks drawn by lot: long, with small letters, capital letters and digits in disorder, or a long
/// hexadecimal number.
pub(super) fn is_random(text: &str) -> bool {
    let text = without_id(text);
    let hex = text.bytes().filter(|b| *b != b'-').count();
    if hex >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return true;
    }
    text.len() >= 20 && is_disordered(text) || text.split('/').any(|part| part.len() >= 16 && is_disordered(part))
}

/// The text without the id at its end, which has a placeholder of its own: `queue-j-1PJ03JVIDQH3T`.
fn without_id(text: &str) -> &str {
    let Some((rest, id)) = text.rsplit_once('-') else { return text };
    let head = rest.rsplit('-').next().unwrap_or(rest);
    let is_kind = IDS.contains(&head) || ["j", "i", "mi"].contains(&head);
    if is_kind && is_id_body(id) { &rest[..rest.len() - head.len()] } else { text }
}

/// Capital letters and digits, or a hexadecimal number.
fn is_id_body(id: &str) -> bool {
    let is_capital = id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let is_hex = id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b.is_ascii_digit());
    (8..=32).contains(&id.len()) && (is_capital || is_hex)
}

fn is_disordered(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    if !has(u8::is_ascii_uppercase) || !has(u8::is_ascii_lowercase) || !has(u8::is_ascii_digit) {
        return false;
    }
    let pairs = text.as_bytes().windows(2).filter(|pair| {
        let (a, b) = (pair[0], pair[1]);
        a.is_ascii_lowercase() && b.is_ascii_uppercase()
            || a.is_ascii_digit() && b.is_ascii_alphabetic()
            || a.is_ascii_alphabetic() && b.is_ascii_digit()
    });
    pairs.count() * 4 >= text.len()
}
