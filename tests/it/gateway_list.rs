//! The gateway's list of applications, from the index that it keeps of an S3 server on this machine.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::index_gateway::{IndexGateway as Gateway, command};
use crate::helpers::many_logs::ManyLogs;
use crate::helpers::wait::wait;
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

const FLAT: [&str; 2] = ["--event-logs", "s3://acme/flat/"];

/// What is true of the logs below a prefix: id, and end where there is one.
fn truth(s3: &ManyLogs, prefix: &str) -> Vec<(String, Option<i64>)> {
    let rows = s3.rows(prefix);
    rows.iter().map(|row| (row["id"].as_str().unwrap().to_string(), row["ended"].as_i64())).collect()
}

#[test]
fn the_list_shows_what_is_there_and_follows_what_comes_grows_and_goes() {
    let s3 = ManyLogs::start(&["-flat", "250", "-month", "30", "-sizes", "small"]);
    let options = [&FLAT[..], &["--event-logs", "s3://acme/month/", "--listing-interval", "2"]].concat();
    let mut gateway = Gateway::start(&s3, &options);
    let wanted = || {
        let mut ids: Vec<String> = ["flat/", "month/"].iter().flat_map(|of| truth(&s3, of)).map(|(id, _)| id).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let shows_all = |gateway: &Gateway| {
        wait("the list", || {
            let mut ids = gateway.ids("");
            ids.sort();
            // An application of two attempts is there before its second attempt is.
            let has_read_all = gateway.ask("/-/index").1.contains("\"unread\":0");
            (has_read_all && ids == wanted()).then_some(())
        });
    };
    shows_all(&gateway);

    // The one that ended last is the first, as in the history server's list, and those that run come last.
    let list = gateway.applications("");
    let ends: Vec<i64> = list.iter().map(|one| one["attempts"][0]["endTimeEpoch"].as_i64().unwrap()).collect();
    assert!(ends.is_sorted_by(|a, b| a >= b), "{ends:?}");
    assert_eq!(gateway.ids("?limit=7"), gateway.ids("")[..7]);
    let runs = |one: &Value| one["attempts"][0]["completed"] == false;
    let running: Vec<String> =
        list.iter().filter(|one| runs(one)).map(|one| one["id"].as_str().unwrap().into()).collect();
    assert_eq!(gateway.ids("?status=running"), running);
    assert_eq!(gateway.ids("?status=completed").len() + running.len(), list.len());

    s3.control("add?count=1&layout=flat");
    shows_all(&gateway);
    let before = gateway.ids("?status=running").len();
    s3.control("add?count=1&running=1&layout=flat");
    wait("a new application that runs", || (gateway.ids("?status=running").len() == before + 1).then_some(()));
    s3.control("grow?count=1&end=1");
    wait("its end", || (gateway.ids("?status=running").len() == before).then_some(()));
    s3.control("remove?count=20");
    shows_all(&gateway);

    // Another start shows the same at once, without a source that is not named any more.
    let flat: Vec<String> = truth(&s3, "flat/").into_iter().map(|(id, _)| id).collect();
    gateway.restart(&s3, &FLAT);
    wait("the list of one source", || gateway.ids("").iter().all(|id| flat.contains(id)).then_some(()));
    let metrics = gateway.ask("/-/metrics").1;
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("emr_shs_gateway_index_{name} ")));
        line.unwrap().rsplit(' ').next().unwrap().to_string()
    };
    assert_eq!((value("unread"), value("unreadable"), value("failing_sources")), ("0".into(), "0".into(), "0".into()));
    assert!(metrics.contains("emr_shs_gateway_index_s3_requests_total{kind=\"LIST\"}"), "{metrics}");
}

#[test]
fn the_first_application_of_a_prefix_is_listed_by_the_next_look() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let gateway = Gateway::start(&s3, &["--event-logs", "s3://acme/new/"]);
    wait("the first look", || (!gateway.page("").contains("has not listed")).then_some(()));
    let log = "{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"3.5.8\"}\n\
               {\"Event\":\"SparkListenerApplicationStart\",\"App Name\":\"first\",\"App ID\":\"application_1795352263709_0001\",\
               \"Timestamp\":1795352330000,\"User\":\"hadoop\"}\n{\"Event\":\"SparkListenerApplicationEnd\",\"Timestamp\":1795352331000}\n";
    // In a directory that nobody has seen before.
    s3.put("new/2026-11/application_1795352263709_0001", log.as_bytes());
    wait("the application", || (gateway.ids("").len() == 1).then_some(()));
}

