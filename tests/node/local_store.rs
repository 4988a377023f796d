//! The local store brings no fault that a history server without a store does not have.

use crate::helpers::documented_keys::{documented_keys, planned_keys};
use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::wait;
use serde_json::Value;

const SERVER: &str = "spark-history-server";
/// An application of one job, whose event log these tests write in parts.
const EVENT_LOG: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/yarn/eventlogs/application_1795352263709_0003");
const ID: &str = "application_1795352263709_0900";

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn an_application_opened_while_it_ran_is_shown_as_it_ended() {
    let node = Node::fresh(Profile::Emr712);
    node.copy(EVENT_LOG, "/srv/log");
    // One job of a rolling event log, which the history server lists while the application runs.
    node.sh(&format!(
        "sed 's/application_1795352263709_0003/{ID}/g' /srv/log >/srv/whole; head -n 6 /srv/whole >/srv/part"
    ));
    let put = |file: &str, name: &str| node.sh(&format!("/opt/lab/s3 put {file} {LOGS}eventlog_v2_{ID}/{name}_{ID}"));
    put("/srv/part", "events_1");
    node.sh(&format!("/opt/lab/s3 put /dev/null {LOGS}eventlog_v2_{ID}/appstatus_{ID}.inprogress"));
    let often = ["--set", "spark.history.fs.update.interval=1s"];
    let ran = node.emr_shs(&[&["install", "--event-logs", LOGS], &often[..]].concat()).expect(0);
    let says = ran.err().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(says.contains("contains rolling event logs, which other clusters or single jobs write"), "{says}");
    node.wait_for_applications(1);
    let jobs = || {
        let answer = node.get(&format!("/api/v1/applications/{ID}/jobs")).unwrap();
        serde_json::from_str::<Value>(&answer).unwrap().as_array().unwrap().len()
    };
    assert_eq!(jobs(), 0);
    node.sh(&format!("systemctl restart {SERVER}"));
    put("/srv/whole", "events_1");
    put("/dev/null", "appstatus");
    node.sh(&format!("/opt/lab/s3 rm {LOGS}eventlog_v2_{ID}/appstatus_{ID}.inprogress"));
    wait("the end of the application", || {
        node.get("/api/v1/applications").filter(|list| list.contains("\"completed\" : true"))
    });
    assert_eq!(jobs(), 1);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_store_fits_hardened_and_small_file_systems() {
    let node = Node::fresh(Profile::Emr712);
    // Java must not load a library from /tmp.
    node.sh("mount -t tmpfs -o noexec,mode=1777 none /tmp");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.sh("ls /mnt/emr-shs/java-tmp | grep -c librocksdb").trim(), "1");
    node.emr_shs(&["doctor"]).expect(0);
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.sh("test ! -e /mnt/emr-shs && echo gone").trim(), "gone");
    // Nor from /mnt: no store, and the server works without one.
    node.sh("mount --bind /mnt /mnt; mount -o remount,noexec,bind /mnt");
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let why = "/tmp is mounted noexec, so Java cannot load the store's native library from there";
    assert!(ran.err().replace('\n', " ").contains(why), "{}", ran.err());
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh("umount /mnt; umount -l /tmp");

    // A disk of 3 GB: sixty applications that are opened leave a tenth of it free.
    node.sh(
        "mkdir /root/mnt; cp -a /mnt/. /root/mnt/; mount -t tmpfs -o size=3000m none /mnt; cp -a /root/mnt/. /mnt/",
    );
    node.copy(EVENT_LOG, "/srv/log");
    node.sh(&format!(
        "mkdir /srv/logs; for n in $(seq 100 159); do sed s/_0003/_0$n/g /srv/log >/srv/logs/application_1795352263709_0$n; done; \
         /opt/lab/s3 put-tree /srv/logs/ {LOGS}"
    ));
    let planned = planned_keys(&node.emr_shs(&["plan", "--event-logs", LOGS, "--json"]).expect(0).json(), "acme-spark");
    assert!(
        planned.contains("spark.history.retainedApplications") && planned.contains("spark.history.store.maxDiskUsage")
    );
    let unknown: Vec<_> = planned.difference(&documented_keys()).cloned().collect();
    assert!(unknown.is_empty(), "not in the table of docs/install.md: {unknown:?}");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.wait_for_applications(60);
    node.sh("for n in $(seq 100 159); do curl -sf localhost:18080/api/v1/applications/application_1795352263709_0$n/jobs >/dev/null; done");
    let free: u64 = node.sh("df -m --output=avail /mnt | tail -1").trim().parse().unwrap();
    assert!(free > 300, "{free} MB are free");
    node.emr_shs(&["plan", "--check"]).expect(0);
    let doctor = node.emr_shs(&["doctor"]).expect(0).out();
    assert!(!doctor.contains("can still take"), "{doctor}");
    // Somebody raises a limit beyond what the disk has.
    node.sh("sed -i 's/^spark.history.retainedApplications .*/spark.history.retainedApplications 500/' /etc/spark/conf/spark-defaults.conf");
    let doctor = node.emr_shs(&["doctor"]).expect(3).out();
    assert!(doctor.contains("the local store can still take"), "{doctor}");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_server_that_is_killed_while_it_reads_lists_everything_at_last() {
    const LOG: &str = "/var/log/spark/spark-history-server.out";
    let node = Node::fresh(Profile::Emr712);
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.copy(EVENT_LOG, "/srv/log");
    node.sh(&format!(
        "mkdir /srv/logs; for n in $(seq 1000 1999); do sed s/_0003/_$n/g /srv/log >/srv/logs/application_1795352263709_$n; done; \
         /opt/lab/s3 put-tree /srv/logs/ {LOGS}"
    ));
    let stop = format!("systemctl stop {SERVER} || true; : >{LOG}");
    let start = format!("systemctl reset-failed {SERVER}; systemctl start {SERVER}");
    let parsed = || node.sh(&format!("grep -c 'Finished parsing' {LOG} || true")).trim().parse::<u32>().unwrap();
    let kill_when = |condition: &str| {
        let pid = node.history_server_pid();
        node.sh(&format!("until {condition}; do sleep 0.05; done; kill -9 {pid}"));
        // Before systemd knows that, it starts nothing.
        node.wait_until_dead();
    };
    // It notes all new event logs, and then parses one after the other.
    node.sh(&format!("{stop}; {start}"));
    kill_when(&format!("grep -q 'Finished parsing' {LOG}"));
    assert!(parsed() < 1000, "it was killed too late");
    node.sh(&start);
    node.wait_for_applications(1000);

    // The list stays where the server was stopped after it had the time to read everything.
    let restart = || {
        node.sh(&format!("{stop}; {start}"));
        node.wait_for_applications(1000);
    };
    // The server lists an application, and then notes that it has parsed the event log.
    let wait_until_all_are_parsed = || wait("all event logs to be parsed", || (parsed() == 1000).then_some(()));
    let hours_later = "touch -d '2 hours ago' /mnt/emr-shs/store-*/emr-shs-started";
    node.sh(hours_later);
    restart();
    assert_eq!(parsed(), 0);
    node.emr_shs(&["doctor"]).expect(0);
    restart();
    wait_until_all_are_parsed();
    // Whoever kills the server stops it next.
    node.sh(hours_later);
    kill_when("true");
    restart();
    wait_until_all_are_parsed();
    // A server of other event logs has left the store meanwhile.
    node.sh(hours_later);
    node.emr_shs(&["install", "--event-logs", "s3://acme-spark/elsewhere/"]).expect(0);
    node.sh(&format!("{stop}; {start}"));
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.wait_for_applications(1000);
    wait_until_all_are_parsed();
}
