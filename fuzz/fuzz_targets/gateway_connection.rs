//! Sends any bytes to the gateway as those of a whole connection. Each answer is complete, forbids other sites to embed it, and leads
//! to a path of the gateway, to one log in S3, or nowhere else.

#![no_main]

#[allow(dead_code, reason = "another target uses the rest")]
#[path = "../../tests/helpers/allowed_keys.rs"]
mod allow;
mod gateway;

use emr_shs::testing::InMemoryGateway;
use gateway::{LOG_URI, answers, assert_path, assert_protected, credentials, s3, serve};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// Of user alice, with the password "p".
const USERS: &str = "alice:$2b$04$NSDPQYTdKDPBZWWGnkbUzO7AeXYRs49dkothyfbL.vrj.Hy/Syu3G\n";

struct Gateways {
    open: InMemoryGateway,
    with_login: InMemoryGateway,
    /// How presigned URLs begin.
    bucket: String,
}

static GATEWAYS: LazyLock<Gateways> = LazyLock::new(|| {
    credentials();
    let users = std::env::temp_dir().join(format!("emr-shs-fuzz-users-{}", std::process::id()));
    std::fs::write(&users, USERS).unwrap();
    let (s3, history_server) = (serve(s3), serve(history_server));
    let new = |htpasswd| InMemoryGateway::new(&s3, LOG_URI, &history_server, htpasswd).unwrap();
    let (open, with_login) = (new(None), new(Some(users.clone())));
    std::fs::remove_file(users).unwrap();
    Gateways { open, with_login, bucket: format!("{s3}/acme-logs/") }
});

/// A history server that sends a redirect to the path, or a page.
fn history_server(head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or("/");
    if path.contains("redirect") {
        return format!("HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .into_bytes();
    }
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\nConnection: close\r\n\r\n<a href=\"/jobs/\">x</a>".to_vec()
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, sent)) = data.split_first() else { return };
    let gateways = &*GATEWAYS;
    let gateway = if choice & 1 == 0 { &gateways.open } else { &gateways.with_login };
    let client = if choice & 2 == 0 { [127, 0, 0, 1] } else { [192, 0, 2, 1] };
    for answer in answers(&gateway.answers(client.into(), sent)) {
        if std::env::var_os("SHOW_ANSWERS").is_some() {
            let location = answer.one("location").map(|to| to.escape_ascii().to_string());
            eprintln!("{} {} bytes {location:?}", answer.status, answer.body.len());
        }
        assert!(!answer.is_cut, "{}", sent.escape_ascii());
        // hyper itself answers what is no request.
        if matches!(answer.status, 400 | 431) && answer.all("x-content-type-options").next().is_none() {
            assert!(answer.body.is_empty());
            continue;
        }
        assert_protected(&answer);
        let Some(location) = answer.one("location") else { continue };
        let location = str::from_utf8(location).unwrap();
        match location.strip_prefix(&gateways.bucket) {
            Some(signed) => {
                let (key, _) = signed.split_once('?').unwrap();
                let key = percent_encoding::percent_decode_str(key).decode_utf8().unwrap();
                allow::assert_key(&key, "elasticmapreduce/");
            }
            None => {
                assert!(location.starts_with('/'), "{location}");
                assert_path(location.as_bytes());
            }
        }
    }
});
