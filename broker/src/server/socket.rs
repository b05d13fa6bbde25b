//! One actor for each socket: it reads and writes. What it does is decided by the plain machines behind [`Shared`].

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
    net::TcpStream,
};

use super::{
    parts::watched,
    peer::End,
    shared::{PeerId, Shared},
    state::Wakers,
};

/// What is read from a socket at a time.
const READ_MAX: usize = 64 * 1024;

/// A connection that was accepted. For the broker it ends when this is dropped, as it is with the arbiter that serves it.
#[derive(Debug)]
pub(super) struct Accepted {
    shared: Arc<Shared>,
    id: PeerId,
    wakers: Wakers,
    /// A second handle of its socket, for the options of that.
    control: Option<socket2::Socket>,
}

impl Accepted {
    /// Accepts a connection that has no socket, unless it is to be refused.
    pub(super) fn in_memory(shared: &Arc<Shared>, address: &str) -> Option<Self> {
        Self::new(shared, address.into(), None)
    }

    /// Accepts that of a socket. The socket is reset if it is to be refused.
    pub(super) fn tcp(shared: &Arc<Shared>, stream: &TcpStream) -> Option<Self> {
        let _ = stream.set_nodelay(true);
        let address = match (stream.peer_addr(), stream.local_addr()) {
            (Ok(peer), Ok(local)) => format!("{peer} -> {local}"),
            _ => "unknown".into(),
        };
        let accepted = Self::new(shared, address, socket2::SockRef::from(stream).try_clone().ok());
        if accepted.is_none() {
            // As of a port where nobody listens.
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        accepted
    }

    fn new(shared: &Arc<Shared>, address: String, control: Option<socket2::Socket>) -> Option<Self> {
        let (id, wakers) = shared.accept(address)?;
        Some(Self { shared: Arc::clone(shared), id, wakers, control })
    }

    /// Serves it on its stream, with TLS or without.
    pub(super) fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        Socket { accepted: self, stream: Some(Box::new(stream)) }.start();
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.shared.lost(self.id);
    }
}

/// A socket, or one in memory.
trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

/// Reads and writes one socket.
struct Socket {
    accepted: Accepted,
    stream: Option<Box<dyn Stream>>,
}

impl Actor for Socket {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(stream) = self.stream.take() else { return };
        let Accepted { shared, id, wakers, control } = &mut self.accepted;
        let shared = Arc::clone(shared);
        let work = serve(Arc::clone(&shared), *id, wakers.clone(), stream, control.take());
        let work = watched(shared, "a connection", work);
        ctx.spawn(work.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

async fn serve(
    shared: Arc<Shared>,
    id: PeerId,
    wakers: Wakers,
    stream: Box<dyn Stream>,
    control: Option<socket2::Socket>,
) {
    let mut stopped = shared.stop.subscribe();
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
                // With TLS it writes, too.
                return tokio::select! {
                    biased;
                    _ = writer.shutdown() => Ok(End::Close),
                    () = wakers.abandon.notified() => Ok(End::Reset),
                };
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
