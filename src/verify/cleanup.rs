//! The objects that a proof writes, and their deletion.

use crate::aws::error::S3Failure;
use crate::aws::s3::S3;
use crate::aws::uri::EventLogs;
use crate::error::Fault;
use crate::signals::Tidying;

/// The objects that were written. Dropped, it deletes those that are left.
#[derive(Default)]
pub(super) struct Written {
    clients: Vec<S3>,
    objects: Vec<WrittenObject>,
    tidying: Option<Tidying>,
}

struct WrittenObject {
    /// The index of the client that wrote the object.
    client: usize,
    uri: EventLogs,
    key: String,
}

impl Written {
    pub(super) fn count(&self) -> usize {
        self.objects.len()
    }

    /// Writes objects below a prefix. An object whose request failed may exist all the same, unless S3
    /// denied the request.
    pub(super) fn put(&mut self, s3: S3, uri: &EventLogs, objects: &[(String, Vec<u8>)]) -> Result<(), Fault> {
        let client = self.clients.len();
        self.clients.push(s3);
        self.tidying.get_or_insert_with(Tidying::begin);
        for (name, body) in objects {
            let key = format!("{}{name}", uri.prefix);
            let result = self.clients[client].put(uri, &key, body);
            let is_denied = result.as_ref().is_err_and(|refusal| matches!(refusal.failure, S3Failure::Denied { .. }));
            if !is_denied {
                self.objects.push(WrittenObject { client, uri: uri.clone(), key });
            }
            result.map_err(|refusal| refusal.fault)?;
        }
        Ok(())
    }

    /// Deletes every object. The fault names the objects that are left.
    pub(super) fn remove(&mut self) -> Result<(), Fault> {
        let mut failed: Option<Fault> = None;
        for WrittenObject { client, uri, key } in self.objects.drain(..) {
            if let Err(refusal) = self.clients[client].delete(&uri, &key) {
                let fault = failed.take().unwrap_or(refusal.fault);
                failed = Some(fault.detail(format!("left behind: s3://{}/{key}", uri.bucket)));
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}
