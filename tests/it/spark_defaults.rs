//! The parser of spark-defaults.conf beside Java's own `java.util.Properties`, and its promise to leave other bytes alone.

use emr_shs::testing::{SparkDefaults, line_with};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// The properties that Java reads from each file, `None` where Java refuses the file.
type Loaded = Vec<Option<BTreeMap<String, String>>>;

fn java(files: &[Vec<u8>]) -> Loaded {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/LoadProperties.java");
    let mut child =
        Command::new("java").arg(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("java");
    let mut stdin = child.stdin.take().unwrap();
    let mut framed = u32::try_from(files.len()).unwrap().to_be_bytes().to_vec();
    for file in files {
        framed.extend(u32::try_from(file.len()).unwrap().to_be_bytes());
        framed.extend(file);
    }
    let writer = std::thread::spawn(move || stdin.write_all(&framed).unwrap());
    let mut answer = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());

    let mut rest = &answer[..];
    let loaded: Loaded = files
        .iter()
        .map(|_| {
            let count = number(&mut rest);
            (count >= 0).then(|| (0..count).map(|_| (text(&mut rest), text(&mut rest))).collect())
        })
        .collect();
    assert!(rest.is_empty());
    loaded
}

fn number(rest: &mut &[u8]) -> i32 {
    let (head, tail) = rest.split_at(4);
    *rest = tail;
    i32::from_be_bytes(head.try_into().unwrap())
}

fn text(rest: &mut &[u8]) -> String {
    let len = usize::try_from(number(rest)).unwrap();
    let (head, tail) = rest.split_at(len);
    *rest = tail;
    String::from_utf8(head.to_vec()).unwrap()
}

