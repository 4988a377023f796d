//! The database: one file of SQLite. `schema.sql` says what each table and column means.
//!
//! The database is a cache of S3. One that is damaged or of another version is made anew. One process writes at a time; others
//! can read meanwhile.

use crate::error::Fault;
use crate::shown::hint;
use anyhow::{Context, Result};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, TryLockError};
use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The version of `schema.sql`.
const VERSION: i32 = 4;
/// Marks a database of SQLite as an index: "emSI".
const APPLICATION_ID: i32 = 0x656d_5349;
/// How long a reader waits for a writer.
const BUSY: Duration = Duration::from_secs(10);

/// A link is not followed, and a pipe does not hang.
const NO_LINK_AND_NO_WAIT: i32 = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK).bits().cast_signed();

/// A database that is open.
pub(crate) struct Store {
    pub(super) db: Connection,
    path: PathBuf,
    access: Access,
    /// Why the file that was there was replaced.
    replaced: Option<String>,
}

/// Whether this process may write a database.
enum Access {
    /// Its lock is held.
    Write(#[expect(dead_code, reason = "it is dropped with the database")] File),
    /// Another process writes.
    OtherWrites,
    /// The file system, or the rights of this account, do not allow it.
    Denied,
    /// The command only looks.
    Unwanted,
}

impl Store {
    /// Opens the database, and makes it if there is none. A database of another version, or a damaged one, is made anew if
    /// this process is the one that writes. A file that is no index is left alone.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_or_replace(path, false)
    }

    /// The same of a file in a directory that is the gateway's alone: one that is no index is a damaged one.
    pub(crate) fn open_own(path: &Path) -> Result<Self> {
        Self::open_or_replace(path, true)
    }

    fn open_or_replace(path: &Path, is_own: bool) -> Result<Self> {
        let access = lock(path)?;
        let writes = matches!(access, Access::Write(_));
        let begun = Instant::now();
        let mut connected = connect(path, writes);
        // Another process is making the tables.
        while !writes && matches!(connected, Err(Unusable::Index(_))) && begun.elapsed() < BUSY {
            std::thread::sleep(Duration::from_millis(50));
            connected = connect(path, false);
        }
        let mut replaced = None;
        let connected = connected.map_err(|unusable| match unusable {
            Unusable::Foreign if is_own => Unusable::Index("its beginning is not that of an index".into()),
            unusable => unusable,
        });
        let db = match connected {
            Ok(db) => db,
            Err(Unusable::Index(why)) if writes => {
                remove(path)?;
                replaced = Some(why);
                connect(path, true).map_err(|unusable| unusable.fault(path))?
            }
            Err(unusable) => return Err(unusable.fault(path).into()),
        };
        Ok(Self { db, path: path.into(), access, replaced })
    }

    /// Opens a database that another connection of this process writes. What it reads of the file does not count as memory of
    /// this process.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self> {
        let db = connect(path, false).map_err(|unusable| unusable.fault(path))?;
        db.pragma_update(None, "query_only", true)?;
        db.pragma_update(None, "mmap_size", 0)?;
        db.pragma_update(None, "cache_size", -4096)?;
        Ok(Self { db, path: path.into(), access: Access::OtherWrites, replaced: None })
    }

    /// Opens the database as it is, and makes and replaces nothing; `None` if there is no file.
    pub(crate) fn look(path: &Path) -> Result<Option<Self>> {
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(unmade(path, &error).into()),
        }
        if path.is_dir() {
            return Err(directory(path).into());
        }
        let db = connect(path, false).map_err(|unusable| match unusable {
            Unusable::Index(why) => Fault::failed(format!("{} cannot be used as it is: {why}", path.display()))
                .detail("index status leaves it alone; emr-shs index search and rebuild begin it anew")
                .hint("emr-shs index search, with the options of this command"),
            unusable => unusable.fault(path),
        })?;
        Ok(Some(Self { db, path: path.into(), access: Access::Unwanted, replaced: None }))
    }

    /// Why this process must not write, for people; `None` if it may.
    pub(crate) fn writing_refused(&self) -> Option<String> {
        let name = self.path.display();
        match self.access {
            Access::Write(_) => None,
            Access::OtherWrites => Some(format!("another emr-shs is writing {name}")),
            Access::Denied => Some(format!("this account is not allowed to write {name}")),
            Access::Unwanted => Some(format!("another emr-shs keeps {name}")),
        }
    }

    /// Begins anew with an empty database.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let closed = std::mem::replace(&mut self.db, Connection::open_in_memory()?);
        drop(closed);
        remove(&self.path)?;
        self.db = connect(&self.path, true).map_err(|unusable| unusable.fault(&self.path))?;
        Ok(())
    }

    /// Why the file that was there was replaced by a new one; `None` if it was not.
    pub(crate) fn replaced(&self) -> Option<&str> {
        self.replaced.as_deref()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Why a file cannot be used as it is.
enum Unusable {
    /// It is an index, and damaged or of another version.
    Index(String),
    /// It is something else.
    Foreign,
    Failed(rusqlite::Error),
}

impl Unusable {
    fn fault(self, path: &Path) -> Fault {
        let name = path.display();
        match self {
            Self::Index(why) => Fault::failed(format!("{name} cannot be read as an index now: {why}"))
                .detail("another process is writing it")
                .hint("type the command again when the other emr-shs has ended"),
            Self::Foreign => Fault::usage(format!("{name} is no index of emr-shs, so emr-shs does not replace it"))
                .detail("found another kind of file, wanted a new file, or one that emr-shs index has written")
                .hint(hint!("name another file: --db {}", path.with_extension("index"))),
            Self::Failed(error) => {
                let hint = match error.sqlite_error_code() {
                    Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
                        "make room on that disk, or name a file on another one: --db FILE"
                    }
                    _ => "name a file that this account can write: --db FILE",
                };
                Fault::failed(format!("{name} cannot be opened")).detail(error.to_string()).hint(hint)
            }
        }
    }
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Index(error.to_string()),
            Some(ErrorCode::NotADatabase) => Self::Foreign,
            _ => Self::Failed(error),
        }
    }
}

