//! The HTTP clients for the history server, the log gateway and presigned URLs.

use crate::dns;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Proxy};

/// A client for this machine's own server, whose certificate is not ours to judge.
pub(crate) fn local_client(timeout: Duration) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().disable_verification(true).unversioned_rustls_crypto_provider(provider).build();
    client(timeout, tls, None)
}

/// A client for what lies elsewhere, whose certificate must be good. `proxy` is the URL of a forward proxy.
pub(crate) fn remote_client(timeout: Duration, proxy: Option<&str>) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let known = rustls_native_certs::load_native_certs().certs;
    let known: Vec<_> = known.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&known));
    // The caller has seen that the URL parses.
    let proxy = proxy.and_then(|url| Proxy::new(url).ok());
    client(timeout, tls.unversioned_rustls_crypto_provider(provider).build(), proxy)
}

/// Why there is no answer, without the words that ureq puts before the errors of others.
pub(crate) fn why_no_answer(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Other(inner) => inner.to_string(),
        ureq::Error::Io(inner) => inner.to_string(),
        ureq::Error::Timeout(_) => "no answer in time".into(),
        error => error.to_string(),
    }
}

fn client(timeout: Duration, tls: TlsConfig, proxy: Option<Proxy>) -> Agent {
    let config = Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false);
    // A new connection for each request: on one that is used again Linux delays its
    // acknowledgement of the server's first packet, and with it the second one, by 40 ms.
    let config = config.tls_config(tls).proxy(proxy).max_idle_connections(0);
    let config = config.max_redirects(0).max_redirects_will_error(false).build();
    Agent::with_parts(config, DefaultConnector::default(), Names)
}

/// Finds the addresses of a URL's host.
#[derive(Debug)]
struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let mut found = self.empty();
        let addresses = dns::lookup(host).map_err(|e| ureq::Error::Other(Box::new(e)))?;
        // The most that the list can hold.
        addresses.into_iter().take(16).for_each(|address| found.push(SocketAddr::new(address, port)));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::{local_client, why_no_answer};
    use std::time::Duration;

    #[test]
    fn a_client_tells_why_there_is_no_answer_in_words_of_ours() {
        let why = |url: &str| local_client(Duration::from_secs(5)).get(url).call().err().map(|e| why_no_answer(&e));
        let no_address = why("http://no-such-name.invalid/").unwrap_or_default();
        assert!(no_address.starts_with("DNS "), "{no_address}");
        let refused = why("http://127.0.0.1:1/").unwrap_or_default();
        assert!(refused.starts_with("Connection refused"), "{refused}");
    }
}
