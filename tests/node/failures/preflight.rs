//! What `install` finds before its first change. It then changes nothing.

use super::*;

on_profiles! {
    [emr_7_1: Emr71, emr_7_12: Emr712]
    [install_refuses_what_cannot_work_and_changes_nothing]
}

/// A line of shell that limits the role of the instance profile, and Hadoop with it, to these actions on the bucket.
fn role_may(actions: &str) -> String {
    format!(
        r#"/opt/lab/s3 user limited limitedsecret user >/dev/null 2>&1; echo limited >/etc/lab/session-user
        cp -p /etc/hadoop/conf/core-site.xml /root/
        sed -i 's/>labroot</>limited</; s/>labrootsecret</>limitedsecret</' /etc/hadoop/conf/core-site.xml
        echo '{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":[{actions}],"Resource":["arn:aws:s3:::acme-spark","arn:aws:s3:::acme-spark/*"]}}]}}' >/tmp/policy.json
        /opt/lab/s3 policy s3://acme-spark /tmp/policy.json"#
    )
}
const ROLE_MAY_ALL: &str = "/opt/lab/s3 policy s3://acme-spark; rm /etc/lab/session-user; cp -p /root/core-site.xml /etc/hadoop/conf/; /opt/lab/s3 rm 's3://acme-spark/*'";

fn install_refuses_what_cannot_work_and_changes_nothing(profile: Profile) {
    let node = Node::fresh(profile);
    let (class, jars, link, sdk, two_sdks) = match profile {
        Profile::Emr71 => (
            "com.amazon.ws.emr.hadoop.fs.EmrFileSystem",
            "/usr/share/aws/emr/emrfs/lib",
            "emrfs.jar",
            SDK_V1,
            "emr-shs install --event-logs s3a://acme-spark/events/",
        ),
        _ => ("org.apache.hadoop.fs.s3a.S3AFileSystem", "/usr/lib/hadoop", "hadoop-aws.jar", SDK_V2, INSTALL),
    };
    jar(&node, "/opt/sdk/sdk-1.jar", &[(sdk, b"")]);
    jar(&node, "/opt/sdk/sdk-2.jar", &[(sdk, b"")]);
    let no_jar = format!("mv {jars} {jars}.away");
    let jar_again = format!("mv {jars}.away {jars}");
    let a_file = format!("mkdir -p /usr/lib/emr-shs/jars; echo x >/usr/lib/emr-shs/jars/{link}");
    let not_ours = format!("emr-shs did not make /usr/lib/emr-shs/jars/{link}");
    let no_class = format!("no jar on this node contains {class}");
    let append = |line: &str| format!("cp -p {DEFAULTS} /root/; printf '%s\\n' '{line}' >>{DEFAULTS}");
    let restore = format!("cp -p /root/spark-defaults.conf {DEFAULTS}");
    let (malformed, cleaner) = (append(r"spark.acme.home C:\users"), append("spark.history.fs.cleaner.enabled TRUE"));
    let wrong_role = r#"sed -i.away 's/true/false/' /mnt/var/lib/info/instance.json"#;
    let right_role = "mv /mnt/var/lib/info/instance.json.away /mnt/var/lib/info/instance.json";
    let (nothing, list, no_delete) = (
        role_may(r#""s3:GetObject""#),
        role_may(r#""s3:ListBucket","s3:GetObject""#),
        role_may(r#""s3:ListBucket","s3:GetObject","s3:PutObject""#),
    );
    let case = |given, run, code, says, mend| Case { given, run, code, says, mend };
    try_all(
        &node,
        &[
            case(
                ":",
                "emr-shs install --event-logs s3://acme-nowhere/x/",
                3,
                &["there is no bucket acme-nowhere", "aws s3 mb"],
                ":",
            ),
            case(
                &nothing,
                INSTALL,
                3,
                &["the role EMR_EC2_DefaultRole is not allowed to list", "s3:ListBucket"],
                ROLE_MAY_ALL,
            ),
            case(
                &list,
                INSTALL,
                3,
                &["the role EMR_EC2_DefaultRole is not allowed to write", "s3:PutObject", "every Spark job"],
                ROLE_MAY_ALL,
            ),
            case(
                &no_delete,
                INSTALL,
                3,
                &[
                    "is not allowed to delete",
                    "s3:DeleteObject",
                    "2 objects may be left in S3",
                    "aws s3 rm s3://acme-spark/events/.emr-shs-probe-",
                ],
                ROLE_MAY_ALL,
            ),
            case(&no_jar, INSTALL, 3, &[&no_class, "--jar"], &jar_again),
            case(
                "ln -s /opt/sdk/sdk-?.jar /usr/lib/spark/jars/",
                two_sdks,
                3,
                &["sdk-1.jar", "sdk-2.jar", "NoSuchMethodError"],
                "rm /usr/lib/spark/jars/sdk-?.jar",
            ),
            case(&malformed, INSTALL, 3, &["cannot be read by Spark", "\\users"], &restore),
            case(
                &cleaner,
                INSTALL,
                3,
                &["would delete event logs", "--set spark.history.fs.cleaner.enabled=false"],
                &restore,
            ),
            case(&a_file, INSTALL, 3, &[&not_ours, "a regular file"], "rm -r /usr/lib/emr-shs"),
            case(
                "mkdir /root/unit; mv /etc/systemd/system/spark-history-server.service /etc/init.d/spark-history-server /root/unit/; systemctl daemon-reload",
                INSTALL,
                3,
                &["has no spark-history-server.service"],
                "mv /root/unit/spark-history-server.service /etc/systemd/system/; mv /root/unit/spark-history-server /etc/init.d/; rmdir /root/unit; systemctl daemon-reload",
            ),
            case(
                ":",
                "unshare -m bash -c 'mount -t tmpfs none /run/systemd; exec emr-shs install --event-logs s3://acme-spark/events/'",
                3,
                &["does not run systemd"],
                ":",
            ),
            case(
                ":",
                "su hadoop -s /bin/bash -c 'emr-shs install --event-logs s3://acme-spark/events/'",
                3,
                &["only root may", "sudo emr-shs install --event-logs s3://acme-spark/events/"],
                ":",
            ),
            case(
                wrong_role,
                INSTALL,
                3,
                &["not the cluster's primary node", "instance.json", "--if-primary"],
                right_role,
            ),
            case(
                wrong_role,
                "emr-shs install --if-primary",
                0,
                &["not the primary node: nothing to do here"],
                right_role,
            ),
            case(
                "mv /mnt/var/lib/info /root/info; mv /emr /emr.away",
                INSTALL,
                3,
                &["does not look like an EMR node", "--force"],
                "mv /root/info /mnt/var/lib/info; mv /emr.away /emr",
            ),
            case(
                "systemctl stop lab-s3",
                INSTALL,
                3,
                &["S3 could not be asked", "127.0.0.1:7070"],
                "systemctl start lab-s3; /opt/lab/s3 mb s3://acme-spark",
            ),
        ],
    );
}
