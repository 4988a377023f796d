//! The values of file_table.html and absence.html, which several pages include.

use super::format::{size, span, time};
use crate::gateway::archive::Object;
use crate::gateway::base;
use crate::gateway::history_server::api::ApplicationInfo;
use crate::gateway::presign::encode_value;
use crate::gateway::route::LogDirectory;
use crate::gateway::served::Served;
use std::time::{Duration, SystemTime};

/// How long after its end an application's logs can still be on their way: EMR uploads every five
/// minutes, and an upload takes time.
const UPLOAD_TIME: Duration = Duration::from_secs(900);

/// One log, as file_table.html and containers.html show it.
pub(super) struct FileRow<'a> {
    pub(super) href: String,
    /// The name without the `.gz` that EMR adds.
    pub(super) label: &'a str,
    pub(super) name: &'a str,
    pub(super) size: String,
    pub(super) uploaded: String,
}

impl<'a> FileRow<'a> {
    /// The rows, and how many files have none because the gateway does not serve them.
    pub(super) fn of_directory(directory: &LogDirectory, objects: &'a [Object], served: &Served) -> (Vec<Self>, usize) {
        let row = |object: &'a Object| match directory {
            LogDirectory::Container(container) => Self::of_container(&container.id, &object.name, object),
            LogDirectory::Directory(_) => {
                // The page lies in the same directory, below a log URI or below a source.
                Self::new(encode_value(&object.name), &object.name, object)
            }
        };
        let rows: Vec<Self> = objects.iter().filter(|object| served.has_file(&object.name)).map(row).collect();
        let hidden = objects.len() - rows.len();
        (rows, hidden)
    }

    pub(super) fn of_container(container: &str, name: &'a str, object: &Object) -> Self {
        let short = name.strip_suffix(".gz").filter(|short| !short.is_empty()).unwrap_or(name);
        Self::new(format!("{}/logs/{container}/{}", base::path(), encode_value(short)), name, object)
    }

    fn new(href: String, name: &'a str, object: &Object) -> Self {
        let label = name.strip_suffix(".gz").unwrap_or(name);
        Self { href, label, name, size: size(object.size), uploaded: time(object.modified.as_ref()) }
    }
}

/// Why S3 does not contain a log (yet), as far as the history server knows.
pub(super) enum Absence<'a> {
    Running {
        /// The NodeManager's page of the log.
        live_url: Option<&'a str>,
    },
    EndedRecently {
        ago: String,
    },
    EndedLongAgo {
        ago: String,
    },
    Unknown,
}

impl<'a> Absence<'a> {
    pub(super) fn of(application: &'a ApplicationInfo) -> Self {
        if application.incomplete {
            return Self::Running { live_url: application.live_url.as_deref() };
        }
        let Some(ended) = application.ended else { return Self::Unknown };
        let since = SystemTime::now().duration_since(ended).unwrap_or_default();
        let ago = span(since);
        if since < UPLOAD_TIME { Self::EndedRecently { ago } } else { Self::EndedLongAgo { ago } }
    }
}
