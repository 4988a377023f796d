//! Files among people who are not root: a path is opened component by component, by descriptors.
//!
//! The history server's account, and whoever may write to a disk such as `/mnt`, can put a link, a pipe or another
//! directory where emr-shs, as root, expects a file of its own, or give a file of root a second name there. So this
//! module follows a link only if root, the user of this process, or the owner of the root directory made it; opens only
//! regular files, none with a second name that somebody else can have made, and never waits for a writer; and creates,
//! removes and renames entries of a directory that it holds open. Content is replaced by a rename, so a second name keeps
//! the old content. It uses no call that is newer than Linux 4.14.

use crate::error::ForbiddenToRoot;
use crate::signals;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// How many links a path may pass through. Linux allows as many.
const MAX_LINKS: usize = 40;
/// The largest file that is read as a whole, in bytes.
const MAX_SIZE: u64 = 64 << 20;

/// What a path leads to.
pub(crate) struct Place {
    /// The open directory.
    dir: OwnedFd,
    /// The directory's path, for messages.
    dir_path: PathBuf,
    /// The entry's name in the directory; it need not exist.
    name: OsString,
}

impl Place {
    /// Finds a path below a root directory. `..` and absolute links do not leave the root. With `follow_last` the
    /// last component may be a link, too.
    pub(crate) fn find(root: &Path, path: &Path, follow_last: bool) -> io::Result<Self> {
        let _watched = signals::reading(path);
        let open_root = || open_dir(CWD, root.as_os_str()).map_err(|e| naming(e.into(), root));
        let root_owner = rustix::fs::fstat(open_root()?)?.st_uid;
        let is_trusted = |owner: u32| [0, root_owner, rustix::process::geteuid().as_raw()].contains(&owner);
        let mut todo: Vec<OsString> = components(path).rev().collect();
        let mut at: Vec<(OwnedFd, OsString)> = Vec::new();
        let mut links = 0;
        let dir_path =
            |at: &[(OwnedFd, OsString)]| at.iter().fold(root.to_path_buf(), |path, (_, name)| path.join(name));
        while let Some(name) = todo.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let top = at.pop();
            let base = match &top {
                Some((fd, _)) => fd.try_clone()?,
                None => open_root()?,
            };
            at.extend(top);
            let here = dir_path(&at).join(&name);
            let is_last = todo.is_empty();
            if is_last && !follow_last {
                return Ok(Self { dir: base, dir_path: dir_path(&at), name });
            }
            match open_dir(&base, &name) {
                Ok(fd) if is_last => {
                    drop(fd);
                    return Ok(Self { dir: base, dir_path: dir_path(&at), name });
                }
                Ok(fd) => {
                    at.push((fd, name));
                    continue;
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {}
                Err(Errno::NOENT) if is_last => return Ok(Self { dir: base, dir_path: dir_path(&at), name }),
                Err(e) => return Err(naming(e.into(), &here)),
            }
            let entry =
                rustix::fs::openat(&base, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|e| naming(e.into(), &here))?;
            let stat = rustix::fs::fstat(&entry)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                if is_last {
                    return Ok(Self { dir: base, dir_path: dir_path(&at), name });
                }
                return Err(naming(Errno::NOTDIR.into(), &here));
            }
            if !is_trusted(stat.st_uid) {
                return Err(refusal(format!(
                    "{} is a link that user {} made; emr-shs follows links of root only",
                    here.display(),
                    stat.st_uid
                )));
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(refusal(format!("{} is a loop of symbolic links", path.display())));
            }
            let target =
                PathBuf::from(OsString::from_vec(rustix::fs::readlinkat(&entry, "", Vec::new())?.into_bytes()));
            if target.is_absolute() {
                at.clear();
            }
            todo.extend(components(&target).rev());
        }
        // The root itself, or a path that ended in `..`.
        let dir_path = dir_path(&at);
        let dir = at.pop().map_or_else(open_root, |(fd, _)| Ok(fd))?;
        Ok(Self { dir, dir_path, name: ".".into() })
    }

    /// The real path, for messages and for names.
    pub(crate) fn path(&self) -> PathBuf {
        if self.name == "." { self.dir_path.clone() } else { self.dir_path.join(&self.name) }
    }

    /// Another entry of the same directory.
    pub(crate) fn sibling(&self, name: impl Into<OsString>) -> io::Result<Self> {
        Ok(Self { dir: self.dir.try_clone()?, dir_path: self.dir_path.clone(), name: name.into() })
    }

    /// The entry under the name that it has while it is being written. The name is fixed, so that a later run finds
    /// and removes what a crash left.
    pub(crate) fn draft(&self) -> io::Result<Self> {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".emr-shs-new");
        self.sibling(name)
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// What the entry is, without following it; `None` if there is none.
    pub(crate) fn metadata(&self) -> io::Result<Option<std::fs::Metadata>> {
        let _watched = signals::reading(&self.path());
        match self.open_as_is() {
            Ok(fd) => Ok(Some(File::from(fd).metadata()?)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.named(e)),
        }
    }

    /// Where the link leads that the entry is.
    pub(crate) fn link_target(&self) -> io::Result<PathBuf> {
        let _watched = signals::reading(&self.path());
        let target = rustix::fs::readlinkat(&self.dir, &self.name, Vec::new()).map_err(|e| self.named(e))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Opens a regular file for reading. A link, a pipe, a device and a directory are errors.
    pub(crate) fn open(&self) -> io::Result<File> {
        let path = self.path();
        let _watched = signals::reading(&path);
        // Only looks: opening a device can have effects, and a pipe can wait.
        let seen = self.open_as_is().map_err(|e| self.named(e))?;
        let stat = rustix::fs::fstat(&seen)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(refusal(format!("{} is {}; emr-shs reads regular files only", path.display(), describe(kind))));
        }
        self.refuse_borrowed(&stat)?;
        // The same file, by its descriptor: another one may have its name by now.
        let by_descriptor = format!("/proc/self/fd/{}", seen.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, by_descriptor, flags, Mode::empty()).map_err(|e| self.named(e))?;
        Ok(File::from(opened))
    }

    /// The bytes of a regular file.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        read_all(&self.open()?, &self.path())
    }

    /// Makes a directory that is not there yet. Nobody else can have put anything into it, or anything else in its
    /// place, before it has its owner and its mode.
    pub(crate) fn create_dir(&self, mode: u32, owner: (u32, u32)) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        rustix::fs::mkdirat(&self.dir, &self.name, Mode::from_raw_mode(0o700)).map_err(|e| self.named(e))?;
        let made = File::from(open_dir_to_read(&self.dir, &self.name).map_err(|e| self.named(e))?);
        let meta = made.metadata()?;
        let is_empty = || entries(&made).map(|names| names.is_empty());
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o777 != 0o700 || !is_empty()? {
            return Err(refusal(format!(
                "somebody put another directory in the place of {} while emr-shs made it",
                self.path().display()
            )));
        }
        give(&made, mode, owner)?;
        self.sync()
    }

    /// Gives the directory that is there another mode and owner. Where somebody else can exchange entries, the
    /// directory could be one of root's.
    pub(crate) fn adopt_dir(&self, mode: u32, owner: (u32, u32)) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        let dir = File::from(open_dir_to_read(&self.dir, &self.name).map_err(|e| self.named(e))?);
        let meta = dir.metadata()?;
        let is_given_away = (meta.uid(), meta.gid()) != owner || meta.mode() & 0o7777 != mode;
        if is_given_away && meta.uid() != owner.0 && others_can_write(&rustix::fs::fstat(&self.dir)?) {
            return Err(refusal(format!(
                "{} has another owner than emr-shs gave it, and others than root can exchange entries of {}",
                self.path().display(),
                self.dir_path.display()
            )));
        }
        give(&dir, mode, owner)?;
        self.sync()
    }

    /// Writes a new file. Fails if the name exists.
    pub(crate) fn create_file(&self, mode: u32, owner: Option<(u32, u32)>, content: &mut dyn Read) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.dir, &self.name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(opened.map_err(|e| self.named(e))?);
        io::copy(content, &mut file)?;
        file.flush()?;
        // The owner first: a change of the owner takes away the bits for set-user-id, and no other one.
        if let Some((user, group)) = owner {
            let meta = file.metadata()?;
            if (meta.uid(), meta.gid()) != (user, group) {
                std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
            }
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    }

    /// Opens a regular file to read and write it, and makes it if it is not there. Follows no link.
    pub(crate) fn open_or_create(&self, mode: u32) -> io::Result<File> {
        let _watched = signals::writing(&self.path());
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.dir, &self.name, flags, Mode::from_raw_mode(mode));
        let file = File::from(opened.map_err(|e| self.named(e))?);
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refusal(format!("{} is not a regular file", self.path().display())));
        }
        self.refuse_borrowed(&stat)?;
        Ok(file)
    }

    /// Refuses a file that somebody can have given another name. Whoever can make entries of a directory can make a hard
    /// link there to a file of root, and root would read, quote, change or give away that file. A file that belongs to
    /// the directory's owner is no more than the owner's own.
    fn refuse_borrowed(&self, file: &rustix::fs::Stat) -> io::Result<()> {
        if file.st_nlink < 2 {
            return Ok(());
        }
        let dir = rustix::fs::fstat(&self.dir)?;
        let is_owners = file.st_uid == dir.st_uid && !is_ours(dir.st_uid);
        if is_owners || !others_can_add(&dir) {
            return Ok(());
        }
        Err(refusal(format!(
            "{} is a file of user {} with {} names (hard links), and others than root can make names in {}; emr-shs leaves \
             such a file alone",
            self.path().display(),
            file.st_uid,
            file.st_nlink,
            self.dir_path.display()
        )))
    }

    pub(crate) fn create_link(&self, target: &Path) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        rustix::fs::symlinkat(target, &self.dir, &self.name).map_err(|e| self.named(e))
    }

    /// Removes a file or a link, if there is one.
    pub(crate) fn remove_file(&self) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        // A read-only file system refuses to remove even a file that does not exist.
        if self.metadata()?.is_none() {
            return Ok(());
        }
        match rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.named(e)),
        }
    }

    /// Removes a directory that is empty. Returns whether the directory is gone.
    pub(crate) fn remove_empty_dir(&self) -> io::Result<bool> {
        let _watched = signals::writing(&self.path());
        match rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(e) => Err(self.named(e)),
        }
    }

    /// Removes a directory with its content. Follows no link.
    #[expect(clippy::disallowed_methods, reason = "the error names the directory, and not the descriptor's path")]
    pub(crate) fn remove_dir_all(&self) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd())).join(&self.name);
        match std::fs::remove_dir_all(by_descriptor) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(naming(e, &self.path())),
            _ => Ok(()),
        }
    }

    /// Gives the entry another name in the same directory, and replaces what has that name.
    pub(crate) fn rename(&self, to: &Self) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        rustix::fs::renameat(&self.dir, &self.name, &to.dir, &to.name).map_err(|e| to.named(e))
    }

    /// The same, but fails if something has that name already. File systems that cannot do that in one step look
    /// first.
    pub(crate) fn rename_to_free_name(&self, to: &Self) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        match rustix::fs::renameat_with(&self.dir, &self.name, &to.dir, &to.name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if to.metadata()?.is_none() => self.rename(to),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(to.named(Errno::EXIST)),
            done => done.map_err(|e| to.named(e)),
        }
    }

    /// Exchanges two entries. Returns whether the file system can do that.
    pub(crate) fn exchange(&self, with: &Self) -> io::Result<bool> {
        let _watched = signals::writing(&self.path());
        match rustix::fs::renameat_with(&self.dir, &self.name, &with.dir, &with.name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(e) => Err(with.named(e)),
        }
    }

    /// Makes the entries of the directory survive a crash.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let _watched = signals::writing(&self.path());
        let dir = open_dir_to_read(&self.dir, OsStr::new(".")).map_err(|e| naming(e.into(), &self.dir_path))?;
        File::from(dir).sync_all()
    }

    fn open_as_is(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.dir, &self.name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    fn named(&self, error: Errno) -> io::Error {
        naming(error.into(), &self.path())
    }
}

