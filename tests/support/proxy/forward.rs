//! The thread of the proxy: accepts connections and forwards their bytes as the settings require.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{ByteLimit, Cut, NewConnections, Segments, Shared};

/// Accepts connections until the proxy is dropped. The runtime ends when this returns, which closes all connections.
pub(super) async fn serve(listener: std::net::TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut settings = shared.settings.subscribe();
    let mut listener = Some(TcpListener::from_std(listener).expect("within the runtime"));
    loop {
        let now = settings.borrow_and_update().clone();
        if now.dropped {
            return;
        }
        match now.new_connections {
            NewConnections::Refuse => listener = None,
            NewConnections::Accept | NewConnections::Reset => {
                while listener.is_none() {
                    // Another process may use the port for a moment.
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
                let forward = now.new_connections == NewConnections::Accept;
                let cut = watch::Sender::new(None);
                let cut_requests = cut.subscribe();
                if forward {
                    // Before it counts as accepted, because from then on a test may cut it.
                    shared.links.lock().expect("not poisoned").insert(number, cut);
                }
                shared.history.send_modify(|history| {
                    history.accepted = number;
                    history.open += u64::from(forward);
                });
                if forward {
                    tokio::spawn(link(client, number, cut_requests, shared.clone()));
                } else {
                    end(client, Cut::Rst).await;
                }
            }
        }
    }
}

/// Forwards one connection, from its start to its end.
async fn link(
    mut client: TcpStream,
    number: u64,
    mut cut_requests: watch::Receiver<Option<Cut>>,
    shared: Arc<Shared>,
) {
    // Not cut while it connects, which takes no time on loopback. Otherwise a reset would reach the broker as an orderly
    // end.
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
        how = cut_requests.wait_for(Option::is_some) => how.ok().and_then(|how| *how).unwrap_or(Cut::Rst),
        ended = both => ended.err().unwrap_or(Cut::Fin),
    };
    shared.links.lock().expect("not poisoned").remove(&number);

    // The sockets are shut down or reset before the connection counts as closed, because tests wait for that. The rest
    // of an orderly end may take longer.
    let draining = match (how, server) {
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
    shared.history.send_modify(|history| history.open -= 1);
    if let Some((client, server)) = draining {
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
            // To close a socket with unread bytes would send a reset.
            let mut buffer = [0; 4096];
            let drain = async { while matches!(stream.read(&mut buffer).await, Ok(1..)) {} };
            let _ = tokio::time::timeout(Duration::from_secs(10), drain).await;
        }
    }
}

/// Bytes to forward at a certain time. Without bytes it is the end of the stream.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    forwarded: usize,
}

/// Forwards one direction of one connection until its end. An error requests a cut of the connection.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    index: usize,
    number: u64,
    shared: &Shared,
) -> Result<(), Cut> {
    /// The most bytes in the queue, about what a network with some delay holds.
    const MAX_QUEUED: usize = 4 << 20;

    let mut settings = shared.settings.subscribe();
    let mut queue: VecDeque<Chunk> = VecDeque::new();
    let mut queued = 0;
    let mut ended = false;
    let mut not_before = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    let mut random: Option<(u64, fastrand::Rng)> = None;
    // The id of the current limit, and the bytes forwarded since it was set.
    let mut counted = (0, 0);

    loop {
        let (now, record) = {
            let all = settings.borrow_and_update();
            (all.directions[index].clone(), all.record)
        };
        if let Some(limit) = now.limit {
            if counted.0 != limit.id {
                counted = (limit.id, 0);
            }
            if counted.1 >= limit.bytes {
                if take_limit(shared, limit) {
                    return Err(limit.how);
                }
                // Another connection took it, so the settings have changed.
                continue;
            }
        }
        let due = match queue.front() {
            Some(chunk) if !now.stalled => Some(chunk.due.max(not_before)),
            _ => None,
        };
        tokio::select! {
            biased;
            _ = settings.changed() => {}
            _ = tokio::time::sleep_until(due.unwrap_or(not_before)), if due.is_some() => {
                let chunk = queue.front_mut().expect("a chunk is due");
                let rest = &chunk.bytes[chunk.forwarded..];
                if rest.is_empty() {
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                let mut length = rest.len();
                if let Segments::Random { max, seed } = now.segments {
                    let random = match &mut random {
                        Some((of, random)) if *of == seed => random,
                        other => &mut other.insert((seed, fastrand::Rng::with_seed(seed))).1,
                    };
                    length = length.min(random.usize(1..=max));
                }
                if let Some(rate) = now.rate {
                    // About twenty writes per second.
                    length = length.min((rate / 20).max(1) as usize);
                }
                if let Some(limit) = now.limit {
                    length = length.min((limit.bytes - counted.1).try_into().unwrap_or(usize::MAX));
                }
                to.writable().await.map_err(cut_of)?;
                let mut written = Ok(0);
                // Under the lock of the history: bytes that a peer has received are always counted.
                shared.history.send_if_modified(|history| {
                    written = to.try_write(&rest[..length]);
                    let Ok(length) = written else { return false };
                    history.bytes[index] += length as u64;
                    if record {
                        history.record(number, index, &rest[..length]);
                    }
                    true
                });
                let length = match written {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                    written => written.map_err(cut_of)?,
                };
                if matches!(now.segments, Segments::Random { .. }) {
                    // Lets the peer's thread run, so that it reads the segments one by one.
                    tokio::task::yield_now().await;
                }
                counted.1 += length as u64;
                queued -= length;
                chunk.forwarded += length;
                if chunk.forwarded == chunk.bytes.len() {
                    queue.pop_front();
                }
                if let Some(rate) = now.rate {
                    let takes = Duration::from_secs_f64(length as f64 / rate as f64);
                    not_before = not_before.max(Instant::now()) + takes;
                }
            }
            // Does not read while stalled, so that the sender's window fills up, as when the other end is unreachable.
            read = from.read(&mut buffer), if !ended && !now.stalled && queued < MAX_QUEUED => {
                let length = read.map_err(cut_of)?;
                ended = length == 0;
                queued += length;
                queue.push_back(Chunk {
                    due: Instant::now() + now.delay,
                    bytes: buffer[..length].to_vec(),
                    forwarded: 0,
                });
            }
        }
    }
}

/// Returns whether this connection is to be cut. A limit with `once` is removed, so that it cuts no other connection.
fn take_limit(shared: &Shared, limit: ByteLimit) -> bool {
    !limit.once
        || shared.settings.send_if_modified(|settings| {
            // It is in both directions if it was set for both.
            let mut present = false;
            for direction in &mut settings.directions {
                present |= direction.limit.take_if(|present| present.id == limit.id).is_some();
            }
            present
        })
}

/// Returns how to cut the other side after an I/O error: a reset is passed on as a reset.
fn cut_of(error: io::Error) -> Cut {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset};
    match error.kind() {
        ConnectionReset | BrokenPipe | ConnectionRefused => Cut::Rst,
        _ => Cut::Fin,
    }
}
