//! The actors: one listens, there is one for each socket, and one keeps the time. What they do is decided by the plain
//! machines behind [`Shared`].

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use actix::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc::UnboundedReceiver,
    time::sleep,
};

use super::{
    node::{Order, Port},
    peer::End,
    shared::{PeerId, Shared, Wakers},
};

/// What is read from a socket at a time.
const READ_MAX: usize = 64 * 1024;
/// The pause after an accept that failed, as it does while there are no file descriptors.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Lets happen what is due.
#[derive(Debug)]
pub(super) struct Timekeeper(pub(super) Arc<Shared>);

impl Actor for Timekeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let shared = Arc::clone(&self.0);
        let mut stopped = shared.stop.subscribe();
        let keep_time = async move {
            loop {
                let idle = shared.idle_for();
                let due = async {
                    match idle {
                        Some(idle) => sleep(idle).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased; // Runs of a paused clock are repeatable.
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                    () = shared.timer.notified() => {}
                    () = due => shared.tick(),
                }
            }
        };
        ctx.spawn(keep_time.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

/// Accepts connections.
#[derive(Debug)]
pub(super) struct Listener {
    shared: Arc<Shared>,
    port: Option<(Port, UnboundedReceiver<Order>)>,
}

impl Listener {
    pub(super) fn new(shared: Arc<Shared>, socket: TcpListener, orders: UnboundedReceiver<Order>) -> Self {
        Self { shared, port: Some((Port::new(socket), orders)) }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some((mut port, mut orders)) = self.port.take() else { return };
        let shared = Arc::clone(&self.shared);
        let mut stopped = shared.stop.subscribe();
        let accept = async move {
            loop {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                    Some(order) = orders.recv() => port.follow(order),
                    accepted = port.accept() => match accepted {
                        Ok(stream) => serve_tcp(&shared, stream),
                        Err(error) => {
                            log::warn!("cannot accept a connection: {error}");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    },
                }
            }
        };
        ctx.spawn(accept.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

fn serve_tcp(shared: &Arc<Shared>, stream: TcpStream) {
    if let Some(accepted) = Accepted::new(shared, &stream) {
        accepted.serve(Box::new(stream));
    }
}

/// A connection whose socket is known.
pub(super) struct Accepted {
    pub(super) shared: Arc<Shared>,
    pub(super) id: PeerId,
    wakers: Wakers,
    control: Option<socket2::Socket>,
}

impl Accepted {
    /// Adds a socket, or resets it if it is to be refused.
    pub(super) fn new(shared: &Arc<Shared>, stream: &TcpStream) -> Option<Self> {
        let _ = stream.set_nodelay(true);
        let address = match (stream.peer_addr(), stream.local_addr()) {
            (Ok(peer), Ok(local)) => format!("{peer} -> {local}"),
            _ => "unknown".into(),
        };
        let control = socket2::SockRef::from(stream).try_clone().ok();
        let Some((id, wakers)) = shared.accept(address) else {
            // As of a port where nobody listens.
            reset(control.as_ref());
            return None;
        };
        Some(Self { shared: Arc::clone(shared), id, wakers, control })
    }

    /// Serves it on its stream, with TLS or without.
    pub(super) fn serve(self, stream: Box<dyn Stream>) {
        let Self { shared, id, wakers, control } = self;
        Socket { shared, id, wakers, stream: Some(stream), control }.start();
    }
}

/// Serves a stream that has no socket.
pub(super) fn serve_stream(shared: &Arc<Shared>, id: PeerId, wakers: Wakers, stream: Box<dyn Stream>) {
    Socket { shared: Arc::clone(shared), id, wakers, stream: Some(stream), control: None }.start();
}

/// A socket, or one in memory.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

/// Reads and writes one socket.
struct Socket {
    shared: Arc<Shared>,
    id: PeerId,
    wakers: Wakers,
    stream: Option<Box<dyn Stream>>,
    /// A second handle of the socket, for its options.
    control: Option<socket2::Socket>,
}

impl Drop for Socket {
    /// Its arbiter may have ended before the connection.
    fn drop(&mut self) {
        self.shared.lost(self.id);
    }
}

impl Actor for Socket {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(stream) = self.stream.take() else { return };
        let (shared, id, wakers) = (Arc::clone(&self.shared), self.id, self.wakers.clone());
        let control = self.control.take();
        let mut stopped = self.shared.stop.subscribe();
        let serve = async move {
            let (reader, writer) = tokio::io::split(stream);
            tokio::select! {
                biased;
                end = write_all(&shared, id, &wakers, writer) => {
                    if end == Ok(End::Reset) {
                        reset(control.as_ref());
                    }
                }
                () = read_all(&shared, id, &wakers, reader) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            shared.lost(id);
        };
        ctx.spawn(serve.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

/// Reads until the socket fails. After the end of what the client sends, what is to be written decides.
async fn read_all(shared: &Shared, id: PeerId, wakers: &Wakers, mut reader: impl AsyncRead + Unpin) {
    loop {
        while !shared.reads(id) {
            wakers.reader.notified().await;
        }
        match read_once(shared, id, &mut reader).await {
            Ok(0) => break,
            Err(_) => return,
            Ok(_) => {}
        }
    }
    shared.finished(id);
    std::future::pending().await
}

thread_local! {
    /// What was read of a socket until it is handled. All sockets of a thread share it, since many of them are idle.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into());
}

/// Reads what there is, up to a limit.
async fn read_once(shared: &Shared, id: PeerId, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
    poll_fn(|cx| {
        READ.with_borrow_mut(|buf| {
            let mut buf = ReadBuf::new(buf);
            ready!(Pin::new(&mut *reader).poll_read(cx, &mut buf))?;
            let read = buf.filled();
            if !read.is_empty() {
                shared.received(id, read);
            }
            Poll::Ready(Ok(read.len()))
        })
    })
    .await
}

/// Writes what there is to write, until the connection ends.
async fn write_all(
    shared: &Shared,
    id: PeerId,
    wakers: &Wakers,
    mut writer: impl AsyncWrite + Unpin,
) -> Result<End, io::ErrorKind> {
    loop {
        let output = shared.take_output(id);
        if !output.bytes.is_empty() {
            let write = async {
                writer.write_all(&output.bytes).await?;
                // What TLS has not written yet.
                writer.flush().await
            };
            tokio::select! {
                biased;
                written = write => written.map_err(|error| error.kind())?,
                () = wakers.abandon.notified() => return Ok(End::Reset),
            }
            shared.written(id);
        }
        match output.end {
            Some(End::Close) => {
                let _ = writer.shutdown().await;
                return Ok(End::Close);
            }
            Some(End::Reset) => return Ok(End::Reset),
            None if output.bytes.is_empty() => wakers.writer.notified().await,
            None => {}
        }
    }
}

/// Has the socket end by a reset.
fn reset(control: Option<&socket2::Socket>) {
    if let Some(control) = control {
        let _ = control.set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::Broker;

    #[test]
    fn a_connection_ends_with_the_arbiter_that_serves_it() {
        let broker = Broker::start().unwrap();
        let peers = || broker.shared.look(|state| state.peers.len());
        for begins in [false, true] {
            let (mut client, server) = tokio::io::duplex(1024);
            System::new().block_on(async {
                broker.serve(server);
                if begins {
                    client.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
                    client.read_u8().await.unwrap();
                }
                assert_eq!(peers(), 1);
            });
            assert_eq!(peers(), 0);
        }
    }
}
