//! How long the gateway trusts what S3 has said, each time with its reason. A shorter time costs more requests, a longer
//! one shows a new log later.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An object that exists. EMR does not delete what it has archived, and a redirect to an object that somebody deleted
/// leads to S3's own message.
pub(super) const EXISTENCE: Duration = Duration::from_secs(3600);
/// A list of applications, containers or logs. EMR uploads every five minutes, so a list that is some seconds old lacks
/// nothing that its reader waits for.
pub(super) const LISTING: Duration = Duration::from_secs(10);
/// The list of the clusters below a log URI. A cluster has no logs in its first minutes. What the list lacks is not asked for, so
/// a new cluster's applications are listed so much later.
pub(super) const CLUSTERS: Duration = Duration::from_secs(60);
/// The cluster timestamps of this node's own cluster, at least. People click on its logs as soon as an application ends.
pub(super) const OWN_CLUSTER: Duration = Duration::from_secs(10);
/// A failure. A hundred clicks on a bucket that does not answer are one request, and a bucket that answers again serves
/// the next click.
pub(super) const FAILURE: Duration = Duration::from_secs(3);
/// An answer of S3 about a log URI that is younger than this is one of now, for whoever asks `/-/log-uris`. The gateway's own
/// checks pay for that: whoever asks without pause spends a third of a LIST a second for each log URI.
pub(super) const ASKED: Duration = Duration::from_secs(3);
/// The same for root's own commands: `doctor` asks `/-/log-uris` a moment after it has asked S3 itself, and must not say what S3
/// said before that.
pub(super) const ASKED_BY_ROOT: Duration = Duration::from_millis(100);
/// At most, a search that could not ask every log URI. One that answers again is searched soon.
pub(super) const UNSEARCHED: Duration = Duration::from_secs(30);
/// A good answer of S3. After it, the gateway checks the log URI by itself, so that `/-/readyz` tells a change.
pub(super) const GOOD_ANSWER: Duration = Duration::from_secs(120);
/// A good answer of S3, for `/-/readyz`, at most: two checks could have been made since. Whatever keeps the gateway from asking,
/// it does not call itself ready for longer.
pub(super) const READY: Duration = Duration::from_secs(300);
/// The first and the longest pause between two checks of a log URI that does not answer.
pub(super) const RECHECK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// A cluster without applications, seen for so long, stays without: nobody pays a month for a cluster that runs nothing.
pub(super) const EMPTY_FOR_EVER: Duration = Duration::from_secs(30 * 86_400);
/// How long after the last known start of a cluster's ResourceManager its first logs can still be on their way.
pub(super) const UPLOAD: Duration = Duration::from_secs(3600);

/// The absence of a log, or of a cluster for a timestamp, that S3 has told all the time for `unchanged`. The trust grows
/// with the absence: what appears meanwhile is seen late by a quarter of the time that it was waited for. It never
/// exceeds EMR's own interval of uploads.
pub(super) fn absence(unchanged: Duration) -> Duration {
    (unchanged / 4).clamp(Duration::from_secs(5), Duration::from_secs(300))
}

/// Whether a ResourceManager of EMR can have started at that time, in milliseconds: EMR exists since April 2009, and the
/// clock of a node can be ahead of this one's.
pub(super) fn is_possible_start(timestamp: u64, now: SystemTime) -> bool {
    const FIRST: u64 = 1_230_768_000_000; // 2009-01-01
    const DAY: u64 = 86_400_000;
    (FIRST..=milliseconds(now) + DAY).contains(&timestamp)
}

/// The time in milliseconds since 1970, as in the ids of YARN.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{absence, is_possible_start};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn an_absence_grows_old_slowly_and_never_older_than_an_upload() {
        let trust = |seconds| absence(Duration::from_secs(seconds)).as_secs();
        assert_eq!([trust(0), trust(20), trust(60), trust(300), trust(1200), trust(86_400)], [5, 5, 15, 75, 300, 300]);
        // Somebody who clicks every second for a day.
        let (mut requests, mut asked) = (0, 0);
        for second in 0..86_400 {
            if second == 0 || second - asked >= trust(asked) {
                (requests, asked) = (requests + 1, second);
            }
        }
        assert!(requests < 320, "{requests}");
    }

    #[test]
    fn only_times_at_which_emr_can_have_started_a_cluster_are_looked_for() {
        let now = UNIX_EPOCH + Duration::from_millis(1_795_352_263_709);
        let possible = |timestamp: u64| is_possible_start(timestamp, now);
        assert!(possible(1_230_768_000_000) && possible(1_795_352_263_709) && possible(1_795_352_263_709 + 86_400_000));
        for wrong in [0, 1, 1_230_767_999_999, 1_795_352_263_709 + 86_400_001, 9_467_000_000_000_000_000, u64::MAX] {
            assert!(!possible(wrong), "{wrong}");
        }
        assert!(!is_possible_start(1_795_352_263_709, SystemTime::UNIX_EPOCH), "a node without a clock asks nothing");
    }
}
