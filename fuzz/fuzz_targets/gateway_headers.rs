//! Sends requests with any headers: a relay's are known, `Host` names this node or nothing, and what concerns the gateway alone does
//! not go on to the history server.

#![no_main]

use emr_shs::testing::{is_host, is_of_another_site, is_relayed, onward_headers, wrapped_cookies};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use regex::Regex;
use std::net::IpAddr;
use std::sync::LazyLock;

const NAME: &str = "ip-10-0-0-1.ec2.internal";
/// A number stands for a name.
const NAMES: [&str; 20] = [
    "host",
    "cookie",
    "set-cookie",
    "origin",
    "authorization",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-context",
    "x-real-ip",
    "connection",
    "te",
    "upgrade",
    "accept-encoding",
    "sec-fetch-site",
    "sec-fetch-mode",
    "sec-fetch-dest",
    "sec-purpose",
];
const RELAYED: [&str; 7] = [
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-context",
    "x-real-ip",
];
static HOST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A(?:\[([0-9a-fA-F:.]+)\]|([^:\[]+))(?::\+?[0-9]*)?\z").unwrap());

fuzz_target!(|data: &[u8]| {
    // A line for each header: the number of its name and a value, or its name, a colon and a value.
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some((first, rest)) = line.split_first() else { continue };
        let known = NAMES.get(usize::from(*first)).map(|name| HeaderName::from_static(name));
        let (name, value) = match known {
            Some(name) => (name, rest),
            None => {
                let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
                let Ok(name) = HeaderName::from_bytes(&line[..colon]) else { continue };
                (name, &line[colon + 1..])
            }
        };
        let Ok(value) = HeaderValue::from_bytes(value.trim_ascii()) else { continue };
        headers.append(name, value);
    }

    let cookies: Vec<&[u8]> = headers
        .get_all("cookie")
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .collect();
    let is_yarns = |cookie: &&[u8]| cookie.starts_with(b"proxy-user=");
    let relayed = RELAYED.iter().any(|name| headers.contains_key(*name)) || cookies.iter().any(is_yarns);
    assert_eq!(is_relayed(&headers), relayed);

    for host in headers.get_all("host").iter().filter_map(|host| host.to_str().ok()) {
        if !is_host(host, NAME) {
            continue;
        }
        let found = HOST.captures(host).unwrap_or_else(|| panic!("{host:?} is no host"));
        let name = found.get(1).or(found.get(2)).unwrap().as_str().trim_end_matches('.').to_ascii_lowercase();
        let is_this = name == NAME || name == "localhost" || name.parse::<IpAddr>().is_ok();
        assert!(is_this, "{host:?}");
    }

    let of_site = |wanted: &str| headers.get("sec-fetch-site").is_some_and(|site| site == wanted);
    if !headers.contains_key("sec-fetch-site") || of_site("same-origin") || of_site("none") {
        assert!(!is_of_another_site(&headers));
    } else if headers.get("sec-fetch-dest").is_none_or(|kind| kind != "document") || headers.contains_key("sec-purpose")
    {
        assert!(is_of_another_site(&headers));
    }

    for has_login in [false, true] {
        let onward = onward_headers(&headers, has_login);
        let never = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-context"];
        let never = never.iter().chain(&[
            "connection",
            "te",
            "upgrade",
            "accept-encoding",
            "content-length",
            "transfer-encoding",
        ]);
        for name in never {
            assert!(!onward.contains_key(*name), "{name} goes on");
        }
        assert!(!has_login || !onward.contains_key("authorization"), "a login goes on");
        let gone_on: Vec<_> = onward.get_all("cookie").iter().collect();
        assert!(gone_on.len() <= 1, "{gone_on:?}");
        for cookie in gone_on.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';')) {
            let is_own = |sent: &&[u8]| {
                sent.strip_prefix(b"emr-shs.").is_some_and(|own| own.trim_ascii() == cookie.trim_ascii())
            };
            assert!(cookies.iter().any(is_own), "{}", cookie.escape_ascii());
        }
    }

    let set = headers.get_all("set-cookie").iter().count();
    for base in ["", "/shs"] {
        let wrapped = wrapped_cookies(headers.clone(), base);
        let cookies: Vec<_> = wrapped.get_all("set-cookie").iter().collect();
        assert!(
            cookies.len() == set && cookies.iter().all(|cookie| cookie.as_bytes().starts_with(b"emr-shs.")),
            "{cookies:?}"
        );
    }
});
