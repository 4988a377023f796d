//! The event-log cache of the gateway: what comes into the directory that the history server reads, what goes, and what people see
//! meanwhile.

use crate::helpers::many_logs::ManyLogs;
use crate::helpers::ports::unused_port;
use crate::helpers::small_history_server::SmallHistoryServer;
use crate::helpers::wait::wait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

struct Site {
    s3: ManyLogs,
    history_server: SmallHistoryServer,
    dir: tempfile::TempDir,
    port: u16,
    gateway: Option<Child>,
}

impl Site {
    /// A gateway with these options, before a history server of this Spark.
    fn start(s3: ManyLogs, spark: &'static str, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("cache")).unwrap();
        let history_server = SmallHistoryServer::start(dir.path().join("cache"), spark);
        let port = unused_port();
        let mut site = Self { s3, history_server, dir, port, gateway: None };
        site.index();
        site.start_gateway(options);
        site
    }

    fn start_gateway(&mut self, options: &[&str]) {
        let gateway = self.command(options).stderr(Stdio::null()).spawn().unwrap();
        self.gateway = Some(gateway);
        wait("the gateway", || (self.get("/-/healthz").0 == 200).then_some(()));
    }

    fn stop_gateway(&mut self) {
        let mut gateway = self.gateway.take().unwrap();
        gateway.kill().unwrap();
        gateway.wait().unwrap();
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
        command.args(["proxy", "serve", "--log-uri", "s3://acme/logs/", "--insecure", "--quiet"]);
        command.env("EMR_SHS_LISTEN", format!("127.0.0.1:{}", self.port)).args(["--endpoint-url", &self.s3.url()]);
        command.args(["--history-server", &format!("http://127.0.0.1:{}", self.history_server.port)]);
        command.env("EMR_SHS_EVENT_LOG_CACHE", self.cache()).env("EMR_SHS_INDEX_DB", self.db()).args(options);
        command.envs([
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("AWS_REGION", "us-east-1"),
        ]);
        command
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("index.sqlite")
    }

    /// Looks into S3 for what is new, as if the time between two complete listings were over.
    fn index(&self) {
        if let Ok(db) = rusqlite::Connection::open_with_flags(self.db(), rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE) {
            db.execute_batch("UPDATE source SET listed = 0").unwrap();
        }
        let words = ["search", "--no-snapshot", "--event-logs", "s3://acme/flat/", "--event-logs", "s3://acme/month/"];
        self.s3.index(&self.db(), &words).expect(0);
    }

    /// The status, the head and the body of an answer, as a program gets it.
    fn get(&self, path: &str) -> (u16, String, String) {
        self.curl(path, &[])
    }

    fn get_as_browser(&self, path: &str) -> (u16, String, String) {
        self.curl(path, &["-H", "Accept: text/html"])
    }

    /// What a browser shows at last: a page that says that an application is being fetched asks again.
    fn browse(&self, path: &str) -> (u16, String, String) {
        wait(path, || Some(self.get_as_browser(path)).filter(|(status, ..)| *status != 503))
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String, String) {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let out = Command::new("curl").args(["-s", "-i", "--noproxy", "*", &url]).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, head.to_ascii_lowercase(), body.into())
    }

    /// Opens an application as a program does.
    #[track_caller]
    fn open(&self, id: &str) {
        let (status, _, body) = self.get(&format!("/api/v1/applications/{id}/jobs"));
        assert_eq!(status, 200, "{id}: {body}");
    }

    /// The names in the cache's directory that the history server sees.
    fn names(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.cache()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    fn hidden(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.cache()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with('.')).collect()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.get("/-/metrics").2;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("emr_shs_gateway_event_log_cache_{name} ")));
        line.unwrap().parse().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.gateway.is_some() {
            self.stop_gateway();
        }
    }
}

