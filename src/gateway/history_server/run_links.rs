//! Links to executor logs in what the history server sends of a job run of EMR Serverless. The history server makes them after one
//! pattern for all applications, or takes them from the event log; here each becomes a link to the log in the directory of its run.

use super::links::{LONGEST, begun, is_file_name};
use crate::ids::is_digits;
use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;
use memchr::memmem;
use percent_encoding::percent_decode_str;

/// Begins a link in HTML.
const HREF: &[u8] = b"href=";
/// The logs of each executor.
const LOGS: [&str; 2] = ["stdout", "stderr"];

/// Where the links to the executor logs of a run lead.
#[derive(Clone)]
pub(in crate::gateway) struct RunLinks {
    /// The path of the run's directory on the gateway, without a character that HTML or JSON would escape. It ends in a slash.
    path: String,
}

impl RunLinks {
    pub(in crate::gateway) fn new(path: String) -> Self {
        Self { path }
    }

    /// The link that replaces a link to an executor log; `None` for any other link. Container ids of EMR Serverless tell the
    /// executor: `SPARK_EXECUTOR/2`.
    fn replacement(&self, link: &str) -> Option<String> {
        let path = percent_decode_str(link.split(['?', '#', '&']).next()?).decode_utf8().ok()?;
        let mut names = path.rsplit('/');
        let (file, last, before) = (names.next()?, names.next()?, names.next());
        let worker = match (before, last) {
            (_, "SPARK_DRIVER") => last.to_string(),
            (Some("SPARK_EXECUTOR"), n) if is_digits(n, 1..=10) => format!("SPARK_EXECUTOR/{n}"),
            _ => return None,
        };
        self.link(&worker, file)
    }

    fn link(&self, worker: &str, file: &str) -> Option<String> {
        is_file_name(file).then(|| format!("{}{worker}/{file}", self.path))
    }

    /// Rewrites the bytes of a page that can be sent now.
    pub(in crate::gateway) fn rewrite_html(&self, held: &mut BytesMut, ended: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(held.len());
        while let Some(at) = memmem::find(held, HREF) {
            out.extend_from_slice(&held.split_to(at));
            let begin = HREF.len() + 1;
            let Some(quote) = held.get(HREF.len()).copied() else {
                if !ended {
                    return out.freeze();
                }
                break;
            };
            if !b"\"'".contains(&quote) {
                out.extend_from_slice(&held.split_to(HREF.len()));
                continue;
            }
            match held[begin..].iter().take(LONGEST).position(|byte| *byte == quote) {
                Some(length) => {
                    out.extend_from_slice(&held.split_to(begin));
                    let link = held.split_to(length);
                    let replacement = std::str::from_utf8(&link).ok().and_then(|link| self.replacement(link));
                    out.extend_from_slice(replacement.as_deref().map_or(&link, str::as_bytes));
                }
                None if ended || held.len() >= begin + LONGEST => out.extend_from_slice(&held.split_to(begin)),
                // The rest of the link is in the next chunk.
                None => return out.freeze(),
            }
        }
        let begun = if ended { 0 } else { begun(held, HREF) };
        out.extend_from_slice(&held.split_to(held.len() - begun));
        out.freeze()
    }

    pub(in crate::gateway) fn json(self) -> JsonLinks {
        JsonLinks {
            links: self,
            key: Key::Other,
            worker: None,
            is_in_logs: false,
            before: 0,
            is_in_string: false,
            is_escaped: false,
        }
    }
}

/// The links in an answer of the REST API. Spark writes the id of an executor before the executor's logs, in answers about
/// executors and about tasks: `"id": "2", …, "executorLogs": { "stdout": "…" }`.
pub(in crate::gateway) struct JsonLinks {
    links: RunLinks,
    /// The key whose value comes.
    key: Key,
    /// The directory of the executor that the answer tells about: `SPARK_EXECUTOR/2`.
    worker: Option<String>,
    /// Within the value of `executorLogs`.
    is_in_logs: bool,
    /// The byte before the next string, without white space.
    before: u8,
    /// Within a string that is too long to be looked at.
    is_in_string: bool,
    is_escaped: bool,
}

enum Key {
    Executor,
    Logs,
    /// Directly after the brace that opens the value of `executorLogs`: no log has come yet.
    NoLogYet,
    /// The name of a log, if it stands among an executor's logs.
    Named(String),
    Other,
}

