//! Event logs as Spark writes them: how they are compressed, and what they tell about the application.
//!
//! Nothing here knows where a log lies, and nothing reads or writes. [`LogReading`] says which bytes of a log it wants
//! next, and gets them; [`WholeReading`] gets a log from its first byte to its last. The facts are those that Spark's
//! history server lists: `doMergeApplicationListing` and `AppListingListener` of Spark 2.4 to 4.1.
//!
//! Memory and time are bounded whatever the bytes are:
//!
//! - A [`LogReading`] keeps at most 3 MiB of a log as it lies, one line of at most 8 MiB, and a decoder of at most
//!   12 MiB. It unpacks at most 256 MiB at a time. Of a log as Spark writes it that is less than 1 MiB.
//! - A [`WholeReading`] keeps one such line, and a decoder: of zstd at most 128 MiB, because frames of level 22 need as
//!   much, of lz4 and snappy at most 64 MiB, and of what Spark writes unless somebody changes the size of its blocks less
//!   than 1 MiB. It ends at a log that unpacks to more than a thousand times its size.
//! - Each byte is unpacked once; the end of a log that is taken up in its middle, a few times.

mod blocks;
mod codec;
mod damage;
mod decoder;
mod events;
mod facts;
mod reading;
mod tail;
mod whole;

pub use codec::Codec;
pub use damage::{Damage, DamageKind};
pub use events::{Broken, Start};
pub use facts::Facts;
pub use reading::{LogFile, LogReading, Wanted};
pub use whole::WholeReading;