/// A log of an application that Spark writes, or has finished.
fn log(id: &str, filling: usize, end: bool) -> Vec<u8> {
    let mut text = format!(
        "{{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"3.5.0\"}}\n{{\"Event\":\"SparkListenerApplicationStart\",\"App Name\":\"{id}\",\"App ID\":\"{id}\",\"Timestamp\":1795352263709,\"User\":\"a\"}}\n"
    );
    text.push_str(&"{\"Event\":\"SparkListenerJobEnd\",\"Job ID\":0}\n".repeat(filling));
    if end {
        text.push_str("{\"Event\":\"SparkListenerApplicationEnd\",\"Timestamp\":1795352263809}\n");
    }
    text.into_bytes()
}

/// A server without logs.
fn empty() -> ManyLogs {
    ManyLogs::start(&["-flat", "0"])
}

#[test]
fn an_application_comes_as_it_is_in_s3() {
    let s3 = ManyLogs::start(&["-flat", "12", "-month", "12", "-sizes", "fixture", "-codecs", "none=100"]);
    let site = Site::start(s3, "3.5.8", &[]);
    let rows = [site.s3.rows("flat/"), site.s3.rows("month/")].concat();
    assert_eq!(site.names(), BTreeSet::new());
    for row in &rows {
        site.open(row["id"].as_str().unwrap());
        let key = row["key"].as_str().unwrap().to_string();
        let name = key.trim_end_matches('/').rsplit('/').next().unwrap();
        let place = site.cache().join(name);
        let files: Vec<PathBuf> = match place.is_dir() {
            true => fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect(),
            false => vec![place.clone()],
        };
        for file in files {
            let key = match place.is_dir() {
                true => format!("{key}{}", file.file_name().unwrap().to_str().unwrap()),
                false => key.clone(),
            };
            assert!(fs::read(&file).unwrap() == site.s3.get(&key), "{key}");
            let meta = fs::metadata(&file).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o640, "{key}");
            let age = meta.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
            assert_eq!(age.subsec_nanos(), 0, "the time is that of S3");
        }
    }
    assert_eq!(site.metric("failures_total"), 0);
    // Nothing is fetched again.
    site.s3.control("reset");
    rows.iter().for_each(|row| site.open(row["id"].as_str().unwrap()));
    assert_eq!(site.s3.requests("GET"), 0);
}

/// S3 lists a minus before the dot of `.inprogress`.
#[test]
fn an_unfinished_application_opens_however_many_names_begin_alike() {
    let s3 = empty();
    let id = "application_1795352263709_0001";
    s3.put(&format!("flat/{id}.inprogress"), &log(id, 10, false));
    for n in 10..30 {
        s3.put(&format!("flat/{id}-copy-{n}"), b"no event log");
    }
    let site = Site::start(s3, "3.5.6", &[]);
    site.open(id);
    assert_eq!(site.names(), BTreeSet::from([format!("{id}.inprogress")]));
}

#[test]
fn many_requests_make_one_fetch_and_a_browser_sees_how_far_it_is() {
    let s3 = empty();
    let text = log("application_1_0001", 500_000, true);
    s3.put("flat/application_1_0001", &text);
    let site = Site::start(s3, "3.5.8", &[]);
    site.s3.control("reset");
    // The gateway has the event log then, and waits until the history server lists it.
    site.history_server.look_away(Duration::from_secs(3600));
    std::thread::scope(|threads| {
        for _ in 0..10 {
            threads.spawn(|| site.open("application_1_0001"));
        }
        std::thread::sleep(Duration::from_millis(500));
        let (status, head, body) = site.get_as_browser("/history/application_1_0001/jobs/");
        assert_eq!(status, 503, "{body}");
        assert!(body.contains("http-equiv=\"refresh\"") && head.contains("retry-after"), "{head}{body}");
        site.history_server.look_away(Duration::ZERO);
    });
    assert_eq!(site.s3.requests("GET"), (text.len() as u64).div_ceil(16 << 20));
    assert_eq!(site.browse("/history/application_1_0001/jobs/").0, 200);
}