impl JsonLinks {
    /// Rewrites the bytes of an answer that can be sent now.
    pub(in crate::gateway) fn rewrite(&mut self, held: &mut BytesMut, ended: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(held.len());
        loop {
            if self.is_in_string {
                let end = end_of_string(held, &mut self.is_escaped);
                out.extend_from_slice(&held.split_to(end.map_or(held.len(), |end| end + 1)));
                if end.is_none() {
                    return out.freeze();
                }
                (self.is_in_string, self.before) = (false, b'"');
            }
            let Some(at) = memchr(b'"', held) else {
                let rest = held.split();
                self.take_between(&rest, &mut out);
                return out.freeze();
            };
            let end = end_of_string(&held[at + 1..], &mut false).filter(|length| *length < LONGEST);
            if end.is_none() && !ended && held.len() <= at + LONGEST {
                return out.freeze();
            }
            let between = held.split_to(at);
            self.take_between(&between, &mut out);
            match end {
                Some(length) => {
                    let string = held.split_to(length + 2);
                    self.take_string(&string, &mut out);
                }
                None => {
                    out.extend_from_slice(&held.split_to(1));
                    (self.is_in_string, self.is_escaped, self.key) = (true, false, Key::Other);
                }
            }
        }
    }

    /// Takes bytes that stand between two strings: all of them, or those that have come. Each byte is judged by itself, so that an
    /// answer means the same in whatever pieces it comes.
    fn take_between(&mut self, between: &[u8], out: &mut BytesMut) {
        for byte in between.iter().copied() {
            match (&self.key, byte) {
                (_, b' ' | b'\t' | b'\r' | b'\n') => {
                    out.put_u8(byte);
                    continue;
                }
                (Key::Logs, b':') => {}
                (Key::Logs, b'{') if self.before == b':' => (self.key, self.is_in_logs) = (Key::NoLogYet, true),
                (key, b'}') => {
                    if matches!(key, Key::NoLogYet) {
                        out.extend_from_slice(self.logs_without_links().as_bytes());
                    }
                    (self.key, self.is_in_logs) = (Key::Other, false);
                }
                (Key::Logs | Key::NoLogYet, _) => self.key = Key::Other,
                _ => {}
            }
            self.before = byte;
            out.put_u8(byte);
        }
    }

    /// The links to the logs of an executor for which the event log has none.
    fn logs_without_links(&self) -> String {
        let worker = self.worker.as_deref();
        let link = |file: &&str| Some(format!("\"{file}\" : \"{}\"", self.links.link(worker?, file)?));
        LOGS.iter().filter_map(link).collect::<Vec<_>>().join(", ")
    }

    /// Takes a string with its quotes.
    fn take_string(&mut self, string: &[u8], out: &mut BytesMut) {
        let text = serde_json::from_slice::<String>(string).unwrap_or_default();
        let is_value = std::mem::replace(&mut self.before, b'"') == b':';
        if !is_value {
            self.key = match text.as_str() {
                _ if self.is_in_logs => Key::Named(text),
                "id" | "executorId" => Key::Executor,
                "executorLogs" => Key::Logs,
                _ => Key::Other,
            };
            out.extend_from_slice(string);
            return;
        }
        let replacement = match std::mem::replace(&mut self.key, Key::Other) {
            Key::Executor => {
                self.worker = worker(&text);
                None
            }
            Key::Named(log) => self.links.replacement(&text).or_else(|| self.links.link(self.worker.as_deref()?, &log)),
            Key::Logs | Key::NoLogYet | Key::Other => None,
        };
        match replacement {
            Some(link) => out.extend_from_slice(format!("\"{link}\"").as_bytes()),
            None => out.extend_from_slice(string),
        }
    }
}

/// The directory of an executor in that of its run.
fn worker(id: &str) -> Option<String> {
    match id {
        "driver" => Some("SPARK_DRIVER".into()),
        n if is_digits(n, 1..=10) => Some(format!("SPARK_EXECUTOR/{n}")),
        _ => None,
    }
}

/// Where the quote at the end of a string lies.
fn end_of_string(text: &[u8], is_escaped: &mut bool) -> Option<usize> {
    text.iter().position(|byte| match (std::mem::take(is_escaped), byte) {
        (true, _) => false,
        (false, b'\\') => {
            *is_escaped = true;
            false
        }
        (false, byte) => *byte == b'"',
    })
}

#[cfg(test)]
mod tests {
    use super::RunLinks;
    use crate::gateway::history_server::links::tests::in_chunks;

    const RUN: &str = "/shs/logs/s3/acme/sls/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/";

    fn links() -> RunLinks {
        RunLinks::new(RUN.into())
    }

