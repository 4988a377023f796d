//! What the gateway needs of a history server that reads a directory: it lists what it sees there, as Spark's does, once a second.
//! It is no history server: of an event log it reads the line with the application's start.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Executors of any application, as Spark writes them.
const EXECUTORS: &str = r#"[ {
  "id" : "driver",
  "executorLogs" : { },
  "attributes" : { }
}, {
  "id" : "2",
  "executorLogs" : {
    "stdout" : "http://ip-1.ec2.internal:9977/logs/SPARK_EXECUTOR/2/stdout",
    "stderr" : "/logs/SPARK_EXECUTOR/2/stderr"
  },
  "attributes" : { "CONTAINER_ID" : "SPARK_EXECUTOR/2" }
}, {
  "id" : "../../x",
  "executorLogs" : { "stdout" : "/logs/container_1795352263709_0001_01_000002/stdout" }
} ]"#;
/// A page with links to the logs of executors.
const STAGES: &str =
    r#"<html><a href="/logs/SPARK_EXECUTOR/2/stdout">stdout</a> <a href="/history/x/">home</a></html>"#;

/// What a history server answers to any path, before it has its other pages.
const FRONT_PAGE: &str = "<html>the list of applications</html>";

/// By id: its attempts.
type Listing = BTreeMap<String, Vec<Value>>;

pub struct SmallHistoryServer {
    pub port: u16,
    listing: Arc<Mutex<Listing>>,
    /// Until when it does not look into its directory.
    busy: Arc<Mutex<Instant>>,
    /// Until when it has nothing but its front page.
    starting: Arc<Mutex<Instant>>,
    /// Since when it lists one application more, each time this time has passed.
    pace: Arc<Mutex<Option<(Instant, Duration)>>>,
    /// The paths that it was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl SmallHistoryServer {
    pub fn start(directory: PathBuf, spark: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let listing: Arc<Mutex<Listing>> = Arc::default();
        let busy = Arc::new(Mutex::new(Instant::now()));
        let pace: Arc<Mutex<Option<(Instant, Duration)>>> = Arc::default();
        let (seen, until, reads) = (listing.clone(), busy.clone(), pace.clone());
        std::thread::spawn(move || {
            loop {
                let begun = Instant::now();
                let mut scanned = scan(&directory);
                // Nothing that it saw before a restart counts after it.
                let until = until.lock().unwrap();
                if let Some((since, each)) = *reads.lock().unwrap() {
                    let read = since.elapsed().as_millis() / each.as_millis();
                    scanned = scanned.into_iter().take(read as usize).collect();
                }
                if begun >= *until {
                    *seen.lock().unwrap() = scanned;
                }
                drop(until);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let starting = Arc::new(Mutex::new(Instant::now()));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (known, starts, paths) = (listing.clone(), starting.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (known, is_starting) = (known.clone(), Instant::now() < *starts.lock().unwrap());
                let paths = paths.clone();
                std::thread::spawn(move || answer(stream.unwrap(), &known, &paths, spark, is_starting));
            }
        });
        Self { port, listing, busy, starting, pace, asked }
    }

    /// Restarts: it has nothing but its front page first, and knows no application for this time.
    pub fn restart(&self, time: Duration) {
        self.begin_again(time, None);
    }

    /// The same, and it takes this time for each application, in the order of their ids.
    pub fn restart_and_read(&self, each: Duration) {
        self.begin_again(Duration::ZERO, Some(each));
    }

    fn begin_again(&self, time: Duration, each: Option<Duration>) {
        // No start is faster.
        std::thread::sleep(Duration::from_millis(1100));
        let mut busy = self.busy.lock().unwrap();
        *busy = Instant::now() + time;
        *self.starting.lock().unwrap() = Instant::now() + Duration::from_millis(500);
        if let Some(each) = each {
            *self.pace.lock().unwrap() = Some((Instant::now(), each));
        }
        self.listing.lock().unwrap().clear();
    }

    /// It looks into its directory again after this time.
    pub fn look_away(&self, time: Duration) {
        *self.busy.lock().unwrap() = Instant::now() + time;
    }

    /// How often it was asked for a path.
    pub fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }

    /// The ids that it lists.
    pub fn lists(&self) -> Vec<String> {
        self.listing.lock().unwrap().keys().cloned().collect()
    }
}

fn scan(directory: &Path) -> Listing {
    let mut listing = Listing::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') {
            continue;
        }
        let mut files = vec![entry.path()];
        let mut is_complete = !name.ends_with(".inprogress");
        if entry.path().is_dir() {
            let Ok(inside) = std::fs::read_dir(entry.path()) else { continue };
            files = inside.flatten().map(|entry| entry.path()).collect();
            files.sort();
            let of = |start: &str| {
                files
                    .iter()
                    .filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with(start))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            // Spark cannot read a directory without its state.
            let Some(status) = of("appstatus_").pop() else { continue };
            is_complete = !status.to_str().unwrap().ends_with(".inprogress");
            files = of("events_");
        }
        let Some(first) = files.first() else { continue };
        let Ok(text) = std::fs::read(first) else { continue };
        let text = String::from_utf8_lossy(&text);
        let start = text.lines().find(|line| line.contains("SparkListenerApplicationStart"));
        let Some(start) = start.and_then(|line| serde_json::from_str::<Value>(line).ok()) else { continue };
        let updated = std::fs::metadata(files.last().unwrap()).and_then(|meta| meta.modified());
        let Ok(updated) = updated else { continue };
        let mut attempt = json!({
            "completed": is_complete,
            "lastUpdatedEpoch": updated.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64,
            "log": name,
        });
        if start["App Attempt ID"].is_string() {
            attempt["attemptId"] = start["App Attempt ID"].clone();
        }
        listing.entry(start["App ID"].as_str().unwrap().into()).or_default().push(attempt);
    }
    listing
}

fn answer(mut stream: TcpStream, listing: &Mutex<Listing>, asked: &Mutex<Vec<String>>, spark: &str, is_starting: bool) {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    reader.read_line(&mut line).unwrap();
    let mut header = String::new();
    while reader.read_line(&mut header).unwrap() > 2 {
        header.clear();
    }
    let path = line.split(' ').nth(1).unwrap_or_default();
    asked.lock().unwrap().push(path.into());
    let id = path.trim_start_matches("/api/v1/applications/").trim_start_matches("/history/");
    let id = id.split('/').next().unwrap_or_default();
    let listing = listing.lock().unwrap();
    let listed: Vec<&String> = listing.keys().collect();
    let (status, body) = match listing.get(id) {
        _ if is_starting => ("200 OK", FRONT_PAGE.into()),
        _ if path == "/api/v1/applications" => ("200 OK", json!(listed).to_string()),
        _ if path == "/history" => ("302 Found", "{}".into()),
        _ if path == "/api/v1/version" => ("200 OK", json!({"spark": spark}).to_string()),
        Some(_) if path.ends_with("/allexecutors") => ("200 OK", EXECUTORS.into()),
        Some(_) if path.ends_with("/stages/") => ("200 OK", STAGES.into()),
        Some(attempts) => ("200 OK", json!({"id": id, "path": path, "attempts": attempts}).to_string()),
        None => ("404 Not Found", "{}".into()),
    };
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes());
}
