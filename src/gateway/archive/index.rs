//! What the gateway knows of the clusters below a log URI: which cluster timestamps the applications of each cluster
//! have. Pure: the clock is an argument. A timestamp that a cluster has, it has for ever. What it does not have can
//! change, so the index also knows when S3 said so.

use super::ages;
use crate::ids::is_cluster;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many timestamps the index keeps of a cluster. Each is a start of its ResourceManager.
const MAX_TIMESTAMPS: usize = 64;
/// How many clusters the index holds: as many as the gateway lists.
const MAX_CLUSTERS: usize = 50_000;
/// Of the clusters that are asked again, one in so many is the one whose answer is the oldest, so that each has its turn.
const TURN: usize = 3;

/// The clusters below a log URI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Index {
    clusters: BTreeMap<String, Cluster>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cluster {
    /// When the gateway first saw the cluster in a listing, in seconds since 1970.
    seen: u64,
    /// When S3 last said which timestamps there are; `None` if it was never asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<u64>,
    /// In milliseconds, as YARN writes them, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    timestamps: Vec<u64>,
}

impl Cluster {
    /// Whether it can have got this timestamp since S3 was asked.
    fn can_have_got(&self, timestamp: u64) -> bool {
        let Some(asked) = self.asked else { return true };
        match self.timestamps.last() {
            // Its ResourceManager has started later, and the logs of all before that have long been uploaded.
            Some(last) => timestamp > *last || asked < last / 1000 + ages::UPLOAD.as_secs(),
            None => asked < self.seen.saturating_add(ages::EMPTY_FOR_EVER.as_secs()),
        }
    }

    /// How far a timestamp is from the last sign of life, in seconds: the nearer, the likelier the cluster has it. A
    /// ResourceManager starts again after its last start, and a new cluster has its first logs soon after its start.
    fn distance(&self, timestamp: u64) -> u64 {
        let started = timestamp / 1000;
        match self.timestamps.last() {
            Some(last) => started.checked_sub(last / 1000).unwrap_or(u64::MAX),
            None => started.abs_diff(self.seen),
        }
    }
}

impl Index {
    /// Forgets the other clusters.
    pub(super) fn retain(&mut self, keeps: impl Fn(&str) -> bool) {
        self.clusters.retain(|cluster, _| keeps(cluster));
    }

    /// Takes over a listing of all clusters.
    pub(super) fn list(&mut self, names: &BTreeSet<&str>, now: SystemTime) {
        self.clusters.retain(|cluster, _| names.contains(cluster.as_str()));
        for name in names.iter().filter(|name| is_cluster(name)).take(MAX_CLUSTERS) {
            if !self.clusters.contains_key(*name) {
                self.clusters.insert((*name).into(), Cluster { seen: seconds(now), ..Cluster::default() });
            }
        }
    }

    /// The cluster that has this timestamp.
    pub(super) fn cluster_of(&self, timestamp: u64) -> Option<&str> {
        let mut clusters = self.clusters.iter();
        let (cluster, _) = clusters.find(|(_, cluster)| cluster.timestamps.binary_search(&timestamp).is_ok())?;
        Some(cluster)
    }

    /// For how long S3's answer about a cluster has been there; `None` if S3 was never asked.
    pub(super) fn age_of(&self, cluster: &str, now: SystemTime) -> Option<Duration> {
        let asked = self.clusters.get(cluster)?.asked?;
        // A damaged file can contain a time that no clock shows.
        let asked = UNIX_EPOCH.checked_add(Duration::from_secs(asked));
        Some(asked.and_then(|asked| now.duration_since(asked).ok()).unwrap_or(Duration::MAX))
    }

    /// The clusters about which S3 was never asked. `first` comes first, if it is one of them.
    pub(super) fn unasked(&self, first: Option<&str>) -> Vec<String> {
        let unasked = self.clusters.iter().filter(|(_, cluster)| cluster.asked.is_none()).map(|(name, _)| name);
        let mut unasked: Vec<String> = unasked.cloned().collect();
        unasked.sort_by_key(|name| Some(name.as_str()) != first);
        unasked
    }

