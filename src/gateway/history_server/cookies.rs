//! The history server's own cookies. A browser sends the cookies of a host to all its ports, so a request contains those of
//! every program that a user opens through a tunnel on `localhost`. The history server must not get them: they are not meant
//! for it, and it refuses a request whose head is larger than 8 kB. So its cookies get a prefix on their way to the browser,
//! and only cookies with that prefix come back to it.

use crate::gateway::base::link;
use hyper::header::{self, HeaderMap, HeaderValue};

const PREFIX: &[u8] = b"emr-shs.";

/// Adds the prefix to the cookies of a response, and the path before the gateway to their paths.
pub(in crate::gateway) fn wrap(headers: &mut HeaderMap, base: &str) {
    let cookies: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|cookie| {
            HeaderValue::from_bytes(&[PREFIX, &below(base, cookie.as_bytes().trim_ascii_start())].concat()).ok()
        })
        .collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// A cookie whose path begins with `base`.
fn below(base: &str, cookie: &[u8]) -> Vec<u8> {
    let part = |part: &[u8]| {
        let text = part.trim_ascii();
        match (text.get(..5), text.get(5..).map(str::from_utf8)) {
            (Some(name), Some(Ok(path))) if name.eq_ignore_ascii_case(b"path=") && path.starts_with('/') => {
                format!("Path={}", link(base, path)).into_bytes()
            }
            _ => part.to_vec(),
        }
    };
    cookie.split(|byte| *byte == b';').map(part).collect::<Vec<_>>().join(&b';')
}

/// Takes the prefix away from the cookies of a request, and leaves out the others.
pub(super) fn unwrap(headers: &mut HeaderMap) {
    let own: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|cookie| cookie.trim_ascii().strip_prefix(PREFIX))
        .collect();
    let line = HeaderValue::from_bytes(&own.join(&b"; "[..])).ok();
    headers.remove(header::COOKIE);
    if let Some(line) = line.filter(|line| !line.is_empty()) {
        headers.insert(header::COOKIE, line);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn only_the_history_servers_own_cookies_come_back_to_it() {
        let mut headers = HeaderMap::new();
        headers.append(header::SET_COOKIE, HeaderValue::from_static("JSESSIONID=node0;Path=/;HttpOnly"));
        headers.append(header::SET_COOKIE, HeaderValue::from_static("a=b"));
        let mut behind_a_path = headers.clone();
        wrap(&mut headers, "");
        let set: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(set, ["emr-shs.JSESSIONID=node0;Path=/;HttpOnly", "emr-shs.a=b"]);
        wrap(&mut behind_a_path, "/shs");
        let set: Vec<_> = behind_a_path.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(set, ["emr-shs.JSESSIONID=node0;Path=/shs/;HttpOnly", "emr-shs.a=b"]);

        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("_xsrf=1; emr-shs.JSESSIONID=node0;emr-shs.a=b=c"));
        headers.append(header::COOKIE, HeaderValue::from_static("emr-shs.z=1; token=secret"));
        unwrap(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["JSESSIONID=node0; a=b=c; z=1"]);
        headers.insert(header::COOKIE, HeaderValue::from_static("token=secret"));
        unwrap(&mut headers);
        assert!(!headers.contains_key(header::COOKIE));
    }
}
