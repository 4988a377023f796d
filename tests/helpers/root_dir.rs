//! A directory for `--root` that contains the files of an EMR node which emr-shs reads, and small jars.

use crate::helpers::command_output::CommandOutput;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const S3A: &str = "org/apache/hadoop/fs/s3a/S3AFileSystem.class";
pub const EMRFS: &str = "com/amazon/ws/emr/hadoop/fs/EmrFileSystem.class";
pub const SDK_V1: &str = "com/amazonaws/services/s3/AmazonS3Client.class";
pub const SDK_V2: &str = "software/amazon/awssdk/services/s3/S3Client.class";
pub const DEFAULTS: &str = "etc/spark/conf.dist/spark-defaults.conf";

/// The files of a primary node of EMR 7.12: S3A for `s3://`, hadoop-aws and SDK v2 where EMR keeps them.
pub struct RootDir(tempfile::TempDir);

impl RootDir {
    pub fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        let me = fs::metadata(root.path()).unwrap();
        root.write("etc/passwd", format!("spark:x:{}:{}::/:/bin/false\n", me.uid(), me.gid()));
        for dir in ["mnt", "var/lib", "etc/systemd/system", "etc/alternatives", "run", "usr/local"] {
            fs::create_dir_all(root.at(dir)).unwrap();
        }
        root.write(DEFAULTS, include_str!("../../lab/emr/spark-defaults-7.1.0.conf"));
        root.write("etc/spark/conf.dist/spark-env.sh", include_str!("../../lab/emr/spark-env-7.1.0.sh"));
        symlink("/etc/spark/conf.dist", root.at("etc/alternatives/spark-conf")).unwrap();
        symlink("/etc/alternatives/spark-conf", root.at("etc/spark/conf")).unwrap();
        root.write("mnt/var/lib/info/instance.json", include_str!("../../lab/emr/instance.json"));
        root.write(
            "mnt/var/lib/info/extraInstanceData.json",
            include_str!("../../lab/emr/extraInstanceData-5.29.0.json"),
        );
        root.core_site(&[("fs.s3.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem")]);
        root.jar("usr/lib/spark/jars/spark-core_2.12-3.5.6-amzn-0.jar", &[("org/apache/spark/A.class", "")]);
        root.jar("usr/lib/hadoop/hadoop-aws-3.4.1-amzn-3.jar", &[(S3A, "software/amazon/awssdk/core/A")]);
        symlink("hadoop-aws-3.4.1-amzn-3.jar", root.at("usr/lib/hadoop/hadoop-aws.jar")).unwrap();
        root.jar("usr/share/aws/aws-java-sdk-v2/aws-sdk-java-bundle-2.35.5.jar", &[(SDK_V2, "")]);
        root.jar("usr/share/aws/aws-java-sdk/aws-java-sdk-bundle-1.12.792.jar", &[(SDK_V1, "")]);
        root.write("usr/share/aws/aws-java-sdk-v2/LICENSE", "not a jar\n");
        root
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    pub fn core_site(&self, properties: &[(&str, &str)]) {
        let rows: String = properties
            .iter()
            .map(|(k, v)| format!("<property><name>{k}</name><value>{v}</value></property>\n"))
            .collect();
        self.write(
            "etc/hadoop/conf/core-site.xml",
            format!("<?xml version=\"1.0\"?>\n<configuration>\n{rows}</configuration>\n"),
        );
    }

    pub fn jar(&self, path: &str, entries: &[(&str, &str)]) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        let mut jar = zip::ZipWriter::new(fs::File::create(self.at(path)).unwrap());
        for (name, content) in entries {
            jar.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            jar.write_all(content.as_bytes()).unwrap();
        }
        jar.finish().unwrap();
    }

    /// Runs emr-shs below this root, with an empty environment, so that it cannot reach AWS.
    pub fn run(&self, args: &[&str]) -> CommandOutput {
        let output = Command::new(env!("CARGO_BIN_EXE_emr-shs"))
            .arg("--root")
            .arg(self.path())
            .args(args)
            .env_clear()
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .output()
            .unwrap();
        CommandOutput(output)
    }

    /// Every path below the root with its kind, mode, owner and content.
    pub fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = BTreeMap::new();
        walk(self.path(), self.path(), &mut tree);
        tree.remove(Path::new("run/emr-shs.lock"));
        tree
    }
}

fn walk(root: &Path, dir: &Path, tree: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else if meta.is_file() {
            format!("{:?}", fs::read(&path).unwrap())
        } else {
            walk(root, &path, tree);
            String::new()
        };
        let what = format!("{:o} {}:{} {content}", meta.permissions().mode(), meta.uid(), meta.gid());
        tree.insert(path.strip_prefix(root).unwrap().into(), what);
    }
}
