//! The objects that a proof writes, and their deletion.

use crate::aws::error::S3Failure;
use crate::aws::s3::S3;
use crate::aws::uri::EventLogs;
use crate::error::Fault;
use crate::hadoop_client::No;
use crate::node::hadoop_client::HadoopClients;
use crate::paths::JOBS_ACCOUNT;
use crate::shown::hint;
use crate::signals::Tidying;
use crate::test_objects::TestObject;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A way to write objects.
#[derive(Clone)]
pub(super) enum Writer {
    EmrShs(Arc<S3>),
    /// Hadoop's own client, as jobs use it, and how long it may take for an object.
    Hadoop(Arc<HadoopClients>, Duration),
}

/// The objects that were written. Dropped, it deletes those that are left. After a signal they are deleted even while the
/// proof waits for a history server that hangs.
#[derive(Default)]
pub(super) struct Written {
    objects: Arc<Mutex<Vec<WrittenObject>>>,
    tidying: Option<Tidying>,
}

struct WrittenObject {
    writer: Writer,
    uri: EventLogs,
    key: String,
    object: TestObject,
}

/// Why objects were not written.
pub(super) struct NotWritten {
    pub(super) fault: Fault,
    /// Whether S3 answered that it refuses the object, so that another way, or another encryption, may do.
    pub(super) is_refused: bool,
    /// Whether S3 was too busy to answer.
    pub(super) is_busy: bool,
}

impl From<NotWritten> for Fault {
    fn from(not_written: NotWritten) -> Self {
        not_written.fault
    }
}

impl Written {
    pub(super) fn count(&self) -> usize {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Writes objects below a prefix. An object whose request failed may exist all the same, unless S3
    /// said why it does not.
    pub(super) fn put(
        &mut self,
        writer: &Writer,
        uri: &EventLogs,
        objects: &[(String, Vec<u8>)],
    ) -> Result<(), NotWritten> {
        self.tidying.get_or_insert_with(|| {
            let objects = self.objects.clone();
            Tidying::by(move || remove(&objects).map_err(|fault| fault.message))
        });
        for (name, body) in objects {
            let key = format!("{}{name}", uri.prefix);
            // Whoever deletes the objects waits for this one.
            let mut written = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            let object = TestObject::about_to_be_written(&uri.bucket, &key);
            let (result, may_exist) = writer.write(uri, &key, body);
            match may_exist {
                true => written.push(WrittenObject { writer: writer.clone(), uri: uri.clone(), key, object }),
                false => object.gone(),
            }
            result?;
        }
        Ok(())
    }

    /// Deletes every object. The fault names the objects that are left, and so does the command at its end: an earlier
    /// failure can hide this one.
    pub(super) fn remove(&mut self) -> Result<(), Fault> {
        remove(&self.objects)
    }
}

fn remove(objects: &Mutex<Vec<WrittenObject>>) -> Result<(), Fault> {
    let mut failed: Option<Fault> = None;
    for WrittenObject { writer, uri, key, object } in objects.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        match writer.delete(&uri, &key) {
            Ok(()) => object.gone(),
            Err(new) => {
                let fault = failed.take().unwrap_or(new);
                failed = Some(fault.detail(format!("left behind: s3://{}/{key}", uri.bucket)));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

impl Writer {
    /// Writes an object, and tells whether it may exist now.
    fn write(&self, uri: &EventLogs, key: &str, body: &[u8]) -> (Result<(), NotWritten>, bool) {
        match self {
            Writer::EmrShs(s3) => {
                let Err(refusal) = s3.put(uri, key, body) else { return (Ok(()), true) };
                let is_denied = matches!(refusal.failure, S3Failure::Denied { .. });
                let is_refused = is_denied || matches!(refusal.failure, S3Failure::KmsKey | S3Failure::Other);
                let may_exist = matches!(refusal.failure, S3Failure::NoAnswer(_) | S3Failure::Other);
                let is_busy = refusal.failure == S3Failure::Busy;
                (Err(NotWritten { fault: refusal.fault, is_refused, is_busy }), may_exist)
            }
            Writer::Hadoop(clients, limit) => {
                let object = object(uri, key);
                let written = clients.as_jobs(Instant::now() + *limit, |session| session.write(&object, body));
                // Where S3 refuses the object, there is none.
                let may_exist = !matches!(written, Err(No::Refused { .. }));
                let fault = written.map_err(|no| Fault::preflight(no.as_message()));
                (fault.map_err(|fault| NotWritten { fault, is_refused: true, is_busy: false }), may_exist)
            }
        }
    }

    fn delete(&self, uri: &EventLogs, key: &str) -> Result<(), Fault> {
        match self {
            Writer::EmrShs(s3) => s3.delete(uri, key).map_err(|refusal| refusal.fault),
            Writer::Hadoop(clients, limit) => {
                let object = object(uri, key);
                let deleted = clients.as_jobs(Instant::now() + *limit, |session| session.delete(&object));
                let again = hint!(
                    "delete it as the account that wrote it: sudo -u {} hadoop fs -rm -skipTrash {}",
                    JOBS_ACCOUNT,
                    object
                );
                deleted.map_err(|no| Fault::preflight(no.as_detail()).hint(again))
            }
        }
    }
}

/// The URI of an object, as Hadoop reads it.
fn object(uri: &EventLogs, key: &str) -> String {
    format!("{}://{}/{key}", uri.scheme, uri.bucket)
}

impl Drop for Written {
    fn drop(&mut self) {
        // Nobody sees this result, so the command names what is left at its end.
        let _ = self.remove();
    }
}
