//! Lets a history server answer with any bytes. What reaches the browser is a complete answer or a closed connection; no `Location`
//! looks like a path and leads to another host, and every cookie has the gateway's prefix.

#![no_main]

mod gateway;

use emr_shs::testing::InMemoryGateway;
use gateway::{LOG_URI, answers, assert_path, assert_protected, credentials, s3, serve};
use libfuzzer_sys::fuzz_target;
use std::sync::{LazyLock, Mutex};

static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static GATEWAY: LazyLock<InMemoryGateway> = LazyLock::new(|| {
    credentials();
    let history_server = serve(|_| ANSWER.lock().unwrap().clone());
    InMemoryGateway::new(&serve(s3), LOG_URI, &history_server, None).unwrap()
});

const REQUESTS: [&str; 4] = [
    "GET /history/application_1795352263709_0001/jobs/ HTTP/1.1\r\nHost: localhost:9977\r\n\r\n",
    "HEAD /static/webui.css HTTP/1.1\r\nHost: localhost:9977\r\n\r\n",
    "GET /api/v1/applications HTTP/1.0\r\nHost: localhost:9977\r\n\r\n",
    // A page that asks the history server itself.
    "GET /logs/application_1795352263709_0001/ HTTP/1.1\r\nHost: localhost:9977\r\n\r\n",
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, answer)) = data.split_first() else { return };
    let choice = usize::from(choice % 4);
    ANSWER.lock().unwrap().clone_from(&answer.to_vec());
    let sent = GATEWAY.answers([127, 0, 0, 1].into(), REQUESTS[choice].as_bytes());
    let answers = answers(&sent);
    assert!(answers.len() <= 1, "{}", sent.escape_ascii());
    for answer in answers {
        assert_protected(&answer);
        answer.one("location").into_iter().for_each(assert_path);
        for cookie in answer.all("set-cookie") {
            assert!(cookie.starts_with(b"emr-shs."), "{}", cookie.escape_ascii());
        }
        if choice == 3 {
            assert!(!answer.is_cut && answer.status == 200, "{}", answer.status);
        }
    }
});
