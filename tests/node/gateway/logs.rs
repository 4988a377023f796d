//! Which object a link leads to, what its URL permits, and what the gateway asks S3 for.

use super::*;

/// The number of requests that S3 has had for the bucket of the logs.
fn log_requests(node: &Node) -> usize {
    node.sh("grep -c acme-logs /var/log/lab-s3.log || true").trim().parse().unwrap()
}

/// The same, once no more come: S3 notes a request after its answer.
fn requests_at_last(node: &Node) -> usize {
    let mut last = log_requests(node);
    wait("the end of the requests", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let before = std::mem::replace(&mut last, log_requests(node));
        (last == before).then_some(before)
    })
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_log_of_another_cluster_is_found_with_few_requests() {
    const OTHER: &str = "j-1OTHER2CLUSTER";
    let node = node();
    // The fixtures' applications ran on another cluster. Three more clusters ran others.
    node.sh(&format!("/opt/lab/s3 rm 's3://acme-logs/elasticmapreduce/{CLUSTER}/*'"));
    assert!(!node.s3_has(&format!("s3://acme-logs/elasticmapreduce/{CLUSTER}/")));
    node.sh(&format!("/opt/lab/s3 put-tree /srv/container-logs s3://acme-logs/elasticmapreduce/{OTHER}/containers/"));
    node.sh("echo a log | gzip > /srv/log.gz");
    for (cluster, timestamp) in
        [("j-AAAAAAAA", 1_795_000_000_000_u64), ("j-BBBBBBBB", 1_795_100_000_000), ("j-ZZZZZZZZ", 1_795_900_000_000)]
    {
        let container = format!("application_{timestamp}_0001/container_{timestamp}_0001_01_000001");
        node.sh(&format!(
            "/opt/lab/s3 put /srv/log.gz s3://acme-logs/elasticmapreduce/{cluster}/containers/{container}/stderr.gz"
        ));
    }
    wait("the gateway to be ready", || (get(&node, "/-/readyz", &[]).status == 200).then_some(()));

    let before = log_requests(&node);
    let answer = get(&node, LOG, &[]);
    assert_eq!(answer.status, 302, "{}", answer.body);
    assert!(answer.header("location").contains(&format!("/elasticmapreduce/{OTHER}/containers/")), "{}", answer.head);
    // HEAD in this cluster, a list of the clusters, one request for each of four, HEAD in the right one. The gateway does not wait for
    // those of other clusters.
    let first = requests_at_last(&node) - before;
    assert!((3..=7).contains(&first), "{first} requests");
    for _ in 0..20 {
        assert_eq!(get(&node, LOG, &[]).status, 302);
    }
    assert_eq!(requests_at_last(&node) - before, first, "nothing more is asked");
    // Another log of that cluster costs one request, for whether it exists.
    assert_eq!(get(&node, "/logs/container_1795352263709_0009_02_000001/stdout", &[]).status, 302);
    assert_eq!(requests_at_last(&node) - before, first + 1);

    // After a restart of the ResourceManager, ids of a cluster's applications contain another timestamp.
    node.sh("/opt/lab/s3 put /srv/log.gz s3://acme-logs/elasticmapreduce/j-BBBBBBBB/containers/application_1795200000000_0001/container_1795200000000_0001_01_000001/stderr.gz");
    let answer = get(&node, "/logs/container_1795200000000_0001_01_000001/stderr", &[]);
    assert!(answer.header("location").contains("/j-BBBBBBBB/"), "{}", answer.head);
    // The gateway reports an application that is on no cluster, and does not search for it at every click.
    let answer = get(&node, "/logs/container_1795300000000_0001_01_000001/stderr", &[]);
    assert_eq!(answer.status, 404);
    assert!(
        answer
            .body
            .contains(&format!("s3://acme-logs/elasticmapreduce/{CLUSTER}/containers/application_1795300000000_0001/"))
    );
    let before = log_requests(&node);
    assert_eq!(get(&node, "/logs/container_1795300000000_0001_01_000002/stderr", &[]).status, 404);
    assert!(log_requests(&node) - before <= 2);
    // The gateway's pages list the other clusters, too.
    let page = get(&node, "/logs/", &[]).body;
    assert!(page.contains(&format!("<a href=\"/logs/{OTHER}/\">{OTHER}</a>")), "{page}");
    let page = get(&node, &format!("/logs/{OTHER}/"), &[]).body;
    assert!(page.contains("application_1795352263709_0013"), "{page}");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn s3_accepts_the_signed_url_and_no_altered_one() {
    let node = node();
    let location = |path: &str| get(&node, path, &[]).header("location").to_string();
    let status = |url: &str| ask(&node, &[url]).status;

    let url = location(LOG);
    let answer = ask(&node, &["--compressed", &url]);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, "text/plain; charset=utf-8"), "{}", answer.head);
    assert!(answer.body.contains(SAYS));
    assert_eq!(status(&location(&format!("{LOG}?download=1"))), 200);
    // Names with special characters, in the short and in the long form of the path.
    for (name, path) in [
        ("stderr-2026-11-22-13.gz", "stderr-2026-11-22-13"),
        ("stdout.1.gz", "stdout.1.gz"),
        ("a%2Fb +c.log.gz", "a%252Fb%20+c.log"),
        ("größe~(1)'&=.log.gz", "gr%C3%B6%C3%9Fe~(1)'&=.log"),
    ] {
        let directory =
            format!("{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002");
        node.run(&[
            "bash",
            "-c",
            "echo \"$1\" | gzip > /srv/x.gz && /opt/lab/s3 put /srv/x.gz \"s3://acme-logs/elasticmapreduce/$2/$1\"",
            "sh",
            name,
            &directory,
        ])
        .expect(0);
        for path in [
            format!("/logs/container_1795352263709_0001_01_000002/{path}"),
            format!("/elasticmapreduce/{directory}/{path}"),
        ] {
            let answer = ask(&node, &["--compressed", &location(&path)]);
            assert_eq!((answer.status, answer.body.trim()), (200, name), "{path}");
        }
    }
    // EMR Serverless and EMR on EKS.
    for key in [
        "applications/00f1r2fo0l4l4l09/jobs/00f1r2fo0l4l4l0a/SPARK_DRIVER/stderr",
        "applications/00f1r2fo0l4l4l09/jobs/00f1r2fo0l4l4l0a/attempts/2/SPARK_EXECUTOR/17/stdout",
        "abcdefghij0123456789klmno/jobs/00000002u5ipstrq84e/containers/spark-00000002u5ipstrq84e/spark-00000002u5ipstrq84e-exec-1/stderr",
    ] {
        node.sh(&format!("/opt/lab/s3 put /srv/x.gz s3://acme-logs/elasticmapreduce/{key}.gz"));
        assert_eq!(status(&location(&format!("/logs/{key}"))), 200, "{key}");
    }

    // Credentials that live for some seconds: so does a URL.
    node.stand_in("rotate", json!({ "every": 8, "life": 16 }));
    node.sh(&format!("systemctl restart {UNIT}"));
    wait("the gateway to be ready", || (get(&node, "/-/readyz", &[]).status == 200).then_some(()));
    let url = location(LOG);
    let other_log = url.replace("_01_000002/stderr.gz", "_01_000003/stderr.gz");
    let as_html = url.replace("text%2Fplain", "text%2Fhtml");
    let longer = url.replace("X-Amz-Expires=", "X-Amz-Expires=1");
    let other_key = {
        let key = url.split("X-Amz-Credential=").nth(1).unwrap().split("%2F").next().unwrap();
        url.replace(key, "AKIAIOSFODNN7EXAMPLE")
    };
    let cut = url[..url.len() - 1].to_string() + if url.ends_with('0') { "1" } else { "0" };
    let tampered = [other_log, as_html, longer, other_key, cut];
    assert!(tampered.iter().all(|tampered| *tampered != url));
    // All in one command: the URL is good for some seconds only.
    let all = tampered.iter().chain([&url]).map(|url| format!("curl -s -o /dev/null -w '%{{http_code}} ' '{url}';"));
    let told = node.sh(&all.collect::<String>());
    let told: Vec<&str> = told.split_whitespace().collect();
    assert!(told[..5].iter().all(|status| ["400", "403"].contains(status)), "{told:?}");
    assert_eq!(told[5], "200", "the untouched one still is good");
    wait("the URL to end", || ([400, 403].contains(&status(&url))).then_some(()));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn streamed_logs_equal_the_stored_ones_and_need_little_memory() {
    let node = node();
    node.emr_shs(&["proxy", "install", "--mode", "stream"]).expect(0);
    let plain = get(&node, LOG, &[]);
    assert_eq!((plain.status, plain.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert!(plain.body.contains(SAYS) && !plain.head.contains("content-encoding"), "{}", plain.head);
    let packed = get(&node, LOG, &["--compressed"]);
    assert!(packed.body.contains(SAYS));
    assert_eq!(packed.header("content-encoding"), "gzip");
    // Downloads give the object as it is stored, whole and in part.
    let directory = format!(
        "s3://acme-logs/elasticmapreduce/{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002"
    );
    let same = |options: &str, stored: &str| {
        node.sh(&format!("cmp <(curl -sf {options} 'http://localhost:9977{LOG}?download=1') <(/opt/lab/s3 cat {directory}/stderr.gz {stored})"));
    };
    same("", "");
    same("-r 100-199", "| tail -c +101 | head -c 100");
    let part = get(&node, &format!("{LOG}?download=1"), &["-r", "100-199", "-o", "/dev/null", "-D", "-"]);
    assert_eq!(part.status, 206, "{}", part.head);
    assert!(part.header("content-range").starts_with("bytes 100-199/"));
    // Logs larger than the memory that the gateway may use: 400 MB that compress well, and 200 MB that do not.
    node.sh(&format!(
        "head -c 400000000 /dev/zero | gzip -1 > /srv/zeros.gz; head -c 200000000 /dev/urandom > /srv/noise.gz; \
         /opt/lab/s3 put /srv/zeros.gz {directory}/zeros.log.gz; /opt/lab/s3 put /srv/noise.gz {directory}/noise.log.gz"
    ));
    let base = "http://localhost:9977/logs/container_1795352263709_0001_01_000002";
    let size = |path: &str| {
        node.sh(&format!("curl -sf --limit-rate 400M {base}/{path} | wc -c")).trim().parse::<u64>().unwrap()
    };
    assert_eq!(size("zeros.log"), 400_000_000);
    assert_eq!(size("'noise.log?download=1'"), 200_000_000);
    let pid = node.sh(&format!("systemctl show -p MainPID --value {UNIT}"));
    let peak = node.sh(&format!("awk '/VmHWM/ {{print $2}}' /proc/{}/status", pid.trim()));
    assert!(peak.trim().parse::<u64>().unwrap() < 120_000, "{} kB", peak.trim());

    // When it is stopped, the gateway finishes the downloads that have begun.
    node.sh(&format!(
        "head -c 80000000 /dev/zero | gzip -1 > /srv/part.gz; /opt/lab/s3 put /srv/part.gz {directory}/part.log.gz"
    ));
    let streams = "curl -sf http://localhost:9977/-/metrics | grep -q '^emr_shs_gateway_streams 1$'";
    let script = format!(
        "curl -s --limit-rate 8M {base}/part.log | wc -c > /srv/got & until {streams} || ! kill -0 $!; do sleep 0.1; done; \
         systemctl stop {UNIT}; wait; cat /srv/got"
    );
    assert_eq!(node.sh(&script).trim(), "80000000");
    assert_eq!(node.sh(&format!("systemctl is-failed {UNIT} || true")).trim(), "inactive");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn files_that_are_no_logs_and_other_clusters_open_if_the_owner_allows_them() {
    const OTHER: &str = "j-1OTHER2CLUSTER";
    const DIRECTORY: &str = "/logs/container_1795352263709_0001_01_000002/";
    let node = node();
    node.sh("echo a log | gzip > /srv/log.gz");
    for (name, cluster, container) in [
        ("metrics.json", CLUSTER, "application_1795352263709_0001/container_1795352263709_0001_01_000002"),
        ("spark.log.1", CLUSTER, "application_1795352263709_0001/container_1795352263709_0001_01_000002"),
        ("stderr", OTHER, "application_1795000000000_0001/container_1795000000000_0001_01_000001"),
    ] {
        node.sh(&format!(
            "/opt/lab/s3 put /srv/log.gz s3://acme-logs/elasticmapreduce/{cluster}/containers/{container}/{name}.gz"
        ));
    }
    let status = |path: &str| get(&node, path, &[]).status;
    let other_log = "/logs/container_1795000000000_0001_01_000001/stderr";
    let other_list = format!("/logs/{OTHER}/containers/application_1795000000000_0001/");
    for file in ["stdout", "stderr.gz", "prelaunch.out", "spark.log.1"] {
        assert_eq!(status(&format!("{DIRECTORY}{file}")), 302, "{file}");
    }
    assert_eq!((status(other_log), status(&other_list)), (302, 200));
    let before = log_requests(&node);
    for path in [
        format!("{DIRECTORY}launch_container.sh"),
        format!("{DIRECTORY}launch_container.sh.gz?download=1"),
        format!("{DIRECTORY}%6caunch_container.sh"),
        format!("{DIRECTORY}directory.info"),
        format!(
            "/elasticmapreduce/{CLUSTER}/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002/launch_container.sh.gz"
        ),
    ] {
        let refused = get(&node, &path, &[]);
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.body.contains("does not serve the file") && refused.body.contains("--allow-file"), "{path}");
    }
    assert_eq!(log_requests(&node), before, "a refusal asks S3 for nothing");
    for list in [DIRECTORY.into(), format!("{DIRECTORY}stdout.7"), "/logs/application_1795352263709_0001/".to_string()]
    {
        let page = get(&node, &list, &[]).body;
        assert!(page.contains("stderr") && page.contains("files are not shown"), "{page}");
        assert!(!page.contains("launch_container.sh") && !page.contains("metrics.json"), "{page}");
    }

    // The page's own command allows what it refuses.
    let page = get(&node, &format!("{DIRECTORY}metrics.json"), &[]).body;
    let command = page.split("<pre>sudo emr-shs ").nth(1).and_then(|rest| rest.split("</pre>").next()).unwrap();
    assert_eq!(command, "proxy install --allow-file metrics.json");
    let plan = node.emr_shs(&["plan", "--event-logs", LOGS, "--allow-file", "metrics.json"]).expect(0).out();
    assert!(plan.contains("it serves also the files metrics.json"), "{plan}");
    let command: Vec<&str> = command.split(' ').chain(["--allow-cluster", "this"]).collect();
    node.emr_shs(&command).expect(0);
    assert_eq!(
        (status(&format!("{DIRECTORY}metrics.json")), status(&format!("{DIRECTORY}directory.info"))),
        (302, 403)
    );
    let says = node.emr_shs(&["status"]).expect(0).out();
    assert!(says.contains("also the files metrics.json; only logs of this cluster"), "{says}");
    // The gateway has found the other cluster before, and keeps what it finds over restarts.
    let page = get(&node, other_log, &[]);
    assert_eq!(page.status, 404);
    assert!(page.body.contains(&format!("looks only at these clusters: {CLUSTER}.")), "{}", page.body);
    let page = get(&node, &other_list, &[]);
    assert_eq!(page.status, 403);
    assert!(page.body.contains(&format!("proxy install --allow-cluster {OTHER}<")), "{}", page.body);
    let page = get(&node, "/logs/", &[]).body;
    assert!(page.contains(&format!("Executor logs of {CLUSTER}")) && !page.contains(OTHER), "{page}");
    assert_eq!(status(LOG), 302);

    node.emr_shs(&["proxy", "install", "--allow-cluster", OTHER]).expect(0);
    assert_eq!((status(other_log), status(&other_list), status(LOG)), (302, 200, 302));
    node.emr_shs(&["proxy", "install", "--allow-cluster", "j-1 OTHER"]).expect(2);
    node.emr_shs(&["proxy", "install", "--allow-cluster=", "--allow-file="]).expect(0);
    assert_eq!((status(&format!("{DIRECTORY}metrics.json")), status(other_log)), (403, 302));
}
