//! The files of a node that an uninstall must leave as they were.

use super::node::Node;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

impl Node {
    /// Every file that an uninstall must leave as it was, with its kind, mode, owner and content. Logs, and files that
    /// systemd writes while it runs, are left out. A file of more than 4 MB is compared by size, inode and time.
    pub fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = BTreeMap::new();
        for dir in ["usr/lib", "usr/libexec", "etc", "var/lib", "mnt", "usr/share/aws", "usr/local"] {
            self.walk(&self.root.join(dir), &mut tree);
        }
        tree
    }

    fn walk(&self, path: &Path, tree: &mut BTreeMap<PathBuf, String>) {
        let name = path.strip_prefix(&self.root).unwrap();
        // Logs, systemd's state, and the backups of useradd and userdel.
        let kept = ["mnt/var/log", "var/lib/systemd", "etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-"];
        if kept.map(Path::new).contains(&name) {
            return;
        }
        let meta = fs::symlink_metadata(path).unwrap();
        let mut what = format!("{:o} {}:{}", meta.permissions().mode(), meta.uid(), meta.gid());
        if meta.is_symlink() {
            what += &format!(" → {}", fs::read_link(path).unwrap().display());
        } else if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.walk(&entry.unwrap().path(), tree);
            }
        } else if meta.len() > 4 << 20 {
            what += &format!(" {} bytes, inode {}, {}.{}", meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec());
        } else {
            let bytes = fs::read(path).unwrap();
            let mut hash = std::hash::DefaultHasher::new();
            std::hash::Hash::hash(&bytes, &mut hash);
            what += &format!(" {} bytes, {:x}", bytes.len(), std::hash::Hasher::finish(&hash));
        }
        tree.insert(name.into(), what);
    }
}
