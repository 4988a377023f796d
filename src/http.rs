//! The HTTP clients for the history server, the log gateway and presigned URLs.

use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// A client for this machine's own server, whose certificate is not ours to judge.
pub(crate) fn local_client(timeout: Duration) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().disable_verification(true).unversioned_rustls_crypto_provider(provider).build();
    client(timeout, tls)
}

/// A client for what lies elsewhere, whose certificate must be good.
pub(crate) fn remote_client(timeout: Duration) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let known = rustls_native_certs::load_native_certs().certs;
    let known: Vec<_> = known.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&known));
    client(timeout, tls.unversioned_rustls_crypto_provider(provider).build())
}

fn client(timeout: Duration, tls: TlsConfig) -> Agent {
    let config = Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false);
    // A new connection for each request: on one that is used again Linux delays its
    // acknowledgement of the server's first packet, and with it the second one, by 40 ms.
    let config = config.tls_config(tls).proxy(None).max_idle_connections(0);
    config.max_redirects(0).max_redirects_will_error(false).build().into()
}
