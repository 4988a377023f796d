//! The Python packages that `scripts/test` installs into the cache.

use std::path::{Path, PathBuf};

/// The directory of downloads and builds, as `lab/lib/common.sh` chooses it.
pub fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("EMR_SHS_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("emr-shs")))
        .or_else(|| Some(variable("HOME")?.join(".cache/emr-shs")))
        .unwrap()
}

/// The directory of these packages in the cache.
pub fn python_packages(name: &str, pins: &str) -> PathBuf {
    let found = cache().join(name);
    assert!(
        found.is_dir(),
        "{0} is not there; scripts/test makes it, or: \
         python3 -m pip install --no-deps --only-binary :all: --require-hashes --target {0} -r {pins}",
        found.display()
    );
    found
}

/// The directory in the cache of a package and what it needs; `scripts/test` names it after the version that the pins say.
pub fn python_package(name: &str) -> PathBuf {
    let file = format!("tests/fixtures/{name}.txt");
    let pins = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap();
    let version = pins.split_once(&format!("{name}==")).unwrap().1.split_whitespace().next().unwrap();
    python_packages(&format!("{name}-{version}"), &file)
}