/// Whether an error says that the database is damaged: SQLite notices it, or a value is none that the tables allow.
pub(crate) fn is_damage(error: &anyhow::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    let Some(error) = error.downcast_ref::<rusqlite::Error>() else {
        return error.is::<rusqlite::types::FromSqlError>();
    };
    let is_odd = matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
    );
    is_odd || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// A database that is only read.
pub(super) fn connected(path: &Path) -> Result<Connection> {
    connect(path, false).map_err(|unusable| unusable.fault(path).into())
}

fn connect(path: &Path, writes: bool) -> Result<Connection, Unusable> {
    let flags = match writes {
        true => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        false => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    // A reader needs a file beside the database, too. Where it must not make one, nobody writes that it knows of.
    let db = match db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)) {
        Err(error)
            if !writes && matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) =>
        {
            Connection::open_with_flags(unchanging(path), flags | OpenFlags::SQLITE_OPEN_URI)?
        }
        _ => db,
    };
    let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let is_empty: bool = db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION_ID, VERSION) => {}
        (APPLICATION_ID, version) => return Err(Unusable::Index(format!("it has version {version} of the tables"))),
        _ if is_empty && writes => {}
        _ if is_empty => return Err(Unusable::Index("it has no tables yet".into())),
        _ => return Err(Unusable::Foreign),
    }
    // Without it SQLite plans some statements anew for each value that they are given: a seventh of the time of many rows.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.pragma_update(None, "cache_size", -16_384)?;
    db.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.set_prepared_statement_cache_capacity(64);
    if writes {
        db.pragma_update(None, "journal_mode", "WAL")?;
        // A crash of the machine can lose the last transactions, never the file: what they said is read again.
        db.pragma_update(None, "synchronous", "NORMAL")?;
    }
    if is_empty {
        let schema = include_str!("schema.sql");
        db.execute_batch(&format!(
            "BEGIN; {schema} PRAGMA user_version = {VERSION}; PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
        ))?;
    }
    Ok(db)
}

/// A database as a URI that says that nobody writes it now.
fn unchanging(path: &Path) -> String {
    const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'/');
    format!("file:{}?immutable=1", percent_encode(path.as_os_str().as_bytes(), &PLAIN))
}

/// Takes the lock of the one process that writes, if possible.
fn lock(database: &Path) -> Result<Access> {
    if database.is_dir() {
        return Err(directory(database).into());
    }
    let has_database = database.exists();
    let path = beside(database, "-lock");
    let mut options = fs::OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_LINK_AND_NO_WAIT).open(&path);
    let file = match file {
        Ok(file) => file.into_parts().0,
        Err(error) if has_database && matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => {
            return Ok(Access::Denied);
        }
        Err(error) => return Err(unmade(database, &error).into()),
    };
    match file.try_lock() {
        Ok(()) => Ok(Access::Write(file)),
        Err(TryLockError::WouldBlock) => Ok(Access::OtherWrites),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn directory(path: &Path) -> Fault {
    Fault::usage(format!("{} is a directory, wanted a file for the index", path.display()))
        .hint(hint!("--db {}", path.join("index.sqlite")))
}

/// Why there can be no index at a path.
fn unmade(path: &Path, error: &std::io::Error) -> Fault {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let what = format!("the index cannot be made as {}", path.display());
    let place = directory.display();
    let usage = |why: String| {
        Fault::usage(what.clone()).detail(why).detail("wanted a file in a directory that this account can write")
    };
    match error.kind() {
        NotFound => usage(format!("the directory {place} does not exist")).hint(hint!("mkdir -p {}", directory)),
        NotADirectory => usage(format!("{place} is no directory")).hint("name another file: --db FILE"),
        PermissionDenied => usage(format!("this account is not allowed to write in {place}"))
            .hint("name a file in a directory that this account can write: --db FILE"),
        ReadOnlyFilesystem => usage(format!("{place} lies on a file system that is mounted read-only"))
            .hint("name a file on another file system: --db FILE"),
        StorageFull | QuotaExceeded => Fault::failed(what)
            .detail(format!("the file system of {place} is full, or your quota there"))
            .hint("make room there, or name a file on another file system: --db FILE"),
        _ => usage(error.to_string()).hint("name another file: --db FILE"),
    }
}

/// Removes a database with the files that SQLite keeps beside it.
fn remove(path: &Path) -> Result<()> {
    for end in ["", "-wal", "-shm"] {
        match fs::remove_file(beside(path, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(end);
    name.into()
}
/// A number for SQLite, which knows signed ones only.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
