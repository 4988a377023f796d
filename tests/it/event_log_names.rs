//! Which objects below a prefix count as event logs, and which application's they are: as the history server decides.

use emr_shs::testing::{Attempt, EventLogName, Version};

fn read(name: &str, size: i64, spark: &str) -> Option<EventLogName> {
    EventLogName::of_entry(name, size, Version::parse(spark).as_ref())
}

#[test]
fn any_name_that_the_server_would_list_is_an_event_log() {
    let app = "application_1795352263709_0001";
    // The entry, its stem, and whether its name says that it is not compressed.
    for (entry, stem, is_plain) in [
        (app, app, true),
        ("application_1795352263709_0001.zstd", app, false),
        ("application_1795352263709_0001.lz4.inprogress", app, false),
        ("application_1795352263709_0001.lzf", app, false),
        ("application_1795352263709_0001.inprogress", app, true),
        ("application_1795352263709_0001_2.snappy", "application_1795352263709_0001_2", false),
        ("eventlog_v2_application_1795352263709_0001/", app, false),
        ("eventlog_v2_00f5trm1fv0d3p0b/", "00f5trm1fv0d3p0b", false),
        ("00f5trm1fv0d3p0b", "00f5trm1fv0d3p0b", true),
        ("jr_2a8f4f6e7c0b1d3e5f708192a3b4c5d6", "jr_2a8f4f6e7c0b1d3e5f708192a3b4c5d6", true),
        ("local-1795352263709", "local-1795352263709", true),
        ("spark-0c5f7bd7b9f34a4ba3b1", "spark-0c5f7bd7b9f34a4ba3b1", true),
        ("app-20261122203655-0000.zstd", "app-20261122203655-0000", false),
        ("nightly", "nightly", true),
        ("_0001", "_0001", true),
        ("application_1795352263709_0001.gz", "application_1795352263709_0001.gz", false),
    ] {
        for spark in ["3.0.1", "3.1.2", "3.3.4", "3.5.8", "4.0.2", "4.1.1"] {
            let read = read(entry, 10, spark).unwrap_or_else(|| panic!("{entry} is an event log for Spark {spark}"));
            assert_eq!((read.stem.as_str(), read.is_plain), (stem, is_plain), "{entry}");
            assert_eq!(read.is_rolling, entry.ends_with('/'), "{entry}");
        }
        assert_eq!(read(entry, 10, "2.4.8").is_some(), !entry.ends_with('/'), "{entry} for Spark 2.4");
    }
}

#[test]
fn what_the_server_passes_over_is_no_event_log() {
    for entry in
        ["", ".emr-shs-probe-1-2", ".5b2c6b1e-0000", "other/", "eventlog_v2_/", "/", "a\u{1}b", "eventlog_v2_a\nb/"]
    {
        assert_eq!(read(entry, 10, "3.5.8"), None, "{entry:?}");
    }
    // An empty object has no events: markers of directories, and logs of applications that have just begun.
    for entry in ["application_1795352263709_0001.inprogress", "events_$folder$", "_SUCCESS"] {
        assert_eq!(read(entry, 0, "3.5.8"), None, "{entry}");
    }
}

#[test]
fn a_name_that_spark_does_not_give_is_told_from_the_others() {
    let is_of_spark = |entry: &str| read(entry, 10, "3.5.8").unwrap().is_of_spark;
    for entry in ["README", "readme.txt", "manifest.json", "_SUCCESS", "a b", "jobs.csv", "_delta_log"] {
        assert!(!is_of_spark(entry), "{entry}");
    }
    for entry in ["application_1_0001.gz", "00f5trm1fv0d3p0b", "jr_0", "nightly", "local-1.zstd.inprogress"] {
        assert!(is_of_spark(entry), "{entry}");
    }
}

#[test]
fn an_attempt_has_the_name_that_spark_gives_to_its_event_log() {
    let stem = |application: &str, attempt: Option<&str>| {
        Attempt { application: application.into(), attempt: attempt.map(Into::into), updated: None, spark: None }.stem()
    };
    assert_eq!(stem("application_1795352263709_0009", Some("2")), "application_1795352263709_0009_2");
    assert_eq!(stem("local-1795352263709", None), "local-1795352263709");
    assert_eq!(stem("My App: {1}/x.y", None), "my-app--_1_-x_y");
}
