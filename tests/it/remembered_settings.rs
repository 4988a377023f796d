//! What an option that is left out or empty makes of the value that an earlier run remembered.

use clap::{Args, Command, FromArgMatches};
use emr_shs::cli::GatewayArgs;
use emr_shs::testing::Settings;
use std::path::Path;

/// The gateway's settings after a run with these arguments, given those of the earlier run.
fn after(earlier: &Settings, arguments: &[&str]) -> Settings {
    let words = ["proxy install"].iter().chain(arguments);
    let matches = GatewayArgs::augment_args(Command::new("proxy install")).try_get_matches_from(words).unwrap();
    let gateway = GatewayArgs::from_arg_matches(&matches).unwrap().resolve(&earlier.gateway).unwrap();
    Settings { gateway, ..earlier.clone() }
}

#[test]
fn an_empty_value_takes_the_gateways_files_back() {
    let files =
        ["--htpasswd", "/etc/emr-shs/users", "--tls-cert", "/etc/emr-shs/chain", "--tls-key", "/etc/emr-shs/key"];
    let installed = after(&Settings::default(), &files);
    assert_eq!(after(&installed, &[]), installed);

    let without_login = after(&installed, &["--htpasswd", ""]).gateway;
    assert_eq!(without_login.htpasswd, None);
    assert_eq!(without_login.tls_key.as_deref(), Some(Path::new("/etc/emr-shs/key")));

    // The certificate and its key have no use without each other.
    for arguments in [&["--tls-cert", "", "--tls-key", ""][..], &["--tls-cert", ""], &["--tls-key", ""]] {
        let without_tls = after(&installed, arguments).gateway;
        assert_eq!((without_tls.tls_cert, without_tls.tls_key), (None, None), "{arguments:?}");
        assert_eq!(without_tls.htpasswd.as_deref(), Some(Path::new("/etc/emr-shs/users")));
    }
}
