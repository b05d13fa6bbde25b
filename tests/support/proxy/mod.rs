//! A TCP proxy between the client and the broker that injects network faults.
//!
//! ```text
//! let proxy = Proxy::to(&vhost.broker().address());
//! let client = connect(proxy.url(&vhost.url())).await;
//! proxy.cut_all(Cut::Rst);               // resets every connection
//! proxy.wait_for_accepted(2).await;      // until the client has reconnected
//! ```
//!
//! A setting applies to present and future connections. It applies to all bytes that reach the proxy after the method
//! has returned. Tests wait for what happened with the `wait_for_*` methods; put `within(...)` around these.
//!
//! The proxy runs on its own thread and in real time, so a test may block its thread or pause tokio's clock.
//! [`forward`] moves the bytes, [`recording`] keeps copies of them.

mod forward;
mod recording;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

pub use recording::{Frame, Recording};

/// A direction, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToBroker,
    ToClient,
    Both,
}

impl Direction {
    /// Returns the indices of the directions in arrays of two.
    fn indices(self) -> &'static [usize] {
        match self {
            Self::ToBroker => &[0],
            Self::ToClient => &[1],
            Self::Both => &[0, 1],
        }
    }
}

/// How a connection is cut. Client and broker see the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// An orderly end of the stream, after everything forwarded before.
    Fin,
    /// A reset. A peer may lose what it has not read by then, as on any network.
    Rst,
}

/// What happens to new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NewConnections {
    Accept,
    /// Nothing listens: connection refused.
    Refuse,
    /// Accepted, and reset at once.
    Reset,
}

/// How bytes are divided into segments.
#[derive(Debug, Clone, Copy)]
enum Segments {
    /// As they were received.
    Unchanged,
    /// Pieces of 1 to `max` random bytes.
    Random { max: usize, seed: u64 },
}

/// Cuts a connection after a number of bytes.
#[derive(Debug, Clone, Copy)]
struct ByteLimit {
    /// Distinguishes one setting from the next. Each setting starts a new count.
    id: u64,
    bytes: u64,
    how: Cut,
    /// Only the first connection to reach the limit is cut.
    once: bool,
}

/// The settings of one direction.
#[derive(Debug, Clone)]
struct DirectionSettings {
    stalled: bool,
    /// Bytes per second.
    rate: Option<u64>,
    delay: Duration,
    segments: Segments,
    limit: Option<ByteLimit>,
}