#[test]
fn the_bounds_hold_and_everybody_gets_an_answer() {
    let s3 = empty();
    let ids: Vec<String> = (0..6).map(|n| format!("application_1_{n:04}")).collect();
    ids.iter().for_each(|id| s3.put(&format!("flat/{id}"), &log(id, 10, true)));
    let site = Site::start(s3, "3.5.8", &["--cache-count", "3"]);
    std::thread::scope(|threads| {
        let opening: Vec<_> = ids.iter().map(|id| threads.spawn(|| site.open(id))).collect();
        while !opening.iter().all(|thread| thread.is_finished()) {
            assert!(site.names().len() <= 3, "{:?}", site.names());
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!((site.metric("applications"), site.metric("evictions_total")), (3, 3));
    // One that made room opens again.
    let gone = ids.iter().find(|id| !site.names().contains(*id)).unwrap();
    site.open(gone);
}

#[test]
fn what_does_not_fit_is_told_with_its_size_and_what_to_set() {
    let s3 = empty();
    s3.put("flat/application_1_0001", &log("application_1_0001", 50_000, true));
    let site = Site::start(s3, "3.5.8", &["--cache-size", "1m"]);
    let (status, _, body) = site.browse("/history/application_1_0001/jobs/");
    assert_eq!(status, 507, "{body}");
    assert!(body.contains("2.2 MB") && body.contains("1.0 MB") && body.contains("--cache-size"), "{body}");
    assert_eq!((site.metric("refusals_total"), site.names().len()), (1, 0));
}

/// What is here makes room for what comes of the same application, if there is no room for both.
#[test]
fn an_application_that_has_grown_does_not_wait_for_its_own_room() {
    let (id, other) = ("application_1_0001", "application_1_0002");
    let s3 = empty();
    s3.put(&format!("flat/{id}.inprogress"), &log(id, 15_000, false));
    s3.put(&format!("flat/{other}.inprogress"), &log(other, 15_000, false));
    let site = Site::start(s3, "3.5.8", &["--cache-size", "1m"]);
    site.open(id);
    std::thread::sleep(Duration::from_secs(11));
    let ended = log(id, 18_000, true);
    site.s3.put(&format!("flat/{id}"), &ended);
    site.s3.delete(&format!("flat/{id}.inprogress"));
    site.open(id);
    assert_eq!(site.names(), BTreeSet::from([id.to_string()]));
    assert!(fs::read(site.cache().join(id)).unwrap() == ended);
    // What has become too large for the cache is told so.
    site.open(other);
    std::thread::sleep(Duration::from_secs(11));
    site.s3.put(&format!("flat/{other}"), &log(other, 30_000, true));
    site.s3.delete(&format!("flat/{other}.inprogress"));
    let (status, _, body) = site.browse(&format!("/history/{other}/jobs/"));
    assert!(status == 507 && body.contains("1.3 MB"), "{status} {body}");
}

#[test]
fn what_somebody_has_deleted_in_the_cache_is_fetched_again() {
    let id = "application_1_0001";
    let s3 = empty();
    s3.put(&format!("flat/{id}"), &log(id, 10, true));
    let site = Site::start(s3, "3.5.8", &[]);
    site.open(id);
    fs::remove_file(site.cache().join(id)).unwrap();
    // The history server notices it before the gateway does.
    let opens = || (site.get(&format!("/api/v1/applications/{id}/jobs")).0 == 200).then_some(());
    wait("the history server's next look", || (!site.history_server.lists().contains(&id.to_string())).then_some(()));
    wait("the event log", opens);
    assert_eq!(site.names(), BTreeSet::from([id.to_string()]));
}

#[test]
fn what_grows_is_fetched_again_when_somebody_looks() {
    let s3 = empty();
    let rolling = |state: &str, parts: &[&[u8]]| {
        let directory = "flat/eventlog_v2_application_1_0002/";
        s3.put(&format!("{directory}appstatus_application_1_0002{state}"), b"");
        for (n, part) in parts.iter().enumerate() {
            s3.put(&format!("{directory}events_{}_application_1_0002", n + 1), part);
        }
    };
    s3.put("flat/application_1_0001.inprogress", &log("application_1_0001", 5, false));
    rolling(".inprogress", &[&log("application_1_0002", 5, false)]);
    let site = Site::start(s3, "3.5.8", &[]);
    let opened = |id: &str| -> Value {
        let (status, _, body) = site.get(&format!("/api/v1/applications/{id}/jobs"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["attempts"].clone()
    };
    for id in ["application_1_0001", "application_1_0002"] {
        assert_eq!(opened(id)[0]["completed"], false);
    }
    std::thread::sleep(Duration::from_secs(11));
    let ended = log("application_1_0001", 50, true);
    site.s3.put("flat/application_1_0001", &ended);
    site.s3.delete("flat/application_1_0001.inprogress");
    let directory = "flat/eventlog_v2_application_1_0002/";
    let first = log("application_1_0002", 50, false);
    site.s3.put(&format!("{directory}events_1_application_1_0002"), &first);
    site.s3.put(&format!("{directory}events_2_application_1_0002"), b"{\"Event\":\"x\"}\n");
    site.s3.put(&format!("{directory}appstatus_application_1_0002"), b"");
    site.s3.delete(&format!("{directory}appstatus_application_1_0002.inprogress"));
    for id in ["application_1_0001", "application_1_0002"] {
        assert!(site.history_server.lists().contains(&id.to_string()));
        let attempts = opened(id);
        assert_eq!(attempts.as_array().unwrap().len(), 1, "{attempts}");
        assert_eq!(attempts[0]["completed"], true, "{attempts}");
    }
    assert!(fs::read(site.cache().join("application_1_0001")).unwrap() == ended);
    let directory = site.cache().join("eventlog_v2_application_1_0002");
    assert!(fs::read(directory.join("events_1_application_1_0002")).unwrap() == first);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 3);
    assert_eq!(site.names().len(), 2);
}

/// What a history server has parsed of an unfinished log stays on its disk unless it has the application open when the log goes.
#[test]
fn a_finished_log_of_another_source_replaces_an_unfinished_one_like_its_own_end() {
    let id = "application_1_0001";
    let s3 = empty();
    s3.put(&format!("flat/{id}.inprogress"), &log(id, 10, false));
    let site = Site::start(s3, "3.5.8", &[]);
    site.open(id);
    site.s3.put(&format!("month/{id}"), &log(id, 20, true));
    site.index();
    // What is known of its logs counts for ten seconds.
    std::thread::sleep(Duration::from_secs(11));
    site.open(id);
    assert_eq!(site.names(), BTreeSet::from([id.to_string()]));
    assert_eq!(site.history_server.asked(&format!("/api/v1/applications/{id}/jobs?status=failed")), 1);
}

#[test]
fn logs_of_one_name_in_two_sources_do_not_mix() {
    let s3 = empty();
    s3.put("flat/log1", &log("application_1_0001", 50, true));
    s3.put("month/log1", &log("application_1_0002", 5, true));
    let site = Site::start(s3, "3.5.8", &[]);
    for id in ["application_1_0001", "application_1_0002", "application_1_0001"] {
        site.open(id);
        assert_eq!(site.history_server.lists(), [id]);
    }
}

#[test]
fn a_restart_takes_over_what_is_whole_and_sweeps_the_rest() {
    let s3 = empty();
    let ids: Vec<String> = (1..4).map(|n| format!("application_1_{n:04}")).collect();
    ids.iter().for_each(|id| s3.put(&format!("flat/{id}"), &log(id, 5, true)));
    let mut site = Site::start(s3, "3.5.8", &[]);
    ids.iter().for_each(|id| site.open(id));
    site.stop_gateway();
    fs::create_dir_all(site.cache().join(".emr-shs-new-7/eventlog_v2_x")).unwrap();
    fs::write(site.cache().join(".emr-shs-old-1"), "x").unwrap();
    fs::write(site.cache().join("application_9_0009"), "a rename that nobody has noted").unwrap();
    fs::write(site.cache().join("Notes of mine.txt"), "x").unwrap();
    fs::write(site.cache().join(&ids[1]), "damaged").unwrap();
    site.s3.control("reset");
    site.start_gateway(&[]);
    let kept = BTreeSet::from([ids[0].clone(), ids[2].clone(), "Notes of mine.txt".into()]);
    assert_eq!(site.names(), kept);
    assert_eq!(site.hidden(), [".emr-shs-cache.json", ".emr-shs-cache.lock"].map(String::from).into());
    ids.iter().for_each(|id| site.open(id));
    assert_eq!(site.s3.requests("GET"), 1, "the damaged one alone");
    // A second gateway must not write beside the first.
    let second = site.command(&["--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).output();
    assert!(String::from_utf8_lossy(&second.unwrap().stderr).contains("another emr-shs is using"));
}

#[test]
fn a_disk_that_is_full_keeps_no_gateway_from_starting() {
    let mut site = Site::start(empty(), "3.5.8", &[]);
    site.stop_gateway();
    let state = site.cache().join(".emr-shs-cache.json");
    fs::remove_file(&state).unwrap();
    let gateway = site.command(&[]);
    // A file that may not grow is the same to a program as a disk that is full.
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -S -f 0; exec \"$0\" \"$@\""]).arg(gateway.get_program());
    limited.args(gateway.get_args()).envs(gateway.get_envs().filter_map(|(name, value)| Some((name, value?))));
    site.gateway = Some(limited.stderr(Stdio::null()).spawn().unwrap());
    wait("the gateway", || (site.get("/-/healthz").0 == 200).then_some(()));
    assert!(!state.exists());
    let pid = site.gateway.as_ref().unwrap().id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status().unwrap().success());
    wait("the file that was not written", || state.exists().then_some(()));
}

#[test]
fn a_history_server_that_has_restarted_denies_no_application_that_is_here() {
    let s3 = empty();
    s3.put("flat/application_1_0001", &log("application_1_0001", 10, true));
    let site = Site::start(s3, "3.5.0", &[]);
    site.open("application_1_0001");
    let restart = || site.history_server.restart(Duration::from_secs(2));
    restart();
    site.open("application_1_0001");
    restart();
    let (status, _, page) = site.browse("/history/application_1_0001/jobs/");
    assert!(status == 200 && page.contains("application_1_0001"), "{status} {page}");
    // Also where the gateway has to compare the event log with S3 first.
    std::thread::sleep(Duration::from_secs(11));
    restart();
    site.open("application_1_0001");
    assert_eq!(site.get("/api/v1/applications/application_1_0002/jobs").0, 404);
}

#[test]
fn a_history_server_that_makes_its_list_anew_is_waited_for_as_long_as_it_gets_on() {
    let s3 = empty();
    let ids = ["application_1_0001", "application_1_0002", "application_1_0003"];
    for id in ids {
        s3.put(&format!("flat/{id}"), &log(id, 10, true));
    }
    let site = Site::start(s3, "3.5.0", &[]);
    for id in ids {
        site.open(id);
    }
    site.history_server.restart_and_read(Duration::from_secs(10));
    // It comes after thirty seconds. Without anything new, the gateway waits for twenty.
    site.open(ids[2]);
}

#[test]
fn the_bounds_come_from_options_or_variables() {
    let mut site = Site::start(empty(), "3.5.8", &["--cache-size", "20g", "--cache-count", "7"]);
    assert_eq!((site.metric("limit_bytes"), site.metric("limit_applications")), (20 << 30, 7));
    site.stop_gateway();
    let set = site.command(&[]).env("EMR_SHS_CACHE_SIZE", "300m").env("EMR_SHS_CACHE_COUNT", "8").spawn().unwrap();
    site.gateway = Some(set);
    wait("the gateway", || (site.get("/-/healthz").0 == 200).then_some(()));
    assert_eq!((site.metric("limit_bytes"), site.metric("limit_applications")), (300 << 20, 8));
    site.stop_gateway();
    for (name, wrong) in [("EMR_SHS_CACHE_SIZE", "20"), ("EMR_SHS_CACHE_SIZE", "much"), ("EMR_SHS_CACHE_COUNT", "0")] {
        let ran = site.command(&[]).env(name, wrong).output().unwrap();
        assert_eq!(ran.status.code(), Some(2), "{name}={wrong}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn a_directory_with_files_of_others_is_no_cache() {
    let mut site = Site::start(empty(), "3.5.8", &[]);
    site.stop_gateway();
    let other = site.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("application_1_0001"), "mine").unwrap();
    let ran = site.command(&["--event-log-cache", other.to_str().unwrap()]).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(ran.status.code(), Some(2), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(fs::read(other.join("application_1_0001")).unwrap(), b"mine");
}

#[test]
fn what_s3_refuses_and_what_spark_cannot_read_gets_a_page() {
    let s3 = empty();
    let directory = "flat/eventlog_v2_application_1_0002/";
    s3.put(&format!("{directory}appstatus_application_1_0002"), b"");
    s3.put(&format!("{directory}events_1_application_1_0002"), &log("application_1_0002", 5, true));
    s3.put("flat/application_1_0001", &log("application_1_0001", 5, true));
    let site = Site::start(s3, "2.4.8", &[]);
    let (status, _, body) = site.browse("/history/application_1_0002/jobs/");
    assert!(status == 501 && body.contains("Spark 2.4.8"), "{status} {body}");
    assert_eq!(site.names(), BTreeSet::new(), "nothing is fetched");
    site.s3.control("faults?denied=1&only=GET");
    let (status, _, body) = site.browse("/history/application_1_0001/jobs/");
    assert!(status == 403 && body.contains("s3:GetObject"), "{status} {body}");
    assert!(body.contains("s3://acme/flat/application_1_0001"), "{body}");
    site.s3.control("faults?");
    // Nobody knows it: the history server answers.
    assert_eq!(site.get("/api/v1/applications/application_9_0009/jobs").0, 404);
    wait("the next try", || (site.get("/api/v1/applications/application_1_0001/jobs").0 == 200).then_some(()));
}

/// The keys of which S3 was asked for bytes.
fn read_keys(site: &Site) -> BTreeSet<String> {
    let ranges = site.s3.control("ranges");
    ranges.lines().map(|line| line.split_whitespace().next().unwrap().to_string()).collect()
}

#[test]
fn what_lies_outside_the_sources_is_never_read_and_does_not_stay() {
    let s3 = empty();
    let ids = ["application_1_0001", "application_1_0002"];
    s3.put(&format!("flat/{}", ids[0]), &log(ids[0], 5, true));
    s3.put(&format!("month/{}", ids[1]), &log(ids[1], 5, true));
    let both = ["--event-logs", "s3://acme/flat/", "--event-logs", "s3://acme/month/"];
    let mut site = Site::start(s3, "3.5.8", &both);
    ids.iter().for_each(|id| site.open(id));
    assert_eq!(site.names(), ids.map(String::from).into());
    site.stop_gateway();

    // A snapshot names logs outside: by steps upwards, by another source's rows, by a key that is none.
    let header = r#"{"format":"emr-shs index","version":1,"written":1,"sources":[["s3://acme/flat/",1],["s3://acme/month/",1],["s3://acme/",1]]}"#;
    let keys = [
        (0, "../month/application_1_0002"),
        (0, "x/../../month/application_1_0002"),
        (0, "./../month/application_1_0002"),
        (0, "s3://acme/month/application_1_0002"),
        (1, "application_1_0002"),
        (2, "month/application_1_0002"),
    ];
    let rows = keys.iter().enumerate().map(|(n, (source, key))| {
        format!(
            r#"{{"s":{source},"k":"{key}","z":5,"m":1,"e":"e","c":true,"codec":"none","a":{{"id":"application_9_{n:04}","name":"forged","user":"mallory","started":1}}}}"#
        )
    });
    let text = [header.to_string()].into_iter().chain(rows).collect::<Vec<_>>().join("\n");
    site.s3.put("flat/.emr-shs/index-v1.zst", &zstd::encode_all(text.as_bytes(), 3).unwrap());
    fs::remove_file(site.db()).unwrap();
    site.s3.control("reset?record=1");
    site.start_gateway(&["--event-logs", "s3://acme/flat/", "--look-interval", "1"]);
    assert_eq!(site.names(), [ids[0].to_string()].into(), "the copy of the other source is gone");
    wait("the index", || site.get("/-/index").2.contains("\"attempts\":1").then_some(()));
    let lists = |id: &str| site.history_server.lists().iter().any(|listed| listed == id);
    wait("the history server to miss the copy", || (!lists(ids[1])).then_some(()));
    let forged = (0..keys.len()).map(|n| format!("application_9_{n:04}"));
    for id in forged.chain([ids[1].to_string(), "../month/application_1_0002".into(), "x".repeat(9000)]) {
        let id = id.replace('/', "%2f");
        assert_eq!(site.get(&format!("/history/{id}/jobs/")).0, 404, "{id}");
    }
    site.open(ids[0]);
    let outside: Vec<String> = read_keys(&site).into_iter().filter(|key| !key.starts_with("flat/")).collect();
    assert_eq!(outside, Vec::<String>::new());
    assert_eq!(site.names(), [ids[0].to_string()].into());
}

#[test]
fn no_name_of_a_log_or_an_application_forges_a_line_of_the_journal() {
    let s3 = empty();
    let id = "application_1_0001";
    s3.put("flat/a%0aAugust%c2%9b/application_1_0001", &log(id, 5, true));
    let mut site = Site::start(s3, "3.5.8", &[]);
    site.stop_gateway();
    let journal = site.dir.path().join("journal");
    let written = site.command(&[]).stderr(fs::File::create(&journal).unwrap()).spawn().unwrap();
    site.gateway = Some(written);
    wait("the gateway", || (site.get("/-/healthz").0 == 200).then_some(()));
    site.s3.control("faults?denied=1&only=GET");
    let (status, _, body) = site.browse(&format!("/history/{id}/jobs/"));
    assert!(status == 403 && !body.contains('\u{9b}'), "{status} {body}");
    site.stop_gateway();
    let lines = fs::read_to_string(&journal).unwrap();
    assert!(lines.contains("flat/a\\nAugust\\x9b/application_1_0001"), "{lines}");
    assert!(!lines.contains('\u{9b}') && !lines.lines().any(|line| line.starts_with("August")), "{lines}");
}

#[test]
fn ids_that_nobody_has_cost_the_cache_nothing() {
    let s3 = empty();
    s3.put("flat/application_1_0001", &log("application_1_0001", 5, true));
    let site = Site::start(s3, "3.5.8", &["--cache-count", "2"]);
    site.open("application_1_0001");
    // It looks at its log URI once at its start.
    wait("the gateway's look at its log URI", || (site.get("/-/readyz").0 == 200).then_some(()));
    site.s3.control("reset");
    std::thread::scope(|threads| {
        for client in 0..8 {
            let site = &site;
            threads.spawn(move || {
                for n in 0..40 {
                    let path = format!("/api/v1/applications/application_{client}_{:04}/jobs", 1000 + n);
                    assert_eq!(site.get(&path).0, 404, "{path}");
                }
            });
        }
    });
    assert_eq!(site.s3.requests("GET") + site.s3.requests("LIST"), 0);
    let counted =
        ["applications", "waiting", "evictions_total", "failures_total", "busy_total"].map(|m| site.metric(m));
    assert_eq!(counted, [1, 0, 0, 0, 0]);
    site.open("application_1_0001");
}