/// Opens a regular file of this machine for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    Place::find(Path::new("/"), path, true)?.open()
}

/// Gives a file the access control list of another one, or none. The mode of a file that has such a list shows the most that
/// the list can grant in the place of the group's rights: without the list it would grant that to the group.
pub(crate) fn copy_acl(from: &File, to: &Place) -> io::Result<()> {
    const ACL: &str = "system.posix_acl_access";
    /// The most that Linux keeps in one attribute.
    const LONGEST: usize = 64 << 10;
    let mut list = vec![0; LONGEST];
    let found = rustix::fs::fgetxattr(from, ACL, list.as_mut_slice());
    let file = to.open()?;
    match found {
        Ok(length) => rustix::fs::fsetxattr(&file, ACL, &list[..length], XattrFlags::empty())?,
        // A directory can give its new files a list.
        Err(Errno::NODATA) => match rustix::fs::fremovexattr(&file, ACL) {
            Ok(()) | Err(Errno::NODATA) => return Ok(()),
            Err(e) => return Err(e.into()),
        },
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    file.sync_all()
}

/// The bytes of a regular file that is open.
pub(crate) fn read_all(file: &File, path: &Path) -> io::Result<Vec<u8>> {
    let _watched = signals::reading(path);
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(refusal(format!(
            "{} is larger than {} MB, and emr-shs does not read it",
            path.display(),
            MAX_SIZE >> 20
        )));
    }
    Ok(bytes)
}