fn ours(file: &[u8]) -> Option<BTreeMap<String, String>> {
    let parsed = SparkDefaults::parse(file).ok()?;
    Some(parsed.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
}

/// Random files of pieces that have a meaning in the syntax. Each run generates the same files.
fn generated(count: usize) -> Vec<Vec<u8>> {
    const PIECES: &[&str] = &[
        "spark.eventLog.dir",
        "spark.x",
        "a",
        " ",
        "  ",
        "\t",
        "\u{c}",
        "=",
        ":",
        " = ",
        "\\",
        "\\\\",
        "\\\n",
        "\\\r\n",
        "\\\r",
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\r\n",
        "\r",
        "#",
        "!",
        "# c\n",
        "\\u0041",
        "\\u00e9",
        "\\u12",
        "\\uzzzz",
        "é",
        "\u{3000}",
        "\\t",
        "\\n",
        "\\:",
        "\\=",
        "\\ ",
        "value",
        "s3://b/p/",
        "-XX:A='kill -9 %p'",
        "$(hostname -f)",
        "\u{0}",
        "😀",
    ];
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    (0..count)
        .map(|_| {
            let pieces = 1 + random(25);
            let mut file: Vec<u8> = (0..pieces).flat_map(|_| PIECES[random(PIECES.len())].bytes()).collect();
            if random(5) == 0 {
                // Latin-1 for é, and what is never UTF-8.
                file.insert(random(file.len() + 1), [0xe9, 0xff][random(2)]);
            }
            file
        })
        .collect()
}

fn fixtures() -> Vec<Vec<u8>> {
    let plain = include_str!("../../lab/emr/spark-defaults-7.1.0.conf");
    let kerberos = include_str!("../../lab/emr/spark-defaults-5.23.0-kerberos.conf");
    let mut files = Vec::new();
    for file in [plain, kerberos] {
        files.push(file.as_bytes().to_vec());
        files.push(file.replace('\n', "\r\n").into_bytes());
        files.push(file.trim_end().as_bytes().to_vec());
        files.push(
            format!("{file}spark.eventLog.dir=\\\n   s3\\://b/p\\\n  /q\nspark.eventLog.dir hdfs\\u003a///x")
                .into_bytes(),
        );
    }
    files
}

#[test]
fn a_file_is_read_as_java_reads_it() {
    let files = [fixtures(), generated(6_000)].concat();
    let loaded = java(&files);
    assert!(loaded.iter().filter(|l| l.is_none()).count() > 100, "malformed files are among them");
    for (file, java) in files.iter().zip(loaded) {
        assert_eq!(ours(file), java, "{:?}", String::from_utf8_lossy(file));
    }
}

#[test]
fn a_changed_key_leaves_all_other_bytes_alone() {
    let key = "spark.eventLog.dir";
    let mut written = Vec::new();
    let mut expected = Vec::new();
    for file in [fixtures(), generated(8_000)].concat() {
        let Ok(parsed) = SparkDefaults::parse(&file) else { continue };
        assert_eq!(parsed.to_bytes(), file);
        let before = parsed.line(key);

        let value = " s3://bucket/with = odd \\ things: #!/";
        let mut changed = parsed.clone();
        changed.set_line(key, Some(&line_with(before.as_deref(), key, value)));
        let mut wanted = ours(&file).unwrap();
        wanted.insert(key.into(), value.into());
        written.push(changed.to_bytes());
        expected.push(Some(wanted));

        // Set another key, then remove both in the order of an uninstall.
        changed.set_line("spark.history.ui.title", Some(&line_with(None, "spark.history.ui.title", "x")));
        changed.set_line("spark.history.ui.title", None);
        changed.set_line(key, before.as_deref());
        assert_eq!(changed.to_bytes(), file, "{:?}", String::from_utf8_lossy(&file));
    }
    assert!(written.len() > 3_000, "{}", written.len());
    for (file, (java, wanted)) in written.iter().zip(java(&written).into_iter().zip(expected)) {
        assert_eq!(java, wanted, "{:?}", String::from_utf8_lossy(file));
    }
}

#[test]
fn a_line_that_is_not_utf_8_is_kept_as_text_and_comes_back_with_the_same_bytes() {
    // The last line contains the characters that stand for foreign bytes in the receipt.
    for old in [
        &b"spark.eventLog.dir hdfs:///h\xe9"[..],
        b"spark.eventLog.dir hdfs:///\xf0\x9f\xe9\xff",
        "spark.eventLog.dir \u{10f780}\u{10f7ff}".as_bytes(),
    ] {
        let file = [b"# caf\xe9\n", old, b"\nspark.x \xfc\n"].concat();
        let mut parsed = SparkDefaults::parse(&file).unwrap();
        let before = parsed.line("spark.eventLog.dir");
        parsed.set_line("spark.eventLog.dir", Some(&line_with(before.as_deref(), "spark.eventLog.dir", "s3://b/p/")));
        assert_eq!(parsed.to_bytes(), b"# caf\xe9\nspark.eventLog.dir s3://b/p/\nspark.x \xfc\n");
        parsed.set_line("spark.eventLog.dir", before.as_deref());
        assert_eq!(parsed.to_bytes(), file);
    }
}

#[test]
fn a_malformed_file_is_refused_with_its_line() {
    let bad = SparkDefaults::parse(b"a b\\\n c\r\n\nd \\u00g0\n").unwrap_err();
    assert_eq!((bad.line, bad.found.as_str()), (4, "\\u00g0"));
}

#[test]
fn a_changed_line_keeps_its_indentation_and_separator() {
    let line = |old: &str| line_with(Some(old), "spark.eventLog.dir", "s3://b/p/");
    assert_eq!(line("spark.eventLog.dir               hdfs:///x"), "spark.eventLog.dir               s3://b/p/");
    assert_eq!(line("  spark.eventLog.dir\t=  hdfs:///x"), "  spark.eventLog.dir\t=  s3://b/p/");
    assert_eq!(line("spark.eventLog.dir:\\\n    hdfs:///x"), "spark.eventLog.dir:\\\n    s3://b/p/");
    assert_eq!(line("spark.eventLog.dir="), "spark.eventLog.dir=s3://b/p/");
    assert_eq!(line("spark.eventLog.dir"), "spark.eventLog.dir               s3://b/p/");
}
