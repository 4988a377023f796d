//! The history server through the gateway: links of every Spark, and applications that take long to open.

use super::*;

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn links_of_spark_2_lead_to_the_gateway_and_slow_applications_to_a_page_that_says_so() {
    let node = Node::fresh(Profile::Emr712);
    node.upload_event_logs(LOGS);
    node.upload_container_logs(LOG_URI, false);
    let log = "application_1795352263709_2401_1";
    node.make_event_log_of_spark_2(&format!("/srv/{log}"));
    node.sh(&format!("/opt/lab/s3 put /srv/{log} {LOGS}{log}"));
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let executors = "/api/v1/applications/application_1795352263709_2401/1/allexecutors";
    wait("the application of Spark 2", || (get(&node, executors, &[]).status == 200).then_some(()));
    let direct = node.sh(&format!("curl -s http://localhost:18080{executors}"));
    assert!(direct.contains("/node/containerlogs/container_1795352263709_0001_01_000002/"), "{direct}");
    let through = get(&node, executors, &[]).body;
    assert!(through.contains(r#""/logs/container_1795352263709_0001_01_000002/stderr""#), "{through}");
    assert!(!through.contains("containerlogs"), "{through}");

    // The history server reads a large event log: it does not answer, and a browser is told so.
    let page = "/history/application_1795352263709_0001/1/jobs/";
    let browser = ["-H", "Accept: text/html,application/xhtml+xml"];
    let pid = node.history_server_pid();
    node.sh(&format!("kill -STOP {pid}"));
    for _ in 0..2 {
        let answer = get(&node, page, &browser);
        assert_eq!(answer.status, 503, "{}", answer.head);
        assert!(answer.body.contains("is opening this application") && answer.body.contains("http-equiv=\"refresh\""));
    }
    assert_eq!(get(&node, LOG, &[]).status, 302, "logs open meanwhile");
    attack(&node, &["openings"]);
    node.sh(&format!("kill -CONT {pid}"));
    wait("the page", || (get(&node, page, &browser).status == 200).then_some(()));

    behind_a_path::every_page_opens(&node);

    // Pages whose links begin with a path of a proxy work through the gateway, too.
    node.sh("echo 'spark.ui.proxyBase /spark' >>/etc/spark/conf.dist/spark-defaults.conf");
    node.emr_shs(&["install", "--set", "spark.history.fs.update.interval=3s"]).expect(0);
    node.emr_shs(&["restart"]).expect(0);
    let front = get(&node, "/", &[]).body;
    let style = "/spark/static/webui.css";
    assert!(front.contains(style), "{front}");
    assert!(get(&node, style, &[]).header("content-type").starts_with("text/css"));
    node.emr_shs(&["doctor"]).expect(0);
    node.emr_shs(&["verify"]).expect(0);
    // With the list at `/`, the history server's own page has a path of its own.
    node.emr_shs(&["install", "--index"]).expect(0);
    for path in ["/history-server/", "/spark/history-server/"] {
        let page = get(&node, path, &[]);
        assert!(page.status == 200 && page.body.contains(style), "{path}: {} {}", page.head, page.body);
    }
    node.emr_shs(&["install", "--index=false"]).expect(0);

    // While the history server is down, another account's program answers in its place, and gets nothing.
    node.sh("systemctl stop spark-history-server || true");
    let script = "import http.server as h\nclass H(h.BaseHTTPRequestHandler):\n  def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write(b'squatter')\nh.HTTPServer(('', 18080), H).serve_forever()";
    let mut squatter = node.spawn(&["runuser", "-u", "nobody", "--", "python3", "-c", script]);
    wait("the squatter", || node.sh("curl -s http://localhost:18080/ || true").contains("squatter").then_some(()));
    let answer = get(&node, "/", &["-H", "Cookie: emr-shs.secret=1"]);
    assert_eq!(answer.status, 502, "{}", answer.head);
    assert!(
        answer.body.contains("a program of another account") && answer.body.contains("wanted one of spark"),
        "{}",
        answer.body
    );
    node.sh("pkill -u nobody python3 || true");
    squatter.wait().unwrap();
}