/// A node that has just begun need not wait for S3: the page shows what others knew, and how old that is.
#[test]
fn a_new_node_shows_the_snapshot_before_it_has_listed_anything() {
    let s3 = ManyLogs::start(&["-flat", "3000", "-sizes", "small"]);
    let other = tempfile::tempdir().unwrap();
    s3.index(&other.path().join("index.sqlite"), &["rebuild", FLAT[0], FLAT[1]]).expect(0);
    let snapshot = s3.get("flat/.emr-shs/index-v1.zst");
    let text = String::from_utf8(zstd::decode_all(snapshot.as_slice()).unwrap()).unwrap();
    let lines: Vec<Value> = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3000);
    assert!(lines.is_sorted_by_key(|line| -line["m"].as_i64().unwrap()));
    let newest: BTreeSet<&str> = lines[..500].iter().map(|line| line["a"]["id"].as_str().unwrap()).collect();

    s3.control("faults?hang=1&only=LIST");
    let told =
        r"Not all sources are listed yet\. ([0-9,]+) event logs are known from the snapshot of 20[-0-9]+ [:0-9]+ UTC\.";
    let told = Regex::new(told).unwrap();
    for (is_damaged, known) in [(false, 3000..3001), (true, 1..3000)] {
        let end = if is_damaged { snapshot.len() / 2 } else { snapshot.len() };
        s3.put("flat/.emr-shs/index-v1.zst", &snapshot[..end]);
        let gateway = Gateway::start(&s3, &FLAT);
        wait("the snapshot", || {
            let logs: usize = told.captures(&gateway.page(""))?[1].replace(',', "").parse().unwrap();
            known.contains(&logs).then_some(())
        });
        let ids: BTreeSet<String> = gateway.ids("").into_iter().collect();
        assert!(ids.len() < known.end && newest.iter().all(|id| ids.contains(*id)), "{}", ids.len());
    }
}

#[test]
fn a_source_that_fails_hides_no_other_and_a_damaged_index_is_made_anew() {
    let s3 = ManyLogs::start(&["-flat", "40", "-sizes", "small"]);
    let mut gateway = Gateway::start(
        &s3,
        &[&FLAT[..], &["--event-logs", "s3://nobodys/logs/"], &["--bucket-endpoint", "nobodys=http://127.0.0.1:9"]]
            .concat(),
    );
    let all = truth(&s3, "flat/").into_iter().map(|(id, _)| id).collect::<std::collections::BTreeSet<_>>().len();
    wait("the list", || (gateway.ids("").len() == all).then_some(()));
    wait("the failure", || gateway.page("").contains("This page lacks what is below s3://nobodys/logs/").then_some(()));
    let ready = gateway.ask("/-/readyz").1;
    assert!(ready.contains("s3://nobodys/logs/"), "{ready}");

    gateway.stop();
    // What waits in SQLite's log belongs into the file.
    let db = rusqlite::Connection::open(gateway.db()).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(db);
    let mut bytes = std::fs::read(gateway.db()).unwrap();
    bytes[8192..].fill(0xA5);
    std::fs::write(gateway.db(), bytes).unwrap();
    gateway.restart(&s3, &FLAT);
    wait("the new index", || gateway.ask("/api/v1/applications").1.starts_with("[ {").then_some(()));
    wait("all of it", || (gateway.ids("").len() == all).then_some(()));
}

