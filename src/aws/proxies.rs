//! The forward proxies between this node and AWS: those that the shell's variables name, and those of S3A.

use crate::paths::HOST_NAME_FILE;
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use nix::ifaddrs::getifaddrs;
use serde::{Deserialize, Serialize};
use std::env;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;

/// Where the metadata service answers over IPv6; over IPv4 its address is link-local.
const METADATA_SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Where the SDK looks for the metadata service.
const METADATA_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// The proxies that the receipt remembers.
static REMEMBERED: OnceLock<Proxies> = OnceLock::new();

/// The URL of a proxy. It can contain a password, so only [`ProxyUrl::secret`] gives it away.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ProxyUrl(String);

impl ProxyUrl {
    /// The whole URL, for a connection or a file that only root can read.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// The whole URL, with a scheme.
    pub(crate) fn with_scheme(&self) -> String {
        if self.0.contains("://") { self.0.clone() } else { format!("http://{}", self.0) }
    }

    fn has_login(&self) -> bool {
        self.0.contains('@')
    }

    /// Whether requests can go through the proxy. SOCKS is another protocol.
    fn is_usable(&self) -> bool {
        let scheme = self.0.split_once("://").map_or("http", |(scheme, _)| scheme);
        let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        is_http && self.0.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("http", &self.0));
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place).trim_end_matches('/');
        write!(f, "{scheme}://{}{place}", if self.has_login() { "…@" } else { "" })
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The proxies for requests to AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxies {
    /// The proxy for `http://`.
    http: Option<ProxyUrl>,
    /// The proxy for `https://`.
    https: Option<ProxyUrl>,
    /// The hosts that are asked without a proxy, as `NO_PROXY` lists them.
    except: Option<String>,
    /// Whether they are S3A's, by `fs.s3a.proxy.host`, and not the shell's.
    #[serde(skip)]
    of_s3a: bool,
}

impl Proxies {
    /// The proxies that the variables of this process name. A variable that is not set keeps the earlier value, because
    /// `sudo` takes the variables away; an empty one takes the earlier value back.
    pub(crate) fn resolve(earlier: &Self) -> Self {
        Self::of_variables(earlier, &|name| env::var(name).ok())
    }

