//! The keys that docs/install.md lists under “The changes”.

use std::collections::BTreeSet;

/// The keys of spark-defaults.conf in the table. The bucket of event logs is `NAME`.
pub fn documented_keys() -> BTreeSet<String> {
    let page = include_str!("../../docs/install.md");
    let section = page.split("\n## The changes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    words.filter(|word| word.starts_with("spark.")).map(str::to_string).collect()
}

/// The keys of a plan (`plan --json`), as the table names them.
pub fn planned_keys(plan: &serde_json::Value, bucket: &str) -> BTreeSet<String> {
    let rows = plan["changes"].as_array().unwrap().iter();
    let names = rows.map(|row| row["name"].as_str().unwrap()).filter(|name| name.starts_with("spark."));
    names.map(|name| as_documented(name, bucket)).collect()
}

pub fn as_documented(key: &str, bucket: &str) -> String {
    key.replace(&format!(".bucket.{bucket}."), ".bucket.NAME.")
}
