//! The command line of `index`. Every doc comment on a command or an option is help text.

use super::options::S3Args;
use crate::index::{Order, RunState};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use std::time::Duration;

/// Subcommands of `index`.
#[derive(Subcommand)]
pub enum Index {
    /// Find applications by name, id or user, the newest first
    Search(SearchArgs),
    /// Show how many applications the index has, how fresh it is, and which logs cannot be read
    Status(IndexArgs),
    /// Read all event logs below the prefixes again
    Rebuild(IndexArgs),
}

/// Which index.
#[derive(Args, Clone)]
pub struct IndexArgs {
    /// S3 prefix with event logs, in any layout; repeatable, the first keeps the snapshot
    /// [default: the installed or configured one]
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS", value_delimiter = ',')]
    pub(crate) event_logs: Vec<String>,
    /// File of the index [default: emr-shs/index.sqlite in the cache directory of your account]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath, env = "EMR_SHS_DB")]
    pub(crate) db: Option<PathBuf>,
    /// Do not use the snapshot: the object below the first prefix with which machines share
    /// what they have read
    #[arg(long, env = "EMR_SHS_NO_SNAPSHOT")]
    pub(crate) no_snapshot: bool,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// Options of `index search`.
#[derive(Args)]
#[command(
    after_help = "Before each search, emr-shs lists the newest event logs in S3. If the last complete listing is older than \
--list-every says, emr-shs lists all of them. The first search of a prefix reads the beginning and the end of each log; Ctrl-C keeps what \
has been read, and the next search goes on.\n\nWithout --json, times are those of your time zone (TZ=UTC emr-shs index search shows UTC). With --json each \
line is one object, and times are UTC.\n\nExamples:\n  emr-shs index search etl sales --since 7d\n  \
emr-shs index search --user alice --state incomplete\n  emr-shs index search --since 2026-11-01 --until 2026-11-07 --limit 0 --json\n\n\
Exit codes: 0 done, 1 failed or interrupted, 2 usage error, 3 S3 did not give the list of a prefix or 1,000 event logs in a row, 5 no application \
fits, and some event logs are not read"
)]
pub struct SearchArgs {
    /// Words that all occur in the name, the id or the user
    #[arg(value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// Only applications of this user: the whole name, in any case of letters
    #[arg(long, value_name = "NAME", env = "EMR_SHS_SEARCH_USER")]
    pub(crate) user: Option<String>,
    /// Only applications that started at this time or later: 7d, 12h, today,
    /// yesterday, 2026-11-01, 2026-11-01T10:00 or 2026-11-01T10:00Z
    #[arg(long, value_name = "TIME", env = "EMR_SHS_SEARCH_SINCE")]
    pub(crate) since: Option<String>,
    /// Only applications that started before this time; a day without a time counts to its end
    #[arg(long, value_name = "TIME", env = "EMR_SHS_SEARCH_UNTIL")]
    pub(crate) until: Option<String>,
    /// Only applications in this state
    #[arg(long, value_name = "STATE", env = "EMR_SHS_SEARCH_STATE")]
    pub(crate) state: Option<RunState>,
    /// Only event logs below this URI, such as s3://my-bucket/spark-events/2026-11/
    #[arg(long, value_name = "URI", env = "EMR_SHS_SEARCH_SOURCE")]
    pub(crate) source: Option<String>,
    /// Which applications come first; every order but newest can take longer
    #[arg(long, value_name = "ORDER", default_value = "newest", env = "EMR_SHS_SEARCH_SORT")]
    pub(crate) sort: Order,
    /// At most so many applications; 0 for all
    #[arg(long, value_name = "N", default_value = "50", allow_negative_numbers = true, env = "EMR_SHS_SEARCH_LIMIT")]
    pub(crate) limit: u64,
    /// Leave out the first N applications
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        hide_default_value = true,
        allow_negative_numbers = true,
        env = "EMR_SHS_SEARCH_OFFSET"
    )]
    pub(crate) offset: u64,
    /// Show what the index knows, or what the snapshot says if the index is new, without asking S3
    /// for new logs
    #[arg(long, env = "EMR_SHS_SEARCH_NO_REFRESH")]
    pub(crate) no_refresh: bool,
    /// List all event logs again if the last complete listing is so many seconds old
    #[arg(long, value_name = "SECONDS", default_value = "900", value_parser = listing_age, env = "EMR_SHS_LIST_EVERY")]
    pub(crate) list_every: Duration,
    #[command(flatten)]
    pub(crate) index: IndexArgs,
}

fn listing_age(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(n @ 0..=604_800) => Ok(Duration::from_secs(n)),
        _ => Err("wanted seconds from 0 (always) to 604800 (a week)".into()),
    }
}
