//! Streams logs through the gateway, for bucket policies that do not accept the node's signature from
//! a browser: they check from where or how a request arrives (docs/emr.md §9.2).
//!
//! Memory is bounded: the gateway reads the next chunk from S3 after the browser took the last one.

use super::archive::{BucketClient, Location};
use super::http::{Body, BoxError, empty, set_own_headers};
use crate::aws::error::{S3Error, S3Failure};
use async_compression::tokio::bufread::GzipDecoder;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// How many bytes of a decompressed log are sent at a time.
const TEXT_CHUNK: usize = 32 * 1024;

/// The response that contains a log: as text, or, with `attachment`, the bytes that S3 stores. The error is
/// S3's own; the caller asks the archive for its meaning.
pub(super) async fn log(
    bucket: &BucketClient,
    name: &str,
    location: &Location,
    requested: &HeaderMap,
    attachment: Option<&str>,
) -> Result<Response<Body>, SdkError<GetObjectError>> {
    let form = Form::of(location, requested, attachment.is_some());
    // A range of the text is not a range of the compressed object. With If-Range, a browser would
    // join parts of two versions of a log, which grows while its application runs.
    let supports_ranges = !form.is_gzipped_text() && !requested.contains_key(header::IF_RANGE);
    let range = requested.get(header::RANGE).and_then(|range| range.to_str().ok()).filter(|_| supports_ranges);
    let request = bucket.client.get_object().bucket(name).key(&location.key).set_range(range.map(str::to_string));
    let object = match request.send().await {
        Ok(object) => object,
        Err(e) if S3Error::new(&e, "s3:GetObject").failure == S3Failure::InvalidRange => {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set_own_headers(response.headers_mut());
            return Ok(response);
        }
        Err(e) => return Err(e),
    };
    let mut response = Response::new(());
    form.set_headers(response.headers_mut(), &object, attachment);
    if response.headers().contains_key(header::CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let body = if form.decompress {
        let mut decoder = GzipDecoder::new(object.body.into_async_read());
        // EMR can append a part with a header of its own.
        decoder.multiple_members(true);
        Text(decoder).boxed_unsync()
    } else {
        Chunks(object.body).boxed_unsync()
    };
    Ok(response.map(|()| body))
}

/// In which form the browser gets a log.
struct Form {
    /// As S3 stores it, for download; otherwise as text.
    as_stored: bool,
    gzipped: bool,
    /// The browser does not accept gzip, so the gateway decompresses.
    decompress: bool,
}

impl Form {
    fn of(location: &Location, requested: &HeaderMap, as_stored: bool) -> Self {
        let gzipped = location.key.ends_with(".gz");
        let accepted = requested.get(header::ACCEPT_ENCODING).and_then(|a| a.to_str().ok()).unwrap_or_default();
        Self { as_stored, gzipped, decompress: gzipped && !as_stored && !accepts_gzip(accepted) }
    }

    fn is_gzipped_text(&self) -> bool {
        self.gzipped && !self.as_stored
    }

    fn set_headers(&self, headers: &mut HeaderMap, object: &GetObjectOutput, attachment: Option<&str>) {
        set_own_headers(headers);
        let content_type = match (self.as_stored, self.gzipped) {
            (false, _) => "text/plain; charset=utf-8",
            (true, true) => "application/gzip",
            (true, false) => "application/octet-stream",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(value) = attachment.and_then(|a| HeaderValue::from_str(a).ok()) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
        if self.is_gzipped_text() {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
            if !self.decompress {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        } else {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        if !self.decompress
            && let Some(length) = object.content_length()
        {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(range) = object.content_range().and_then(|range| HeaderValue::from_str(range).ok()) {
            headers.insert(header::CONTENT_RANGE, range);
        }
    }
}

fn accepts_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let is_excluded = parts.any(|part| matches!(part.strip_prefix("q="), Some(q) if q.parse() == Ok(0.0)));
        is_named && !is_excluded
    })
}

/// The chunks of a log as they come from S3.
struct Chunks(ByteStream);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let chunk = ready!(Pin::new(&mut self.0).poll_next(cx));
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data).map_err(Into::into)))
    }
}

/// The text of a log that S3 stores with gzip. A chunk is read when the client has taken the last one.
struct Text<R>(R);

impl<R: AsyncRead + Unpin> hyper::body::Body for Text<R> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut chunk = vec![0; TEXT_CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        if let Err(e) = ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer)) {
            return Poll::Ready(Some(Err(e.into())));
        }
        let length = buffer.filled().len();
        chunk.truncate(length);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(chunk.into()))))
    }
}