/// Somebody has copied the event log while the application ran.
#[test]
fn an_application_of_two_sources_has_the_state_that_the_list_says() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let id = "application_1795352263709_0001";
    let start = format!(
        "{{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"3.5.8\"}}\n{{\"Event\":\"SparkListenerApplicationStart\",\
         \"App Name\":\"one\",\"App ID\":\"{id}\",\"Timestamp\":1795352263709,\"User\":\"a\"}}\n"
    );
    let end = "{\"Event\":\"SparkListenerApplicationEnd\",\"Timestamp\":1795352269000}\n";
    s3.put(&format!("flat/{id}"), format!("{start}{end}").as_bytes());
    s3.put(&format!("month/{id}.inprogress"), start.as_bytes());
    let gateway = Gateway::start(&s3, &[&FLAT[..], &["--event-logs", "s3://acme/month/"]].concat());
    wait("both", || gateway.page("").contains("1 to 2 of 2 that fit").then_some(()));
    assert_eq!(gateway.ids(""), [id]);
    assert_eq!((gateway.ids("?status=completed"), gateway.ids("?status=running")), (vec![id.to_string()], vec![]));
}

#[test]
fn one_application_one_attempt_and_what_is_wrong() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let log = |id: &str, attempt: &str, name: &str, started: i64| {
        let name = serde_json::to_string(name).unwrap();
        format!(
            "{{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"3.5.8\"}}\n\
             {{\"Event\":\"SparkListenerApplicationStart\",\"App Name\":{name},\"App ID\":\"{id}\",\"Timestamp\":{started},\
             \"User\":\"mallory\",\"App Attempt ID\":\"{attempt}\"}}\n\
             {{\"Event\":\"SparkListenerApplicationEnd\",\"Timestamp\":{}}}\n",
            started + 61_500
        )
    };
    let id = "application_1795352263709_0001";
    let hostile = "<script>alert(1)</script> \" onload='x' \u{202e}\u{1} né";
    s3.put(&format!("flat/{id}_1"), log(id, "1", "first", 1_795_352_330_000).as_bytes());
    s3.put(&format!("flat/{id}_2"), log(id, "2", hostile, 1_795_352_430_000).as_bytes());
    let gateway = Gateway::start(&s3, &FLAT);
    wait("both attempts", || (gateway.page("").matches("mallory</td>").count() == 2).then_some(()));
    // Marks that turn the direction of text, and control characters, are spelled out.
    assert!(!gateway.page("").contains(['\u{202e}', '\u{1}']), "{}", gateway.page(""));

    let one = gateway.ask(&format!("/api/v1/applications/{id}"));
    let list = gateway.ask("/api/v1/applications").1;
    assert_eq!((one.0, format!("[ {} ]", one.1)), (200, list));
    let parsed: Value = serde_json::from_str(&one.1).unwrap();
    assert_eq!((&parsed["name"], &parsed["attempts"][0]["attemptId"]), (&hostile.into(), &"2".into()));
    assert!(one.1.contains("\\u0001 né"), "{}", one.1);
    let attempt = gateway.ask(&format!("/api/v1/applications/{id}/1"));
    assert!(attempt.1.starts_with("{\n  \"attemptId\" : \"1\",\n  \"startTime\" : \"2026-11-22T12:58:50.000GMT\""));
    assert!(attempt.1.contains("\n  \"duration\" : 61500,\n"), "{}", attempt.1);

    for (path, status, text) in [
        ("nope".to_string(), 404, "unknown app: nope".to_string()),
        (format!("{id}/7"), 404, format!("unknown app {id}, attempt 7")),
        ("x'%20OR%201=1".into(), 404, "unknown app: x' OR 1=1".into()),
    ] {
        assert_eq!(gateway.ask(&format!("/api/v1/applications/{path}")), (status, text));
    }
    assert_eq!(gateway.ask("/api/v1/applications?minDate=soon"), (400, "Couldn't parse date: soon".into()));
    for (query, count) in [
        ("?minDate=2026-11-22", 1),
        ("?minDate=2026-11-22T13:00:29.999GMT", 1),
        ("?minDate=2026-11-22T13:00:30.001GMT", 0),
        ("?maxDate=2026-11-22T12:59:00.000GMT", 1),
        ("?maxEndDate=2026-11-22", 0),
        ("?minEndDate=2026-11-22T14:01:31.000GMT%2b1:00", 1),
        ("?status=running", 0),
        ("?limit=-1", 0),
    ] {
        assert_eq!(gateway.ids(query).len(), count, "{query}");
    }

    // What lies below an application is the history server's, and so is its own page.
    for (path, behind) in [
        (format!("/api/v1/applications/{id}/1/jobs"), format!("/api/v1/applications/{id}/1/jobs")),
        (format!("/api/v1/applications/{id}/executors"), format!("/api/v1/applications/{id}/executors")),
        (format!("/history/{id}/1/jobs/"), format!("/history/{id}/1/jobs/")),
        ("/api/v1/applications?status=odd".into(), "/api/v1/applications?status=odd".into()),
        ("/history-server/".into(), "/".into()),
        ("/history-server/?showIncomplete=true".into(), "/?showIncomplete=true".into()),
        ("/static/webui.css".into(), "/static/webui.css".into()),
    ] {
        assert_eq!(gateway.ask(&path), (200, format!("behind: {behind}")));
    }
    assert_eq!(gateway.ask("/history-server").0, 302);

    let page = gateway.page("");
    assert!(!page.contains("<script>") && !page.contains("<td>\" onload"), "{page}");
    assert!(page.contains(&format!("<a href=\"/history/{id}/2/jobs/\">{id}</a>")), "{page}");
    assert!(page.contains(&format!("<a href=\"/logs/{id}/\"")), "{page}");
    let page = gateway.page("?q=%22%3E%3Cscript%3E");
    assert!(!page.contains("<script>") && page.contains("No application fits."), "{page}");
}

