//! Several log URIs: one that is gone or denied hides nothing of the others, and everybody names it.

use super::*;

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn one_bad_log_uri_hides_nothing_of_the_others() {
    const GOOD: &str = "s3://acme-logs/elasticmapreduce/";
    const GONE: &str = "s3://acme-gone/logs/";
    const CLOSED: &str = "s3://acme-closed/logs/";
    let node = node();
    node.sh("/opt/lab/s3 mb s3://acme-closed; echo x | gzip >/srv/x.gz");
    let serverless = "applications/00f1r2fo0l4l4l09/jobs/00f1r2fo0l4l4l0a/SPARK_DRIVER";
    node.sh(&format!("/opt/lab/s3 put /srv/x.gz {GOOD}{serverless}/stderr.gz"));
    // The node's role may read and list one bucket.
    node.sh(
        r#"/opt/lab/s3 user limited limitedsecret user >/dev/null 2>&1; echo limited >/etc/lab/session-user
        echo '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::acme-logs","arn:aws:s3:::acme-logs/*"]}]}' >/tmp/policy.json
        /opt/lab/s3 policy s3://acme-logs /tmp/policy.json"#,
    );
    let directory = "containers/application_1795352263709_0001/container_1795352263709_0001_01_000002";
    let opening = [
        LOG.to_string(),
        format!("/logs/{CLUSTER}/{directory}/stderr.gz"),
        format!("/elasticmapreduce/{CLUSTER}/{directory}/stderr.gz"),
        format!("/logs/{serverless}/stderr"),
    ];
    let listing = [
        "/logs/".to_string(),
        format!("/logs/{CLUSTER}/"),
        "/logs/application_1795352263709_0001/".into(),
        "/logs/container_1795352263709_0001_01_000002/".into(),
        format!("/logs/{CLUSTER}/{directory}/"),
        format!("/logs/{serverless}/"),
    ];
    for uris in [[GONE, GOOD, CLOSED], [CLOSED, GOOD, GONE], [GOOD, GONE, CLOSED]] {
        let options = uris.iter().flat_map(|uri| ["--log-uri", uri]);
        // `install` tells which of them do not open, and installs the gateway.
        let ran = node.emr_shs(&["proxy", "install"].into_iter().chain(options).collect::<Vec<_>>()).expect(5);
        let said = format!("{}{}", ran.out(), ran.err());
        let names = |text: &str, what: &str| {
            assert!(text.contains(&format!("{GONE}: there is no bucket acme-gone")), "{what}: {text}");
            assert!(text.contains(&format!("{CLOSED}: S3 denies s3:")), "{what}: {text}");
            assert!(!text.contains(&format!("{GOOD}: ")), "{what}: {text}");
        };
        names(&said, "install");
        let ready = get(&node, "/-/readyz", &[]);
        assert_eq!(ready.status, 200, "{}", ready.body);
        names(&ready.body, "readyz");
        names(&node.emr_shs(&["status"]).expect(0).out(), "status");
        let doctor = node.emr_shs(&["doctor"]);
        names(&doctor.out(), "doctor");
        for path in &opening {
            let answer = get(&node, path, &[]);
            assert_eq!(answer.status, 302, "{uris:?} {path}: {}", answer.body);
        }
        for path in &listing {
            let answer = get(&node, path, &[]);
            assert_eq!(answer.status, 200, "{uris:?} {path}: {}", answer.body);
        }
        names(&get(&node, "/logs/", &[]).body, "the page");
        // What is nowhere can be below those that do not answer.
        for path in [
            "/logs/container_1795300000000_0001_01_000001/stderr".to_string(),
            format!(
                "/logs/{CLUSTER}/containers/application_1795300000000_0001/container_1795300000000_0001_01_000001/stderr.gz"
            ),
            format!("/logs/{serverless}/stdout"),
            "/logs/application_1795300000000_0001/".into(),
        ] {
            let answer = get(&node, &path, &[]);
            assert_eq!(answer.status, 502, "{uris:?} {path}: {}", answer.body);
            names(&answer.body, &path);
        }
        // A log that is missing in a cluster that is known is missing.
        assert_eq!(confirmed(&node, &format!("{LOG}.9")).status, 404);
    }
    // The only log URI is denied.
    let ran = node.emr_shs(&["proxy", "install", "--log-uri", CLOSED]).expect(5);
    assert!(ran.err().contains("S3 denies s3:ListBucket"), "{}", ran.err());
    assert_eq!(get(&node, "/-/readyz", &[]).status, 503);
    assert_eq!(get(&node, "/logs/", &[]).status, 403);
}
