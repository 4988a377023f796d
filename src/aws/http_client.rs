//! The HTTP client of the SDK's clients: how it finds addresses, and which proxy it asks.

use super::proxies::{Proxies, ProxyUrl};
use crate::dns;
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use std::collections::HashMap;

/// A client that asks the hosts for which `proxies` have one through a proxy.
pub(crate) fn client(proxies: &Proxies) -> SharedHttpClient {
    if proxies.is_empty() {
        return direct();
    }
    let through = |proxy: &ProxyUrl| (proxy.secret().to_string(), connecting(Some(proxy)));
    let through = proxies.usable().map(through).collect();
    SharedHttpClient::new(Choosing { proxies: proxies.clone(), direct: direct(), through })
}

/// A client that asks every host without a proxy.
pub(crate) fn direct() -> SharedHttpClient {
    connecting(None)
}

fn connecting(proxy: Option<&ProxyUrl>) -> SharedHttpClient {
    let config = match proxy.map(|proxy| ProxyConfig::all(proxy.with_scheme())) {
        Some(Ok(config)) => config,
        // Only URLs that parse come here.
        Some(Err(_)) | None => ProxyConfig::disabled(),
    };
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().proxy_config(config.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.tls_provider(Provider::rustls(CryptoMode::AwsLc)).build_with_resolver(Names)
    })
}

/// Chooses a client for each request, because the SDK asks S3 and the metadata service with the same one.
#[derive(Debug)]
struct Choosing<T> {
    proxies: Proxies,
    direct: T,
    /// By the proxy's URL.
    through: HashMap<String, T>,
}

impl HttpClient for Choosing<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = |client: &SharedHttpClient| client.http_connector(settings, components);
        SharedHttpConnector::new(Choosing {
            proxies: self.proxies.clone(),
            direct: connector(&self.direct),
            through: self.through.iter().map(|(url, client)| (url.clone(), connector(client))).collect(),
        })
    }
}

impl HttpConnector for Choosing<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let proxy = self.proxies.proxy_for(request.uri());
        proxy.and_then(|proxy| self.through.get(proxy.secret())).unwrap_or(&self.direct).call(request)
    }
}

/// Finds the addresses of a name.
#[derive(Clone, Debug)]
struct Names;

impl ResolveDns for Names {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move { dns::lookup_later(name).await.map_err(ResolveDnsError::new) })
    }
}
