//! Whoever may write event logs, and whoever may ask the gateway, gains nothing from the list and the event-log cache.

use crate::helpers::index_gateway::IndexGateway;
use crate::helpers::many_logs::ManyLogs;
use crate::helpers::wait::wait;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

const FLAT: [&str; 2] = ["--event-logs", "s3://acme/flat/"];

/// An event log whose words somebody has chosen.
fn log(id: &str, name: &str, times: (i64, i64)) -> String {
    let start = json!({
        "Event": "SparkListenerApplicationStart", "App Name": name, "App ID": id, "Timestamp": times.0, "User": "mallory",
    });
    // The event's name comes first, as Spark writes it.
    let start = start.to_string().replacen("\"Event\":\"SparkListenerApplicationStart\",", "", 1);
    format!(
        "{{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"3.5.8\"}}\n\
         {{\"Event\":\"SparkListenerApplicationStart\",{}\n\
         {{\"Event\":\"SparkListenerApplicationEnd\",\"Timestamp\":{}}}\n",
        start.trim_start_matches('{'),
        times.1
    )
}

const USUAL: (i64, i64) = (1_795_352_263_709, 1_795_352_323_709);

/// The status, the `Location` and the body of the answer to a path, which goes out as it is.
fn ask(gateway: &IndexGateway, path: &str) -> (u16, String, String) {
    let url = format!("http://127.0.0.1:{}{path}", gateway.port);
    let curl = ["-s", "-i", "--noproxy", "*", "--path-as-is", "--globoff", "--max-time", "60"];
    let out = Command::new("curl").args(curl).arg(&url).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {text:?}"));
    let location = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), location.into(), body.into())
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[test]
fn what_event_logs_say_is_text_and_leads_nowhere_else() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let longest = "x".repeat(70_000);
    let ids = [
        ("application_1795352263709_0001", USUAL),
        ("..", USUAL),
        (".", USUAL),
        ("a/../../b", USUAL),
        ("//evil.example/", USUAL),
        ("\"><script>alert(1)</script>", USUAL),
        ("local-1;jsessionid=2", USUAL),
        ("%2e%2e%2f", USUAL),
        ("turned\u{202e}", USUAL),
        ("\u{1}\u{9b}31m\r\n\u{7f}", USUAL),
        (&longest, USUAL),
        ("ends before all time", (i64::MAX, i64::MIN)),
        ("ends after all time", (i64::MIN, i64::MAX)),
    ];
    for (n, (id, times)) in ids.iter().enumerate() {
        let name = format!("{id} <img src=x onerror=alert(1)> ' onload='x");
        s3.put(&format!("flat/application_1_{n:04}"), log(id, &name, *times).as_bytes());
    }
    let gateway = IndexGateway::start(&s3, &FLAT);
    wait("all of them", || gateway.page("").contains(&format!("of {} that fit", ids.len())).then_some(()));
    let page = gateway.page("");
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains(['\u{202e}', '\u{1}', '\u{9b}']));
    assert!(page.contains("turned\\u{202e}") && page.contains("\\x01\\x9b31m\\r\\n\\x7f"), "{page}");

    // Each link of the list leads to an application, or the application has none.
    let links: Vec<&str> = page.split("href=\"/history/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), ids.len() - 2, "a browser takes the others for steps in the path: {links:?}");
    for link in links {
        assert!(link.split('/').all(|part| !matches!(part, "." | "..")), "{link}");
        let (status, location, body) = ask(&gateway, &format!("/history/{link}"));
        let behind = body.strip_prefix("behind: ").map(str::to_string);
        assert!(location.is_empty() && (status == 404 || behind == Some(format!("/history/{link}"))), "{link}: {body}");
    }
    // Programs get the words as they are, and the gateway spells them as JSON.
    let list = gateway.applications("");
    let known: BTreeSet<&str> = list.iter().map(|one| one["id"].as_str().unwrap()).collect();
    // As with the history server, a list without dates begins in 2010 and ends in 3000.
    let is_listed = |(id, times): &&(&str, (i64, i64))| id.len() < 4096 && *times == USUAL;
    assert!(ids.iter().filter(is_listed).all(|(id, _)| known.contains(id)), "{known:?}");
    assert!(known.iter().all(|id| id.len() <= 4096));
    for (id, _) in ids.iter().filter(|(id, _)| id.len() < 4096 && !id.contains(['/', ';'])) {
        let (status, _, body) = ask(&gateway, &format!("/api/v1/applications/{}", encoded(id)));
        assert_eq!(status, 200, "{id:?}: {body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["id"], *id);
    }
}

#[test]
fn no_path_leads_out_of_the_gateway_or_into_another_page_of_the_history_server() {
    let s3 = ManyLogs::start(&["-flat", "3", "-sizes", "small"]);
    let gateway = IndexGateway::start(&s3, &FLAT);
    // Two of the logs can be attempts of one application.
    wait("the list", || (!gateway.ids("").is_empty()).then_some(()));
    let long = "x".repeat(20_000);
    for (path, status) in [
        ("/history-server", 302),
        ("/history-server?to=//evil.example/", 302),
        ("/history-server//evil.example/", 404),
        ("/history-server/%2fevil.example/", 404),
        ("/history-server/%5cevil.example/", 404),
        ("/history-server/..", 404),
        ("/history-server/%2e%2e/-/metrics", 404),
        ("/history-server/..;/x", 404),
        ("/history-server/..%2f..%2fx", 404),
        ("//evil.example/", 404),
        ("/%2fevil.example/", 404),
        ("/history/../x", 404),
        ("/history/%2e%2e/%2e%2e/jobs/", 404),
        ("/history/..;a=b/jobs/", 404),
        ("/history/a%2f..%2fb/jobs/", 404),
        ("/history/x%00y/jobs/", 404),
        ("/history/x%0d%0aLocation:%20https:%2f%2fevil.example/", 404),
        ("/history/x%5cy/", 404),
        ("/api/v1/applications/%2e%2e/jobs", 404),
        // These mean an id that no application has.
        ("/api/v1/applications/..", 404),
        ("/api/v1/applications/%2e%2e", 404),
        ("/api/v1/applications/x%00y", 404),
        ("/api/v1/applications/x%0d%0aLocation:%20y", 404),
        (&format!("/api/v1/applications/{}", &long[..4000]), 404),
    ] {
        let (answered, location, body) = ask(&gateway, path);
        assert_eq!(answered, status, "{path}: {body}");
        assert_eq!(location, if status == 302 { "/history-server/" } else { "" }, "{path}");
        assert!(!body.contains("behind:"), "{path}: {body}");
    }
    // What the history server answers itself goes on as it came.
    for path in [
        "/history/%e2%80%ae/jobs/".to_string(),
        "/history/a%2fb/jobs/".into(),
        "/history/a;b=c/jobs/?id=..%2f".into(),
        "/history-server/?showIncomplete=true&x=//evil.example".into(),
        format!("/history/{long}/jobs/"),
        format!("/api/v1/applications/{long}"),
        "/api/v1/applications/%ff".into(),
    ] {
        let (status, location, body) = ask(&gateway, &path);
        let onward = path.strip_prefix("/history-server").unwrap_or(&path);
        assert_eq!((status, location.as_str(), body), (200, "", format!("behind: {onward}")));
    }
}

#[test]
fn a_search_finds_what_is_typed_whatever_sql_and_fts_make_of_it() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let names = [
        "plain name",
        "100% of it",
        "snake_case",
        "say \"hello\"",
        "a*b**c",
        "NEAR(one two)",
        "one AND two OR NOT three",
        "{name}:x^y-z+w",
        "x; DROP TABLE attempt; --",
        "it's o''clock",
        "back\\slash",
        "nul\u{0}nul",
        "\u{130}stanbul stra\u{df}e",
    ];
    for (n, name) in names.iter().enumerate() {
        let id = format!("application_1795352263709_{n:04}");
        s3.put(&format!("flat/{id}"), log(&id, name, USUAL).as_bytes());
    }
    let gateway = IndexGateway::start(&s3, &FLAT);
    let all = format!("of {} that fit", names.len());
    wait("all of them", || gateway.page("").contains(&all).then_some(()));
    let found = |query: &str| {
        let page = gateway.page(query);
        assert!(!page.contains("class=\"gap\""), "{query}: {page}");
        page.matches("<tr><td><a href=\"/history/").count()
    };
    for word in [
        "\"",
        "\"\"\"",
        "*",
        "**",
        "a*b",
        "NEAR(one",
        "NEAR",
        "AND",
        "NOT",
        "%",
        "100%",
        "_",
        "e_c",
        ";",
        "; drop",
        "--",
        "'",
        "''",
        "o''c",
        "' OR '1'='1",
        "\\",
        "back\\s",
        "\u{0}",
        "l\u{0}n",
        "nul\u{0}nul",
        "{name}:",
        "name:",
        "^y-",
        "-z",
        "+w",
        "(",
        ")",
        "\u{df}e",
        "i\u{307}stan",
        "x^y",
        "\u{202e}",
        "\u{ffff}",
        "NULL",
        "words MATCH x",
        "?1",
        ":a",
        "@b",
        "$c",
    ] {
        let small = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
        let fits = |name: &&&str| {
            let row = small(&format!("{name}\nmallory\napplication_1795352263709_"));
            small(word).split_whitespace().all(|part| row.contains(part))
        };
        assert_eq!(found(&format!("?q={}", encoded(word))), names.iter().filter(fits).count(), "{word:?}");
        assert_eq!(found(&format!("?user={}", encoded(word))), if word.trim().is_empty() { names.len() } else { 0 });
    }
    assert_eq!(found("?user=MALLORY&q=plain"), 1);
    for odd in ["?q=%ff%fe", "?q=%", "?q=%zz", "?%00=%00", "?q", "?=&&&=", "?page=%2b1&q=plain"] {
        found(odd);
    }
    for odd in ["source=%27%20OR%201=1", "state=%00", "since=-009999-01-01T00:00:00Z%00", "page=-1", "until=%22"] {
        let page = gateway.page(&format!("?{odd}"));
        assert!(page.contains("class=\"gap\"") && page.contains(&all), "{odd}: {page}");
    }
    for far in ["since=-009999-01-03T00:00:00Z", "until=9999-12-30T22:00:00Z"] {
        assert_eq!(found(&format!("?{far}")), names.len(), "{far}");
    }
    assert_eq!(found(""), names.len());
}
