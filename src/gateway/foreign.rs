//! What the gateway makes of bytes that others write, one reader at a time and without a port: for tests and fuzz targets.

use super::access::{HostNames, NodeAddresses, Users};
use super::archive::search_stored;
use super::callers;
use super::cross_site;
use super::history_server::run_links::RunLinks;
use super::history_server::{cookies, links, proxy};
use super::http::BoxError;
use super::self_signed::SelfSigned;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::header::HeaderMap;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

/// The headers that go on to the history server with a request. `has_login` says that the gateway requires one.
pub fn onward_headers(headers: &HeaderMap, has_login: bool) -> HeaderMap {
    proxy::onward_headers(headers, has_login, false)
}

/// The headers of an answer of the history server, with its cookies as the browser gets them.
pub fn wrapped_cookies(mut headers: HeaderMap, base: &str) -> HeaderMap {
    cookies::wrap(&mut headers, base);
    headers
}

/// Whether a gateway without a login refuses a request because of a relay's header or cookie.
pub fn is_relayed(headers: &HeaderMap) -> bool {
    callers::mark(headers).is_some()
}

/// Whether a request comes from another site's page, and not from a click.
pub fn is_of_another_site(headers: &HeaderMap) -> bool {
    cross_site::refusal(headers).is_some()
}

/// Whether a `Host` header names this node, which has one name besides `localhost` and its addresses.
pub fn is_host(host: &str, name: &str) -> bool {
    HostNames::new([name.to_string()]).contains(host, &NodeAddresses::default())
}

/// What a browser gets of a page of the history server that arrives in these pieces.
pub fn relinked(pieces: &[&[u8]], prefix: Option<&str>, base: &str) -> Vec<u8> {
    let links = links::LogLinks::new(prefix, base);
    rewritten(pieces, move |held, ended| links.rewrite(held, ended))
}

/// The same of a page, or of an answer of the REST API, about a job run of EMR Serverless whose logs have this path.
pub fn relinked_run(pieces: &[&[u8]], path: &str, is_page: bool) -> Vec<u8> {
    let links = RunLinks::new(path.into());
    if is_page {
        return rewritten(pieces, move |held, ended| links.rewrite_html(held, ended));
    }
    let mut json = links.json();
    rewritten(pieces, move |held, ended| json.rewrite(held, ended))
}

fn rewritten(pieces: &[&[u8]], rewrite: impl FnMut(&mut BytesMut, bool) -> Bytes + Unpin) -> Vec<u8> {
    let pieces: Vec<Bytes> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let rewriter = links::LinkRewriter::new(Pieces(pieces.into_iter()), rewrite);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let collected = runtime.ok().and_then(|runtime| runtime.block_on(rewriter.collect()).ok());
    collected.map(|body| body.to_bytes().to_vec()).unwrap_or_default()
}

/// A body in pieces.
struct Pieces(std::vec::IntoIter<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
    }
}

/// What the gateway makes of a password file and an `Authorization` header. An error if it refuses the file; `None` if the header
/// contains no name and password; otherwise whether the login is right, and whether the gateway remembers it from then on.
pub fn login(file: &[u8], authorization: &str) -> Result<Option<(bool, bool)>, String> {
    let users = Users::of(file, Path::new("users")).map_err(|error| format!("{error:#}"))?;
    let Some(login) = users.login(authorization) else { return Ok(None) };
    let is_right = users.verify(&login);
    Ok(Some((is_right, users.verified(authorization).is_some())))
}

/// The clusters that a search for a timestamp names, from the file with clusters that the gateway writes to its state directory.
/// `None` if the file is as good as none.
pub fn stored_clusters(file: &[u8], timestamp: u64) -> Option<Vec<String>> {
    search_stored(file, timestamp, SystemTime::now())
}

/// Whether the gateway uses the certificate in its state directory.
pub fn stored_certificate(file: &[u8], names: &[String]) -> bool {
    SelfSigned::read(file, names, SystemTime::now()).is_some()
}
