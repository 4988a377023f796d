//! Requests that another site's page makes through a visitor's browser. Such a page cannot read the answers, but each
//! request could cost the owner requests to S3, and an `<img>` or a `<script>` that loads or fails would tell which logs
//! exist. Browsers say with `Sec-Fetch-…` headers for what they ask, on https and on localhost (docs/gateway.md).

use super::pages::Message;
use hyper::StatusCode;
use hyper::header::HeaderMap;

const SITE: &str = "sec-fetch-site";
const MODE: &str = "sec-fetch-mode";
const DESTINATION: &str = "sec-fetch-dest";
const PURPOSE: &str = "sec-purpose";

/// The answer to a request of another site's page; `None` for everything else. A click on a link is a navigation and is
/// served: the history server's pages on its own port are another origin of the same site.
pub(super) fn refusal(headers: &HeaderMap) -> Option<Message> {
    let is = |name: &str, wanted: &str| headers.get(name).is_some_and(|value| value == wanted);
    let is_foreign = headers.contains_key(SITE) && !is(SITE, "same-origin") && !is(SITE, "none");
    // A page can make browsers prefetch links that nobody clicks.
    let is_click = is(MODE, "navigate") && is(DESTINATION, "document") && !headers.contains_key(PURPOSE);
    (is_foreign && !is_click).then(|| {
        Message::new(StatusCode::FORBIDDEN, "This gateway does not serve other sites' pages")
            .text("A page of another site asked for this in the background. A link that somebody clicks opens.")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::refusal;
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    fn is_refused(headers: &[(&str, &str)]) -> bool {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        refusal(&headers.iter().map(pair).collect::<HeaderMap>()).is_some()
    }

    #[test]
    fn only_a_click_comes_from_another_site() {
        let click = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        for site in ["cross-site", "same-site", "something new"] {
            let with = |more: &[(&str, &str)]| is_refused(&[&[("sec-fetch-site", site)], more].concat());
            assert!(!with(&click), "{site}");
            for embedded in ["image", "script", "iframe", "frame", "embed", "object", "style", "empty", "video"] {
                assert!(with(&[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", embedded)]), "{site} {embedded}");
                assert!(with(&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", embedded)]), "{site} {embedded}");
            }
            assert!(with(&[]) && with(&[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "document")]));
            assert!(with(&[&click[..], &[("sec-purpose", "prefetch;prerender")]].concat()));
        }
        for site in ["same-origin", "none"] {
            assert!(!is_refused(&[("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")]), "{site}");
        }
        assert!(!is_refused(&[]), "curl, and browsers on plain http by another name");
    }
}
