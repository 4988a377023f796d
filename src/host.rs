//! The machine that a command reads or changes: a root directory, and the connection to the S3 store of its logs.
//!
//! Every path in the product is a path of the node, such as `/etc/spark/conf`. [`Host::path`] finds the path below
//! the root. It follows the node's symbolic links and never leaves the root.

use crate::aws::s3::S3;
use crate::aws::uri::EventLogs;
use crate::files::{self, Place};
use crate::hadoop_client::No;
use crate::paths::HOST_NAME_FILE;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Seek};
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
    /// Hadoop's own way to the event logs, which a command takes where the store refuses emr-shs.
    pub(crate) hadoop: Option<HadoopWay>,
}

/// Finds and makes the directory of event logs with Hadoop's own client.
pub(crate) struct HadoopWay {
    /// Whether this way comes before that of emr-shs, because Hadoop's settings ask for objects that emr-shs does not make.
    pub comes_first: bool,
    pub exists: AskHadoop<bool>,
    pub make: AskHadoop<()>,
}

/// A question to Hadoop's own client about a directory of event logs.
type AskHadoop<T> = Box<dyn Fn(&EventLogs) -> Result<T, No> + Send + Sync>;

/// Makes the new bytes of a file from the old ones; `None` leaves the file alone.
type Edit<'a> = &'a mut dyn FnMut(&[u8]) -> Result<Option<Vec<u8>>>;

/// Gives a draft its name.
type Rename = fn(&Place, &Place) -> std::io::Result<()>;