fn give(dir: &File, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let meta = dir.metadata()?;
    if (meta.uid(), meta.gid()) != owner {
        std::os::unix::fs::fchown(dir, Some(owner.0), Some(owner.1))?;
    }
    dir.set_permissions(Permissions::from_mode(mode))
}

#[expect(clippy::disallowed_methods, reason = "the callers name the directory")]
fn entries(dir: &File) -> io::Result<Vec<OsString>> {
    let names = std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
    names.map(|entry| Ok(entry?.file_name())).collect()
}

/// Whether a user other than root and this one can exchange entries of the directory. In a sticky directory only the
/// owner of an entry can.
fn others_can_write(dir: &rustix::fs::Stat) -> bool {
    let is_sticky = dir.st_mode & 0o1000 != 0;
    !is_ours(dir.st_uid) || others_can_add(dir) && !is_sticky
}

/// Whether a user other than root and this one can make entries of the directory.
fn others_can_add(dir: &rustix::fs::Stat) -> bool {
    let is_our_group = [0, rustix::process::getegid().as_raw()].contains(&dir.st_gid);
    !is_ours(dir.st_uid) || dir.st_mode & 0o020 != 0 && !is_our_group || dir.st_mode & 0o002 != 0
}

/// Whether a user is root or the one of this process.
fn is_ours(user: u32) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&user)
}