    /// Some clusters that can have got a timestamp since S3 was asked: the likeliest first, which lived last before it,
    /// and among them those whose turn it is.
    pub(super) fn worth_asking_again(&self, timestamp: u64, limit: usize) -> Vec<String> {
        let can = self.clusters.iter().filter(|(_, c)| c.asked.is_some() && c.can_have_got(timestamp));
        let mut likely: Vec<(&String, &Cluster)> = can.collect();
        let mut waiting = likely.clone();
        likely.sort_by_key(|(_, cluster)| cluster.distance(timestamp));
        waiting.sort_by_key(|(_, cluster)| cluster.asked);
        let (mut likely, mut waiting) = (likely.into_iter(), waiting.into_iter());
        let mut chosen: Vec<String> = Vec::new();
        while chosen.len() < limit {
            let next = if (chosen.len() + 1).is_multiple_of(TURN) { waiting.next() } else { likely.next() };
            let Some((name, _)) = next.or_else(|| likely.next()).or_else(|| waiting.next()) else { break };
            if !chosen.contains(name) {
                chosen.push(name.clone());
            }
        }
        chosen
    }

    /// Takes over S3's answer about a cluster.
    pub(super) fn answer(&mut self, name: &str, timestamps: &BTreeSet<u64>, now: SystemTime) {
        if !self.clusters.contains_key(name) && self.clusters.len() >= MAX_CLUSTERS {
            return;
        }
        let seen = seconds(now);
        let cluster = self.clusters.entry(name.into()).or_insert(Cluster { seen, ..Cluster::default() });
        cluster.asked = Some(seen);
        // The latest ones, if there are too many.
        let skipped = timestamps.len().saturating_sub(MAX_TIMESTAMPS);
        cluster.timestamps = timestamps.iter().skip(skipped).copied().collect();
    }

    /// Makes what was read from a file safe to use.
    pub(super) fn sanitised(mut self) -> Self {
        self.clusters.retain(|name, _| is_cluster(name));
        for cluster in self.clusters.values_mut() {
            cluster.timestamps.sort_unstable();
            cluster.timestamps.dedup();
            cluster.timestamps.truncate(MAX_TIMESTAMPS);
        }
        while self.clusters.len() > MAX_CLUSTERS {
            self.clusters.pop_last();
        }
        self
    }
}

