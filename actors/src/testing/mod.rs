//! Tools for tests.
//!
//! | | |
//! |---|---|
//! | [`TestDelivery`], [`TestContent`] | messages that no broker has delivered; a [`SettleProbe`] returns how one was settled |
//! | [`Recorder`] | a connection without a socket: publishes and calls are recorded, and answered as a test says |
//! | [`Probe`] | an actor that records messages, and answers them |
//! | [`Peer`], [`MemoryPeer`] | a scripted peer that plays the server |
//!
//! # The scripted peer
//!
//! A [`Peer`] listens on a loopback port, a [`MemoryPeer`] accepts in-memory streams. Each [`PeerSocket`]
//! that they accept is the server's side of one connection, which the test plays frame by frame. It can do
//! what a real broker does not: stop in the middle of a handshake, cut a message in two, send an unexpected
//! reply, reset the connection. It encodes and decodes with `amq-protocol` alone and shares no code with the
//! codec of this library, so each checks the other.
//!
//! Nothing here sleeps, and every wait has a limit ([`TIME_LIMIT`] unless another one is set). A wait that
//! fails ends with a [`TestError`]: what was awaited, what came instead, and the frames before it. (What can hardly fail,
//! as [`Probe::count`], returns no error, and panics with one.) Arguments
//! are not checked: a short string over 255 bytes panics, as it does in `amq-protocol`.
//!
//! # Examples
//!
//! ```
//! use actix_pika_actors::testing::{Peer, PeerSocket, TestError, protocol::queue};
//! # async fn client(url: String) {
//! #     use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! #     use actix_pika_actors::testing::{RawFrame, protocol::{channel, connection}};
//! #     let address = url.trim_start_matches("amqp://guest:guest@").trim_end_matches('/');
//! #     let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
//! #     let mut bytes = b"AMQP\0\0\x09\x01".to_vec();
//! #     bytes.extend(RawFrame::method(0, connection::StartOk::default()).to_bytes());
//! #     bytes.extend(RawFrame::method(0, connection::TuneOk::default()).to_bytes());
//! #     bytes.extend(RawFrame::method(0, connection::Open::default()).to_bytes());
//! #     bytes.extend(RawFrame::method(1, channel::Open::default()).to_bytes());
//! #     bytes.extend(RawFrame::method(1, queue::Declare { queue: "jobs".into(), ..Default::default() }).to_bytes());
//! #     io.write_all(&bytes).await.unwrap();
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
//! let client = client(peer.url()); // the client under test
//! let (played, ()) = tokio::join!(server(peer), client);
//! played
//! # }).unwrap();
//! # Ok::<(), TestError>(())
//! ```

mod closing;
mod content;
mod delivery;
mod error;
mod expect;
mod frame_stream;
mod frames;
mod handshake;
mod hostile;
mod memory;
mod message;
mod method;
mod outbox;
mod peer;
mod probe;
mod recorder;
mod request_reply;
mod settlement;
mod socket;
mod test_hooks;

pub use amq_protocol::{protocol, types};

pub use self::{
    closing::Disconnect,
    content::TestContent,
    delivery::TestDelivery,
    error::{TestError, TestErrorKind},
    frames::RawFrame,
    handshake::{ClientHandshake, HandshakeScript, HandshakeStep},
    memory::{MemoryDialer, MemoryPeer},
    message::{PeerMessage, Published},
    method::Method,
    peer::Peer,
    probe::Probe,
    recorder::{Answer, RecordedPublish, Recorder},
    settlement::{SettleProbe, Settlement},
    socket::PeerSocket,
};
/// For the fuzzing, the benches and the tests of this repository.
#[doc(hidden)]
pub use self::{
    hostile::Hostile,
    outbox::BenchOutbox,
    test_hooks::{GetIoCounts, GetRecordCounts, IoCounts, Panic, PanicConnection, RecordCounts},
};

use std::time::Duration;

use tokio::time::Instant;

/// The default limit of every wait: five seconds.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use actix_pika_actors::testing::TIME_LIMIT;
/// assert_eq!(TIME_LIMIT, Duration::from_secs(5));
/// ```
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Returns when a wait ends that begins now. A limit that no clock can add, as `Duration::MAX`, is 30 years.
fn deadline_after(limit: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 31_557_600);
    let now = Instant::now();
    now.checked_add(limit).unwrap_or_else(|| now + FAR)
}
