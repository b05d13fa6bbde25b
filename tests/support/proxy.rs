//! A network between the client and the broker that misbehaves on demand.
//!
//! ```text
//! let proxy = Proxy::to(&vhost.broker().address());
//! let client = connect(proxy.url(&vhost.url())).await;
//! proxy.cut_all(Cut::Rst);            // every connection is reset now
//! proxy.accepted(2).await;            // the client has come back
//! ```
//!
//! `Way::Up` is from the client to the broker, `Way::Down` from the broker to the client.
//! Controls take effect before they return, as far as bytes that had not arrived at the
//! proxy by then are concerned, and hold for present and future connections. What
//! happened is awaited, not slept for: `accepted`, `live`, `moved`, `seen`; put
//! `within(…)` around these.
//!
//! The proxy runs on a thread of its own, with real time: a test may block its thread or
//! pause tokio's clock.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// A direction, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Client to broker.
    Up,
    /// Broker to client.
    Down,
    Both,
}

impl Way {
    fn each(self) -> &'static [usize] {
        match self {
            Self::Up => &[0],
            Self::Down => &[1],
            Self::Both => &[0, 1],
        }
    }
}

/// How a connection is cut: both peers see the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// An orderly end of the stream, after all that was forwarded before.
    Fin,
    /// A reset. What a peer had not read by then may be lost to it, as on any network.
    Rst,
}

/// What happens to new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// Nothing listens: connection refused.
    Refuse,
    /// Accepted, and reset at once.
    Slam,
}

/// How bytes are divided into segments.
#[derive(Debug, Clone, Copy)]
enum Split {
    AsTheyCome,
    /// Pieces of 1 to `max` bytes, chosen by this seed.
    Random {
        max: usize,
        seed: u64,
    },
}

/// Cut each connection after so many bytes of a direction.
#[derive(Debug, Clone, Copy)]
struct Fuse {
    /// Tells one setting from the next: counting starts anew with each.
    set: u64,
    bytes: u64,
    how: Cut,
    /// Only the first connection that gets there is cut.
    once: bool,
}

/// The settings of one direction.
#[derive(Debug, Clone)]
struct Lane {
    stalled: bool,
    /// Bytes per second.
    rate: Option<u64>,
    delay: Duration,
    split: Split,
    fuse: Option<Fuse>,
}

#[derive(Debug, Clone)]
struct Settings {
    lanes: [Lane; 2],
    door: Door,
    tap: bool,
    sets: u64,
    /// The proxy was dropped.
    over: bool,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct History {
    accepted: u64,
    live: u64,
    moved: [u64; 2],
    listening: bool,
    tapes: Vec<Tape>,
}

/// The bytes of one connection, recorded while the tap is on.
#[derive(Debug, Clone, Default)]
pub struct Tape {
    /// 1 for the first connection accepted, and so on.
    pub connection: u64,
    /// Client to broker.
    pub up: Vec<u8>,
    /// Broker to client.
    pub down: Vec<u8>,
}

impl Tape {
    /// The complete frames of a direction (`Up` or `Down`), without the protocol header.
    pub fn frames(&self, way: Way) -> Frames<'_> {
        let bytes: &[u8] = match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
            Way::Both => panic!("frames have one direction"),
        };
        Frames { rest: if bytes.starts_with(b"AMQP") { bytes.get(8..).unwrap_or_default() } else { bytes } }
    }
}

/// An AMQP frame on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// 1 method, 2 header, 3 body, 8 heartbeat.
    pub kind: u8,
    pub channel: u16,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Class and method number, when it is a method: `(60, 40)` is basic.publish.
    pub fn method(&self) -> Option<(u16, u16)> {
        match (self.kind, self.payload) {
            (1, [a, b, c, d, ..]) => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
            _ => None,
        }
    }
}

