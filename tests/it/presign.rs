//! Presigned URLs beside those of botocore, and the addresses of buckets.

use crate::helpers::python_packages::python_package;
use aws_credential_types::Credentials;
use emr_shs::testing::{BucketAddress, Signer, StoreAddress};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const REGIONS: &[&str] = &["us-east-1", "eu-west-3", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"];

struct Input {
    bucket: &'static str,
    region: &'static str,
    endpoint: Option<&'static str>,
    method: &'static str,
    key: String,
    id: String,
    secret: String,
    token: Option<String>,
    /// Nanoseconds since 1970.
    time: u64,
    life: u64,
    overrides: Vec<(&'static str, String)>,
}

impl Input {
    fn ours(&self, address: &BucketAddress) -> String {
        let credentials = Credentials::new(&self.id, &self.secret, self.token.clone(), None, "test");
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.time);
        let day = Duration::from_nanos(self.time - self.time % 86_400_000_000_000);
        // A signer is made once a day, and signs until the day ends.
        let signer = Signer::new(address.clone(), self.region, &credentials, SystemTime::UNIX_EPOCH + day);
        let overrides: Vec<(&str, &str)> = self.overrides.iter().map(|(name, value)| (*name, value.as_str())).collect();
        signer.url(self.method, &self.key, &overrides, time, Duration::from_secs(self.life))
    }

    /// The input of tests/fixtures/presign.py.
    fn json(&self) -> Value {
        let overrides: BTreeMap<&str, &str> = self.overrides.iter().map(|(name, value)| (*name, &**value)).collect();
        json!({
            "method": self.method, "key": self.key, "region": self.region, "id": self.id, "secret": self.secret,
            "token": self.token, "time": self.time / 1_000_000_000, "life": self.life, "overrides": overrides,
        })
    }
}

fn address(bucket: &str, region: &str, endpoint: Option<&str>) -> BucketAddress {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(BucketAddress::of(bucket, region, &StoreAddress::at(endpoint))).unwrap()
}

/// The URLs that botocore makes.
fn botocores(lines: &[Value]) -> Vec<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/presign.py");
    let mut child = Command::new("python3")
        .arg(program)
        .env("PYTHONPATH", python_package("botocore"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut stdin = child.stdin.take().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    answer.lines().map(str::to_string).collect()
}

/// A URL's part before the question mark, and the encoded pairs of its query, sorted.
fn parts(url: &str) -> (&str, Vec<(&str, &str)>) {
    let (path, query) = url.split_once('?').unwrap();
    let mut pairs: Vec<_> = query.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
    pairs.sort_unstable();
    (path, pairs)
}

/// Random inputs of pieces that signers and URL encoders often get wrong. Each run generates the same inputs.
fn generated(count: usize) -> Vec<Input> {
    const PIECES: &[&str] = &[
        "elasticmapreduce/",
        "j-3H8X1ABCDEFG/containers/",
        "application_1795352263709_0001/",
        "container_e17_1795352263709_0001_01_000002/",
        "stderr.gz",
        "/",
        "//",
        "./",
        "../",
        ".",
        "%",
        "%2F",
        "%25",
        "%zz",
        "+",
        " ",
        "  ",
        "~",
        "'",
        "\"",
        "&",
        "=",
        "&=",
        "?",
        "#",
        ";",
        ":",
        ",",
        "@",
        "!",
        "$",
        "*",
        "(",
        ")",
        "[",
        "]",
        "<",
        ">",
        "|",
        "\\",
        "^",
        "`",
        "{",
        "}",
        "-_.",
        "é",
        "e\u{301}",
        "ß",
        "日誌",
        "😀",
        "\u{a0}",
        "\u{202e}",
        "\u{feff}",
        "\t",
        "\n",
        "\r",
        "\u{1}",
        "\u{7f}",
        "A",
        "z",
        "0",
        "X-Amz-Signature=0",
    ];
    const BUCKETS: &[(&str, Option<&str>)] = &[
        ("acme-logs", None),
        ("acme.logs.2026", None),
        ("acme_logs", None),
        ("aws-logs-123456789012-eu-west-3", None),
        ("acme-logs", Some("https://bucket.vpce-0123.s3.eu-west-3.vpce.amazonaws.com")),
        ("acme-logs", Some("http://127.0.0.1:7070")),
        ("acme.logs", Some("https://s3.example.com:443")),
        ("acme-logs", Some("http://s3.example.com:80/")),
    ];
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut inputs = Vec::new();
    for _ in 0..count {
        let mut pick = |count: usize| usize::try_from(random(count as u64)).unwrap();
        let mut text = |least: usize, most: usize| -> String {
            let pieces = least + pick(most - least);
            (0..pieces).map(|_| PIECES[pick(PIECES.len())]).collect()
        };
        let (key, value, token) = (text(1, 20), text(0, 8), text(0, 40));
        // Mostly the three parameters that the gateway uses, sometimes the others.
        let overrides = match pick(8) {
            0 => vec![],
            1 | 2 => vec![
                ("response-content-encoding", "gzip".to_string()),
                ("response-content-type", "text/plain; charset=utf-8".into()),
            ],
            3 => vec![("response-content-type", "text/plain; charset=utf-8".into())],
            4 | 5 => vec![
                (
                    "response-content-disposition",
                    "attachment; filename=\"container_1795352263709_0001_01_000002-std_rr.gz\"; filename*=UTF-8''container_1795352263709_0001_01_000002-std%C3%A9rr.gz".into(),
                ),
                ("response-content-encoding", "identity".into()),
                ("response-content-type", "application/gzip".into()),
            ],
            6 => vec![("response-content-disposition", value)],
            _ => vec![
                ("response-cache-control", value.clone()),
                ("response-content-disposition", value.clone()),
                ("response-content-encoding", value.clone()),
                ("response-content-language", value.clone()),
                ("response-content-type", value),
            ],
        };
        let (bucket, endpoint) = BUCKETS[pick(BUCKETS.len())];
        let region = REGIONS[pick(REGIONS.len())];
        let method = ["GET", "HEAD"][pick(2)];
        // A time between 2020 and 2050, often the first or last second of a day.
        let day = 18_262 + random(10_957);
        let second = [0, 86_399, random(86_400), random(86_400)][usize::try_from(random(4)).unwrap()];
        inputs.push(Input {
            bucket,
            region,
            endpoint,
            method,
            key,
            id: format!("ASIA{:016X}", random(u64::MAX)),
            secret: format!("{:x}/+{:x}=", random(u64::MAX), random(u64::MAX)),
            token: match random(3) {
                0 => None,
                1 => Some("IQoJb3JpZ2luX2VjEJr//////////wEaCWV1LXdlc3QtMyJHMEUCIQD+/=".repeat(12)),
                _ => Some(token),
            },
            time: (day * 86_400 + second) * 1_000_000_000 + random(1_000_000_000),
            life: 1 + random(300),
            overrides,
        });
    }
    inputs
}

#[test]
fn urls_are_signed_as_botocore_signs_them() {
    let inputs = generated(8_000);
    let mut ours = Vec::new();
    let mut lines = Vec::new();
    let mut addresses = BTreeMap::new();
    for input in &inputs {
        let place = (input.bucket, input.region, input.endpoint);
        let address = addresses.entry(place).or_insert_with(|| address(input.bucket, input.region, input.endpoint));
        ours.push(input.ours(address));
        let mut line = input.json();
        line["base"] = address.base.clone().into();
        lines.push(line);
    }
    let theirs = botocores(&lines);
    assert_eq!(ours.len(), theirs.len());
    for ((ours, theirs), line) in ours.iter().zip(&theirs).zip(&lines) {
        assert_eq!(parts(ours), parts(theirs), "{line}");
    }
}

#[test]
fn urls_equal_those_of_botocores_client() {
    let mut inputs = generated(800);
    let mut lines = Vec::new();
    for input in &mut inputs {
        // Making a botocore client is slow, so there is one for each bucket and region, with these credentials.
        input.id = "ASIA0123456789ABCDEF".into();
        input.secret = "a/secret+of/no=use".into();
        input.token = Some("a token/+=".into());
        let mut line = input.json();
        line["bucket"] = input.bucket.into();
        line["endpoint"] = input.endpoint.into();
        line["path_style"] = input.endpoint.is_some_and(emr_shs::testing::by_path).into();
        lines.push(line);
    }
    let theirs = botocores(&lines);
    assert_eq!(inputs.len(), theirs.len());
    for ((input, theirs), line) in inputs.iter().zip(&theirs).zip(&lines) {
        let ours = input.ours(&address(input.bucket, input.region, input.endpoint));
        assert_eq!(parts(&ours), parts(theirs), "{line}");
    }
}

#[test]
fn a_bucket_gets_the_address_for_its_partition_and_endpoint() {
    let vpc = Some("https://bucket.vpce-0123.s3.eu-west-3.vpce.amazonaws.com");
    let vpc_cn = Some("https://bucket.vpce-0123.s3.cn-north-1.vpce.amazonaws.com.cn");
    for (bucket, region, endpoint, base) in [
        ("acme-logs", "us-east-1", None, "https://acme-logs.s3.us-east-1.amazonaws.com"),
        ("acme-logs", "eu-west-3", None, "https://acme-logs.s3.eu-west-3.amazonaws.com"),
        ("acme-logs", "cn-north-1", None, "https://acme-logs.s3.cn-north-1.amazonaws.com.cn"),
        ("acme-logs", "us-gov-west-1", None, "https://acme-logs.s3.us-gov-west-1.amazonaws.com"),
        ("acme-logs", "eusc-de-east-1", None, "https://acme-logs.s3.eusc-de-east-1.amazonaws.eu"),
        ("acme.logs", "eusc-de-east-1", None, "https://s3.eusc-de-east-1.amazonaws.eu/acme.logs"),
        // A wildcard certificate covers one label, so a bucket with a dot goes into the path.
        ("acme.logs", "us-east-1", None, "https://s3.us-east-1.amazonaws.com/acme.logs"),
        ("acme.logs", "cn-north-1", None, "https://s3.cn-north-1.amazonaws.com.cn/acme.logs"),
        ("acme_logs", "eu-west-3", None, "https://s3.eu-west-3.amazonaws.com/acme_logs"),
        ("acme-logs", "eu-west-3", vpc, "https://acme-logs.bucket.vpce-0123.s3.eu-west-3.vpce.amazonaws.com"),
        ("acme.logs", "eu-west-3", vpc, "https://bucket.vpce-0123.s3.eu-west-3.vpce.amazonaws.com/acme.logs"),
        ("acme-logs", "cn-north-1", vpc_cn, "https://acme-logs.bucket.vpce-0123.s3.cn-north-1.vpce.amazonaws.com.cn"),
        ("acme-logs", "eu-west-3", Some("http://127.0.0.1:7070"), "http://127.0.0.1:7070/acme-logs"),
        ("acme-logs", "eu-west-3", Some("http://127.0.0.1:7070/"), "http://127.0.0.1:7070/acme-logs"),
        ("acme.logs", "eu-west-3", Some("https://s3.example.com"), "https://s3.example.com/acme.logs"),
    ] {
        assert_eq!(address(bucket, region, endpoint).base, base);
    }
}