    #[tokio::test]
    async fn the_links_of_a_page_lead_to_the_run() {
        let page = r##"<a href="/logs/SPARK_EXECUTOR/2/stdout">s</a> <a href='http://ip-1:9977/logs/SPARK_DRIVER/stderr?a=b&amp;c'>x</a>
            <a href="https://evil.example/SPARK_EXECUTOR%2F17/stderr.gz#x">y</a> <a href="SPARK_DRIVER/stdout">z</a>
            <a href="/history/00f5trm1fv0d3p0c/jobs/">jobs</a> <a href=/logs/SPARK_DRIVER/x> SPARK_DRIVER/stdout href=
            <a href="/logs/SPARK_EXECUTOR/2/..%2f..%2fx"> <a href="/logs/SPARK_EXECUTOR/x/stdout"> <a href="/SPARK_DRIVER/a b">
            <a href="/logs/SPARK_DRIVER/stdout"##;
        let wanted = format!(
            r##"<a href="{RUN}SPARK_EXECUTOR/2/stdout">s</a> <a href='{RUN}SPARK_DRIVER/stderr'>x</a>
            <a href="{RUN}SPARK_EXECUTOR/17/stderr.gz">y</a> <a href="{RUN}SPARK_DRIVER/stdout">z</a>
            <a href="/history/00f5trm1fv0d3p0c/jobs/">jobs</a> <a href=/logs/SPARK_DRIVER/x> SPARK_DRIVER/stdout href=
            <a href="/logs/SPARK_EXECUTOR/2/..%2f..%2fx"> <a href="/logs/SPARK_EXECUTOR/x/stdout"> <a href="/SPARK_DRIVER/a b">
            <a href="/logs/SPARK_DRIVER/stdout"##
        );
        for chunk in 1..200 {
            let links = links();
            let found = in_chunks(page, chunk, move |held, ended| links.rewrite_html(held, ended)).await;
            assert_eq!(found, wanted, "chunks of {chunk} bytes");
        }
    }

    async fn json(text: &str, chunk: usize) -> String {
        let mut json = links().json();
        in_chunks(text, chunk, move |held, ended| json.rewrite(held, ended)).await
    }

    #[tokio::test]
    async fn the_links_of_an_answer_lead_to_the_run_whatever_they_were() {
        let long = "x\\\"{}".repeat(1000);
        let text = |links: [&str; 9]| {
            let [a, b, c, d, e, f, g, h, i] = links;
            format!(
                r#"[ {{
  "id" : "driver",
  "hostPort" : "h:1\\",
  "executorLogs" : {{ "stdout" : "{a}", "stderr" : "{b}" }},
  "attributes" : {{ "CONTAINER_ID" : "SPARK_DRIVER", "id" : "9", "x" : "/logs/SPARK_DRIVER/stdout", "long" : "{long}" }}
}}, {{
  "taskId" : 7, "executorId":"12", "executorLogs":{{"stdout":"{c}","gc.log":"{d}","id":"{e}"}},"executorLogs" : {{ {f} }}
}}, {{ "id" : "../../x", "executorLogs" : {{ "stdout" : "{g}", "a\"><b>" : "{h}" }} }},
{{ "id" : "3", "executorLogs" : {{ "a\"><b>" : "{i}" }} }} ]"#
            )
        };
        let sent = text([
            "/logs/SPARK_DRIVER/stdout",
            "http://ip-1:9977/logs/applications/00aaaaaaaaaaaaaa/jobs/00bbbbbbbbbbbbbb/SPARK_DRIVER/stderr",
            "http://[2600:1f18::1]:8042/node/containerlogs/container_1/hadoop/stdout?start=-4096",
            "javascript:alert(1)",
            "/logs/SPARK_EXECUTOR/13/stdout",
            "",
            "/logs/x/stdout",
            "https://evil.example/SPARK_EXECUTOR/4/stderr",
            "/x",
        ]);
        let at = |rest: &str| format!("{RUN}{rest}");
        let inserted = [("stdout"), ("stderr")].map(|log| format!("\"{log}\" : \"{RUN}SPARK_EXECUTOR/12/{log}\""));
        let wanted = text([
            &at("SPARK_DRIVER/stdout"),
            &at("SPARK_DRIVER/stderr"),
            &at("SPARK_EXECUTOR/12/stdout"),
            &at("SPARK_EXECUTOR/12/gc.log"),
            &at("SPARK_EXECUTOR/13/stdout"),
            "",
            "/logs/x/stdout",
            &at("SPARK_EXECUTOR/4/stderr"),
            "/x",
        ]);
        let wanted =
            wanted.replace("\"executorLogs\" : {  }", &format!("\"executorLogs\" : {{  {}}}", inserted.join(", ")));
        for chunk in (1..100).chain([1000, 10_000]) {
            assert_eq!(json(&sent, chunk).await, wanted, "chunks of {chunk} bytes");
        }
    }

    #[tokio::test]
    async fn what_is_no_json_passes_as_it_is() {
        for text in [
            "",
            "\"",
            "}{\"id\"",
            "\"executorLogs\"",
            "\"executorLogs\" : {",
            "{\"a\\",
            "[\"\\ud800\", \"id\" : 7, :::",
        ] {
            for chunk in 1..9 {
                assert_eq!(json(text, chunk).await, text);
            }
        }
    }
}
