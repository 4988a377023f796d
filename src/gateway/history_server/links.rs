//! Log links in what the history server sends: they become links to the gateway, relative to the page, so that a tunnel can
//! use any port.

use crate::gateway::http::BoxError;
use crate::ids::Container;
use bytes::{Bytes, BytesMut};
use hyper::body::Frame;
use memchr::memmem::Finder;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Begins every link that may have to change.
const SCHEME: &[u8] = b"http";
/// The longest link that is looked at, in bytes. A longer one passes as it is.
pub(super) const LONGEST: usize = 2048;
/// The page of a NodeManager with a log, after its address (docs/emr.md §5.5). Event logs of Spark 2 contain such links only.
const LIVE_LOGS: &str = "/node/containerlogs/";

/// Which links change.
#[derive(Clone)]
pub(in crate::gateway) struct LogLinks {
    /// How the installed log links begin, such as `http://ip-…:9977/logs/`; `None` if they are relative already.
    prefix: Option<String>,
    /// The path before the gateway, with which its own links begin.
    base: String,
    scheme: Finder<'static>,
}

impl LogLinks {
    pub(in crate::gateway) fn new(prefix: Option<&str>, base: &str) -> Self {
        Self { prefix: prefix.map(Into::into), base: base.into(), scheme: Finder::new(SCHEME) }
    }

    /// The rewritten bytes that can be sent now: all but what can be the beginning of a link; at the end of the body, all.
    pub(in crate::gateway) fn rewrite(&self, held: &mut BytesMut, ended: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(held.len());
        while let Some(at) = self.scheme.find(held) {
            out.extend_from_slice(&held.split_to(at));
            let length = held.iter().take(LONGEST).position(|byte| is_end(*byte));
            let length = match length {
                Some(length) => length,
                None if ended || held.len() >= LONGEST => held.len().min(LONGEST),
                // The rest of the link is in the next chunk.
                None => return out.freeze(),
            };
            let link = held.split_to(length.max(SCHEME.len()));
            let replacement = std::str::from_utf8(&link).ok().and_then(|link| self.replacement(link));
            out.extend_from_slice(replacement.as_deref().map_or(&link, str::as_bytes));
        }
        let begun = if ended { 0 } else { begun(held, SCHEME) };
        out.extend_from_slice(&held.split_to(held.len() - begun));
        out.freeze()
    }

    /// The link to the gateway that replaces this link; `None` if it stays.
    fn replacement(&self, link: &str) -> Option<String> {
        if let Some(rest) = self.prefix.as_deref().and_then(|prefix| link.strip_prefix(prefix)) {
            return Some(format!("{}/logs/{rest}", self.base));
        }
        let (_, log) = link.split_once(LIVE_LOGS)?;
        let mut parts = log.split(['?', '#']).next()?.split('/');
        let container = Container::parse(parts.next()?)?;
        let (_user, file) = (parts.next()?, parts.next()?);
        is_file_name(file).then(|| format!("{}/logs/{}/{file}", self.base, container.id))
    }
}

/// A body whose links change while it passes by, wherever its chunks are cut.
pub(in crate::gateway) struct LinkRewriter<B, R> {
    inner: Pin<Box<B>>,
    /// Takes those bytes that can be sent now, and rewrites them. `true` says that no further bytes come: then it takes all.
    rewrite: R,
    /// Bytes that can belong to a link whose end is not here yet.
    held: BytesMut,
    ended: bool,
}

impl<B, R: FnMut(&mut BytesMut, bool) -> Bytes> LinkRewriter<B, R> {
    pub(in crate::gateway) fn new(inner: B, rewrite: R) -> Self {
        Self { inner: Box::pin(inner), rewrite, held: BytesMut::new(), ended: false }
    }
}

/// Whether a byte ends a link in HTML or JSON.
fn is_end(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\"'<>\\".contains(&byte)
}