#[test]
fn the_page_finds_filters_and_turns_over() {
    let s3 = ManyLogs::start(&["-flat", "230", "-sizes", "small"]);
    let gateway = Gateway::start(&s3, &FLAT);
    let rows = |query: &str| gateway.page(query).matches("<tr><td><a href=\"/history/").count();
    wait("the list", || gateway.page("").contains("of 230 that fit").then_some(()));
    assert_eq!([rows(""), rows("?page=2"), rows("?page=3"), rows("?page=4")], [100, 100, 30, 0]);
    assert!(gateway.page("?page=2").contains("href=\"/?page=3\" rel=\"next\""));

    let logs = s3.rows("flat/");
    let one = &logs[57];
    let (id, user) = (one["id"].as_str().unwrap(), one["user"].as_str().unwrap());
    let of_id = gateway.page(&format!("?q={id}"));
    assert!(of_id.contains(&format!("<a href=\"/history/{id}/")), "{of_id}");
    let of_user = logs.iter().filter(|row| row["user"] == user).count();
    assert!(gateway.page(&format!("?user={user}")).contains(&format!("of {of_user} that fit")));
    let running = logs.iter().filter(|row| row["ended"].is_null()).count();
    let shows = |query: &str, count: usize| match count {
        0 => gateway.page(query).contains("No application fits."),
        count => gateway.page(query).contains(&format!("of {count} that fit")),
    };
    assert!(shows("?state=incomplete", running) && shows("?showIncomplete=true", running));
    assert!(shows("?since=2200-01-01", 0) && shows("?until=2200-01-01", 230));
    for wrong in ["?since=soon", "?page=0", "?page=99999999999999999999", "?state=odd", "?source=s3://x/"] {
        let page = gateway.page(wrong);
        assert!(page.contains("class=\"gap\"") && page.contains("of 230 that fit"), "{wrong}: {page}");
    }
    assert!(gateway.page(&format!("?q={}", "x".repeat(5000))).contains("too long"));
}

/// What the paths of an attempt begin with: `application_1795352263709_0003/1`.
fn name(row: &Value) -> String {
    let attempt = row["attempt"].as_str().map(|attempt| format!("/{attempt}")).unwrap_or_default();
    format!("{}{attempt}", row["id"].as_str().unwrap())
}