    fn of_variables(earlier: &Self, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        // In this order the SDK reads them, too.
        let value = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase()));
        let newer = |name: &str| value(name).map(|text| text.trim().to_string());
        let text = |found: Option<String>| found.filter(|text| !text.is_empty() && !text.contains(char::is_control));
        let proxy = |name: &str, earlier: &Option<ProxyUrl>| match newer(name).or_else(|| newer("ALL_PROXY")) {
            Some(url) => text(Some(url)).map(ProxyUrl),
            None => earlier.clone(),
        };
        Self {
            http: proxy("HTTP_PROXY", &earlier.http),
            https: proxy("HTTPS_PROXY", &earlier.https),
            except: match newer("NO_PROXY") {
                Some(hosts) => text(Some(hosts)),
                None => earlier.except.clone(),
            },
            of_s3a: false,
        }
    }

    /// S3A's proxy, by the keys `fs.s3a.proxy.*`, which `get` reads. `None` where S3A has none.
    pub(crate) fn of_s3a(get: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let given = |key: &str| get(key).map(|value| value.trim().to_string()).filter(|value| !value.is_empty());
        let host = given("fs.s3a.proxy.host")?;
        let is_true = |value: &str| value.eq_ignore_ascii_case("true");
        let is_false = |value: &str| value.eq_ignore_ascii_case("false");
        let port = given("fs.s3a.proxy.port").unwrap_or_else(|| {
            // S3A's own default.
            if given("fs.s3a.connection.ssl.enabled").is_some_and(|value| is_false(&value)) { "80" } else { "443" }
                .into()
        });
        let scheme =
            if given("fs.s3a.proxy.ssl.enabled").is_some_and(|value| is_true(&value)) { "https" } else { "http" };
        let encoded =
            |text: String| percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let login = given("fs.s3a.proxy.username").map(|user| {
            let password = given("fs.s3a.proxy.password").unwrap_or_default();
            format!("{}:{}@", encoded(user), encoded(password))
        });
        let url = ProxyUrl(format!("{scheme}://{}{host}:{port}", login.unwrap_or_default()));
        Some(Self { http: Some(url.clone()), https: Some(url), except: None, of_s3a: true })
    }

    /// The variables of a process that shall use these proxies.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &str)> {
        let (http, https) = (self.http.as_ref().map(ProxyUrl::secret), self.https.as_ref().map(ProxyUrl::secret));
        let all = [("HTTP_PROXY", http), ("HTTPS_PROXY", https), ("NO_PROXY", self.except.as_deref())];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Whether a URL contains a password.
    pub(crate) fn have_login(&self) -> bool {
        self.http.iter().chain(&self.https).any(ProxyUrl::has_login)
    }

    /// The proxy for a request, unless the host is this node, the metadata service, or exempt.
    pub(crate) fn proxy_for(&self, url: &str) -> Option<&ProxyUrl> {
        let uri: Uri = url.parse().ok()?;
        let proxy = if uri.scheme_str() == Some("http") { &self.http } else { &self.https };
        let proxy = proxy.as_ref().filter(|proxy| proxy.is_usable())?;
        let is_near = uri.host().is_none_or(is_near);
        (!is_near && !self.exempts(&uri)).then_some(proxy)
    }

    /// Whether `NO_PROXY` lists the host.
    fn exempts(&self, uri: &Uri) -> bool {
        let Some(except) = &self.except else { return false };
        // curl takes a name for the name of a domain, too; other programs write that as `*.domain`.
        let hosts: Vec<&str> = except.split([',', ' ']).map(|host| host.trim().trim_start_matches("*.")).collect();
        let matcher = Matcher::builder().all("http://proxy").no(hosts.join(",")).build();
        matcher.intercept(uri).is_none()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// The proxies through which requests can go.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &ProxyUrl> {
        self.http.iter().chain(&self.https).filter(|proxy| proxy.is_usable())
    }

    /// A proxy that the variables name, but that speaks a protocol which emr-shs does not.
    fn unusable(&self) -> Option<&ProxyUrl> {
        self.https.iter().chain(&self.http).find(|proxy| !proxy.is_usable())
    }

    /// How requests to a URL go, for a message about one that got no answer. `None` where no proxy is set.
    pub(crate) fn way_to(&self, url: &str) -> Option<String> {
        let key = if url.starts_with("http:") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
        let source = if self.of_s3a { "fs.s3a.proxy.host" } else { key };
        if let Some(proxy) = self.proxy_for(url) {
            return Some(format!("asked through the proxy {proxy} ({source})"));
        }
        if let Some(proxy) = self.unusable() {
            return Some(format!("asked without a proxy: {proxy} ({source}) is not an http:// or https:// proxy"));
        }
        let exempt =
            self.except.as_ref().filter(|_| !self.is_empty() && url.parse().is_ok_and(|uri| self.exempts(&uri)));
        exempt.map(|except| format!("asked without a proxy, because NO_PROXY is {except}"))
    }
}

/// What a plan says: `through the proxy http://proxy:3128, except 10.0.0.0/8`.
impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut urls: Vec<String> = self.https.iter().chain(&self.http).map(ToString::to_string).collect();
        urls.dedup();
        write!(f, "through the proxy {}", urls.join(" and "))?;
        self.except.iter().try_for_each(|except| write!(f, ", except {except}"))
    }
}

/// Remembers the proxies of an installation for this process, as if its variables named them.
pub(crate) fn remember(proxies: &Proxies) {
    // The first call wins; there is one receipt.
    let _ = REMEMBERED.set(proxies.clone());
}

/// The proxies that this process uses: those of its variables, else those that the receipt remembers.
pub(crate) fn in_force() -> Proxies {
    Proxies::resolve(REMEMBERED.get().unwrap_or(&Proxies::default()))
}

/// Whether no proxy leads to a host: this node and the metadata service, which answers each node for itself.
fn is_near(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_lowercase();
    match host.parse() {
        Ok(IpAddr::V4(v4)) if v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() => true,
        Ok(IpAddr::V6(v6)) if v6.is_loopback() || v6.is_unicast_link_local() || v6 == METADATA_SERVICE => true,
        Ok(address) => is_own(address),
        Err(_) => {
            let named = fs_err::read_to_string(HOST_NAME_FILE).unwrap_or_default().trim().to_lowercase();
            let metadata =
                env::var(METADATA_ENDPOINT).ok().and_then(|url| Some(url.parse::<Uri>().ok()?.host()?.to_lowercase()));
            host == "localhost" || host.ends_with(".localhost") || host == named || Some(host) == metadata
        }
    }
}

