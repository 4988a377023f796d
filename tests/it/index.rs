//! `index` against an S3 server on this machine: what it lists, what it asks S3 for, and what it does with files that are
//! damaged or forged.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::many_logs::ManyLogs;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const FLAT: [&str; 2] = ["--event-logs", "s3://acme/flat/"];
const ALL: [&str; 3] = ["--json", "--limit", "0"];

struct Db(tempfile::TempDir);

impl Db {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn file(&self) -> PathBuf {
        self.0.path().join("index.sqlite")
    }
}

fn search(s3: &ManyLogs, db: &Path, uris: &[&str], words: &[&str]) -> CommandOutput {
    s3.index(db, &[&["search"], words, uris].concat())
}

fn lines(ran: &CommandOutput) -> Vec<Value> {
    ran.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Everything the index knows of each attempt of an application, comparable with what is true.
fn known(s3: &ManyLogs, db: &Path, uris: &[&str], words: &[&str]) -> BTreeSet<String> {
    let ran = search(s3, db, uris, &[&ALL[..], words].concat()).expect(0);
    let rows = lines(&ran);
    rows.iter()
        .map(|row| {
            let log = row["log"].as_str().unwrap().strip_prefix("s3://acme/").unwrap();
            facts(row, log, &row["started"], &row["ended"])
        })
        .collect()
}

/// Fails with the rows that differ.
#[track_caller]
fn assert_lists(s3: &ManyLogs, db: &Path, uris: &[&str], words: &[&str], prefix: &str) {
    let (known, truth) = (known(s3, db, uris, words), truth(s3, prefix));
    let (missing, extra): (Vec<_>, Vec<_>) = (truth.difference(&known).collect(), known.difference(&truth).collect());
    assert!(missing.is_empty() && extra.is_empty(), "{prefix}: missing {missing:#?}, not true {extra:#?}");
}

/// A time of the stand-in, which tells milliseconds, as the index tells it.
fn time(told: &Value) -> Value {
    let Some(ms) = told.as_i64() else { return told.clone() };
    Value::String(jiff::Timestamp::from_millisecond(ms).unwrap().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

fn truth(s3: &ManyLogs, prefix: &str) -> BTreeSet<String> {
    let rows = s3.rows(prefix);
    let told = |row: &Value| facts(row, row["key"].as_str().unwrap(), &time(&row["started"]), &time(&row["ended"]));
    rows.iter().map(told).collect()
}

fn facts(row: &Value, log: &str, started: &Value, ended: &Value) -> String {
    let [id, attempt, name, user, queue, spark, size] =
        ["id", "attempt", "name", "user", "queue", "spark", "size"].map(|field| row[field].to_string());
    format!("{log} {id} {attempt} {name} {user} {queue} {spark} {started} {ended} {size}")
}

#[test]
fn every_layout_is_listed_as_it_is_and_logs_come_and_go() {
    let s3 = ManyLogs::start(&["-flat", "150", "-month", "90", "-serverless", "60", "-sizes", "fixture"]);
    for prefix in ["flat/", "month/", "serverless/", ""] {
        let db = Db::new();
        let uri = ["--event-logs", &format!("s3://acme/{prefix}")];
        assert_lists(&s3, &db.file(), &uri, &["--no-snapshot"], prefix);
        if prefix.is_empty() {
            continue;
        }
        let layout = prefix.trim_end_matches('/');
        s3.control(&format!("add?count=3&layout={layout}"));
        s3.control(&format!("add?count=2&running=1&layout={layout}"));
        // Seen by the next look, not by a listing of everything.
        assert_lists(&s3, &db.file(), &uri, &["--no-snapshot"], prefix);
        s3.control("grow?count=2&end=1");
        assert_lists(&s3, &db.file(), &uri, &["--no-snapshot"], prefix);
    }
    // Whoever names two prefixes gets both, and whoever takes one away does not see it any more.
    let db = Db::new();
    let both = ["--event-logs", "s3://acme/flat/", "--event-logs", "s3a://acme/month"];
    let of_both = known(&s3, &db.file(), &both, &["--no-snapshot"]);
    assert_eq!(of_both, truth(&s3, "flat/").union(&truth(&s3, "month/")).cloned().collect());
    assert_lists(&s3, &db.file(), &FLAT, &["--no-snapshot"], "flat/");
    // What is deleted goes with the next listing of everything.
    let all = ["--event-logs", "s3://acme/"];
    s3.control("remove?count=40");
    s3.index(&db.file(), &["rebuild", "--no-snapshot", all[0], all[1]]).expect(0);
    assert_lists(&s3, &db.file(), &all, &["--no-snapshot"], "");
}

#[test]
fn what_has_not_changed_is_not_read_again_and_a_look_is_cheap() {
    let s3 = ManyLogs::start(&["-flat", "3000", "-rolling", "100", "-sizes", "small"]);
    let db = Db::new();
    search(&s3, &db.file(), &FLAT, &["--no-snapshot"]).expect(0);
    s3.control("reset");
    search(&s3, &db.file(), &FLAT, &["--no-snapshot"]).expect(0);
    assert_eq!(s3.requests("GET"), 0);
    let look = s3.requests("LIST");
    assert!(look <= 6, "{look}");
    // One that ends costs its own two requests.
    s3.control("add?count=1");
    s3.control("reset");
    let found = search(&s3, &db.file(), &FLAT, &["--no-snapshot", "--limit", "1", "--json"]).expect(0);
    assert_eq!(lines(&found).len(), 1);
    assert!((1..=2).contains(&s3.requests("GET")));
    // One that is deleted stays until everything is listed again, which can be asked for.
    s3.control("remove?count=10");
    let listed = |words: &[&str]| known(&s3, &db.file(), &FLAT, &[&["--no-snapshot"], words].concat()).len();
    let before = listed(&[]);
    assert_eq!(listed(&["--list-every", "0"]), before - 10);
    s3.control("reset");
    search(&s3, &db.file(), &FLAT, &["--no-refresh"]).expect(0);
    assert_eq!(s3.requests("LIST") + s3.requests("GET") + s3.requests("HEAD"), 0);
}

/// Runs that have failed before Spark started, and those that were killed, never close an event log. Whoever has thousands of them
/// must not pay for a request for each of them with each look.
#[test]
fn the_longer_nothing_happens_in_a_job_run_the_more_seldom_it_is_listed() {
    const DEAD: u64 = 30;
    let s3 = ManyLogs::start(&["-flat", "0", "-serverless", "5", "-sizes", "small"]);
    let uri = ["--event-logs", "s3://acme/serverless/"];
    let rows = s3.rows("serverless/");
    let key = rows[0]["key"].as_str().unwrap();
    let runs = &key[..key.find("jobs/").unwrap() + 5];
    let run = |n: u64| format!("{runs}00zzzzzzzzzz{n:04}/");
    for n in 0..DEAD {
        s3.put(&format!("{}SPARK_DRIVER/stdout.gz", run(n)), b"x");
    }
    let killed = format!("{}sparklogs/eventlog_v2_00zzzzzzzzzz0000/", run(0));
    s3.put(&format!("{killed}appstatus_00zzzzzzzzzz0000.inprogress"), b"");
    s3.put(&format!("{killed}events_1_00zzzzzzzzzz0000"), log("00zzzzzzzzzz0000", "killed", 10).as_bytes());
    let db = Db::new();
    let look = |passed: u64| {
        // As if so many seconds had passed.
        let sqlite = rusqlite::Connection::open(db.file()).unwrap();
        let ms = passed * 1000;
        let shift = format!("UPDATE run SET changed = changed - {ms}, listed = listed - {ms}");
        sqlite.execute_batch(&shift).unwrap();
        drop(sqlite);
        s3.control("reset");
        let ran = search(&s3, &db.file(), &uri, &["--no-snapshot", "--json", "--limit", "0"]).expect(0);
        (s3.requests("LIST"), lines(&ran).len())
    };
    search(&s3, &db.file(), &uri, &["--no-snapshot"]).expect(0);
    // An hour in which looks find nothing new.
    let (lists, found) = look(3600);
    assert!(lists >= DEAD && found == rows.len() + 1, "{lists} {found}");
    let (lists, _) = look(60);
    assert!(lists < 10, "{lists}");
    let (lists, _) = look(200);
    assert!(lists >= DEAD, "{lists}");
    // One of them begins at last.
    s3.put(&format!("{}sparklogs/00zzzzzzzzzz0001", run(1)), log("00zzzzzzzzzz0001", "late", 10).as_bytes());
    let (lists, found) = look(60);
    assert!(lists < 10 && found == rows.len() + 1, "{lists} {found}");
    let (_, found) = look(200);
    assert_eq!(found, rows.len() + 2);
}

/// Names that do not grow do not tell which of them are new. A look reads some pages of them, and never everything.
#[test]
fn a_look_at_names_that_do_not_grow_is_no_complete_listing() {
    let s3 = ManyLogs::start(&["-flat", "3500", "-sizes", "small"]);
    let newest = s3.rows("flat/").iter().filter_map(|row| row["ended"].as_i64()).max().unwrap();
    s3.put("flat/app-20261128000000-0001", log("app-20261128000000-0001", "of a standalone cluster", 10).as_bytes());
    let db = Db::new();
    search(&s3, &db.file(), &FLAT, &["--no-snapshot"]).expect(0);
    let sqlite = rusqlite::Connection::open(db.file()).unwrap();
    // Both kinds of names belong to the last day, and the listing is six minutes old.
    let day = format!(
        "UPDATE log SET modified = {} WHERE key GLOB 'app-*'; UPDATE source SET listed = listed - 360000",
        newest / 1000
    );
    sqlite.execute_batch(&day).unwrap();
    let listed = || sqlite.query_row("SELECT listed FROM source", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = listed();
    s3.control("reset");
    s3.control("add?count=1");
    let found = search(&s3, &db.file(), &FLAT, &["--no-snapshot", "--limit", "1", "--json"]).expect(0);
    assert_eq!((listed(), lines(&found).len()), (before, 1));
    assert!(s3.requests("LIST") < 10, "{}", s3.requests("LIST"));
}

#[test]
fn a_search_finds_by_words_user_time_state_and_place() {
    let s3 = ManyLogs::start(&["-flat", "300", "-month", "200", "-sizes", "small", "-now", "1795750000000"]);
    let db = Db::new();
    let uris = ["--event-logs", "s3://acme/flat/", "--event-logs", "s3://acme/month/"];
    search(&s3, &db.file(), &uris, &["--no-snapshot"]).expect(0);
    let find = |words: &[&str]| {
        let ran = search(&s3, &db.file(), &uris, &[&ALL[..], &["--no-refresh"], words].concat()).expect(0);
        let rows = lines(&ran);
        let started: Vec<&str> = rows.iter().map(|row| row["started"].as_str().unwrap()).collect();
        assert!(started.is_sorted_by(|a, b| a >= b), "{words:?}");
        rows.iter().map(|row| row["log"].as_str().unwrap().to_string()).collect::<BTreeSet<_>>()
    };
    let rows: Vec<Value> = s3.rows("flat/").into_iter().chain(s3.rows("month/")).collect();
    let wanted = |fits: &dyn Fn(&Value) -> bool| {
        let fitting = rows.iter().filter(|row| fits(row));
        fitting.map(|row| format!("s3://acme/{}", row["key"].as_str().unwrap())).collect::<BTreeSet<_>>()
    };
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_lowercase();
    let has = |row: &Value, word: &str| ["name", "id", "user"].iter().any(|field| text(row, field).contains(word));

    let one = &rows[123];
    let (name, id, user) = (text(one, "name"), text(one, "id"), text(one, "user"));
    let parts: Vec<String> = name.split(['_', '-', '.']).filter(|part| part.len() > 2).map(str::to_string).collect();
    for word in [
        &name,
        &id,
        &user,
        &name[3..9].to_string(),
        &id[20..].to_string(),
        &parts[0],
        &"no such word".to_string(),
        &"0".to_string(),
    ] {
        let fits = |row: &Value| word.split(' ').all(|word| has(row, word));
        assert_eq!(find(&[word.to_uppercase().as_str()]), wanted(&fits), "{word}");
    }
    assert_eq!(find(&[&parts[0], &user]), wanted(&|row| has(row, &parts[0]) && has(row, &user)));
    let whole_name = one["user"].as_str().unwrap();
    assert_eq!(find(&["--user", whole_name]), wanted(&|row| row["user"] == whole_name));
    assert!(find(&["--user", &whole_name[1..]]).is_empty());
    let with_word = find(&["--user", whole_name, &parts[0]]);
    assert_eq!(with_word, wanted(&|row| row["user"] == whole_name && has(row, &parts[0])));
    assert!(!with_word.is_empty());

    let started =
        |row: &Value| time(&row["started"]).as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let middle = rows.iter().map(started).sum::<i64>() / rows.len() as i64;
    let time = jiff::Timestamp::from_millisecond(middle).unwrap().strftime("%Y-%m-%dT%H:%MZ").to_string();
    let middle = time.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let later = find(&["--since", &time]);
    assert_eq!(later, wanted(&|row| started(row) >= middle));
    let earlier = find(&["--until", &time]);
    assert_eq!(earlier, wanted(&|row| started(row) <= middle));
    assert!(!later.is_empty() && !earlier.is_empty());
    assert_eq!(find(&["--state", "incomplete"]), wanted(&|row| row["ended"].is_null()));
    assert_eq!(find(&["--state", "completed"]), wanted(&|row| !row["ended"].is_null()));
    assert_eq!(find(&["--source", "s3a://acme/month/"]), wanted(&|row| text(row, "key").starts_with("month/")));
    let month = rows.iter().find(|row| text(row, "key").starts_with("month/")).unwrap()["key"].as_str().unwrap()[..13]
        .to_string();
    assert_eq!(
        find(&["--source", &format!("s3://acme/{month}/")]),
        wanted(&|row| text(row, "key").starts_with(&month))
    );

    // Pages lie one behind the other, and the number of all is right, whatever restricts them.
    let run = |words: &[&str]| search(&s3, &db.file(), &uris, &[&["--json", "--no-refresh"], words].concat()).expect(0);
    for filter in [
        &[][..],
        &["--state", "completed"],
        &["--state", "incomplete"],
        &["--until", &time],
        &["--since", &time],
        &["--since", "2026-11-20T03:04Z", "--until", "2026-11-26T13:14Z", "--state", "completed"],
        &["--source", "s3://acme/month/", "--until", &time],
        &["--user", whole_name],
        &[&parts[0]],
        &["--until", "9000-01-01"],
    ] {
        let all = lines(&run(&[filter, &["--limit", "0"]].concat()));
        for offset in [0, 1, all.len() / 3, all.len() / 2, all.len().saturating_sub(2)] {
            let at = offset.to_string();
            let ran = run(&[filter, &["--limit", "7", "--offset", &at]].concat());
            assert_eq!(lines(&ran), all[offset..(offset + 7).min(all.len())], "{filter:?} {offset}");
            let says = format!(" {} that fit", all.len());
            assert!(ran.err().contains(&says) || all.len() <= 7, "{filter:?} {offset}, {}: {}", all.len(), ran.err());
        }
    }

    let ran = run(&["--since", "9000-01-01"]);
    assert!(ran.out().is_empty() && ran.err().starts_with("no application fits"), "{}", ran.err());

    for (words, says) in [
        (&["--since", "soon"][..], "wanted a span before now"),
        (&["--since", "1d", "--until", "2d"], "--since is later than --until"),
        (&["--source", "s3://other/"], "lies below none of the prefixes"),
        (&["--state", "odd"], "invalid value 'odd'"),
    ] {
        let ran = search(&s3, &db.file(), &uris, words).expect(2);
        assert!(ran.err().contains(says), "{words:?}: {}", ran.err());
    }
}

#[test]
fn people_get_a_table_that_fits_and_programs_get_lines() {
    let s3 = ManyLogs::start(&["-flat", "40", "-sizes", "small"]);
    let db = Db::new();
    let words = [&["search", "--no-snapshot", "--limit", "10"], &FLAT[..]].concat();
    let table = |columns: &str| {
        let mut command = s3.command(&db.file(), &words);
        CommandOutput(command.env("COLUMNS", columns).output().unwrap()).expect(0)
    };
    let (out, err) = (table("80").out(), table("80").err());
    assert_eq!(out.lines().count(), 11, "{out}");
    assert!(out.starts_with("STARTED (UTC)"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    // Programs look for whole names.
    let piped = table("").out();
    let names = s3.rows("flat/").into_iter().map(|row| row["name"].as_str().unwrap().to_string());
    // Several attempts can have one name.
    assert!(names.filter(|name| piped.contains(name)).count() >= 10, "{piped}");
    assert!(err.contains("the newest 10 of 40 that fit"), "{err}");
    let none = search(&s3, &db.file(), &FLAT, &["--no-refresh", "nobody"]).expect(0);
    assert_eq!((none.out().as_str(), none.err().starts_with("no application fits")), ("", true), "{}", none.err());
    // An attempt is found as the table names it.
    let one = piped.lines().find_map(|line| line.rsplit(' ').next().filter(|id| id.contains('/'))).unwrap();
    assert_eq!(search(&s3, &db.file(), &FLAT, &["--no-refresh", one]).expect(0).out().lines().count(), 2, "{one}");
    // A full disk is no success.
    let mut full = s3.command(&db.file(), &words);
    let full = full.stdout(fs::File::options().write(true).open("/dev/full").unwrap()).output().unwrap();
    assert_eq!(full.status.code(), Some(1));
    let status = s3.index(&db.file(), &[&["status"], &FLAT[..]].concat()).expect(0);
    assert!(status.out().contains("40 attempts of applications, from 40 event logs"), "{}", status.out());
}

#[test]
fn a_file_that_is_no_index_stays_and_one_that_is_damaged_or_of_another_version_is_made_anew() {
    let s3 = ManyLogs::start(&["-flat", "60", "-sizes", "small"]);
    let db = Db::new();
    let file = db.file();
    let whole = |file: &Path| assert_lists(&s3, file, &FLAT, &["--no-snapshot"], "flat/");

    // Somebody else's files.
    fs::write(&file, "my notes\n".repeat(500)).unwrap();
    let ran = search(&s3, &file, &FLAT, &[]).expect(2);
    assert!(ran.err().contains("is no index of emr-shs") && ran.err().contains("--db"), "{}", ran.err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "my notes\n".repeat(500));
    fs::remove_file(&file).unwrap();
    let theirs = rusqlite::Connection::open(&file).unwrap();
    theirs.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    search(&s3, &file, &FLAT, &[]).expect(2);
    assert_eq!(theirs.query_row("SELECT x FROM t", [], |row| row.get::<_, i32>(0)).unwrap(), 1);
    drop(theirs);
    fs::remove_file(&file).unwrap();

    whole(&file);
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 999).unwrap();
    whole(&file);
    // Bytes of the middle, as a disk that loses them leaves them.
    for from in [4096, 20_000, 60_000] {
        let mut bytes = fs::read(&file).unwrap();
        let to = (from + 9000).min(bytes.len());
        bytes[from..to].fill(0xA5);
        fs::write(&file, bytes).unwrap();
        s3.index(&file, &[&["rebuild", "--no-snapshot"], &FLAT[..]].concat()).expect(0);
        whole(&file);
    }
    // A search notices it, too, whether the damage shows when the file is opened or later.
    for from in [4096, 30_000, 60_000, 90_000] {
        let mut bytes = fs::read(&file).unwrap();
        let from = from.min(bytes.len());
        bytes[from..].fill(0xA5);
        fs::write(&file, bytes).unwrap();
        let ran = search(&s3, &file, &FLAT, &["--no-snapshot", "--list-every", "0"]).expect(0);
        let said = ["is damaged, so emr-shs reads everything again", "so emr-shs has begun a new index there"];
        assert!(said.iter().any(|text| ran.err().contains(text)), "{from}: {}", ran.err());
        whole(&file);
    }
    let mut bytes = fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&file, bytes).unwrap();
    let ran = search(&s3, &file, &FLAT, &["--no-snapshot"]).expect(0);
    assert!(ran.err().contains("warning: ") && ran.err().contains("index.sqlite"), "{}", ran.err());
    whole(&file);
}

#[test]
fn whoever_may_only_read_a_database_searches_it() {
    let s3 = ManyLogs::start(&["-flat", "60", "-sizes", "small"]);
    let db = Db::new();
    search(&s3, &db.file(), &FLAT, &["--no-snapshot"]).expect(0);
    // A name that means something in a URI.
    let (shared, file) = (db.0.path().join("for all? 100%"), "index.sqlite");
    fs::create_dir(&shared).unwrap();
    fs::copy(db.file(), shared.join(file)).unwrap();
    for (path, mode) in [(shared.join(file), 0o444), (shared.clone(), 0o555), (db.0.path().into(), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let run = |what: &str| {
        let (db, words) = (shared.join(file), [&[what], &FLAT[..]].concat());
        // Rights do not bind a root that has all its capabilities.
        let mut command = match rustix::process::geteuid().is_root() {
            true => s3.command_through(&["setpriv", "--inh-caps=-all", "--bounding-set=-all"], &db, &words),
            false => s3.command(&db, &words),
        };
        CommandOutput(command.output().unwrap())
    };
    let ran = run("search").expect(0);
    assert!(ran.out().lines().count() == 51 && ran.err().contains("is not allowed to write"), "{}", ran.err());
    let ran = run("rebuild").expect(1);
    assert!(ran.err().contains("this account is not allowed to write"), "{}", ran.err());
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 1);
}

#[test]
fn a_new_machine_begins_with_the_snapshot() {
    let s3 = ManyLogs::start(&["-flat", "400", "-rolling", "30", "-sizes", "fixture"]);
    let (first, second, third) = (Db::new(), Db::new(), Db::new());
    search(&s3, &first.file(), &FLAT, &[]).expect(0);
    assert_eq!(s3.requests("PUT"), 1);
    s3.control("add?count=1");
    s3.control("reset");
    assert_lists(&s3, &second.file(), &FLAT, &[], "flat/");
    // The snapshot, and the new log.
    assert!(s3.requests("GET") <= 5, "{}", s3.requests("GET"));
    // Who does not want to wait sees the snapshot alone, with its age.
    s3.control("reset");
    let fourth = Db::new();
    let ran = search(&s3, &fourth.file(), &FLAT, &[&ALL[..], &["--no-refresh"]].concat()).expect(0);
    assert!(lines(&ran).len() == 401 && ran.err().contains("known from the snapshot of"), "{}", ran.err());
    assert_eq!((s3.requests("LIST"), s3.requests("GET")), (0, 1));
    // It knows all that the machine knows which has read the logs.
    let rows = |db: &Db| {
        let ran = search(&s3, &db.file(), &FLAT, &[&ALL[..], &["--no-refresh"]].concat());
        ran.out().lines().map(str::to_string).collect::<BTreeSet<_>>()
    };
    let different: Vec<String> = rows(&fourth).symmetric_difference(&rows(&second)).cloned().collect();
    assert!(different.is_empty(), "{different:#?}");
    assert!(rows(&fourth).iter().any(|row| row.contains("\"codec\":\"zstd\"")));
    // A log that is deleted is not shown, whatever a snapshot says.
    s3.control("remove?count=5");
    assert_lists(&s3, &third.file(), &FLAT, &[], "flat/");
}

#[test]
fn a_snapshot_that_is_forged_damaged_or_of_another_version_harms_nobody() {
    let s3 = ManyLogs::start(&["-flat", "30", "-sizes", "small"]);
    let wanted = truth(&s3, "flat/");
    let header = |version: u32| {
        format!(
            r#"{{"format":"emr-shs index","version":{version},"written":1,"sources":[["s3://acme/flat/",1],["s3://other/",1]]}}"#
        )
    };
    let row = |key: &str| {
        format!(
            r#"{{"s":0,"k":"{key}","z":5,"m":1,"e":"e","c":true,"codec":"none","a":{{"id":"application_1_0001","name":"forged","user":"mallory","started":1}}}}"#
        )
    };
    let forged = [
        header(1),
        row("application_1_0001"),
        row("../../etc/passwd"),
        row(".emr-shs/x"),
        row(""),
        r#"{"s":7,"k":"x"}"#.to_string(),
        "no JSON".into(),
        format!("{}{}", row("application_2_0001").trim_end_matches('}'), " ".repeat(200_000)),
    ]
    .join("\n");
    let packed = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
    let bomb = packed(&format!("{}\n{}", header(1), "x".repeat(300 << 20)));
    let cut_off = packed(&forged)[..40].to_vec();
    for (what, bytes) in [
        ("forged", packed(&forged)),
        ("newer", packed(&header(2))),
        ("garbage", b"garbage".repeat(1000)),
        ("empty", Vec::new()),
        ("cut off", cut_off),
        ("bomb", bomb),
    ] {
        s3.put("flat/.emr-shs/index-v1.zst", &bytes);
        let db = Db::new();
        assert_eq!(known(&s3, &db.file(), &FLAT, &[]), wanted, "{what}");
        // The next machine has a good one.
        let text = zstd::decode_all(s3.get("flat/.emr-shs/index-v1.zst").as_slice()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().count() == 31 && !text.contains("forged"), "{what}: {}", &text[..200]);
    }
}

/// An event log as Spark writes it, with an environment of so many bytes.
fn log(id: &str, name: &str, environment: usize) -> String {
    let started = 1_795_352_263_709_i64;
    let name = serde_json::to_string(name).unwrap();
    format!(
        concat!(
            r#"{{"Event":"SparkListenerLogStart","Spark Version":"3.5.8"}}"#,
            "\n",
            r#"{{"Event":"SparkListenerEnvironmentUpdate","JVM Information":{{}},"Spark Properties":{{"x":"{x}"}}}}"#,
            "\n",
            r#"{{"Event":"SparkListenerApplicationStart","App Name":{name},"App ID":"{id}","Timestamp":{started},"User":"mallory"}}"#,
            "\n",
            r#"{{"Event":"SparkListenerApplicationEnd","Timestamp":{ended}}}"#,
            "\n"
        ),
        x = "x".repeat(environment),
        name = name,
        id = id,
        started = started,
        ended = started + 60_000
    )
}

#[test]
fn whoever_may_write_event_logs_does_not_break_the_list_of_others() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let app = |n: u32| format!("application_1795352263709_{n:04}");
    let put = |key: &str, text: &str| s3.put(&format!("odd/{key}"), text.as_bytes());
    // Good ones that are hard to read.
    put(&app(1), &log(&app(1), "large environment", 5 << 20));
    let packed = zstd::encode_all(log(&app(2), "large window", 100).as_bytes(), 3).unwrap();
    s3.put(&format!("odd/{}.zstd", app(2)), &packed);
    for (number, part) in [(1, ""), (2, ""), (3, ""), (4, ""), (5, "")] {
        put(&format!("eventlog_v2_{}/events_{number}_{}", app(3), app(3)), part);
    }
    put(&format!("eventlog_v2_{0}/events_6_{0}", app(3)), &log(&app(3), "late start", 100));
    put(&format!("eventlog_v2_{0}/appstatus_{0}", app(3)), "");
    // Names that are none.
    put("applications/AAAA/jobs/run1/sparklogs/app1", &log(&app(4), "in a job run of an odd application", 10));
    put("applications/abcdefgh/jobs/job00001/x", "x");
    put("j-ABCDEFGHI/containers/%F4%8F%BF%BFa/b/c", "x");
    put(&app(5), &log(&app(5), "odd \u{7f}\u{9b}2J\u{202e}name", 10));
    put(&app(6), &log(&app(6), &"long ".repeat(200_000), 10));
    put("dir%0Asource%20%20%20%20s3:/forged/no-event-log", "x");
    for n in 0..300 {
        put(&format!("same-{n}"), &log(&app(7), "the same", 10));
    }
    let db = Db::new();
    let uri = ["--event-logs", "s3://acme/odd/"];
    for _ in 0..2 {
        s3.index(&db.file(), &[&["rebuild", "--no-snapshot"], &uri[..]].concat()).expect(0);
        let found = lines(&search(&s3, &db.file(), &uri, &[&ALL[..], &["--no-snapshot"]].concat()).expect(0));
        let mut ids: Vec<&str> = found.iter().map(|row| row["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7].map(app), "{found:#?}");
        let longest = found.iter().map(|row| row["name"].as_str().unwrap().len()).max().unwrap();
        assert!(longest <= 4096);
    }
    assert!(s3.requests("LIST") < 100);
    let status = s3.index(&db.file(), &[&["status"], &uri[..]].concat()).expect(0).out();
    assert!(!status.contains("\nsource    s3:/forged"), "{status}");

    // A prefix shows its own logs, whatever other prefixes of the same database have.
    let below = ["--event-logs", "s3://acme/odd/applications/"];
    search(&s3, &db.file(), &below, &["--no-snapshot"]).expect(0);
    assert_eq!(lines(&search(&s3, &db.file(), &uri, &[&ALL[..], &["--no-refresh"]].concat()).expect(0)).len(), 7);
}

/// Directories can be called `applications` and `jobs` without EMR Serverless. Beside its job runs, others can write.
#[test]
fn what_lies_beside_job_runs_of_serverless_is_listed() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let app = |n: usize| format!("application_1795352263709_{n:04}");
    let run = "applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/";
    let directories = [
        format!("{run}sparklogs/"),
        format!("{run}attempts/2/sparklogs/"),
        "applications/".into(),
        "applications/00f5trm1fv0d3p0b/".into(),
        "applications/00f5trm1fv0d3p0b/jobs/2026-11/".into(),
        "applications/00f5trm1fv0d3p0b/other/".into(),
        "applications/2026-11/".into(),
        "applications/reporting/jobs/nightly01/".into(),
        "applications/reporting/jobs/nightly01/attempts/1/".into(),
        "applications/zzzzzzzz/".into(),
    ];
    for (n, directory) in directories.iter().enumerate() {
        s3.put(&format!("odd/{directory}{}", app(n)), log(&app(n), directory, 10).as_bytes());
    }
    s3.put(&format!("odd/{run}SPARK_DRIVER/stdout.gz"), b"x");
    let (db, uri) = (Db::new(), ["--event-logs", "s3://acme/odd/"]);
    // A complete listing, a look, and another complete listing, which forgets what is gone.
    for words in [&["--list-every", "0"][..], &[], &["--list-every", "0"]] {
        let ran = search(&s3, &db.file(), &uri, &[&ALL[..], &["--no-snapshot"], words].concat()).expect(0);
        let ids: BTreeSet<String> = lines(&ran).iter().map(|row| row["id"].as_str().unwrap().to_string()).collect();
        assert_eq!(ids, (0..directories.len()).map(app).collect(), "{words:?}");
    }
    for directory in &directories[..9] {
        let n = directories.iter().position(|known| known == directory).unwrap();
        s3.delete(&format!("odd/{directory}{}", app(n)));
    }
    // Nothing is new in a run that was just listed, so the next listing would pass over it.
    rusqlite::Connection::open(db.file()).unwrap().execute_batch("DELETE FROM run").unwrap();
    let words = [&ALL[..], &["--no-snapshot", "--list-every", "0"]].concat();
    let left = lines(&search(&s3, &db.file(), &uri, &words).expect(0));
    assert!(left.len() == 1 && left[0]["id"] == app(9).as_str(), "{left:#?}");
}

/// A run that has few objects is listed together with others, and kept in memory until then.
#[test]
fn a_job_run_of_very_many_objects_is_listed_like_any_other() {
    let s3 = ManyLogs::start(&["-flat", "0"]);
    let (run, id) = ("odd/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/", "00f5trm1fv0d3p0c");
    s3.put(&format!("{run}SPARK_DRIVER/stdout.gz"), b"x");
    let directory = format!("{run}sparklogs/eventlog_v2_{id}/");
    s3.put(&format!("{directory}appstatus_{id}.inprogress"), b"");
    s3.put(&format!("{directory}events_1_{id}"), log(id, "a long streaming job", 10).as_bytes());
    for n in 2..1010 {
        s3.put(&format!("{directory}events_{n}_{id}"), b"{\"Event\":\"x\"}\n");
    }
    let (db, uri) = (Db::new(), ["--event-logs", "s3://acme/odd/"]);
    let found = |words: &[&str]| {
        let ran = search(&s3, &db.file(), &uri, &[&ALL[..], &["--no-snapshot"], words].concat()).expect(0);
        lines(&ran).iter().map(|row| row["id"].as_str().unwrap().to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(found(&[]), BTreeSet::from([id.to_string()]));
    let second = format!("{run}attempts/2/sparklogs/app2");
    s3.put(&second, log("app2", "another attempt", 10).as_bytes());
    assert_eq!(found(&[]), ["app2", id].map(String::from).into());
    s3.delete(&second);
    assert_eq!(found(&["--list-every", "0"]), BTreeSet::from([id.to_string()]));
}

#[test]
fn two_machines_that_write_at_once_lose_nothing_whether_or_not_the_store_knows_conditions() {
    for conditional in ["yes", "refuse", "ignore"] {
        let s3 = ManyLogs::start(&["-flat", "80", "-month", "60", "-sizes", "small", "-conditional", conditional]);
        let (one, both) = (Db::new(), Db::new());
        let of_both = ["--event-logs", "s3://acme/flat/", "--event-logs", "s3://acme/month/"];
        let mut first = s3.command(&one.file(), &[&["rebuild"], &FLAT[..]].concat()).spawn().unwrap();
        let mut second = s3.command(&both.file(), &[&["rebuild"], &of_both[..]].concat()).spawn().unwrap();
        assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
        let text =
            || String::from_utf8(zstd::decode_all(s3.get("flat/.emr-shs/index-v1.zst").as_slice()).unwrap()).unwrap();
        if conditional == "yes" {
            assert_eq!(text().lines().count(), 141);
        }
        // A machine that does not know a source passes its rows on.
        s3.index(&one.file(), &[&["rebuild"], &FLAT[..]].concat()).expect(0);
        if conditional == "yes" {
            assert_eq!(text().lines().count(), 141);
        }
        assert_eq!(known(&s3, &both.file(), &of_both, &[]).len(), 140);
    }
}
