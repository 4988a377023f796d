//! The machine that a command reads or changes: a root directory, and the connection to the S3 store of its logs.
//!
//! Every path in the product is a path of the node, such as `/etc/spark/conf`. [`Host::path`] finds the path below
//! the root. It follows the node's symbolic links and never leaves the root.

use crate::aws::s3::S3;
use crate::paths::HOST_NAME_FILE;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// How many links a path may pass through. Linux allows as many.
const MAX_LINKS: usize = 40;

/// Numeric owner of a file: `(user id, group id)`.
pub(crate) type Owner = (u32, u32);

/// The machine that a command reads or changes.
pub struct Host {
    root: PathBuf,
    /// The store that contains the event logs; `None` below another root, where a command changes files only.
    pub s3: Option<S3>,
}

impl Host {
    /// The node itself (`/`), or a directory that stands for a node (`--root`).
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), s3: None }
    }

    /// The machine on which this process runs.
    pub fn this() -> Self {
        Self::new(Path::new("/"))
    }

    /// A machine without any file, on which nothing can be written.
    pub fn nowhere() -> Self {
        Self::new(Path::new("/dev/null"))
    }

    /// Whether this is the running machine, which has services, processes and a way to S3.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The real place of a path, with the links in its directories resolved. The last component may be a link.
    pub fn path(&self, path: &Path) -> Result<PathBuf> {
        self.walk(path, false)
    }

    /// The real place of a path, with every link resolved.
    pub fn target(&self, path: &Path) -> Result<PathBuf> {
        self.walk(path, true)
    }

    /// The node's name for a real path below the root.
    pub fn inside(&self, real: &Path) -> PathBuf {
        Path::new("/").join(real.strip_prefix(&self.root).unwrap_or(real))
    }

    fn walk(&self, path: &Path, follow_last: bool) -> Result<PathBuf> {
        let mut todo: Vec<OsString> = components(path).rev().collect();
        let mut at: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let real = self.join(&at).join(&name);
            let follow = follow_last || !todo.is_empty();
            match fs::read_link(&real) {
                Ok(target) if follow => {
                    links += 1;
                    if links > MAX_LINKS {
                        bail!("{} is a loop of symbolic links", path.display());
                    }
                    if target.is_absolute() {
                        at.clear();
                    }
                    todo.extend(components(&target).rev());
                }
                _ => at.push(name),
            }
        }
        Ok(self.join(&at))
    }

    fn join(&self, parts: &[OsString]) -> PathBuf {
        parts.iter().fold(self.root.clone(), |p, part| p.join(part))
    }

    /// The text of a file; `None` if the file does not exist. People write comments in Latin-1, too, so bytes that
    /// are not UTF-8 become U+FFFD. Whoever writes the file again starts from [`Host::read_bytes`].
    pub fn read(&self, path: &Path) -> Result<Option<String>> {
        Ok(self.read_bytes(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The bytes of a file; `None` if the file does not exist.
    pub fn read_bytes(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match fs::read(self.target(path)?) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The machine's own name; `None` if nothing tells it.
    pub fn name(&self) -> Option<String> {
        let text = self.read(Path::new(HOST_NAME_FILE)).ok()??;
        Some(text.trim().to_string()).filter(|name| !name.is_empty())
    }

    pub fn exists(&self, path: &Path) -> bool {
        self.target(path).is_ok_and(|p| p.exists())
    }

    /// The user id and the group id of an account, by the node's `/etc/passwd`.
    pub fn account(&self, name: &str) -> Option<Owner> {
        let passwd = self.read(Path::new("/etc/passwd")).ok()??;
        passwd.lines().find_map(|line| {
            let f: Vec<&str> = line.split(':').collect();
            (f.len() > 3 && f[0] == name).then(|| Some((f[2].parse().ok()?, f[3].parse().ok()?)))?
        })
    }

    /// Replaces a file's content in one step that survives a crash: a reader, and the next boot, finds either the
    /// old bytes or the new ones. Follows links.
    pub fn write_atomic(&self, path: &Path, content: &[u8], mode: u32, owner: Option<Owner>) -> Result<()> {
        let real = self.target(path)?;
        let dir = real.parent().context("a file has a directory")?;
        let new = draft(&real);
        remove_if_there(&new)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = (|| -> Result<()> {
            file.write_all(content)?;
            file.file().set_permissions(std::fs::Permissions::from_mode(mode))?;
            if let Some((uid, gid)) = owner {
                let meta = file.metadata()?;
                if (meta.uid(), meta.gid()) != (uid, gid) {
                    std::os::unix::fs::fchown(file.file(), Some(uid), Some(gid))?;
                }
            }
            file.sync_all()?;
            Ok(fs::rename(&new, &real)?)
        })();
        if written.is_err() {
            remove_if_there(&new)?;
        }
        written.with_context(|| format!("writing {}", path.display()))?;
        sync_dir(dir)
    }
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// The name of a file while it is being written. The name is fixed, so that a later run finds and removes what a
/// crash left.
pub(crate) fn draft(real: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(real.file_name().unwrap_or_default());
    name.push(".emr-shs-new");
    real.with_file_name(name)
}

/// Removes a file or a link, if it exists.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    // A read-only file system refuses to remove even a file that does not exist.
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(e.into()),
        _ => Ok(()),
    }
}

/// Makes the entries of a directory survive a crash.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    Ok(fs::File::open(dir)?.sync_all()?)
}