fn seconds(time: SystemTime) -> u64 {
    ages::milliseconds(time) / 1000
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::Index;
    use std::collections::BTreeSet;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    /// In seconds since 1970.
    const NOW: u64 = 1_795_600_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn name(number: u64) -> String {
        format!("j-{number:08}")
    }

    /// An index of `count` clusters, listed at that time.
    fn listed(count: u64, seconds: u64) -> Index {
        let names: Vec<String> = (0..count).map(name).collect();
        let mut index = Index::default();
        index.list(&names.iter().map(String::as_str).collect(), at(seconds));
        index
    }

    fn answer(index: &mut Index, number: u64, timestamps: &[u64], seconds: u64) {
        let timestamps: BTreeSet<u64> = timestamps.iter().map(|started| started * 1000).collect();
        index.answer(&name(number), &timestamps, at(seconds));
    }

    #[test]
    fn each_cluster_is_asked_once_and_this_nodes_own_first() {
        let mut index = listed(3000, NOW);
        assert_eq!(index.unasked(Some(&name(77)))[0], name(77));
        for number in 0..3000 {
            answer(&mut index, number, &[], NOW);
        }
        assert!(index.unasked(None).is_empty());
        assert_eq!(index.worth_asking_again(NOW * 1000, 12).len(), 12, "and a few of them again");
        let again: Index = serde_json::from_str(&serde_json::to_string(&index).unwrap()).unwrap();
        assert_eq!(again, index, "also after a restart");
    }

    #[test]
    fn a_timestamp_is_known_for_ever() {
        let mut index = listed(3, NOW);
        answer(&mut index, 1, &[NOW - DAY, NOW - HOUR], NOW);
        assert_eq!(index.cluster_of((NOW - DAY) * 1000), Some(name(1).as_str()));
        assert_eq!(index.cluster_of((NOW - HOUR) * 1000), Some(name(1).as_str()));
        assert_eq!(index.cluster_of((NOW - 2) * 1000), None);
    }

    #[test]
    fn what_is_old_and_empty_is_final() {
        let mut index = listed(100, NOW);
        for number in 0..100 {
            answer(&mut index, number, &[], NOW + 31 * DAY);
        }
        assert!(index.worth_asking_again((NOW + 31 * DAY) * 1000, 12).is_empty());
        // Also what ran on a cluster before the last known start of its ResourceManager.
        let mut index = listed(1, NOW);
        answer(&mut index, 0, &[NOW], NOW + 2 * HOUR);
        assert!(index.worth_asking_again((NOW - DAY) * 1000, 12).is_empty());
        assert_eq!(index.worth_asking_again((NOW + 1) * 1000, 12), [name(0)], "it can start again");
        // But its first logs can still be on their way.
        answer(&mut index, 0, &[NOW], NOW + 600);
        assert_eq!(index.worth_asking_again((NOW - DAY) * 1000, 12), [name(0)]);
    }

    #[test]
    fn the_cluster_that_started_last_before_a_timestamp_is_asked_first_and_each_has_its_turn() {
        let mut index = listed(20, NOW - 90 * DAY);
        for number in 0..20 {
            answer(&mut index, number, &[NOW - (40 - number) * DAY], NOW + number);
        }
        let again = index.worth_asking_again((NOW - 30 * DAY + 5) * 1000, 5);
        assert_eq!(again, [name(10), name(9), name(0), name(8), name(7)]);
        // Whoever asks for long reaches all of them.
        let mut reached = BTreeSet::new();
        for round in 0..20 {
            for cluster in index.worth_asking_again((NOW - 30 * DAY + 5) * 1000, 3) {
                let number: u64 = cluster[2..].parse().unwrap();
                answer(&mut index, number, &[NOW - (40 - number) * DAY], NOW + 100 + round);
                reached.insert(cluster);
            }
        }
        assert_eq!(reached.len(), 11, "{reached:?}");
    }

    #[test]
    fn a_new_cluster_that_was_empty_is_asked_again_before_old_ones() {
        let mut index = listed(1000, NOW - 20 * DAY);
        for number in 0..1000 {
            answer(&mut index, number, &[], NOW - 20 * DAY);
        }
        let names: Vec<String> = (0..1001).map(name).collect();
        index.list(&names.iter().map(String::as_str).collect(), at(NOW));
        answer(&mut index, 1000, &[], NOW);
        assert_eq!(index.worth_asking_again((NOW - 900) * 1000, 12)[0], name(1000));
    }

    #[test]
    fn a_cluster_that_is_gone_is_forgotten_and_a_damaged_file_harms_nothing() {
        let mut index = listed(3, NOW);
        answer(&mut index, 1, &[NOW], NOW);
        index.list(&[name(2).as_str(), "no-cluster"].into(), at(NOW));
        assert_eq!(index.cluster_of(NOW * 1000), None);
        assert_eq!(index.unasked(None), [name(2)]);
        let text = r#"{"../etc": {"seen": 1}, "j-00000001": {"seen": 1, "asked": 99999999999999, "timestamps": [3, 1, 2, 2]}}"#;
        let index = serde_json::from_str::<Index>(text).unwrap().sanitised();
        assert_eq!(index.cluster_of(3), Some("j-00000001"));
        assert!(index.unasked(None).is_empty() && index.age_of("j-00000001", at(NOW)).is_some());
        let last = u64::MAX;
        for cluster in [
            format!(r#"{{"seen": {last}, "asked": {last}}}"#),
            format!(r#"{{"seen": 1, "asked": 2, "timestamps": [{last}]}}"#),
        ] {
            let text = format!(r#"{{"j-00000001": {cluster}}}"#);
            let index = serde_json::from_str::<Index>(&text).unwrap().sanitised();
            assert!(index.age_of("j-00000001", at(NOW)).is_some());
            index.worth_asking_again(last, 12);
        }
    }
}
