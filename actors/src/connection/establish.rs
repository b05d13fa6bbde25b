//! Opens a connection: logs in, tries the addresses in order, dials, and runs the handshakes of TLS and AMQP.
//! Each address has the connect timeout for itself.

use std::{cell::Cell, io, net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use zeroize::Zeroize;

use super::failed_attempt::{FailedAttempt, FailedName};
use crate::{
    credentials::Credentials,
    error::{CloseReason, Error, ErrorKind, Result, TlsFailure},
    internal::SocketInfo,
    options::{Address, ConnectionOptions, clamp_timeout},
    secret::Secret,
    transport::{Candidates, Security, Socket},
    wire::{
        FrameDecoder, HandshakeError, HandshakeMachine, HandshakeOptions, HandshakeStatus, Negotiated,
        other_protocol_detected, tls_detected,
    },
};

/// The limit for frames before `connection.tune`. No broker comes near it.
const MAX_HANDSHAKE_FRAME: u32 = 64 * 1024;

/// A socket whose handshake is done.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) socket: Socket,
    pub(super) negotiated: Negotiated,
    pub(super) info: SocketInfo,
    /// Bytes that the broker sent after `connection.open-ok`.
    pub(super) rest: BytesMut,
}

/// A buffer for frames that may hold a password. It is zeroed after each write and when it is dropped.
struct SecretBuffer(BytesMut);

impl SecretBuffer {
    fn wipe(&mut self) {
        self.0[..].zeroize();
        self.0.clear();
    }
}

impl Drop for SecretBuffer {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Tries all addresses until one connects, each of them once. A refused login or virtual host is final for
/// the address that refused it, so that no attempt asks one address twice: that could lock the account.
pub(super) async fn establish(
    options: Arc<ConnectionOptions>,
    secret: Option<Secret>,
) -> Result<Established> {
    let security = Security::load(&options).await?;
    let credentials = options.credentials.log_in(secret, options.connect_timeout).await?;
    let attempt = Attempt { options: &options, credentials: &credentials, security: &security };
    let mut addresses: Vec<&Address> =
        std::iter::once(&options.address).chain(&options.other_addresses).collect();
    options.address_order.arrange(&mut addresses);
    let mut failed = FailedAttempt::default();
    for (at, address) in addresses.iter().enumerate() {
        if addresses[..at].contains(address) {
            continue;
        }
        match attempt.try_address(address).await {
            Ok(established) => {
                for refusal in failed.refused() {
                    log::warn!("connected to {address}, but {refusal}");
                }
                return Ok(established);
            }
            Err(error) => failed.add(error),
        }
    }
    Err(failed.into_error().unwrap_or_else(|| Error::protocol("no address to connect to")))
}

/// How far an attempt has come.
struct Progress {
    /// The current step, for the error of a timeout.
    stage: Cell<&'static str>,
    /// The IP address that is tried.
    to: Cell<Option<SocketAddr>>,
}

/// What all addresses of one attempt have in common.
struct Attempt<'a> {
    options: &'a ConnectionOptions,
    credentials: &'a Credentials,
    security: &'a Security,
}

