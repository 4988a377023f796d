//! Paths, units, accounts, variables and keys with a fixed name that more than one module uses.

/// The systemd unit that EMR gives the history server (`docs/emr.md §3.1`).
pub(crate) const HISTORY_SERVER_UNIT: &str = "spark-history-server.service";
/// The account that runs the history server.
pub(crate) const HISTORY_SERVER_ACCOUNT: &str = "spark";

/// The kernel's file with this machine's name.
pub(crate) const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";
/// The account that runs the jobs of steps, and of people who log in as EMR tells them to.
pub(crate) const JOBS_ACCOUNT: &str = "hadoop";

/// Where EMR installs Spark.
pub(crate) const SPARK_HOME: &str = "/usr/lib/spark";
/// Spark's configuration directory, as people name it. Behind the name stands a chain of links.
pub(crate) const SPARK_CONF: &str = "/etc/spark/conf";
/// Spark's file of default properties, as people name it.
pub(crate) const SPARK_DEFAULTS: &str = "/etc/spark/conf/spark-defaults.conf";

/// The directory from which the history server reads event logs.
pub(crate) const LOG_DIRECTORY_KEY: &str = "spark.history.fs.logDirectory";
/// The directory to which jobs write event logs.
pub(crate) const EVENT_LOG_DIR_KEY: &str = "spark.eventLog.dir";
/// How often the history server scans its directory.
pub(crate) const SCAN_INTERVAL_KEY: &str = "spark.history.fs.update.interval";
/// Whether the history server deletes event logs.
pub(crate) const CLEANER_KEY: &str = "spark.history.fs.cleaner.enabled";
/// The history server's local store.
pub(crate) const LOCAL_STORE_KEY: &str = "spark.history.store.path";
/// How many applications the history server keeps open. Spark's default is 50.
pub(crate) const RETAINED_APPLICATIONS_KEY: &str = "spark.history.retainedApplications";
/// The size of the local store from which on Spark deletes applications that are not open. Spark's default is 10g.
pub(crate) const MAX_DISK_USAGE_KEY: &str = "spark.history.store.maxDiskUsage";
/// The history server's port.
pub(crate) const HISTORY_PORT_KEY: &str = "spark.history.ui.port";
/// The history server's port where no key names one.
pub(crate) const DEFAULT_HISTORY_PORT: u16 = 18080;
/// How many threads of the history server read event logs.
pub(crate) const REPLAY_THREADS_KEY: &str = "spark.history.fs.numReplayThreads";
/// The pattern of executor-log links. Spark 3.0 introduced the key (`docs/emr.md §5.5`).
pub(crate) const LOG_LINK_KEY: &str = "spark.history.custom.executor.log.url";

/// The receipt's directory. It belongs to root alone.
pub(crate) const STATE_DIR: &str = "/var/lib/emr-shs";
/// The receipt: what emr-shs did to this node.
pub(crate) const RECEIPT: &str = "/var/lib/emr-shs/receipt.json";
/// The lock that a process holds while it changes this node.
pub(crate) const LOCK: &str = "/run/emr-shs.lock";

/// The directory of links to jars. Only the history server has the directory on its class path, because
/// every job uploads what lies in `/usr/lib/spark/jars`.
pub(crate) const LINK_DIR: &str = "/usr/lib/emr-shs/jars";
/// The drop-in of the history server's unit. systemd reads drop-ins in the order of their names, and the last
/// one wins, so the name sorts behind `override.conf`, which `systemctl edit` writes.
pub(crate) const DROP_IN: &str = "zz-emr-shs.conf";
/// The drop-in for the local store. It is a file of its own, because `emr-shs configure` writes it, and `emr-shs link` writes
/// the other one.
pub(crate) const STORE_DROP_IN: &str = "zz-emr-shs-store.conf";
/// The directory of emr-shs on a local disk. It belongs to root, and contains the local stores.
pub(crate) const LOCAL_DIR: &str = "emr-shs";
/// The event-log cache, in [`LOCAL_DIR`].
pub(crate) const EVENT_LOG_CACHE_DIR: &str = "event-log-cache";
/// The drop-in that lets the history server start after the log gateway.
pub(crate) const CACHE_DROP_IN: &str = "zz-emr-shs-cache.conf";
/// The history server's directory of temporary files, in [`LOCAL_DIR`].
pub(crate) const JAVA_TMP_DIR: &str = "java-tmp";

/// The directory of the program that the units run, whatever its version.
pub(crate) const PROGRAM_DIR: &str = "/usr/libexec/emr-shs";
/// The directory of the settings that the units read.
pub(crate) const SETTINGS_DIR: &str = "/etc/emr-shs";
/// The directory of unit files.
pub(crate) const UNIT_DIR: &str = "/etc/systemd/system";

/// The log gateway's unit.
pub(crate) const GATEWAY_UNIT: &str = "emr-shs-gateway.service";
/// The unit that listens for the log gateway.
pub(crate) const GATEWAY_SOCKET: &str = "emr-shs-gateway.socket";
/// The unit that listens for the log gateway on the port that it has taken from the history server.
pub(crate) const TAKEN_PORT_SOCKET: &str = "emr-shs-taken-port.socket";
/// The account that runs the log gateway.
pub(crate) const GATEWAY_ACCOUNT: &str = "emr-shs";
/// The log gateway's settings, below [`SETTINGS_DIR`].
pub(crate) const GATEWAY_ENVIRONMENT: &str = "gateway.env";
/// The directory that systemd gives the running gateway. Only the gateway's account and root can look into it.
pub(crate) const GATEWAY_RUN_DIR: &str = "/run/emr-shs-gateway";
/// With this, root proves to the gateway that it is root: a new one at each start of the gateway.
pub(crate) const GATEWAY_TOKEN: &str = "/run/emr-shs-gateway/token";
/// What the log gateway keeps over restarts. The directory belongs to the gateway's account.
pub(crate) const GATEWAY_STATE_DIR: &str = "/var/lib/emr-shs-gateway";
/// Which clusters have which applications, as the log gateway found out.
pub(crate) const GATEWAY_INDEX: &str = "/var/lib/emr-shs-gateway/clusters.json";
/// The index of event logs that the log gateway keeps.
pub(crate) const GATEWAY_APPLICATIONS: &str = "/var/lib/emr-shs-gateway/index.sqlite";
/// The certificate that the log gateway signs itself, with its key.
pub(crate) const GATEWAY_CERTIFICATE: &str = "/var/lib/emr-shs-gateway/self-signed.json";
/// The log gateway's port.
pub(crate) const GATEWAY_PORT: u16 = 9977;

/// The unit that installs once EMR has provisioned the node.
pub(crate) const DEFERRED_INSTALL_UNIT: &str = "emr-shs-install.service";
/// That unit's variables, below [`SETTINGS_DIR`]. The file can contain a password.
pub(crate) const DEFERRED_INSTALL_ENVIRONMENT: &str = "install.env";
/// Tells a run of `install` that the unit started it.
pub(crate) const IN_UNIT_VARIABLE: &str = "EMR_SHS_IN_UNIT";

/// The units of emr-shs.
pub(crate) const OWN_UNITS: [&str; 4] = [GATEWAY_UNIT, GATEWAY_SOCKET, TAKEN_PORT_SOCKET, DEFERRED_INSTALL_UNIT];
/// The variable in a unit's environment that contains a digest of the program and the settings with which the unit
/// started.
pub(crate) const STARTED_AS_VARIABLE: &str = "EMR_SHS_STARTED_AS";
