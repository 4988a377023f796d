//! Logs through the gateway itself, for where a browser may not use the node's signature: bucket
//! policies on how or from where a request comes (second facts §6). Memory is bounded: a chunk is
//! read from S3 when the browser has taken the last one.

use super::archive::{BucketClient, Location};
use super::{Body, BoxError, own_headers};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A log's bytes: as text, or with `attachment` as they are stored. The error is S3's, for whoever
/// knows what it means.
pub async fn log(
    way: &BucketClient,
    bucket: &str,
    at: &Location,
    asked: &HeaderMap,
    attachment: Option<&str>,
) -> Result<Response<Body>, SdkError<GetObjectError>> {
    let zipped = at.key.ends_with(".gz");
    // A part of a text has no place in the compressed object; and of two versions of a log, which
    // grows while its application runs, no parts are put together.
    let in_parts = (attachment.is_some() || !zipped) && !asked.contains_key(header::IF_RANGE);
    let range = asked.get(header::RANGE).and_then(|r| r.to_str().ok()).filter(|_| in_parts);
    let request = way.client.get_object().bucket(bucket).key(&at.key).set_range(range.map(str::to_string));
    let object = match request.send().await {
        Ok(object) => object,
        Err(e) if e.raw_response().is_some_and(|r| r.status().as_u16() == 416) => {
            let mut answer = Response::new(super::empty());
            *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            own_headers(answer.headers_mut());
            return Ok(answer);
        }
        Err(e) => return Err(e),
    };

    let mut answer = Response::new(());
    let headers = answer.headers_mut();
    own_headers(headers);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let content_type = match attachment {
        None => "text/plain; charset=utf-8",
        Some(_) if zipped => "application/gzip",
        Some(_) => "application/octet-stream",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(value) = attachment.and_then(|a| HeaderValue::from_str(a).ok()) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    let accepts = asked.get(header::ACCEPT_ENCODING).and_then(|a| a.to_str().ok()).unwrap_or_default();
    let gunzip = attachment.is_none() && zipped && !accepts_gzip(accepts);
    if attachment.is_none() && zipped {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if !gunzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    if !gunzip && let Some(length) = object.content_length() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if attachment.is_some() || !zipped {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    if let Some(range) = object.content_range().and_then(|r| HeaderValue::from_str(r).ok()) {
        headers.insert(header::CONTENT_RANGE, range);
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let decoder = gunzip.then(|| MultiGzDecoder::new(Vec::new()));
    let body = Chunks { inner: object.body, decoder, waiting: Bytes::new(), over: false };
    Ok(answer.map(|()| body.boxed_unsync()))
}

fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let refused = parts.any(|p| matches!(p.strip_prefix("q="), Some(q) if q.parse() == Ok(0.0)));
        named && !refused
    })
}

/// How much compressed input is expanded at a time: a thousandfold is the most that deflate can.
const BITE: usize = 4096;

/// S3's chunks, expanded on the way if need be.
struct Chunks {
    inner: ByteStream,
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    waiting: Bytes,
    over: bool,
}

impl Chunks {
    fn expand(&mut self) -> Result<Bytes, std::io::Error> {
        let Some(decoder) = &mut self.decoder else { return Ok(std::mem::take(&mut self.waiting)) };
        let bite = self.waiting.split_to(BITE.min(self.waiting.len()));
        decoder.write_all(&bite)?;
        if self.over && self.waiting.is_empty() {
            decoder.try_finish()?;
        }
        Ok(std::mem::take(decoder.get_mut()).into())
    }
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.waiting.is_empty() {
                if self.over {
                    return Poll::Ready(None);
                }
                match Pin::new(&mut self.inner).poll_next(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(bytes))) => self.waiting = bytes,
                    Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(e.into()))),
                    Poll::Ready(None) => self.over = true,
                }
            }
            match self.expand() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(e) => return Poll::Ready(Some(Err(e.into()))),
            }
        }
    }
}