/// Iterates over the frames of a tape; an incomplete one at the end is left out.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let [kind, c1, c2, s1, s2, s3, s4, tail @ ..] = self.rest else {
            return None;
        };
        let size = u32::from_be_bytes([*s1, *s2, *s3, *s4]) as usize;
        let payload = tail.get(..size)?;
        assert_eq!(*tail.get(size)?, 0xCE, "no frame end: the tape began within a frame");
        self.rest = &tail[size + 1..];
        Some(Frame { kind: *kind, channel: u16::from_be_bytes([*c1, *c2]), payload })
    }
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    settings: watch::Sender<Settings>,
    history: watch::Sender<History>,
    /// The live connections, each with the way to cut it.
    links: Mutex<HashMap<u64, watch::Sender<Option<Cut>>>>,
}

/// A TCP proxy on a loopback port of its own. Dropping it closes all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy to `upstream`, `host:port`.
    pub fn to(upstream: &str) -> Self {
        let lane =
            Lane { stalled: false, rate: None, delay: Duration::ZERO, split: Split::AsTheyCome, fuse: None };
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            settings: watch::Sender::new(Settings {
                lanes: [lane.clone(), lane],
                door: Door::Open,
                tap: false,
                sets: 0,
                over: false,
            }),
            history: watch::Sender::default(),
            links: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("the port that was bound");
        let runs = shared.clone();
        std::thread::Builder::new()
            .name("proxy".into())
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime for the proxy")
                    .block_on(serve(listener, address, runs));
            })
            .expect("a thread for the proxy");
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `url`, with this proxy in the place of its host and port.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).expect("a URL");
        url.set_ip_host(self.address.ip()).expect("a host");
        url.set_port(Some(self.address.port())).expect("a port");
        url.to_string()
    }

    // --- Connections ---------------------------------------------------------

    /// Cuts all connections that are open now; new ones are welcome.
    pub fn cut_all(&self, how: Cut) {
        for link in self.shared.links.lock().expect("not poisoned").values() {
            link.send_replace(Some(how));
        }
    }

    /// Cuts one connection once `bytes` more have gone in `way`, to the byte; then no other.
    /// Counting starts now, or with the connection.
    pub fn cut_once_after(&self, way: Way, bytes: u64, how: Cut) {
        self.set_fuse(way, Some((bytes, how, true)));
    }

    /// Like [`cut_once_after`](Self::cut_once_after), for every connection.
    pub fn cut_each_after(&self, way: Way, bytes: u64, how: Cut) {
        self.set_fuse(way, Some((bytes, how, false)));
    }

    /// No more cuts after so many bytes.
    pub fn cut_no_more(&self) {
        self.set_fuse(Way::Both, None);
    }

    fn set_fuse(&self, way: Way, fuse: Option<(u64, Cut, bool)>) {
        self.shared.settings.send_modify(|settings| {
            settings.sets += 1;
            for lane in way.each() {
                settings.lanes[*lane].fuse =
                    fuse.map(|(bytes, how, once)| Fuse { set: settings.sets, bytes, how, once });
            }
        });
    }

    /// New connections are refused, as when nothing listens. Open ones stay.
    pub async fn refuse(&self) {
        self.set(|settings| settings.door = Door::Refuse);
        self.until(|history| !history.listening).await;
    }

    /// New connections are accepted and reset at once.
    pub async fn slam(&self) {
        self.set(|settings| settings.door = Door::Slam);
        self.until(|history| history.listening).await;
    }

    /// New connections are served again.
    pub async fn welcome(&self) {
        self.set(|settings| settings.door = Door::Open);
        self.until(|history| history.listening).await;
    }

    // --- Bytes ---------------------------------------------------------------

    /// Nothing goes on in this direction: no bytes, no end of stream.
    pub fn stall(&self, way: Way) {
        self.lanes(way, |lane| lane.stalled = true);
    }

    /// What was held back goes on, in order.
    pub fn resume(&self, way: Way) {
        self.lanes(way, |lane| lane.stalled = false);
    }

    /// At most so many bytes per second, for each connection.
    pub fn limit(&self, way: Way, bytes_per_second: u64) {
        self.lanes(way, |lane| lane.rate = Some(bytes_per_second.max(1)));
    }

    /// As fast as it gets.
    pub fn unlimit(&self, way: Way) {
        self.lanes(way, |lane| lane.rate = None);
    }

    /// Every byte takes so much longer; throughput stays.
    pub fn delay(&self, way: Way, delay: Duration) {
        self.lanes(way, |lane| lane.delay = delay);
    }

    /// One byte per segment.
    pub fn bytewise(&self, way: Way) {
        self.chop(way, 1, 0);
    }

    /// Segments of 1 to `max` bytes, the same ones for the same seed.
    pub fn chop(&self, way: Way, max: usize, seed: u64) {
        let max = max.max(1);
        self.lanes(way, |lane| lane.split = Split::Random { max, seed });
    }

    /// Segments as they come.
    pub fn whole(&self, way: Way) {
        self.lanes(way, |lane| lane.split = Split::AsTheyCome);
    }

    // --- What happened --------------------------------------------------------

    /// Records what is forwarded from now on. Turn it on before connecting: a tape that
    /// begins within a frame cannot be read as frames.
    pub fn tap(&self) {
        self.set(|settings| settings.tap = true);
    }

    /// The tapes so far, one for each connection that moved bytes.
    pub fn tapes(&self) -> Vec<Tape> {
        self.shared.history.borrow().tapes.clone()
    }

    /// Waits until some tape satisfies `test`.
    pub async fn seen(&self, mut test: impl FnMut(&Tape) -> bool) {
        self.until(|history| history.tapes.iter().any(&mut test)).await;
    }

    /// Waits until `n` frames of this method, `(class, method)`, went in `way`, over all
    /// connections.
    pub async fn seen_method(&self, way: Way, method: (u16, u16), n: usize) {
        self.until(|history| {
            let of_tape = |tape: &Tape| {
                let frames = tape.frames(way);
                frames.filter(|frame| frame.method() == Some(method)).count()
            };
            history.tapes.iter().map(of_tape).sum::<usize>() >= n
        })
        .await;
    }

    /// Waits until `n` connections were accepted since the beginning.
    pub async fn accepted(&self, n: u64) {
        self.until(|history| history.accepted >= n).await;
    }

    /// Connections accepted since the beginning.
    pub fn accepted_so_far(&self) -> u64 {
        self.shared.history.borrow().accepted
    }

    /// Waits until exactly `n` connections are open.
    pub async fn live(&self, n: u64) {
        self.until(|history| history.live == n).await;
    }

    /// Connections open now.
    pub fn live_now(&self) -> u64 {
        self.shared.history.borrow().live
    }

    /// Waits until `n` bytes were forwarded in `way` since the beginning, over all
    /// connections.
    pub async fn moved(&self, way: Way, n: u64) {
        self.until(|history| sum(history, way) >= n).await;
    }

    /// Bytes forwarded in `way` since the beginning.
    pub fn moved_so_far(&self, way: Way) -> u64 {
        sum(&self.shared.history.borrow(), way)
    }

    async fn until(&self, mut test: impl FnMut(&History) -> bool) {
        let mut history = self.shared.history.subscribe();
        let _ = super::within("the proxy", 60, history.wait_for(|history| test(history))).await;
    }

    fn set(&self, change: impl FnOnce(&mut Settings)) {
        self.shared.settings.send_modify(change);
    }

    fn lanes(&self, way: Way, change: impl Fn(&mut Lane)) {
        self.set(|settings| {
            for lane in way.each() {
                change(&mut settings.lanes[*lane]);
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(|settings| settings.over = true);
    }
}

fn sum(history: &History, way: Way) -> u64 {
    way.each().iter().map(|lane| history.moved[*lane]).sum()
}

/// Accepts connections until the proxy is dropped. Leaving ends the runtime, and with it
/// all connections.
async fn serve(listener: std::net::TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut settings = shared.settings.subscribe();
    let mut listener = Some(TcpListener::from_std(listener).expect("within the runtime"));
    loop {
        let now = settings.borrow_and_update().clone();
        if now.over {
            return;
        }
        match now.door {
            Door::Refuse => listener = None,
            Door::Open | Door::Slam => {
                while listener.is_none() {
                    // The port may not be free at once: something else may have got it.
                    match TcpListener::bind(address).await {
                        Ok(bound) => listener = Some(bound),
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
        }
        let listening = listener.is_some();
        shared
            .history
            .send_if_modified(|history| std::mem::replace(&mut history.listening, listening) != listening);
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = settings.changed() => {}
            client = accept => {
                let Ok((client, _)) = client else { continue };
                let number = shared.history.borrow().accepted + 1;
                let serves = now.door == Door::Open;
                let cut = watch::Sender::new(None);
                let cut_now = cut.subscribe();
                if serves {
                    // Before it counts as accepted: from then on it can be cut.
                    shared.links.lock().expect("not poisoned").insert(number, cut);
                }
                shared.history.send_modify(|history| {
                    history.accepted = number;
                    history.live += u64::from(serves);
                });
                if serves {
                    tokio::spawn(link(client, number, cut_now, shared.clone()));
                } else {
                    end(client, Cut::Rst).await;
                }
            }
        }
    }
}

/// One connection, from its start to its end.
async fn link(
    mut client: TcpStream,
    number: u64,
    mut cut_now: watch::Receiver<Option<Cut>>,
    shared: Arc<Shared>,
) {
    // A cut waits for this, which on loopback takes no time: else the broker's side of a
    // connection that is still being made would always end in order.
    let mut server = TcpStream::connect(&shared.upstream).await;
    let both = async {
        let server = server.as_mut().map_err(|_| Cut::Rst)?;
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        tokio::try_join!(
            pump(client_reads, server_writes, 0, number, &shared),
            pump(server_reads, client_writes, 1, number, &shared),
        )
    };
    let how = tokio::select! {
        biased;
        how = cut_now.wait_for(Option::is_some) => how.ok().and_then(|how| *how).unwrap_or(Cut::Rst),
        ended = both => ended.err().unwrap_or(Cut::Fin),
    };
    shared.links.lock().expect("not poisoned").remove(&number);

    // The peers are told before the connection counts as gone, so that who awaits that
    // may rely on it; the rest of an orderly end may take its time.
    let rest = match (how, server) {
        (Cut::Fin, Ok(mut server)) => {
            let _ = tokio::join!(client.shutdown(), server.shutdown());
            Some((client, server))
        }
        (how, server) => {
            end(client, how).await;
            if let Ok(server) = server {
                end(server, how).await;
            }
            None
        }
    };
    shared.history.send_modify(|history| history.live -= 1);
    if let Some((client, server)) = rest {
        tokio::join!(end(client, Cut::Fin), end(server, Cut::Fin));
    }
}

async fn end(mut stream: TcpStream, how: Cut) {
    match how {
        Cut::Rst => {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        Cut::Fin => {
            let _ = stream.shutdown().await;
            // Closing a socket with unread bytes would send a reset after all.
            let mut waste = [0; 4096];
            let drain = async { while matches!(stream.read(&mut waste).await, Ok(1..)) {} };
            let _ = tokio::time::timeout(Duration::from_secs(10), drain).await;
        }
    }
}

/// Bytes on their way, or the end of the stream.
struct Parcel {
    due: Instant,
    bytes: Vec<u8>,
    gone: usize,
}

/// Forwards one direction of one connection until its end. An error is the wish to cut
/// the connection.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    lane: usize,
    number: u64,
    shared: &Shared,
) -> Result<(), Cut> {
    /// Bytes in flight, as much as a network with some delay holds.
    const IN_FLIGHT: usize = 4 << 20;

    let mut settings = shared.settings.subscribe();
    let mut flight: VecDeque<Parcel> = VecDeque::new();
    let mut in_flight = 0;
    let mut ended = false;
    let mut not_before = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    let mut random: Option<(u64, fastrand::Rng)> = None;
    // Which fuse burns, and how many bytes of it have gone.
    let mut burnt = (0, 0);

    loop {
        let (now, tap) = {
            let all = settings.borrow_and_update();
            (all.lanes[lane].clone(), all.tap)
        };
        if let Some(fuse) = now.fuse {
            if burnt.0 != fuse.set {
                burnt = (fuse.set, 0);
            }
            if burnt.1 >= fuse.bytes {
                if blow(shared, fuse) {
                    return Err(fuse.how);
                }
                // Another connection was the one, and the settings say so by now.
                continue;
            }
        }
        let due = match flight.front() {
            Some(parcel) if !now.stalled => Some(parcel.due.max(not_before)),
            _ => None,
        };
        tokio::select! {
            biased;
            _ = settings.changed() => {}
            _ = tokio::time::sleep_until(due.unwrap_or(not_before)), if due.is_some() => {
                let parcel = flight.front_mut().expect("something was due");
                let rest = &parcel.bytes[parcel.gone..];
                if rest.is_empty() {
                    // Only the end of the stream is an empty parcel.
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                let mut length = rest.len();
                if let Split::Random { max, seed } = now.split {
                    let random = match &mut random {
                        Some((of, random)) if *of == seed => random,
                        other => &mut other.insert((seed, fastrand::Rng::with_seed(seed))).1,
                    };
                    length = length.min(random.usize(1..=max));
                }
                if let Some(rate) = now.rate {
                    // About twenty steps a second: smooth enough, and no clock's worth less.
                    length = length.min((rate / 20).max(1) as usize);
                }
                if let Some(fuse) = now.fuse {
                    length = length.min((fuse.bytes - burnt.1).try_into().unwrap_or(usize::MAX));
                }
                to.writable().await.map_err(cut_of)?;
                let mut written = Ok(0);
                // At one go, as seen from outside: what a peer has got has been counted.
                shared.history.send_if_modified(|history| {
                    written = to.try_write(&rest[..length]);
                    let Ok(length) = written else { return false };
                    history.moved[lane] += length as u64;
                    if tap {
                        record(history, number, lane, &rest[..length]);
                    }
                    true
                });
                let length = match written {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                    written => written.map_err(cut_of)?,
                };
                if matches!(now.split, Split::Random { .. }) {
                    // Lets the peer's thread run, so that it sees the segments one by one.
                    tokio::task::yield_now().await;
                }
                burnt.1 += length as u64;
                in_flight -= length;
                parcel.gone += length;
                if parcel.gone == parcel.bytes.len() {
                    flight.pop_front();
                }
                if let Some(rate) = now.rate {
                    let takes = Duration::from_secs_f64(length as f64 / rate as f64);
                    not_before = not_before.max(Instant::now()) + takes;
                }
            }
            // While stalled nothing is read either: the sender's window fills up, as it
            // would on a network that lost its far end.
            read = from.read(&mut buffer), if !ended && !now.stalled && in_flight < IN_FLIGHT => {
                let length = read.map_err(cut_of)?;
                ended = length == 0;
                in_flight += length;
                flight.push_back(Parcel {
                    due: Instant::now() + now.delay,
                    bytes: buffer[..length].to_vec(),
                    gone: 0,
                });
            }
        }
    }
}

/// May this connection be cut by the fuse? Only one may, when it is for once.
fn blow(shared: &Shared, fuse: Fuse) -> bool {
    !fuse.once
        || shared.settings.send_if_modified(|settings| {
            // Both directions have the same one, when it was set for both.
            let mut present = false;
            for lane in &mut settings.lanes {
                present |= lane.fuse.take_if(|present| present.set == fuse.set).is_some();
            }
            present
        })
}

/// A peer that reset its connection has the other one reset, too.
fn cut_of(error: io::Error) -> Cut {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset};
    match error.kind() {
        ConnectionReset | BrokenPipe | ConnectionRefused => Cut::Rst,
        _ => Cut::Fin,
    }
}

fn record(history: &mut History, number: u64, lane: usize, bytes: &[u8]) {
    let at = match history.tapes.iter().position(|tape| tape.connection == number) {
        Some(at) => at,
        None => {
            history.tapes.push(Tape { connection: number, ..Tape::default() });
            history.tapes.len() - 1
        }
    };
    let tape = &mut history.tapes[at];
    [&mut tape.up, &mut tape.down][lane].extend_from_slice(bytes);
}
