//! Tools for tests: a scripted peer that plays the server, and probes that record what actors say.
//!
//! A [`Peer`] listens on a loopback port; each [`PeerSocket`] that it accepts is one side of a dialogue which the test
//! writes down line by line. It does what a real broker will not: it stops in the middle of a handshake, frame_lengths a
//! message in two, answers what nobody asked, resets the connection. It encodes and decodes with `amq-protocol`
//! alone and shares no code with this library's own wire, so that each can be held against the other.
//!
//! Nothing here sleeps and nothing waits for ever: every wait has a limit (5 s unless told otherwise) and ends with
//! a [`TestError`] that says what was awaited, what came, and what had been said before.
//! What a test builds is taken at its word: a short string over 255 bytes panics, as it does in `amq-protocol`.
//!
//! # Examples
//!
//! ```
//! use actix_pika_actors::testing::{TestError, Peer, PeerSocket, protocol::queue};
//! # async fn client(url: String) {
//! #     use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! #     use actix_pika_actors::testing::{RawFrame, protocol::{channel, connection}};
//! #     let address = url.trim_start_matches("amqp://guest:guest@").trim_end_matches('/');
//! #     let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
//! #     let mut words = b"AMQP\0\0\x09\x01".to_vec();
//! #     words.extend(RawFrame::method(0, connection::StartOk::default()).to_bytes());
//! #     words.extend(RawFrame::method(0, connection::TuneOk::default()).to_bytes());
//! #     words.extend(RawFrame::method(0, connection::Open::default()).to_bytes());
//! #     words.extend(RawFrame::method(1, channel::Open::default()).to_bytes());
//! #     words.extend(RawFrame::method(1, queue::Declare { queue: "jobs".into(), ..Default::default() }).to_bytes());
//! #     io.write_all(&words).await.unwrap();
//! #     let _ = io.read_to_end(&mut Vec::new()).await;
//! # }
//!
//! async fn server(peer: Peer) -> Result<(), TestError> {
//!     let mut socket = peer.accept().await?;
//!     socket.handshake().await?;
//!     socket.open_channel(1).await?;
//!
//!     let declare = socket.expect::<queue::Declare>(1).await?;
//!     assert_eq!(declare.queue.as_str(), "jobs");
//!     socket.send(1, queue::DeclareOk { queue: declare.queue, ..Default::default() }).await?;
//!     socket.reset()
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let peer = Peer::listen().await?;
//! let client = client(peer.url()); // whatever is under test
//! let (said, _) = tokio::join!(server(peer), client);
//! said
//! # }).unwrap();
//! # Ok::<(), TestError>(())
//! ```

mod content;
mod dialogue;
mod endings;
mod frames;
mod line;
mod memory;
mod method;
mod mismatch;
mod outbox;
mod peer;
mod probe;
mod script;
mod socket;
mod test_hooks;

pub use amq_protocol::{protocol, types};

pub use self::{
    content::{PeerMessage, Published},
    endings::Disconnect,
    frames::RawFrame,
    memory::{MemoryDialer, MemoryPeer},
    method::Method,
    mismatch::{TestError, TestErrorKind},
    outbox::BenchOutbox,
    peer::Peer,
    probe::Probe,
    script::{ClientHandshake, HandshakeScript, HandshakeStep},
    socket::PeerSocket,
    test_hooks::{GetIoCounts, GetRecordCounts, IoCounts, Panic, PanicConnection, RecordCounts},
};

use std::time::Duration;

/// The limit of every wait that was not given another one.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use actix_pika_actors::testing::TIME_LIMIT;
/// assert_eq!(TIME_LIMIT, Duration::from_secs(5));
/// ```
pub const TIME_LIMIT: Duration = Duration::from_secs(5);
