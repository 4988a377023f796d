//! The files of a release, which `packaging/release` makes. `scripts/test` names their directory in
//! `EMR_SHS_TEST_RELEASE`.

use std::path::PathBuf;

/// A program that runs a command with no more system calls than the kernel of Amazon Linux 2 knows.
pub const OLD_KERNEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/stand-ins/old-kernel.py");

pub fn release(file: &str) -> PathBuf {
    let dir = std::env::var_os("EMR_SHS_TEST_RELEASE").expect(
        "EMR_SHS_TEST_RELEASE is not set; make a release with packaging/release DIR and set it to DIR, or run scripts/test",
    );
    PathBuf::from(dir).join(file)
}

/// The static binary for a CPU.
pub fn release_binary(cpu: &str) -> String {
    release(&format!("emr-shs-{cpu}")).to_str().unwrap().into()
}
