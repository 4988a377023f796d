//! What one client, and all clients together, can use of the gateway: connections, time, memory, cores and lines of the
//! journal. Nothing here is an option: the values fit every node that EMR offers, and each has its reason here.
//!
//! A client is an address of IPv4 or a /64 of IPv6; on this node, an account at 127.0.0.1 or ::1, and the same account
//! at other addresses (`shares.rs`). All tunnels of `ssh -L` of an account are one client, and so is a load balancer.
//! That is why a limit for each client alone does not suffice: where a limit is reached, a connection of the client
//! with the most goes, the one that has been silent for the longest time (`server/connections.rs`). A browser opens a
//! connection again that was closed while it was silent.

use std::time::Duration;

// --- Connections

/// How many connections can be open. Each costs up to 130 kB here, so all together stay far below the unit's 1 GB.
pub(super) const MAX_CONNECTIONS: usize = 1024;
/// How many of them can belong to one client that is not this node itself: a browser opens six, a load balancer some
/// dozens. Four such clients together still leave room for others.
pub(super) const MAX_CONNECTIONS_OF_CLIENT: usize = 240;
/// How many connections are kept for programs of this node's root beside those: `status`, `doctor` and `verify` open some at a
/// time. Nobody else gets one of these places, and nobody's connection pushes one of root's out.
pub(super) const KEPT_CONNECTIONS: usize = 32;
/// How many connections that were told to go can still be there. Until some are gone, the gateway takes no new one.
pub(super) const MAX_LEAVING_CONNECTIONS: usize = 64;
/// How many connections can wait to be taken, if the kernel allows as many. assets/emr-shs-gateway.socket has it, too.
pub(super) const BACKLOG: u32 = 4096;
/// How many clients that are not served can be told so at the same time. Further ones are disconnected.
pub(super) const MAX_REFUSALS: usize = 64;
/// How long one refusal can take.
pub(super) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

// --- Bytes and time of a connection

/// How long a client can take to send the head of a request, and how long it can be silent between requests.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How large the head of a request can be, in bytes: browsers send all cookies of `localhost`, which can come from many
/// other programs.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// The same for a client that is only told that it is not served.
pub(super) const MAX_REFUSED_HEAD: usize = 16 * 1024;
/// How long a TLS handshake can take, without the wait for its turn.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many TLS handshakes a client that is not this node itself can begin in a second. They cost a twentieth of a core.
pub(super) const HANDSHAKE_RATE: u32 = 100;
/// How many such a client can begin at once after a pause: more than [`MAX_CONNECTIONS_OF_CLIENT`], so a load balancer that connects
/// anew does not wait.
pub(super) const HANDSHAKE_BURST: u32 = 400;
/// How long a handshake waits at most because its client has begun others. Of a client that is not served, the wait and the handshake
/// must fit into [`REFUSAL_TIMEOUT`].
pub(super) const HANDSHAKE_LONGEST_WAIT: Duration = Duration::from_secs(4);
/// How many clients the gateway remembers for that. At this number it forgets all, and each can begin a burst again.
pub(super) const HANDSHAKE_CLIENTS: usize = 4096;
/// How long a client can leave bytes of a response unread before it is disconnected. With the kernel's buffer of
/// [`SEND_BUFFER`], whoever reads 6 kB in a second is fast enough.
pub(super) const UNREAD_TIMEOUT: Duration = Duration::from_secs(40);
/// How long a gateway that stops still takes the first request of a connection that it has accepted. Without this time a
/// client that has connected a moment before would get no answer.
pub(super) const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// How many bytes of responses the kernel keeps for a client that does not read. The kernel takes twice this value. A
/// client 100 ms away still gets 5 MB in a second.
pub(super) const SEND_BUFFER: u32 = 256 * 1024;

// --- Work and memory

/// How long the history server can take to begin an answer, except to a browser that opens an application.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// How long it can take to open an application, while browsers get a page that says so.
pub(super) const OPENING_TIMEOUT: Duration = Duration::from_secs(3600);