impl Attempt<'_> {
    /// Tries the IP addresses of one host.
    async fn try_address(&self, address: &Address) -> Result<Established> {
        let limit = self.options.connect_timeout;
        let progress = Progress { stage: Cell::new("resolving the host name"), to: Cell::new(None) };
        let timed_out = || Error::timeout(format!("{}: nothing within {limit:?}", progress.stage.get()));
        let mut deadline = Instant::now() + clamp_timeout(limit);
        let resolved = timeout_at(deadline, Candidates::resolve(address, self.options)).await;
        let resolved = resolved.unwrap_or_else(|_| Err(timed_out()));
        let mut candidates = resolved.map_err(|error| error.on(address.to_string()))?;
        let mut failed = FailedName::default();
        loop {
            let attempt = self.dial_and_shake_hands(&mut candidates, address, &progress);
            let error = match timeout_at(deadline, attempt).await {
                Ok(Ok((socket, negotiated, rest))) => {
                    return established(address, self.credentials, socket, negotiated, rest);
                }
                Ok(Err(error)) => error,
                Err(_) => timed_out(),
            };
            failed.add(progress.to.get(), error.on(address.to_string()));
            candidates.retain(|to| failed.may_accept(to));
            if candidates.is_empty() {
                return Err(failed.into_error().unwrap_or_else(timed_out));
            }
            deadline = Instant::now() + clamp_timeout(limit);
        }
    }

    /// Dials the next IP address and runs the handshakes.
    async fn dial_and_shake_hands(
        &self,
        candidates: &mut Candidates,
        address: &Address,
        progress: &Progress,
    ) -> Result<(Socket, Negotiated, BytesMut)> {
        progress.stage.set("connecting");
        progress.to.set(candidates.next());
        let stream = candidates.dial(&self.options.tcp).await?;
        if let Ok(to) = stream.peer_addr() {
            progress.to.set(Some(to));
        }
        progress.stage.set(Security::STEP);
        let socket = self.security.secure(stream, address).await?;
        self.shake_hands(socket, progress).await
    }

    /// Runs the handshake of AMQP.
    async fn shake_hands(
        &self,
        mut socket: Socket,
        progress: &Progress,
    ) -> Result<(Socket, Negotiated, BytesMut)> {
        let mut handshake = HandshakeMachine::new(self.handshake_options());
        let mut decoder = FrameDecoder::for_handshake(MAX_HANDSHAKE_FRAME);
        let mut input = BytesMut::with_capacity(4096);
        let mut output = SecretBuffer(BytesMut::new());
        // After a failed write the connection only reads: the peer may have sent its reason before.
        let mut failed_write = None;
        handshake.start(&mut output.0);
        loop {
            progress.stage.set(handshake.state_name());
            if !output.0.is_empty() && failed_write.is_none() {
                failed_write = send(&mut socket, &output.0).await.err();
            }
            output.wipe();
            let read = match socket.read_buf(&mut input).await {
                Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the socket")),
                read => read,
            };
            if let Err(read_error) = read {
                return Err(self.lost(&handshake, failed_write.as_ref(), &read_error));
            }
            if tls_detected(&input) {
                return Err(Error::tls(handshake.state_name(), TlsFailure::TlsRequired, "it sent an alert"));
            }
            if let Some(fault) = other_protocol_detected(&input) {
                return Err(fault.into());
            }
            while let Some(batch) = decoder.next_batch(&mut input)? {
                let mut frames = batch.iter();
                while let Some(frame) = frames.next() {
                    match handshake.advance(&frame, &mut output.0) {
                        Ok(HandshakeStatus::Pending) => {}
                        Ok(HandshakeStatus::Open(negotiated)) => {
                            // The broker may have sent connection.blocked right after open-ok.
                            let mut rest = BytesMut::from(frames.rest());
                            rest.unsplit(input);
                            return Ok((socket, negotiated, rest));
                        }
                        Err(error) => {
                            // Ignored if it fails: the error of the handshake is the one to report.
                            let _ = send(&mut socket, &output.0).await;
                            return Err(handshake_failed(error));
                        }
                    }
                }
            }
        }
    }

    fn handshake_options(&self) -> HandshakeOptions {
        HandshakeOptions {
            mechanisms: self.options.mechanisms.clone(),
            user: self.credentials.user().to_owned(),
            password: self.credentials.password().clone(),
            vhost: self.options.vhost.clone(),
            locale: "en_US".into(),
            channel_max: self.options.channel_max,
            frame_max: self.options.frame_max,
            heartbeat: self.options.heartbeat_seconds(),
            client_properties: self.options.client_properties.clone(),
        }
    }

    /// Creates the error of a socket that ended. Some brokers close it instead of sending `connection.close`.
    fn lost(&self, handshake: &HandshakeMachine, write: Option<&io::Error>, read: &io::Error) -> Error {
        let state = handshake.state_name();
        let error = self.security.error(state, read);
        if error.kind() == ErrorKind::Tls {
            return error;
        }
        let error = write.unwrap_or(read);
        match handshake.likely_rejection() {
            Some(suspect) => {
                let what = format!("{state} (the broker may have refused {suspect})");
                let error = self.security.error(what, error);
                if handshake.is_login_refused_by_disconnect() { error.with_refused_login() } else { error }
            }
            None => self.security.error(state, error),
        }
    }
}

/// Writes everything, also what TLS holds back.
async fn send(socket: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    socket.write_all(bytes).await?;
    socket.flush().await
}

fn established(
    address: &Address,
    credentials: &Credentials,
    socket: Socket,
    negotiated: Negotiated,
    rest: BytesMut,
) -> Result<Established> {
    let checked =
        |addr: io::Result<SocketAddr>| addr.map_err(|e| Error::io("reading the addresses of the socket", &e));
    let info = SocketInfo {
        address: address.clone(),
        local: checked(socket.stream().local_addr())?,
        peer: checked(socket.stream().peer_addr())?,
        lifetime: credentials.lifetime(),
    };
    Ok(Established { socket, negotiated, info, rest })
}

fn handshake_failed(error: HandshakeError) -> Error {
    match error {
        HandshakeError::Closed { code, text, class_id, method_id } => {
            Error::connect_refused(CloseReason::new(code, text, class_id, method_id))
        }
        HandshakeError::Mechanism { offered } => {
            Error::auth(format!("no mechanism in common; the broker offers {offered:?}"), None)
        }
        HandshakeError::Limit(text) => Error::limit(text),
        HandshakeError::Fault(fault) => fault.into(),
        other => Error::protocol(other.to_string()),
    }
}
