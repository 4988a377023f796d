//! The index: every application that event logs in S3 tell of, in a local database.
//!
//! `listing` finds logs, `queue` says which one is next, `reading` reads the two ends of each, `logs` and `attempts` keep what they
//! say in the database that `store` opens, `search` finds it, `snapshot` shares it with other nodes, and `update` does all of that in order.

mod application_logs;
mod attempts;
mod layout;
mod list;
mod listing;
mod logs;
mod places;
mod queue;
mod reading;
mod remote;
mod search;
mod snapshot;
mod sources;
mod store;
mod update;

pub(crate) use application_logs::{ApplicationLog, application_logs};
pub(crate) use attempts::LONGEST;
pub(crate) use layout::run_directory;
pub(crate) use list::{Application, Place, Run};
pub(crate) use remote::{Remote, Requests, Sent, missing_permission};
pub(crate) use search::{Hit, Order, Query, RunState, Total};
pub(crate) use snapshot::KEY as SNAPSHOT;
pub(crate) use sources::{MOST_SOURCES, source_name, without_covered};
pub(crate) use store::{Store, is_damage};
pub(crate) use update::{Progress, Source, Summary, Update, Wanted, now};