/// A directory that is opened only to go on from it, so that no right to read it is needed.
fn open_dir(at: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn open_dir_to_read(at: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// What something is that is not necessarily a file, for people.
pub(crate) fn kind(meta: &std::fs::Metadata) -> &'static str {
    match meta {
        m if m.is_dir() => "a directory",
        m if m.is_symlink() => "a symbolic link",
        m if m.is_file() => "a regular file",
        m if m.file_type().is_fifo() => "a pipe",
        m if m.file_type().is_socket() => "a socket",
        _ => "a device",
    }
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

fn refusal(why: String) -> io::Error {
    io::Error::other(why)
}

/// The error with the path in its text, and of the same kind.
fn naming(error: io::Error, path: &Path) -> io::Error {
    let message = format!("{}: {error}", path.display());
    // Root gets EPERM where a file or a directory is immutable (`chattr +i`), and EACCES never for that reason.
    if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) && rustix::process::geteuid().is_root() {
        let exists = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let paths = [Some(path).filter(|_| exists), path.parent()].into_iter().flatten().map(PathBuf::from).collect();
        return io::Error::new(error.kind(), ForbiddenToRoot { message, paths });
    }
    io::Error::new(error.kind(), message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_kernel_to_root_names_what_can_be_immutable() {
        let paths = |errno: Errno, path: &str| {
            let error = naming(errno.into(), Path::new(path));
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.to_string().starts_with(&format!("{path}: ")), "{error}");
            ForbiddenToRoot::among(&error.into()).map(|forbidden| forbidden.paths.clone())
        };
        assert_eq!(paths(Errno::ACCESS, "/etc/passwd"), None);
        if rustix::process::geteuid().is_root() {
            assert_eq!(paths(Errno::PERM, "/etc/passwd").unwrap(), [Path::new("/etc/passwd"), Path::new("/etc")]);
            assert_eq!(paths(Errno::PERM, "/etc/.emr-shs-none").unwrap(), [Path::new("/etc")]);
        } else {
            assert_eq!(paths(Errno::PERM, "/etc/passwd"), None);
        }
    }
}