impl Host {
    /// The node itself (`/`), or a directory that stands for a node (`--root`).
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), s3: None, hadoop: None }
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
        match Place::find(&self.root, path, true).and_then(|place| place.read()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if is_absence(&e) => Ok(None),
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

    /// The name of the account with a user id.
    pub(crate) fn account_name(&self, uid: u32) -> Option<String> {
        let passwd = self.read(Path::new("/etc/passwd")).ok()??;
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
            (id.parse() == Ok(uid)).then(|| name.to_string())
        })
    }

    /// The id of a group, by the node's `/etc/group`.
    pub fn group(&self, name: &str) -> Option<u32> {
        let groups = self.read(Path::new("/etc/group")).ok()??;
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        })
    }

    /// The place of a path, by descriptor. The last component may be a link.
    pub(crate) fn place(&self, path: &Path) -> Result<Place> {
        Ok(Place::find(&self.root, path, false)?)
    }

    /// The place of a path, by descriptor, with every link resolved.
    pub(crate) fn target_place(&self, path: &Path) -> Result<Place> {
        Ok(Place::find(&self.root, path, true)?)
    }

    /// What a path is, without following its last component; `None` if there is nothing.
    pub(crate) fn metadata(&self, path: &Path) -> Result<Option<std::fs::Metadata>> {
        match Place::find(&self.root, path, false).and_then(|place| place.metadata()) {
            Err(e) if is_absence(&e) => Ok(None),
            found => Ok(found?),
        }
    }

    /// Whether a user other than root, this one and the owner of the root directory may change a file or a directory.
    pub(crate) fn others_may_change(&self, meta: &std::fs::Metadata) -> bool {
        let by_group = meta.mode() & 0o020 != 0 && meta.gid() != 0 && meta.uid() == 0;
        self.is_others(meta.uid()) || by_group || meta.mode() & 0o002 != 0
    }

    /// Whether a user is neither root, nor this one, nor the owner of the root directory.
    pub(crate) fn is_others(&self, user: u32) -> bool {
        let root_owner = fs::metadata(&self.root).map_or(0, |root| root.uid());
        ![0, root_owner, nix::unistd::geteuid().as_raw()].contains(&user)
    }

    /// Whether nobody else can change or exchange a file, by any of the directories that lead there.
    pub(crate) fn is_roots_alone(&self, path: &Path) -> bool {
        let is_ours = |path: &Path| fs::metadata(path).is_ok_and(|meta| !self.others_may_change(&meta));
        self.target(path).is_ok_and(|real| real.ancestors().all(is_ours))
    }

    /// Gives a file of an account, or of its group, to root alone. Returns whether that was needed. Follows links, as the
    /// chgrp does that made the file the group's.
    pub(crate) fn take_from(&self, path: &Path, (user, group): Owner) -> Result<bool> {
        let Some(place) = self.metadata(path)?.and_then(|_| self.target_place(path).ok()) else { return Ok(false) };
        let Some(meta) = place.metadata()? else { return Ok(false) };
        if !meta.is_file() || meta.uid() != user && meta.gid() != group {
            return Ok(false);
        }
        let file = place.open()?;
        let meta = file.metadata()?;
        let owner = if meta.uid() == user { 0 } else { meta.uid() };
        std::os::unix::fs::fchown(&file, Some(owner), Some(0))?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(true)
    }

    /// Replaces a file's content in one step that survives a crash: a reader, and the next boot, finds either the
    /// old bytes or the new ones. For a file of emr-shs alone.
    pub(crate) fn write_atomic(&self, path: &Path, content: &[u8], mode: u32, owner: Option<Owner>) -> Result<()> {
        self.write(path, content, mode, owner, Place::rename)
    }

    /// Writes a file where none is. Fails if somebody else has made one.
    pub(crate) fn write_new(&self, path: &Path, content: &[u8], mode: u32, owner: Option<Owner>) -> Result<()> {
        self.write(path, content, mode, owner, Place::rename_to_free_name)
    }

    fn write(&self, path: &Path, content: &[u8], mode: u32, owner: Option<Owner>, rename: Rename) -> Result<()> {
        let place = self.place(path)?;
        let draft = written_draft(&place, content, mode, owner)?;
        let renamed = rename(&draft, &place);
        or_remove(&draft, renamed).with_context(|| format!("writing {}", path.display()))?;
        Ok(place.sync()?)
    }

    /// Changes a file that others change, too, so that no change of theirs is lost. `edit` makes the new bytes from
    /// those that are in the file, and `None` leaves the file alone. If somebody changes the file meanwhile, `edit`
    /// gets the new bytes. The file keeps its mode, its owner and its access control list. Follows links.
    pub(crate) fn edit(&self, path: &Path, edit: Edit<'_>) -> Result<()> {
        /// How often somebody else may be faster.
        const ATTEMPTS: usize = 50;
        let place = self.target_place(path)?;
        for _ in 0..ATTEMPTS {
            let file = place.open()?;
            let known = files::read_all(&file, path)?;
            let Some(new) = edit(&known)? else { return Ok(()) };
            let meta = file.metadata()?;
            let draft = written_draft(&place, &new, meta.mode() & 0o7777, Some((meta.uid(), meta.gid())))?;
            or_remove(&draft, files::copy_acl(&file, &draft)).with_context(|| format!("writing {}", path.display()))?;
            // Most of the time is behind us now: the draft is on the disk.
            let now = or_remove(&draft, place.read())?;
            if now != known {
                draft.remove_file()?;
                continue;
            }
            if !or_remove(&draft, draft.exchange(&place))? {
                or_remove(&draft, draft.rename(&place))?;
                return Ok(place.sync()?);
            }
            // The draft is the old file now. Somebody may have replaced or changed it at the last moment, or may have
            // had it open and write to it still.
            let mut taken = draft.read()?;
            if taken == known {
                place.sync()?;
                taken = files::read_all(&file_from_start(file)?, path)?;
            }
            if taken == known {
                draft.remove_file()?;
                return Ok(place.sync()?);
            }
            // Theirs comes back. If somebody has replaced the new file meanwhile, then that is the newest.
            if place.read()? == new {
                draft.exchange(&place)?;
            }
            draft.remove_file()?;
        }
        bail!("{} changes again and again while emr-shs writes it", path.display())
    }
}

fn file_from_start(mut file: File) -> std::io::Result<File> {
    file.rewind()?;
    Ok(file)
}

/// Whether an error says that there is no such file.
pub(crate) fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The new content of a file, complete and on the disk, under the name of its draft.
fn written_draft(place: &Place, mut content: &[u8], mode: u32, owner: Option<Owner>) -> Result<Place> {
    let draft = place.draft()?;
    draft.remove_file()?;
    let written = draft.create_file(mode, owner, &mut content);
    or_remove(&draft, written).with_context(|| format!("writing {}", place.path().display()))?;
    Ok(draft)
}

/// Removes the draft if the result is an error.
fn or_remove<T>(draft: &Place, result: std::io::Result<T>) -> Result<T> {
    if result.is_err() {
        draft.remove_file()?;
    }
    Ok(result?)
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}
