//! Where to look for new event logs of a source, derived from its logs of the last day. Ids grow, so a look begins after the
//! newest id, or at the oldest unfinished log among the last [`BACK`] ids.

use super::layout::Jump;
use crate::ids::Application;
use crate::node::event_logs::ROLLING;
use std::collections::{BTreeMap, BTreeSet};

/// How many ids before the newest one are looked at again, because they were not over.
const BACK: u64 = 200;
/// How many clusters and directories are looked at. The newest come first.
const MOST: usize = 32;
/// Ids from here on have five digits, and sort between those of four.
const FIVE_DIGITS: u64 = 10_000;
/// How names of logs of applications on YARN begin.
const SINGLE: &str = "application_";
const ROLLING_YARN: &str = "eventlog_v2_application_";
/// Sorts behind every name that anybody gives.
const LAST: char = '\u{10ffff}';

/// A log of the last day of a source.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    pub(crate) key: String,
    pub(crate) is_over: bool,
}

/// The keys that begin with a prefix, behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) prefix: String,
    pub(crate) after: Option<String>,
}

/// The directories in a directory, behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) directory: String,
    pub(crate) after: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Ids grow: what lies here is new, or was not over.
    pub(crate) ranges: Vec<Range>,
    /// Other names need not grow: most of what lies here can be old.
    pub(crate) unordered: Vec<Range>,
    pub(crate) parents: Vec<Parent>,
    /// The directories that contain logs.
    pub(crate) directories: Vec<String>,
    /// The directories `applications/` of EMR Serverless.
    pub(crate) serverless: Vec<String>,
}

/// The applications of one cluster in one directory.
#[derive(Default)]
struct Cluster {
    newest: u64,
    /// Those that were not over.
    open: BTreeSet<u64>,
    /// The position of its newest log among all.
    position: usize,
}

impl Places {
    /// `recent` are the logs of the last day, the newest first: at least one, if the source has any.
    pub(crate) fn of(recent: &[Recent]) -> Self {
        // By the beginning of the name and the cluster's timestamp.
        let mut clusters: BTreeMap<(String, u64), Cluster> = BTreeMap::new();
        // The greatest name of the others in a directory.
        let mut others: BTreeMap<String, String> = BTreeMap::new();
        let (mut directories, mut serverless) = (BTreeSet::new(), BTreeSet::new());
        for (position, log) in recent.iter().enumerate() {
            if let Some(Jump::Runs { applications, .. }) = super::layout::jump(&log.key) {
                serverless.insert(applications);
                continue;
            }
            let (directory, name) = parted(&log.key);
            directories.insert(directory.to_string());
            match application(name) {
                Some((head, application, number)) if !application.is_synthetic() => {
                    let key = (format!("{directory}{head}"), application.timestamp);
                    let cluster = clusters.entry(key).or_insert_with(|| Cluster { position, ..Cluster::default() });
                    cluster.newest = cluster.newest.max(number);
                    if !log.is_over {
                        cluster.open.insert(number);
                    }
                }
                Some(_) => {}
                None => {
                    let greatest = others.entry(directory.to_string()).or_default();
                    if greatest.as_str() < name {
                        *greatest = name.to_string();
                    }
                }
            }
        }
        let mut newest_clusters: BTreeMap<&str, u64> = BTreeMap::new();
        for (head, timestamp) in clusters.keys() {
            let newest = newest_clusters.entry(head).or_default();
            *newest = (*newest).max(*timestamp);
        }
        let mut groups: Vec<_> = clusters.iter().collect();
        groups.sort_by_key(|(_, cluster)| cluster.position);
        let mut ranges: Vec<Range> = Vec::new();
        for ((head, timestamp), cluster) in groups.into_iter().take(MOST) {
            ranges.extend(cluster.ranges(head, *timestamp, newest_clusters.get(head.as_str()) == Some(timestamp)));
        }
        ranges.extend(other_heads(&clusters));
        let others = others.into_iter().rev().take(MOST);
        let unordered =
            others.map(|(directory, name)| Range { after: Some(format!("{directory}{name}")), prefix: directory });
        let parents = directories.iter().rev().take(MOST).filter_map(|directory| {
            let (parent, _) = parted(directory.strip_suffix('/')?);
            Some(Parent { directory: parent.into(), after: Some(format!("{directory}{LAST}")) })
        });
        let mut parents: Vec<Parent> = parents.collect();
        parents.sort_by(|a, b| (&a.directory, &b.after).cmp(&(&b.directory, &a.after)));
        // Behind the greatest directory of each parent.
        parents.dedup_by(|later, earlier| later.directory == earlier.directory);
        Self {
            ranges,
            unordered: unordered.collect(),
            parents,
            directories: directories.into_iter().collect(),
            serverless: serverless.into_iter().collect(),
        }
    }
}