#[test]
fn the_page_and_the_command_sort_in_every_order() {
    let s3 = ManyLogs::start(&["-flat", "230", "-sizes", "small"]);
    let gateway = Gateway::start(&s3, &FLAT);
    wait("the list", || gateway.page("").contains("of 230 that fit").then_some(()));
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("index.sqlite");
    let search = |words: &[&str]| {
        let words = [&["search", "--no-snapshot", "--json", "--event-logs", "s3://acme/flat/"], words].concat();
        let lines = CommandOutput(s3.command(&db, &words).output().unwrap()).expect(0).out();
        lines.lines().map(|line| name(&serde_json::from_str(line).unwrap())).collect::<Vec<_>>()
    };
    let link = Regex::new("<tr><td><a href=\"/history/(.+?)/jobs/").unwrap();
    let on_page = |query: &str| {
        let page = gateway.page(query);
        link.captures_iter(&page).map(|found| found[1].to_string()).collect::<Vec<_>>()
    };
    let logs: BTreeMap<String, Value> = s3.rows("flat/").into_iter().map(|row| (name(&row), row)).collect();
    let count_of = |user: &str| logs.values().filter(|row| row["user"] == user).count();
    let users = logs.values().map(|row| row["user"].as_str().unwrap());
    let user = users.max_by_key(|user| count_of(user)).unwrap();
    let of_user = count_of(user);
    assert!((5..50).contains(&of_user), "{of_user}");
    type Key = fn(&Value) -> Option<i64>;
    let orders: [(&str, Key); 5] = [
        ("newest", |row| row["started"].as_i64()),
        ("oldest", |row| Some(-row["started"].as_i64()?)),
        ("ended", |row| row["ended"].as_i64()),
        ("longest", |row| Some(row["ended"].as_i64()? - row["started"].as_i64()?)),
        ("largest", |row| row["size"].as_i64()),
    ];
    for (order, key) in orders {
        // Attempts that started in the same millisecond have no order.
        let key = |of: &String| (key(&logs[of]), (order != "oldest").then(|| logs[of]["started"].as_i64()));
        let is_sorted = |found: &[String]| found.iter().map(key).is_sorted_by(|a, b| a >= b);
        let pages: Vec<_> = (1..=3).flat_map(|page| on_page(&format!("?sort={order}&page={page}"))).collect();
        assert!(is_sorted(&pages), "{order}: {pages:?}");
        assert_eq!(pages.iter().collect::<BTreeSet<_>>(), logs.keys().collect(), "{order}");
        let part = search(&["--sort", order, "--limit", "60", "--offset", "30"]);
        assert_eq!(
            part.iter().map(key).collect::<Vec<_>>(),
            pages[30..90].iter().map(key).collect::<Vec<_>>(),
            "{order}"
        );
        // With a text, another way through the index leads to the rows.
        let wanted: Vec<&String> = pages.iter().filter(|of| logs[*of]["user"] == user).collect();
        for query in ["", "&q=application"] {
            let found = on_page(&format!("?user={user}{query}&sort={order}"));
            assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{order} {query}");
        }
        let part = search(&["application", "--user", user, "--sort", order, "--offset", "2"]);
        assert!(part.len() == of_user - 2 && is_sorted(&part), "{order}: {part:?}");
        let page = gateway.page(&format!("?q=application&sort={order}&page=2"));
        let next = format!("<a href=\"/?q=application&#38;sort={order}&#38;page=3\" rel=\"next\">");
        assert!(page.contains(&next) && page.contains(&format!("<option value=\"{order}\" selected>")), "{page}");
    }
    let page = gateway.page("?sort=odd");
    assert!(page.contains("“sort” is no order") && page.contains("of 230 that fit, the newest first"), "{page}");
}

#[test]
fn options_that_cannot_work_say_so() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let run = |options: &[&str]| {
        let mut command = command(&s3, options);
        CommandOutput(command.args(["--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).output().unwrap())
    };
    let ran = run(&FLAT).expect(2);
    assert!(ran.err().contains("--event-logs needs a file for the index") && ran.err().contains("--index-db"));
    assert!(run(&["--event-logs", "http://x/"]).expect(2).err().contains("is not a directory in S3"));
    let directory = tempfile::tempdir().unwrap();
    let notes = directory.path().join("notes");
    std::fs::write(&notes, "my notes\n".repeat(500)).unwrap();
    let ran = run(&[&FLAT[..], &["--index-db", notes.to_str().unwrap()]].concat()).expect(2);
    assert!(ran.err().contains("is no index of emr-shs"), "{}", ran.err());
}