/// Whether a link may end in this name: it is that of a log, and not a step to another directory.
pub(super) fn is_file_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !matches!(name, "" | "." | "..") && name.bytes().all(is_plain)
}

/// How many bytes at the end of the text can be the beginning of a word.
pub(super) fn begun(text: &[u8], word: &[u8]) -> usize {
    (1..word.len().min(text.len() + 1)).rev().find(|&n| text.ends_with(&word[..n])).unwrap_or(0)
}

impl<B, R> hyper::body::Body for LinkRewriter<B, R>
where
    B: hyper::body::Body<Data = Bytes, Error = BoxError>,
    R: FnMut(&mut BytesMut, bool) -> Bytes + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            match this.inner.as_mut().poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(e))),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        this.held.extend_from_slice(&data);
                    }
                }
                Poll::Ready(None) => this.ended = true,
            }
            let sendable = (this.rewrite)(&mut this.held, this.ended);
            if !sendable.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(sendable))));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
pub(super) mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const PAGE: &str = r#"<a href="http://ip-1:9977/logs/container_1/stderr">s</a> http://ip-1:9977/x https://h
        "stdout" : "http://nm-2:8042/node/containerlogs/container_1795352263709_0001_01_000002/hadoop/stdout?start=-4096",
        'https://nm:8044/node/containerlogs/container_e9_1795352263709_0001_01_000002/a.b/stderr'
        http://nm:8042/node/containerlogs/container_1/hadoop/x http://nm/node/containerlogs/container_1795352263709_0001_01_000002/u/..%2f
        httphttp http://ip-1:9977/logs/end"#;
    const WANTED: &str = r#"<a href="/logs/container_1/stderr">s</a> http://ip-1:9977/x https://h
        "stdout" : "/logs/container_1795352263709_0001_01_000002/stdout",
        '/logs/container_e9_1795352263709_0001_01_000002/stderr'
        http://nm:8042/node/containerlogs/container_1/hadoop/x http://nm/node/containerlogs/container_1795352263709_0001_01_000002/u/..%2f
        httphttp /logs/end"#;

    async fn rewritten(page: &str, chunk: usize) -> String {
        below("", page, chunk).await
    }

    async fn below(base: &str, page: &str, chunk: usize) -> String {
        let links = LogLinks::new(Some("http://ip-1:9977/logs/"), base);
        in_chunks(page, chunk, move |held, ended| links.rewrite(held, ended)).await
    }

    /// What becomes of a page that comes in chunks of so many bytes.
    pub(in crate::gateway::history_server) async fn in_chunks(
        page: &str,
        chunk: usize,
        rewrite: impl FnMut(&mut BytesMut, bool) -> Bytes + Unpin,
    ) -> String {
        let chunks: Vec<Result<Frame<Bytes>, BoxError>> =
            page.as_bytes().chunks(chunk).map(|bytes| Ok(Frame::data(Bytes::copy_from_slice(bytes)))).collect();
        let bytes = LinkRewriter::new(Chunks(chunks.into_iter()), rewrite).collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    struct Chunks(std::vec::IntoIter<Result<Frame<Bytes>, BoxError>>);

    impl hyper::body::Body for Chunks {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.next())
        }
    }

    #[tokio::test]
    async fn links_change_wherever_the_page_is_cut() {
        for chunk in 1..200 {
            assert_eq!(rewritten(PAGE, chunk).await, WANTED, "chunks of {chunk} bytes");
        }
    }

    #[tokio::test]
    async fn links_begin_with_the_path_before_the_gateway() {
        assert_eq!(
            below("/shs", PAGE, 7).await,
            WANTED.replace("/logs/", "/shs/logs/").replace("1:9977/shs/", "1:9977/")
        );
    }

    #[tokio::test]
    async fn what_is_no_link_passes_in_bounded_memory() {
        let page = format!("http{} http://ip-1:9977/logs/x", "y".repeat(3 * LONGEST));
        assert_eq!(rewritten(&page, 100).await, page.replace("http://ip-1:9977", ""));
    }
}