/// Where logs of the other kind appear in a directory that has only single ones, or only rolling ones, of late: somebody can
/// change what jobs write.
fn other_heads(clusters: &BTreeMap<(String, u64), Cluster>) -> Vec<Range> {
    let mut newest: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for ((head, timestamp), cluster) in clusters {
        let directory = parted(head).0;
        let known = newest.entry(directory).or_default();
        *known = (*known).max((*timestamp, cluster.newest));
    }
    let missing = newest
        .into_iter()
        .flat_map(|(directory, newest)| [SINGLE, ROLLING_YARN].map(|head| (format!("{directory}{head}"), newest)));
    missing
        .filter(|(head, _)| !clusters.keys().any(|(known, _)| known == head))
        .map(|(head, (timestamp, number))| Range {
            after: Some(format!("{head}{timestamp}_{:04}{LAST}", number.saturating_sub(1))),
            prefix: head,
        })
        .collect()
}

impl Cluster {
    /// What to list of a cluster whose logs' names begin with `head`, the timestamp and the number. The newest cluster of a
    /// directory is listed together with those that begin after it.
    fn ranges(&self, head: &str, timestamp: u64, is_newest: bool) -> Vec<Range> {
        let oldest_open = self.open.range(self.newest.saturating_sub(BACK)..).next().copied();
        // Behind the number before: the newest application can get another attempt.
        let first = oldest_open.unwrap_or(self.newest).saturating_sub(1);
        let name = |number: u64| format!("{head}{timestamp}_{number:04}");
        let after = |number: u64| Some(format!("{}{LAST}", name(number)));
        let next_clusters = || Range { prefix: head.into(), after: Some(format!("{head}{timestamp}_{LAST}")) };
        let mut ranges = Vec::new();
        if self.newest < FIVE_DIGITS {
            let prefix = if is_newest { head.to_string() } else { format!("{head}{timestamp}_") };
            ranges.push(Range { prefix, after: after(first) });
            if self.newest >= FIVE_DIGITS - 1000 {
                ranges.push(Range { prefix: format!("{head}{timestamp}_10"), after: None });
            }
            return ranges;
        }
        // Numbers of five digits and more sort between those of fewer, so they are listed thousand by thousand: behind the first one
        // lie the new ones and at most some hundred old ones, of fewer digits. Many applications can begin at once, and the last ones
        // can be the first that have a log, so that the next thousand is listed early.
        let is_nearly_full = self.newest % 1000 >= 850;
        for thousand in first / 1000..=self.newest / 1000 + u64::from(is_nearly_full) {
            ranges.push(Range {
                prefix: format!("{head}{timestamp}_{thousand}"),
                after: (thousand == first / 1000).then(|| after(first)).flatten(),
            });
        }
        if is_newest {
            ranges.push(next_clusters());
        }
        ranges
    }
}

/// The directory of a log, with a slash at its end unless it is the source, and the log's name in it.
fn parted(key: &str) -> (&str, &str) {
    let name = key.strip_suffix('/').unwrap_or(key);
    let at = name.rfind('/').map_or(0, |at| at + 1);
    (&key[..at], &name[at..])
}

