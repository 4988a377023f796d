//! The open questions about EMR, which only a real cluster can answer: number, text and command are those of
//! `docs/emr.md §11`, and a test compares them.

use super::answers::{self as find, Answer};
use super::{Checks, container_logs};
use crate::host::Host;
use anyhow::Result;

/// One open question.
pub(crate) struct Question {
    pub number: u8,
    pub text: &'static str,
    /// How a person finds out, in the words of the page.
    pub how: &'static str,
    pub find: Find,
}

/// Who can answer a question.
pub(crate) enum Find {
    /// The node, without any change.
    Node(fn(&Host) -> Result<Answer>),
    /// What `doctor` has found out already.
    Checks(fn(&Checks) -> Option<Answer>),
    /// A person, who has to do something first.
    Person,
}

const fn question(number: u8, text: &'static str, find: Find, how: &'static str) -> Question {
    Question { number, text, how, find }
}

#[rustfmt::skip]
pub(crate) const QUESTIONS: &[Question] = &[
    question(1, "What is the text of EMR's unit for the history server?", Find::Node(find::unit), "`systemctl cat spark-history-server` and `systemctl show spark-history-server -p Type,MainPID,KillMode`"),
    question(2, "Does `Environment=` in a drop-in reach the Java process?", Find::Node(find::environment), "after `install`: `sudo grep -ac /usr/lib/emr-shs/jars /proc/$(pgrep -f deploy.history.HistoryServer)/cmdline` prints 1 if it does"),
    question(3, "Does service-nanny start a history server that somebody stopped?", Find::Node(find::service_nanny), "`sudo grep -l spark-history-server /etc/service-nanny/*`, then `sudo systemctl stop spark-history-server; sleep 180; pgrep -af HistoryServer` (no output: start it again)"),
    question(4, "On which releases does the server's class path contain hadoop-aws, the SDK and EMRFS from the start?", Find::Node(find::class_path), "before `install`: `ls -l /usr/lib/spark/jars` and `sudo emr-shs discover`"),
    question(5, "Do EMR's v2 bundles contain SLF4J and Netty under their original names?", Find::Node(find::bundles), "`unzip -l /usr/share/aws/aws-java-sdk-v2/aws-sdk-java-bundle-VERSION.jar 'org/slf4j/*' 'io/netty/*'`"),
    question(6, "Where are the jars on 5.x, on the newest 7.x and on 8.x?", Find::Node(find::jars), "`ls -l /usr/share/aws/aws-java-sdk* /usr/share/aws/emr/emrfs/* /usr/lib/hadoop/hadoop-aws*`"),
    question(7, "Which metadata files exist on 8.x?", Find::Node(find::metadata), "`ls -l /mnt/var/lib/info /emr/instance-controller/lib/info` and `sudo emr-shs discover`"),
    question(8, "What does a real job-flow-state.txt contain, during provisioning and after it?", Find::Node(find::job_flow_state), "in a bootstrap action and in a step: `sudo sed -n '/localInstance {/,$p' /emr/instance-controller/lib/info/job-flow-state.txt`"),
    question(9, "Does a reconfiguration keep the drop-in, the links and the gateway's files?", Find::Checks(find::drift), "after a change of any key of `spark-defaults`: `sudo emr-shs status`"),
    question(10, "Who owns spark-defaults.conf, and what is its mode?", Find::Node(find::defaults_owner), "`readlink -f /etc/spark/conf/spark-defaults.conf` and `stat -L -c '%U:%G %a' /etc/spark/conf/spark-defaults.conf`"),
    question(11, "What does spark-defaults.conf contain on 6.x, on 7.10 and newer, and on 8.x?", Find::Node(find::defaults), "`grep -e '^spark.history' -e '^spark.eventLog' -e '^spark.yarn' /etc/spark/conf/spark-defaults.conf`"),
    question(12, "Does EMR's Spark add APP_ID to executors on YARN, or contain keys of a newer Spark?", Find::Node(find::keys), "`curl -s localhost:18080/api/v1/applications/APPLICATION/allexecutors` (in cluster mode `APPLICATION/ATTEMPT`) shows `attributes`; `unzip -p /usr/lib/spark/jars/spark-core_*.jar 'org/apache/spark/internal/config/History$.class' >/tmp/keys; grep -ac logDirectory.names /tmp/keys`"),
    question(13, "Which Content-Type and Content-Encoding do uploaded logs carry?", Find::Node(container_logs::types), "`aws s3api head-object --bucket BUCKET --key PREFIX/CLUSTER/containers/APPLICATION/CONTAINER/stderr.gz`"),
    question(14, "Which names do the container logs of long applications have?", Find::Node(container_logs::names), "`aws s3 ls --recursive LOG-URI/CLUSTER/containers/APPLICATION/`"),
    question(15, "Does the default role allow `DescribeCluster`, and how does the answer spell the log URI?", Find::Checks(find::described), "`aws emr describe-cluster --cluster-id CLUSTER --query Cluster.LogUri`"),
    question(16, "EMR Serverless: does `spark.eventLog.dir` of the image win, and do executors carry CONTAINER_ID and APP_ID?", Find::Person, "after one job: `aws s3 ls s3://BUCKET/PREFIX/` and `sudo emr-shs doctor` (line `log pattern`)"),
    question(17, "Does a history server that reads `s3a://` on 7.0 to 7.8 lose its credentials after hours (§1.3)?", Find::Node(find::expired), "after 12 hours: `grep -c ExpiredToken /var/log/spark/spark-history-server.out`"),
    question(18, "On which of three primary nodes does a step run?", Find::Person, "a step with `command-runner.jar` and the argument `hostname`"),
    question(19, "With runtime roles: which role writes the event log?", Find::Checks(find::runtime_roles), "`aws emr add-steps --cluster-id CLUSTER --execution-role-arn ROLE-WITHOUT-PUTOBJECT --steps file://JOB.json`, then read its `stderr`"),
    question(20, "Does GuardDuty report a log link that somebody opens outside AWS?", Find::Person, "an hour after a laptop opened one log: `aws guardduty list-findings --detector-id DETECTOR`"),
    question(21, "Can user `spark` write to a directory in `fs.s3.buffer.dir`?", Find::Node(find::buffers), "`sudo -u spark test -w /mnt/s3 && echo yes` and `sudo emr-shs doctor` (line `buffer`)"),
    question(22, "What happens to log links in a page that `GetOnClusterAppUIPresignedURL` opens?", Find::Person, "`aws emr get-on-cluster-app-ui-presigned-url --cluster-id CLUSTER --on-cluster-app-ui-type SparkHistoryServer`; open the URL, then *Executors* of an application, and look at the address behind *stderr*"),
    question(23, "EMR Serverless: does each run log as §5.3 says, is executor 2 of the event log `SPARK_EXECUTOR/2`, and when are event logs of runs that go on uploaded?", Find::Person, "after one job: `aws s3 ls --recursive LOG-URI/applications/APPLICATION/jobs/RUN/` and `sudo emr-shs index status`"),
];