/// How many requests the history server can be answering at the same time, until their clients have read the answers: it has two
/// hundred threads, and keeps one until then. What lists and pages about logs only add to what S3 tells takes half of these
/// places at most.
pub(super) const MAX_HISTORY_REQUESTS: usize = 192;
/// How many of them can belong to one client that is not this node itself.
pub(super) const MAX_HISTORY_REQUESTS_OF_CLIENT: usize = 80;
/// How many connections to the history server are kept without a request, and how long. The history server keeps them for longer.
pub(super) const MAX_IDLE_HISTORY_CONNECTIONS: usize = 32;
pub(super) const HISTORY_IDLE: Duration = Duration::from_secs(5);
/// How many bytes of one answer of the history server are read ahead of the client.
pub(super) const HISTORY_BUFFER: usize = 64 * 1024;
/// How many applications the gateway waits for that take longer to open than a browser waits. Further ones open as well: their
/// pages ask again, and programs must.
pub(super) const MAX_OPENINGS: usize = 64;
/// How many of them one client that is not this node itself can have begun.
pub(super) const MAX_OPENINGS_OF_CLIENT: usize = 16;

/// How many requests can wait for S3 at the same time. Further ones are told to come back, so that a slow S3 does not fill all
/// connections. A request that waits for the history server takes nothing of this room, and a request for a log or a list nothing
/// of the history server's.
pub(super) const MAX_WAITING_REQUESTS: usize = 512;
/// How many of them can belong to one client that is not this node itself.
pub(super) const MAX_WAITING_REQUESTS_OF_CLIENT: usize = 120;
/// How many questions to S3 can be under way at the same time. A question is one lookup, such as a list, whose answer all clients get
/// that ask for it; it can take several requests to S3. It goes on after its client has left, so that others find the answer. Without
/// this limit, a client that asks and leaves while S3 hangs would fill the memory.
pub(super) const MAX_S3_QUESTIONS: usize = 1024;
/// How many of them can belong to one client that is not this node itself: one page asks a question for each log URI.
pub(super) const MAX_S3_QUESTIONS_OF_CLIENT: usize = 320;
// A connection that waits for its answer is never closed. There are always others, which can make room.
const _: () =
    assert!(MAX_HISTORY_REQUESTS + MAX_WAITING_REQUESTS + MAX_WAITING_PASSWORDS_IN_ALL + 50 <= MAX_CONNECTIONS);
/// How many requests of root's programs there can be beside each of these numbers of requests, streams and applications. The
/// history server's threads suffice for both.
pub(super) const KEPT_REQUESTS: usize = 8;
/// How many bytes of the gateway's own pages can wait for their readers. A page with 10,000 files has 1.5 MB.
pub(super) const MAX_PAGE_BYTES: usize = 48 << 20;
/// A smaller page is not counted.
pub(super) const SMALL_PAGE: usize = 32 * 1024;
/// A client that has read nothing for so long loses its page, or its answer of the history server, if another client needs the
/// room.
pub(super) const UNREAD_PAGE: Duration = Duration::from_secs(1);
/// How many logs can stream through the gateway at the same time. Each needs up to 400 kB.
pub(super) const MAX_STREAMS: usize = 400;
/// How many of them can belong to one client that is not this node itself.
pub(super) const MAX_STREAMS_OF_CLIENT: usize = 100;
/// How many lists of `/api/v1/applications` can be on their way to their clients at the same time. Each has up to a megabyte of rows
/// in memory.
pub(super) const MAX_SENT_LISTS: usize = 24;
/// How many of them can belong to one client that is not this node itself.
pub(super) const MAX_SENT_LISTS_OF_CLIENT: usize = 6;
/// How many queries for a page of the list, or for one application, can wait for one of the few connections to the index.
pub(super) const MAX_INDEX_QUERIES: usize = 256;
/// How many of them can belong to one client that is not this node itself.
pub(super) const MAX_INDEX_QUERIES_OF_CLIENT: usize = 24;
/// How many queries of the index run at the same time. Spark needs the node's cores.
pub(super) const MAX_RUNNING_INDEX_QUERIES: usize = 4;
/// How many event logs can be fetched into the cache at the same time. One alone fills most of a node's way to S3.
pub(super) const MAX_EVENT_LOG_FETCHES: usize = 8;
/// How many of them one client that is not this node itself can have asked for.
pub(super) const MAX_EVENT_LOG_FETCHES_OF_CLIENT: usize = 4;
/// How many applications can wait until they are fetched. Each asks S3 once for its size, and keeps some kB.
pub(super) const MAX_WAITING_EVENT_LOGS: usize = 256;
/// How many of them one client that is not this node itself can wait for.
pub(super) const MAX_WAITING_EVENT_LOGS_OF_CLIENT: usize = 64;
/// How many parts of an event log are fetched at the same time, and how large each is, in bytes. S3 gives some 90 MB a second to one
/// request, and a request costs as much whatever its size.
pub(super) const MAX_EVENT_LOG_PARTS: usize = 6;
pub(super) const EVENT_LOG_PART: u64 = 16 << 20;
/// How many bytes of a part are gathered before they are written. All fetches together need twice this value for each part, some
/// 50 MB.
pub(super) const EVENT_LOG_WRITE: usize = 512 * 1024;
/// How long a program waits for an application that is being fetched. Then it is told to come back.
pub(super) const EVENT_LOG_TIMEOUT: Duration = Duration::from_secs(300);
/// When a client that was told to come back should do so, in seconds.
pub(super) const RETRY_AFTER: u32 = 2;

