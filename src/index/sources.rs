//! The sources that somebody names, before the database knows them.

use crate::aws::uri::EventLogs;

/// How many sources an index can have: each has connections and threads of its own.
pub(crate) const MOST_SOURCES: usize = 32;

/// How the database names a source: the schemes s3 and s3a mean the same place.
pub(crate) fn source_name(uri: &EventLogs) -> String {
    EventLogs { scheme: "s3".into(), ..uri.clone() }.to_string()
}

/// Without a source that lies below another one, or is named twice: its event logs would be listed twice.
pub(crate) fn without_covered<T>(sources: Vec<T>, uri: impl Fn(&T) -> &EventLogs) -> Vec<T> {
    let names: Vec<String> = sources.iter().map(|source| source_name(uri(source))).collect();
    let is_covered = |at: usize| {
        let covers = |(other, name): (usize, &String)| {
            names[at].starts_with(name) && (names[at].len() > name.len() || other < at)
        };
        names.iter().enumerate().any(covers)
    };
    let kept: Vec<bool> = (0..names.len()).map(|at| !is_covered(at)).collect();
    sources.into_iter().zip(kept).filter_map(|(source, is_kept)| is_kept.then_some(source)).collect()
}
