//! The memory of pages that wait for their readers. A page of 10,000 files has 1.5 MB, and a client that does not read it
//! keeps it in memory.

use super::http::{Body, hold};
use super::limits::{MAX_PAGE_BYTES, SMALL_PAGE, UNREAD_PAGE};
use super::server::connections::{Connections, Link};
use hyper::Response;
use hyper::body::Body as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[derive(Clone, Default)]
pub(super) struct PageMemory(Arc<Memory>);

#[derive(Default)]
struct Memory {
    used: AtomicUsize,
    refused: AtomicU64,
}

/// A page in memory; dropped, its bytes are free.
struct Page {
    memory: PageMemory,
    link: Arc<Link>,
    bytes: usize,
}

impl PageMemory {
    pub(super) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// How many pages had no room.
    pub(super) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Counts a page until it is sent. Where there is no room, the clients that have not read theirs for the longest time are
    /// disconnected. `None` if that does not suffice. Root's pages, which are few, get their room in any case.
    pub(super) fn keep(
        &self,
        response: Response<Body>,
        link: &Arc<Link>,
        connections: &Connections,
    ) -> Option<Response<Body>> {
        // Bytes that come from elsewhere, such as a log's, are not in memory.
        let bytes = response.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        if bytes < SMALL_PAGE {
            return Some(response);
        }
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        link.hold(bytes);
        let page = Page { memory: self.clone(), link: link.clone(), bytes };
        let mut used = self.used();
        while used > MAX_PAGE_BYTES && !link.is_kept() {
            // The memory of a closed connection is free a moment later; its link says at once how much that is.
            let Some(freed) = connections.evict_holder(UNREAD_PAGE) else {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            used = used.saturating_sub(freed);
        }
        Some(response.map(|body| hold(body, page)))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.memory.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.link.release(self.bytes);
    }
}