// --- Logins

/// How many passwords are checked at the same time. Each check occupies a core for a tenth of a second, and Spark needs the
/// node's cores.
pub(super) const PASSWORD_THREADS: usize = 2;
/// How many checks can wait for one client and one name.
pub(super) const MAX_WAITING_PASSWORDS: usize = 10;
/// How many checks can wait for one client, whatever names it sends.
pub(super) const MAX_WAITING_PASSWORDS_OF_CLIENT: usize = 32;
/// How many checks can wait in all. Where there are so many, a client with few takes the place of one with many.
pub(super) const MAX_WAITING_PASSWORDS_IN_ALL: usize = 256;
/// So many wrong passwords within [`GUESSES_WINDOW`] are a typing error. From then on, the passwords of this client and this
/// name are checked one after the other, with [`GUESS_PAUSE`] between them. The owner of the name, if it is the same client,
/// waits for at most [`MAX_WAITING_PASSWORDS`] others, some four seconds; if so many wait already, it is told to come back. As
/// another client, the owner waits for the usual turn.
pub(super) const FREE_GUESSES: u32 = 5;
pub(super) const GUESSES_WINDOW: Duration = Duration::from_secs(60);
pub(super) const GUESS_PAUSE: Duration = Duration::from_millis(400);
/// So many wrong passwords of one client within [`GUESSES_WINDOW`], for any names, are no typing errors. From then on, its
/// passwords are checked one after the other, with [`GUESS_PAUSE_OF_CLIENT`] between them, so that it uses half a core at most.
pub(super) const FREE_GUESSES_OF_CLIENT: u32 = 20;
pub(super) const GUESS_PAUSE_OF_CLIENT: Duration = Duration::from_millis(100);
/// After so many wrong passwords within [`GUESSES_WINDOW`], the journal names the client, once in ten minutes.
pub(super) const NOTED_GUESSES: u32 = 10;
/// How many clients and names are remembered for this.
pub(super) const MAX_REMEMBERED_GUESSERS: usize = 4096;
/// How long an `Authorization` header can be, in bytes. A longer one is refused before anything is computed.
pub(super) const MAX_AUTHORIZATION: usize = 1024;
/// The cost of the hashes that `proxy passwd` makes: a check takes less than a tenth of a second.
pub(crate) const BCRYPT_COST: u32 = 10;
/// The largest cost of a bcrypt hash in the password file: a check takes a quarter of a second. `htpasswd` writes 5 by
/// default, and the documents recommend 10.
pub(crate) const MAX_BCRYPT_COST: u32 = 12;
/// The largest memory of an argon2 hash, in KiB. Two checks at the same time use twice this value.
pub(crate) const MAX_ARGON2_MEMORY: u32 = 64 * 1024;
/// The largest number of passes of an argon2 hash.
pub(crate) const MAX_ARGON2_PASSES: u32 = 6;

// --- The journal

/// journald drops what a unit writes beyond a rate: 1,000 lines in 30 s by default up to systemd 239, 10,000 from then on
/// (journald.conf(5)). The access log stays below both: a burst, and lines in a second.
pub(super) const LOG_BURST: u32 = 200;
pub(super) const LOG_LINES_PER_SECOND: u32 = 25;
/// The longest method, and the longest path, of a line, in bytes, as the line shows them.
pub(super) const MAX_LOGGED_METHOD: usize = 16;
pub(super) const MAX_LOGGED_PATH: usize = 512;
/// The longest name of a user in a line, in bytes.
pub(super) const MAX_LOGGED_NAME: usize = 64;
/// How many lines can wait for a slow reader of stdout; further ones are counted.
pub(super) const MAX_WAITING_LINES: usize = 4096;