fn is_own(address: IpAddr) -> bool {
    let Ok(mut interfaces) = getifaddrs() else { return false };
    interfaces.any(|interface| {
        let own = interface.address;
        let v4 = own.as_ref().and_then(|own| Some(IpAddr::from(own.as_sockaddr_in()?.ip())));
        let v6 = own.as_ref().and_then(|own| Some(IpAddr::from(own.as_sockaddr_in6()?.ip())));
        v4 == Some(address) || v6 == Some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::Proxies;
    use std::collections::HashMap;

    fn of(variables: &[(&str, &str)], earlier: &Proxies) -> Proxies {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Proxies::of_variables(earlier, &|name| variables.get(name).cloned())
    }

    #[test]
    fn a_variable_that_is_missing_keeps_the_earlier_proxy_and_an_empty_one_takes_it_back() {
        let none = Proxies::default();
        let first = of(&[("https_proxy", "http://proxy.corp:3128"), ("NO_PROXY", "10.0.0.0/8, *.corp")], &none);
        assert_eq!(first.variables(), [("HTTPS_PROXY", "http://proxy.corp:3128"), ("NO_PROXY", "10.0.0.0/8, *.corp")]);
        assert_eq!(of(&[], &first), first);
        assert_eq!(of(&[("HTTPS_PROXY", ""), ("NO_PROXY", "")], &first), none);
        let all = of(&[("ALL_PROXY", "proxy.corp:3128"), ("HTTP_PROXY", "http://other:1")], &none);
        assert_eq!(all.variables(), [("HTTP_PROXY", "http://other:1"), ("HTTPS_PROXY", "proxy.corp:3128")]);
        // A line break would end the line of the file that keeps it.
        assert_eq!(of(&[("HTTPS_PROXY", "http://a\nEMR_SHS_INSECURE=true")], &none), none);
    }

    #[test]
    fn neither_this_node_nor_the_metadata_service_is_asked_through_a_proxy() {
        let all = of(
            &[("ALL_PROXY", "http://proxy.corp:3128"), ("NO_PROXY", "10.0.0.0/8,*.corp,vpce.amazonaws.com")],
            &Proxies::default(),
        );
        let s3a = |key: &str| (key == "fs.s3a.proxy.host").then(|| "proxy.corp".to_string());
        let s3a = Proxies::of_s3a(&s3a).unwrap_or_default();
        for near in [
            "http://169.254.169.254/latest/api/token",
            "http://[fd00:ec2::254]/latest/api/token",
            "http://169.254.170.2/v2/credentials",
            "http://localhost:18080/",
            "http://127.0.0.1:7070/",
            "http://[::1]:9977/",
        ] {
            assert_eq!((all.proxy_for(near), s3a.proxy_for(near)), (None, None), "{near}");
        }
        for exempt in ["https://10.1.2.3/", "https://s3.corp/", "https://b.vpce-1.s3.eu-west-3.vpce.amazonaws.com/"] {
            assert_eq!(all.proxy_for(exempt), None, "{exempt}");
            assert!(s3a.proxy_for(exempt).is_some(), "{exempt}");
        }
        let far = "https://b.s3.eu-west-3.amazonaws.com/";
        assert_eq!(all.way_to(far).as_deref(), Some("asked through the proxy http://proxy.corp:3128 (HTTPS_PROXY)"));
        assert_eq!(
            s3a.way_to(far).as_deref(),
            Some("asked through the proxy http://proxy.corp:443 (fs.s3a.proxy.host)")
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        let proxies = of(&[("HTTPS_PROXY", "http://me:s3cr@t@proxy.corp:3128/")], &Proxies::default());
        assert!(proxies.have_login());
        let shown = format!("{proxies} {proxies:?} {:?}", proxies.way_to("https://b.s3.amazonaws.com/"));
        assert!(!shown.contains("s3cr") && shown.contains("http://…@proxy.corp:3128"), "{shown}");
        let key = |key: &str| {
            let keys =
                [("host", "p"), ("port", "8080"), ("username", "me"), ("password", "a:b/c@d"), ("ssl.enabled", "TRUE")];
            keys.iter().find(|(name, _)| key.ends_with(&format!("proxy.{name}"))).map(|(_, value)| value.to_string())
        };
        let s3a = Proxies::of_s3a(&key).unwrap_or_default();
        assert_eq!(s3a.variables()[1], ("HTTPS_PROXY", "https://me:a%3Ab%2Fc%40d@p:8080"));
        assert_eq!(s3a.to_string(), "through the proxy https://…@p:8080");
    }

    #[test]
    fn a_socks_proxy_is_named_and_not_used() {
        let socks = of(&[("ALL_PROXY", "socks5h://proxy:1080")], &Proxies::default());
        let far = "https://b.s3.amazonaws.com/";
        assert_eq!(socks.proxy_for(far), None);
        assert!(socks.way_to(far).is_some_and(|way| way.contains("socks5h://proxy:1080")));
    }
}
