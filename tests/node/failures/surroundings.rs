//! A bucket in another region, and the disk of the local store.

use super::*;

on_profiles! {
    [emr_7_1: Emr71, emr_7_12: Emr712]
    [a_bucket_in_another_region, the_local_store_is_rebuilt_when_it_is_broken]
}

fn a_bucket_in_another_region(profile: Profile) {
    let node = Node::fresh(profile);
    // A second S3 server, of region eu-central-1. As S3 does, a proxy before it answers requests that are signed for another
    // region with 301 and the bucket's region in a header.
    let stub = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/region_redirect.py");
    node.copy(stub, "/opt/lab/region_redirect.py");
    node.sh(
        "mkdir /srv/central; sed 's/7070/7072/; s/eu-west-3/eu-central-1/' /etc/lab/s3.env >/tmp/central.env
         systemd-run -q --unit lab-central --setenv=ROOT_ACCESS_KEY=labroot --setenv=ROOT_SECRET_KEY=labrootsecret /opt/lab/versitygw --port 127.0.0.1:7072 --region eu-central-1 posix /srv/central
         systemd-run -q --unit lab-redirect python3 /opt/lab/region_redirect.py 7073 7072 eu-central-1
         sed -i 's/127.0.0.1:7070/127.0.0.1:7073/' /etc/hadoop/conf/core-site.xml",
    );
    wait("the second store", || {
        (node.run(&["bash", "-c", "AWS_REGION=eu-central-1 LAB_S3_PORT=7072 /opt/lab/s3 mb s3://acme-central"]).code()
            == 0)
            .then_some(())
    });
    node.sh("until : </dev/tcp/127.0.0.1/7073; do sleep 0.1; done 2>/dev/null");
    let keys = "AWS_ACCESS_KEY_ID=labroot AWS_SECRET_ACCESS_KEY=labrootsecret";
    // Hadoop's configuration leads the log gateway to the second store, too, and that store has no container logs.
    let install = format!("{keys} emr-shs install --event-logs s3a://acme-central/events/ --no-proxy");
    let ran = node.run(&["bash", "-c", &install]).expect(0);
    assert!(ran.err().contains("spark.hadoop.fs.s3a.bucket.acme-central.endpoint.region"), "{}", ran.err());
    assert_eq!(node.reads(), "s3a://acme-central/events/");
}

fn the_local_store_is_rebuilt_when_it_is_broken(profile: Profile) {
    let node = Node::fresh(profile);
    // Without room on the disk there is no store, and `install` says that it is missing.
    node.sh("mkdir /root/mnt; cp -a /mnt/. /root/mnt/; mount -t tmpfs -o size=64m none /mnt; cp -a /root/mnt/. /mnt/");
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(5);
    let no_room = "/mnt has 63 MB free, and a local store needs 893 MB";
    assert!(ran.err().contains("missing local store"), "{}", ran.err());
    assert!(ran.err().replace('\n', " ").contains(no_room), "{}", ran.err());
    assert!(node.emr_shs(&["status"]).expect(0).out().contains(no_room));
    assert!(!node.sh(&format!("cat {DEFAULTS}")).contains("spark.history.store"));
    // A file system that is mounted read-only.
    node.sh("umount -l /mnt; mount --bind /mnt /mnt; mount -o remount,ro,bind /mnt");
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("/mnt is mounted read-only"), "{status}");
    node.sh("umount -l /mnt");

    // With room, the next `install` adds the store, and the server uses it.
    node.emr_shs(&["install"]).expect(0);
    assert_eq!(node.reads(), LOGS);
    assert_eq!(
        node.sh("ls -d /mnt/emr-shs/store-acme-spark-events-905771e932ca/listing.rdb").trim(),
        "/mnt/emr-shs/store-acme-spark-events-905771e932ca/listing.rdb"
    );
    node.upload_event_logs(LOGS);
    node.emr_shs(&["restart"]).expect(0);
    node.wait_for_applications(9);

    // The server rebuilds a store of Spark before 3.4, and one of another directory.
    node.emr_shs(&["install", "--set", "spark.history.store.serializer=JSON"]).expect(0);
    node.wait_for_applications(9);
    node.emr_shs(&["install", "--set", "spark.history.store.serializer="]).expect(0);
    assert!(node.sh(&format!("cat {DEFAULTS}")).contains("PROTOBUF"));
    node.wait_for_applications(9);
    node.emr_shs(&["install", "--event-logs", "s3://acme-spark/elsewhere/"]).expect(0);
    assert_eq!(node.reads(), "s3://acme-spark/elsewhere/");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.wait_for_applications(9);

    // The server rebuilds a broken store.
    for broken in [
        "rm -rf /mnt/emr-shs/store-acme-spark-events-905771e932ca/listing.rdb/*.sst /mnt/emr-shs/store-acme-spark-events-905771e932ca/listing.rdb/CURRENT",
        "echo broken >/mnt/emr-shs/store-acme-spark-events-905771e932ca/listing.rdb/CURRENT",
    ] {
        node.sh("systemctl stop spark-history-server || true");
        node.sh(broken);
        node.emr_shs(&["restart"]).expect(0);
        node.wait_for_applications(9);
    }
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.sh("test ! -e /mnt/emr-shs && echo gone").trim(), "gone");
}
