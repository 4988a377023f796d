//! What the fuzz targets of the gateway share: an S3 server and a history server on this machine, and a strict reader of answers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// The log URI of the gateways.
pub const LOG_URI: &str = "s3://acme-logs/elasticmapreduce/";

/// Credentials, before any thread is there.
pub fn credentials() {
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("NO_PROXY", "127.0.0.1"),
    ] {
        // SAFETY: libFuzzer has not started a thread, and neither has the target.
        unsafe { std::env::set_var(name, value) };
    }
}

/// A server on a thread that answers each request with what `answer` makes of its head, and closes the connection. Returns its URL.
pub fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.set_nodelay(true);
            let head = head(&mut stream);
            let _ = stream.write_all(&answer(&head));
        }
    });
    url
}

fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => head.extend(&bytes[..count]),
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// What the S3 server lists.
const KEYS: [&str; 3] = [
    "elasticmapreduce/j-3H6EATEWWRWS/containers/application_1795352263709_0001/container_1795352263709_0001_01_000001/stderr.gz",
    "elasticmapreduce/j-3H6EATEWWRWS/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002/stderr.gz",
    "elasticmapreduce/j-3H6EATEWWRWS/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002/stdout.gz",
];

/// An S3 server that lists these, and gives whatever is asked for.
pub fn s3(head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    if head.starts_with("HEAD") {
        return b"HTTP/1.1 200 OK\r\nx-amz-bucket-region: eu-west-3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .to_vec();
    }
    if !path.contains("list-type=2") {
        return b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/9\r\nConnection: close\r\n\r\nx".to_vec();
    }
    let value = |name: &str| {
        let pair =
            path.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
        percent_encoding::percent_decode_str(pair).decode_utf8_lossy().into_owned()
    };
    let (prefix, after, delimiter) = (value("prefix"), value("start-after"), value("delimiter"));
    let mut listed = String::new();
    let mut last = String::new();
    for key in KEYS.iter().filter(|key| key.starts_with(&prefix)) {
        let end = key[prefix.len()..].find('/').filter(|_| !delimiter.is_empty()).map(|end| prefix.len() + end + 1);
        let name = &key[..end.unwrap_or(key.len())];
        if name <= after.as_str() || name == last {
            continue;
        }
        last = name.to_string();
        listed += &match end {
            Some(_) => format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
            None => format!(
                "<Contents><Key>{name}</Key><Size>9</Size><LastModified>2026-11-22T18:00:00.000Z</LastModified></Contents>"
            ),
        };
    }
    let body = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>");
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length:";
    format!("{head} {length}\r\n\r\n{body}").into_bytes()
}

/// An answer of the gateway.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Whether the connection was closed before the end of the body.
    pub is_cut: bool,
}

impl Answer {
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// The only value of a header.
    pub fn one<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut all = self.all(name);
        let first = all.next();
        assert!(all.next().is_none(), "two headers {name}");
        first
    }
}

/// The answers on a connection. Fails where there is anything but answers, each of which may lack its body, as to a HEAD.
pub fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Response::new(&mut headers);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            other => panic!("{other:?} in {}", bytes.escape_ascii()),
        };
        let status = parsed.code.unwrap();
        let headers = parsed.headers.iter().map(|header| (header.name.to_string(), header.value.to_vec())).collect();
        bytes = &bytes[length..];
        let mut answer = Answer { status, headers, body: Vec::new(), is_cut: false };
        if status == 100 {
            continue;
        }
        let length =
            answer.one("content-length").map(|length| str::from_utf8(length).unwrap().parse::<usize>().unwrap());
        let is_chunked = answer.one("transfer-encoding").is_some_and(|coding| coding == b"chunked");
        assert!(!(is_chunked && length.is_some()), "two lengths");
        if bytes.is_empty() || bytes.starts_with(b"HTTP/1.") || matches!(status, 204 | 304) {
            answers.push(answer);
            continue;
        }
        match length {
            Some(length) => {
                answer.is_cut = bytes.len() < length;
                let (body, rest) = bytes.split_at(length.min(bytes.len()));
                (answer.body, bytes) = (body.to_vec(), rest);
            }
            None if is_chunked => bytes = chunks(bytes, &mut answer),
            None => (answer.body, bytes) = (bytes.to_vec(), &[]),
        }
        answers.push(answer);
    }
    answers
}

/// Reads a body in chunks, and returns what follows.
fn chunks<'a>(mut bytes: &'a [u8], answer: &mut Answer) -> &'a [u8] {
    loop {
        let Ok(httparse::Status::Complete((begin, size))) = httparse::parse_chunk_size(bytes) else {
            answer.is_cut = true;
            return &[];
        };
        let size = usize::try_from(size).unwrap();
        let Some(rest) = bytes.get(begin + size + 2..) else {
            answer.is_cut = true;
            return &[];
        };
        assert_eq!(&bytes[begin + size..][..2], b"\r\n", "the end of a chunk");
        answer.body.extend(&bytes[begin..begin + size]);
        bytes = rest;
        if size == 0 {
            return bytes;
        }
    }
}

/// Fails if a browser takes a `Location` for another host's, unless it is an absolute URL, which only the history server sends.
pub fn assert_path(location: &[u8]) {
    // As browsers read it: without blanks at its ends, without tabs and line breaks, and with backslashes as slashes.
    let read: Vec<u8> = location.trim_ascii().iter().filter(|byte| !b"\t\r\n".contains(byte)).copied().collect();
    let read = str::from_utf8(&read).unwrap_or("/").replace('\\', "/");
    assert!(!read.starts_with("//"), "{}", location.escape_ascii());
}

/// Fails unless every answer forbids other sites to embed it.
pub fn assert_protected(answer: &Answer) {
    assert_eq!(answer.one("x-content-type-options"), Some(&b"nosniff"[..]));
    assert_eq!(answer.one("cross-origin-resource-policy"), Some(&b"same-origin"[..]));
}
