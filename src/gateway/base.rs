//! The path under which users find the gateway behind another proxy: `/shs` of `--public-url https://tools.example/shs`. Every
//! link that leaves the gateway begins with the path, and a request may begin with it, so it does not matter whether the
//! other proxy takes the path away. Through a tunnel, too, all links work.

use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use std::sync::OnceLock;

/// A process is one gateway. Its pages are templates, which know nothing else of the gateway.
static PATH: OnceLock<String> = OnceLock::new();

/// Decides the path, once for the process.
pub(super) fn set(path: &str) {
    let _ = PATH.set(path.into());
}

/// The path, without a slash at its end; empty without a path.
pub(super) fn path() -> &'static str {
    PATH.get().map_or("", String::as_str)
}

/// A path as browsers must ask for it.
pub(super) fn link(base: &str, path: &str) -> String {
    if without(base, path).is_some() { path.into() } else { format!("{base}{path}") }
}

/// What follows `base` in a path; `None` if the path does not begin with it.
pub(super) fn without<'a>(base: &str, path: &'a str) -> Option<&'a str> {
    match path.strip_prefix(base).filter(|_| !base.is_empty())? {
        "" => Some("/"),
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

/// Takes `base` away from the path that is asked for.
pub(super) fn take_from(base: &str, uri: &mut Uri) {
    let Some(rest) = without(base, uri.path()) else { return };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(rest) = PathAndQuery::try_from(format!("{rest}{query}")) else { return };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest);
    if let Ok(shorter) = Uri::from_parts(parts) {
        *uri = shorter;
    }
}

#[cfg(test)]
mod tests {
    use super::{link, take_from};
    use hyper::Uri;

    #[test]
    fn a_request_may_begin_with_the_path_and_every_link_does() {
        for (base, asked, wanted) in [
            ("/shs", "/shs/logs/?a=b", "/logs/?a=b"),
            ("/shs", "/logs/?a=b", "/logs/?a=b"),
            ("/shs", "/shs", "/"),
            ("/shs", "/shs?a", "/?a"),
            ("/shs", "/shsx/logs/", "/shsx/logs/"),
            ("/a/b", "/a/b//c", "//c"),
            ("", "/logs/", "/logs/"),
        ] {
            let mut uri: Uri = asked.parse().unwrap_or_default();
            take_from(base, &mut uri);
            assert_eq!(uri.to_string(), wanted);
        }
        assert_eq!(link("/shs", "/history/x"), "/shs/history/x");
        assert_eq!(link("/shs", "/shs/history/x"), "/shs/history/x");
        assert_eq!(link("", "/history/x"), "/history/x");
    }
}