#[derive(Debug, Clone)]
struct Settings {
    directions: [DirectionSettings; 2],
    new_connections: NewConnections,
    record: bool,
    /// The id of the latest [`ByteLimit`].
    last_limit: u64,
    /// The proxy was dropped.
    dropped: bool,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct History {
    accepted: u64,
    open: u64,
    bytes: [u64; 2],
    listening: bool,
    recordings: Vec<Recording>,
}

impl History {
    fn bytes(&self, direction: Direction) -> u64 {
        direction.indices().iter().map(|index| self.bytes[*index]).sum()
    }
}

/// State shared by the handle and the thread of the proxy.
#[derive(Debug)]
struct Shared {
    upstream: String,
    settings: watch::Sender<Settings>,
    history: watch::Sender<History>,
    /// The open connections by number, each with the sender that cuts it.
    links: Mutex<HashMap<u64, watch::Sender<Option<Cut>>>>,
}

/// A TCP proxy on a loopback port of its own. Dropping it closes all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy to `upstream`, given as `host:port`.
    pub fn to(upstream: &str) -> Self {
        let direction = DirectionSettings {
            stalled: false,
            rate: None,
            delay: Duration::ZERO,
            segments: Segments::Unchanged,
            limit: None,
        };
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            settings: watch::Sender::new(Settings {
                directions: [direction.clone(), direction],
                new_connections: NewConnections::Accept,
                record: false,
                last_limit: 0,
                dropped: false,
            }),
            history: watch::Sender::default(),
            links: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("the address of the listener");
        let of_thread = shared.clone();
        std::thread::Builder::new()
            .name("proxy".into())
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime for the proxy")
                    .block_on(forward::serve(listener, address, of_thread));
            })
            .expect("a thread for the proxy");
        Self { address, shared }
    }

    /// Returns the address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns `url` with its host and port replaced by those of the proxy.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).expect("a URL");
        url.set_ip_host(self.address.ip()).expect("a host");
        url.set_port(Some(self.address.port())).expect("a port");
        url.to_string()
    }

    // --- Connections ---------------------------------------------------------

    /// Cuts all open connections. New ones are still accepted.
    pub fn cut_all(&self, how: Cut) {
        for link in self.shared.links.lock().expect("not poisoned").values() {
            link.send_replace(Some(how));
        }
    }

    /// Cuts one connection after exactly `bytes` more bytes in `direction`, and no other. The count starts now, or when
    /// the connection opens.
    pub fn cut_once_after(&self, direction: Direction, bytes: u64, how: Cut) {
        self.set_limit(direction, Some((bytes, how, true)));
    }

    /// Like [`cut_once_after`](Self::cut_once_after), for every connection.
    pub fn cut_each_after(&self, direction: Direction, bytes: u64, how: Cut) {
        self.set_limit(direction, Some((bytes, how, false)));
    }

    /// Ends `cut_once_after` and `cut_each_after`.
    pub fn stop_cutting(&self) {
        self.set_limit(Direction::Both, None);
    }

    fn set_limit(&self, direction: Direction, limit: Option<(u64, Cut, bool)>) {
        self.set(|settings| {
            settings.last_limit += 1;
            for index in direction.indices() {
                settings.directions[*index].limit =
                    limit.map(|(bytes, how, once)| ByteLimit { id: settings.last_limit, bytes, how, once });
            }
        });
    }

    /// Refuses new connections, as if nothing listened. Open ones stay.
    pub async fn refuse_new(&self) {
        self.set(|settings| settings.new_connections = NewConnections::Refuse);
        self.wait_for(|history| !history.listening).await;
    }

    /// Accepts new connections and resets them at once.
    pub async fn reset_new(&self) {
        self.set(|settings| settings.new_connections = NewConnections::Reset);
        self.wait_for(|history| history.listening).await;
    }

    /// Accepts and forwards new connections again.
    pub async fn accept_new(&self) {
        self.set(|settings| settings.new_connections = NewConnections::Accept);
        self.wait_for(|history| history.listening).await;
    }

    // --- Bytes ---------------------------------------------------------------

    /// Forwards nothing in this direction, neither bytes nor the end of the stream, until [`resume`](Self::resume).
    pub fn stall(&self, direction: Direction) {
        self.set_directions(direction, |settings| settings.stalled = true);
    }

    /// Forwards what was held back, in order, and what follows.
    pub fn resume(&self, direction: Direction) {
        self.set_directions(direction, |settings| settings.stalled = false);
    }

    /// Limits the bytes per second of each connection.
    pub fn limit_rate(&self, direction: Direction, bytes_per_second: u64) {
        self.set_directions(direction, |settings| settings.rate = Some(bytes_per_second.max(1)));
    }

    /// Ends [`limit_rate`](Self::limit_rate).
    pub fn unlimit_rate(&self, direction: Direction) {
        self.set_directions(direction, |settings| settings.rate = None);
    }

    /// Delays every byte, without a limit of the throughput.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.set_directions(direction, |settings| settings.delay = delay);
    }

    /// Sends one byte per segment.
    pub fn one_byte_segments(&self, direction: Direction) {
        self.random_segments(direction, 1, 0);
    }

    /// Sends segments of 1 to `max` bytes. The same seed gives the same lengths.
    pub fn random_segments(&self, direction: Direction, max: usize, seed: u64) {
        let max = max.max(1);
        self.set_directions(direction, |settings| settings.segments = Segments::Random { max, seed });
    }

    /// Sends segments as they were received.
    pub fn unchanged_segments(&self, direction: Direction) {
        self.set_directions(direction, |settings| settings.segments = Segments::Unchanged);
    }

    // --- What happened --------------------------------------------------------

    /// Records what is forwarded from now on, which must not be TLS: see `Vhost::fresh_plain`. Call it before connecting: a recording that begins within a frame cannot
    /// be read as frames.
    pub fn record(&self) {
        self.set(|settings| settings.record = true);
    }

    /// Returns the recordings so far, one for each connection that transferred bytes.
    pub fn recordings(&self) -> Vec<Recording> {
        self.shared.history.borrow().recordings.clone()
    }

    /// Waits until a recording satisfies `test`.
    pub async fn wait_for_recording(&self, mut test: impl FnMut(&Recording) -> bool) {
        self.wait_for(|history| history.recordings.iter().any(&mut test)).await;
    }

    /// Waits until `n` frames of this method, `(class, method)`, were forwarded in `direction`, over all connections.
    pub async fn wait_for_method(&self, direction: Direction, method: (u16, u16), n: usize) {
        self.wait_for(|history| {
            let frames = history.recordings.iter().flat_map(|recording| recording.frames(direction));
            frames.filter(|frame| frame.method() == Some(method)).count() >= n
        })
        .await;
    }

    /// Waits until `n` connections were accepted since the start.
    pub async fn wait_for_accepted(&self, n: u64) {
        self.wait_for(|history| history.accepted >= n).await;
    }

    /// Returns the number of connections accepted since the start.
    pub fn accepted_count(&self) -> u64 {
        self.shared.history.borrow().accepted
    }

    /// Waits until exactly `n` connections are open.
    pub async fn wait_for_open(&self, n: u64) {
        self.wait_for(|history| history.open == n).await;
    }

    /// Returns the number of open connections.
    pub fn open_count(&self) -> u64 {
        self.shared.history.borrow().open
    }

    /// Waits until `n` bytes were forwarded in `direction` since the start, over all connections.
    pub async fn wait_for_bytes(&self, direction: Direction, n: u64) {
        self.wait_for(|history| history.bytes(direction) >= n).await;
    }

    /// Returns the number of bytes forwarded in `direction` since the start, over all connections.
    pub fn byte_count(&self, direction: Direction) -> u64 {
        self.shared.history.borrow().bytes(direction)
    }

    async fn wait_for(&self, mut test: impl FnMut(&History) -> bool) {
        let mut history = self.shared.history.subscribe();
        let _ = super::within("the proxy", 60, history.wait_for(|history| test(history))).await;
    }

    fn set(&self, change: impl FnOnce(&mut Settings)) {
        self.shared.settings.send_modify(change);
    }

    fn set_directions(&self, direction: Direction, change: impl Fn(&mut DirectionSettings)) {
        self.set(|settings| {
            for index in direction.indices() {
                change(&mut settings.directions[*index]);
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(|settings| settings.dropped = true);
    }
}
