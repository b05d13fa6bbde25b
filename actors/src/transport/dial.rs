//! Resolves the name of a host and connects a TCP socket, to one address at a time or racing them (RFC 8305).

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};

use super::Stream;
#[cfg(feature = "testing")]
use crate::options::MemoryDialer;
use crate::{
    error::{Error, Result},
    options::{Address, ConnectionOptions, TcpOptions},
};

/// The IP addresses of a host that were not tried yet.
#[derive(Debug)]
pub(crate) struct Candidates {
    waiting: VecDeque<SocketAddr>,
    delay: Option<Duration>,
    /// Connects in memory instead, for tests.
    #[cfg(feature = "testing")]
    memory: Option<MemoryDialer>,
}

impl Candidates {
    /// Resolves the name of a host to all of its addresses.
    pub(crate) async fn resolve(address: &Address, options: &ConnectionOptions) -> Result<Self> {
        #[cfg(feature = "testing")]
        if options.memory.is_some() {
            return Ok(Self { waiting: VecDeque::new(), delay: None, memory: options.memory.clone() });
        }
        let how = options.happy_eyeballs;
        let what = || format!("looking up {}", address.host);
        let found = lookup_host((address.host.as_str(), address.port)).await;
        let mut found: Vec<SocketAddr> = found.map_err(|error| Error::io(what(), &error))?.collect();
        if found.is_empty() {
            let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(Error::io(what(), &error));
        }
        // A race without alternating families would try the second family last.
        if let Some(first) = how.interleave.or(how.delay.map(|_| 1)) {
            found = interleave(found, first);
        }
        Ok(Self {
            waiting: found.into(),
            delay: how.delay,
            #[cfg(feature = "testing")]
            memory: None,
        })
    }

    /// Returns whether all addresses were tried.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the address that is tried next.
    pub(crate) fn next(&self) -> Option<SocketAddr> {
        self.waiting.front().copied()
    }

    /// Drops addresses that are not worth a try.
    pub(crate) fn retain(&mut self, is_worth_it: impl FnMut(&SocketAddr) -> bool) {
        self.waiting.retain(is_worth_it);
    }

    /// Connects to the next address; where addresses are raced, to the first that accepts. An address that
    /// failed is not tried again.
    pub(crate) async fn dial(&mut self, tcp: &TcpOptions) -> Result<Stream> {
        #[cfg(feature = "testing")]
        if let Some(memory) = self.memory.take() {
            let dialled = memory.dial().map(Stream::Memory);
            return dialled.map_err(|error| Error::io("connecting in memory", &error));
        }
        match (self.delay, self.waiting.pop_front()) {
            (_, None) => Err(Error::io("connecting", &io::ErrorKind::AddrNotAvailable.into())),
            (None, Some(to)) => connect(to, tcp).await.map_err(|error| connect_error(to, &error)),
            (Some(delay), Some(first)) => self.race(first, delay, tcp).await,
        }
        .map(Stream::Tcp)
    }

    /// Starts another attempt when the last one failed or `delay` has passed, and returns the first that
    /// succeeds.
    async fn race(&mut self, first: SocketAddr, delay: Duration, tcp: &TcpOptions) -> Result<TcpStream> {
        let mut running = JoinSet::new();
        let mut pending = vec![first];
        let start = |running: &mut JoinSet<_>, to| {
            let tcp = tcp.clone();
            running.spawn(async move { (to, connect(to, &tcp).await) });
        };
        start(&mut running, first);
        loop {
            let next = if self.waiting.is_empty() {
                running.join_next().await
            } else {
                timeout(delay, running.join_next()).await.unwrap_or_default()
            };
            let failed = match next {
                Some(Ok((to, Ok(stream)))) => {
                    pending.retain(|&other| other != to);
                    self.waiting.extend(pending);
                    return Ok(stream);
                }
                Some(Ok((to, Err(error)))) => {
                    pending.retain(|&other| other != to);
                    Some(connect_error(to, &error))
                }
                Some(Err(_)) => Some(Error::io("connecting", &io::ErrorKind::Interrupted.into())),
                None => None,
            };
            match (self.waiting.pop_front(), failed) {
                (Some(to), _) => {
                    pending.push(to);
                    start(&mut running, to);
                }
                (None, Some(error)) if running.is_empty() => return Err(error),
                (None, _) => {}
            }
        }
    }
}

