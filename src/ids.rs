//! The ids that YARN, EMR, EMR Serverless and EMR on EKS give to what they run: read from text, never asked for.

use std::fmt;

/// An application on YARN: `application_<cluster timestamp>_<number>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Application {
    /// When the ResourceManager started, in milliseconds: the same for all applications of a run
    /// of it, and so a name for the cluster.
    pub timestamp: u64,
    /// As YARN writes it: four digits or more.
    number: String,
}

impl Application {
    /// Reads `application_…`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of_parts(text.strip_prefix("application_")?.split_once('_')?)
    }

    /// One that YARN cannot have: it counts applications in 31 bits. `verify` writes a log under
    /// such a number, and nobody may take it for a cluster's own.
    pub fn synthetic(timestamp: u64, salt: u32) -> Self {
        Self { timestamp, number: (9_000_000_000 + u64::from(salt) % 999_999_999).to_string() }
    }

    /// Whether it is one that YARN cannot have.
    pub fn is_synthetic(&self) -> bool {
        self.number.parse().is_ok_and(|number: u64| number > u64::from(i32::MAX.unsigned_abs()))
    }

    /// The id of its container of that number, in its first attempt.
    pub fn container(&self, number: u32) -> String {
        format!("container_{}_{}_01_{number:06}", self.timestamp, self.number)
    }

    fn of_parts((timestamp, number): (&str, &str)) -> Option<Self> {
        let fits = is_digits(timestamp, 1..=19) && is_digits(number, 4..=10) && !timestamp.starts_with('0');
        Some(Self { timestamp: timestamp.parse().ok().filter(|_| fits)?, number: number.into() })
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "application_{}_{}", self.timestamp, self.number)
    }
}

/// A container on YARN: `container_[e<epoch>_]<timestamp>_<application>_<attempt>_<number>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// As it is written.
    pub id: String,
    /// Whose it is.
    pub application: Application,
}

impl Container {
    /// Reads `container_…`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = text.strip_prefix("container_")?.split('_').collect();
        if parts.len() == 5 {
            let epoch = parts.remove(0);
            if !is_digits(epoch.strip_prefix('e')?, 1..=10) {
                return None;
            }
        }
        let &[timestamp, application, attempt, number] = parts.as_slice() else { return None };
        let fits = is_digits(attempt, 1..=6) && is_digits(number, 1..=10);
        let application = Application::of_parts((timestamp, application)).filter(|_| fits)?;
        Some(Self { id: text.into(), application })
    }
}

/// Whether a text consists of ASCII digits, and of how many.
pub(crate) fn is_digits(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// `j-` and capital letters and digits.
pub(crate) fn is_cluster(text: &str) -> bool {
    let id = text.strip_prefix("j-").unwrap_or_default();
    (5..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// Whether a text is the name of a host, or an IPv4 address: labels of letters, digits, hyphens and underscores.
pub(crate) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        !label.is_empty() && label.len() <= 63 && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

/// The ids of Serverless applications and jobs, of virtual clusters and their jobs.
pub(crate) fn is_id(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// A job run of EMR Serverless, or one attempt of a run, in the names of a path.
pub(crate) struct JobRun<'a> {
    pub(crate) application: &'a str,
    /// How many names stand before `applications`.
    pub(crate) before: usize,
    /// How many names the path of the run has.
    pub(crate) length: usize,
}

impl<'a> JobRun<'a> {
    /// Reads `…/applications/<application>/jobs/<run>[/attempts/<n>]/…`.
    pub(crate) fn of_path(names: &[&'a str]) -> Option<Self> {
        let is_run = |names: &[&str]| matches!(names, ["applications", application, "jobs", _] if is_id(application));
        let before = names.windows(4).position(is_run)?;
        let (application, run) = (names[before + 1], names[before + 3]);
        let length = match &names[before + 4..] {
            ["attempts", n, ..] if is_digits(n, 1..=6) => before + 6,
            _ => before + 4,
        };
        is_id(run).then_some(Self { application, before, length })
    }
}

/// Whether a text is the name of a Spark application on Kubernetes.
pub(crate) fn is_spark_application(text: &str) -> bool {
    text.starts_with("spark-") && is_pod(text)
}

/// A name that Kubernetes allows for a pod.
pub(crate) fn is_pod(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| inner(b) || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