/// What a name begins with before the timestamp, the application, and its number.
fn application(name: &str) -> Option<(&'static str, Application, u64)> {
    let (head, rest) = match name.strip_prefix(ROLLING) {
        Some(rest) => (ROLLING_YARN, rest),
        None => (SINGLE, name),
    };
    let rest = rest.strip_prefix("application_")?;
    let mut parts = rest.split(['_', '.']);
    let (timestamp, number) = (parts.next()?, parts.next()?);
    let application = Application::parse(&format!("application_{timestamp}_{number}"))?;
    Some((head, application, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Places, Recent};

    fn places(logs: &[(&str, bool)]) -> Vec<String> {
        let recent: Vec<Recent> =
            logs.iter().map(|(key, is_over)| Recent { key: (*key).into(), is_over: *is_over }).collect();
        let places = Places::of(&recent);
        let after = |key: &Option<String>| key.as_deref().unwrap_or("the beginning").replace('\u{10ffff}', "…");
        let ranges = places
            .ranges
            .iter()
            .chain(&places.unordered)
            .map(|range| format!("{} after {}", range.prefix, after(&range.after)));
        let parents =
            places.parents.iter().map(|p| format!("directories in “{}” after {}", p.directory, after(&p.after)));
        let serverless = places.serverless.iter().map(|directory| format!("runs in {directory}"));
        ranges.chain(parents).chain(serverless).collect()
    }

    #[test]
    fn new_logs_appear_behind_the_newest_and_at_those_that_were_not_over() {
        assert_eq!(places(&[]), Vec::<String>::new());
        assert_eq!(
            places(&[
                ("application_7000_0003", true),
                ("application_8000_0006.zstd", true),
                ("application_8000_0007_1", true)
            ]),
            [
                "application_7000_ after application_7000_0002…",
                "application_ after application_8000_0006…",
                "eventlog_v2_application_ after eventlog_v2_application_8000_0006…",
            ]
        );
        assert_eq!(
            places(&[("eventlog_v2_application_8000_0004/", false), ("eventlog_v2_application_8000_0009_2/", true)]),
            [
                "eventlog_v2_application_ after eventlog_v2_application_8000_0003…",
                "application_ after application_8000_0008…",
            ]
        );
        // One that runs for days is not worth a listing of all since.
        assert_eq!(
            places(&[("application_8000_0004.inprogress", false), ("application_8000_0900", true)])[..1],
            ["application_ after application_8000_0899…"]
        );
        // Numbers of five digits sort between those of four.
        assert_eq!(
            places(&[("application_8000_9998", true)])[..2],
            ["application_ after application_8000_9997…", "application_8000_10 after the beginning"]
        );
        assert_eq!(
            places(&[("application_8000_12345", true), ("application_8000_12338", false)])[..2],
            ["application_8000_12 after application_8000_12337…", "application_ after application_8000_…"]
        );
        assert_eq!(
            places(&[("application_8000_12851", true)])[..2],
            ["application_8000_12 after application_8000_12850…", "application_8000_13 after the beginning"]
        );
    }

    #[test]
    fn a_synthetic_application_does_not_move_the_look() {
        assert_eq!(
            places(&[("application_8000_0007", true), ("application_9000_9123456789", true)])[..1],
            ["application_ after application_8000_0006…"]
        );
    }

    #[test]
    fn directories_are_looked_at_with_those_that_come_after_them() {
        assert_eq!(
            places(&[
                ("dt=1/application_8000_0007", true),
                ("dt=2/application_9000_0002", true),
                ("dt=2/local-17", true)
            ]),
            [
                "dt=1/application_ after dt=1/application_8000_0006…",
                "dt=2/application_ after dt=2/application_9000_0001…",
                "dt=1/eventlog_v2_application_ after dt=1/eventlog_v2_application_8000_0006…",
                "dt=2/eventlog_v2_application_ after dt=2/eventlog_v2_application_9000_0001…",
                "dt=2/ after dt=2/local-17",
                "directories in “” after dt=2/…",
            ]
        );
        let run = "emr/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/sparklogs/eventlog_v2_00f5trm1fv0d3p0c/";
        assert_eq!(places(&[(run, true)]), ["runs in emr/applications/"]);
    }
}