fn connect_error(to: SocketAddr, error: &io::Error) -> Error {
    Error::io(format!("connecting to {to}"), error)
}

async fn connect(to: SocketAddr, tcp: &TcpOptions) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(tcp.nodelay)?;
    // Before connecting, because the handshake fixes the scale of the window.
    if let Some(bytes) = tcp.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = tcp.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(after) = tcp.keepalive {
        let after = after.max(Duration::from_secs(1));
        SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
    }
    if let Some(after) = tcp.user_timeout {
        set_user_timeout(&socket, after)?;
    }
    socket.connect(to).await
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))]
fn set_user_timeout(socket: &TcpSocket, after: Duration) -> io::Result<()> {
    SockRef::from(socket).set_tcp_user_timeout(Some(after))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "fuchsia")))]
fn set_user_timeout(_: &TcpSocket, _: Duration) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "TCP_USER_TIMEOUT is not supported on this platform"))
}

/// Puts `first` addresses of the first address's family in front, then alternates between the families.
fn interleave(addresses: Vec<SocketAddr>, first: usize) -> Vec<SocketAddr> {
    let Some(leads) = addresses.first().map(SocketAddr::is_ipv4) else { return addresses };
    let (lead, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv4() == leads);
    let (mut lead, mut other) = (lead.into_iter(), other.into_iter());
    let mut ordered: Vec<SocketAddr> = lead.by_ref().take(first.max(1)).collect();
    loop {
        let (theirs, ours) = (other.next(), lead.next());
        if theirs.is_none() && ours.is_none() {
            return ordered;
        }
        ordered.extend(theirs);
        ordered.extend(ours);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_after_the_first_addresses() {
        let v4 = |n: u8| SocketAddr::from(([10, 0, 0, n], 1));
        let v6 = |n: u16| SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, n], 1));
        let found = vec![v6(1), v6(2), v6(3), v4(1), v4(2)];
        assert_eq!(interleave(found.clone(), 1), [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        assert_eq!(interleave(found.clone(), 2), [v6(1), v6(2), v4(1), v6(3), v4(2)]);
        assert_eq!(interleave(found.clone(), 0), interleave(found, 1));
        assert_eq!(interleave(vec![v4(1), v4(2)], 1), [v4(1), v4(2)]);
        assert!(interleave(Vec::new(), 1).is_empty());
    }

    fn racing(waiting: &[SocketAddr]) -> Candidates {
        Candidates {
            waiting: waiting.iter().copied().collect(),
            delay: Some(Duration::from_millis(20)),
            #[cfg(feature = "testing")]
            memory: None,
        }
    }

    #[actix::test]
    async fn a_race_continues_after_a_failure_and_keeps_untried_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (open, refused) = (listener.local_addr().unwrap(), closed.local_addr().unwrap());
        drop(closed);
        let mut candidates = racing(&[refused, open, refused]);
        let stream = candidates.dial(&TcpOptions::new()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert_eq!(candidates.waiting, [refused]);
        let error = candidates.dial(&TcpOptions::new()).await.unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused));
        assert!(error.to_string().contains(&refused.to_string()));
        assert!(candidates.is_empty());
    }

    #[cfg(target_os = "linux")]
    #[actix::test]
    async fn tcp_options_are_set_on_the_socket() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let plain = connect(to, &TcpOptions::new()).await.unwrap();
        let socket = SockRef::from(&plain);
        assert!(plain.nodelay().unwrap());
        assert!(!socket.keepalive().unwrap());
        let options = TcpOptions::new()
            .nodelay(false)
            .keepalive(Duration::from_secs(77))
            .user_timeout(Duration::from_millis(1234))
            .send_buffer(32 * 1024)
            .receive_buffer(48 * 1024);
        let set = connect(to, &options).await.unwrap();
        let socket = SockRef::from(&set);
        assert!(!set.nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(1234)));
        // Linux doubles the sizes, for its own bookkeeping.
        assert_eq!(socket.send_buffer_size().unwrap(), 64 * 1024);
        assert_eq!(socket.recv_buffer_size().unwrap(), 96 * 1024);
    }
}
