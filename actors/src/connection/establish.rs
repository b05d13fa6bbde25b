//! Opens a connection: logs in, tries the addresses in order, dials, and runs the handshake. Each address has
//! the connect timeout for itself.

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
    error::{CloseReason, Error, Result},
    internal::SocketInfo,
    options::{Address, ConnectionOptions, clamp_timeout},
    secret::Secret,
    transport::{Candidates, Socket},
    wire::{
        FrameDecoder, HandshakeError, HandshakeMachine, HandshakeOptions, HandshakeStatus, Negotiated,
        other_protocol_detected,
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
    let credentials = options.credentials.log_in(secret, options.connect_timeout).await?;
    let mut addresses: Vec<&Address> =
        std::iter::once(&options.address).chain(&options.other_addresses).collect();
    options.address_order.arrange(&mut addresses);
    let mut failed = FailedAttempt::default();
    for (at, address) in addresses.iter().enumerate() {
        if addresses[..at].contains(address) {
            continue;
        }
        match try_address(address, &options, &credentials).await {
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

/// Tries the IP addresses of one host.
async fn try_address(
    address: &Address,
    options: &ConnectionOptions,
    credentials: &Credentials,
) -> Result<Established> {
    let progress = Progress { stage: Cell::new("resolving the host name"), to: Cell::new(None) };
    let timed_out =
        || Error::timeout(format!("{}: nothing within {:?}", progress.stage.get(), options.connect_timeout));
    let mut deadline = Instant::now() + clamp_timeout(options.connect_timeout);
    let resolved = timeout_at(deadline, Candidates::resolve(address, options)).await;
    let resolved = resolved.unwrap_or_else(|_| Err(timed_out()));
    let mut candidates = resolved.map_err(|error| error.on(address.to_string()))?;
    let mut failed = FailedName::default();
    loop {
        progress.stage.set("connecting");
        progress.to.set(candidates.next());
        let attempt = dial_and_shake_hands(&mut candidates, options, credentials, &progress);
        let error = match timeout_at(deadline, attempt).await {
            Ok(Ok((socket, negotiated, rest))) => {
                return established(address, credentials, socket, negotiated, rest);
            }
            Ok(Err(error)) => error,
            Err(_) => timed_out(),
        };
        failed.add(progress.to.get(), error.on(address.to_string()));
        candidates.retain(|to| failed.may_accept(to));
        if candidates.is_empty() {
            return Err(failed.into_error().unwrap_or_else(timed_out));
        }
        deadline = Instant::now() + clamp_timeout(options.connect_timeout);
    }
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
        local: checked(socket.local_addr())?,
        peer: checked(socket.peer_addr())?,
        lifetime: credentials.lifetime(),
    };
    Ok(Established { socket, negotiated, info, rest })
}

/// Dials the next IP address and runs the handshake.
async fn dial_and_shake_hands(
    candidates: &mut Candidates,
    options: &ConnectionOptions,
    credentials: &Credentials,
    progress: &Progress,
) -> Result<(Socket, Negotiated, BytesMut)> {
    let mut socket = candidates.dial(&options.tcp).await?;
    if let Ok(to) = socket.peer_addr() {
        progress.to.set(Some(to));
    }
    let mut handshake = HandshakeMachine::new(HandshakeOptions {
        mechanisms: options.mechanisms.clone(),
        user: credentials.user().to_owned(),
        password: credentials.password().clone(),
        vhost: options.vhost.clone(),
        locale: "en_US".into(),
        channel_max: options.channel_max,
        frame_max: options.frame_max,
        heartbeat: options.heartbeat_seconds(),
        client_properties: options.client_properties.clone(),
    });
    let mut decoder = FrameDecoder::for_handshake(MAX_HANDSHAKE_FRAME);
    let mut input = BytesMut::with_capacity(4096);
    let mut output = SecretBuffer(BytesMut::new());
    handshake.start(&mut output.0);
    loop {
        progress.stage.set(handshake.state_name());
        // Some brokers close the socket instead of sending connection.close.
        let lost = |error: &io::Error| match handshake.likely_rejection() {
            Some(suspect) => {
                let what = format!("{} (the broker may have refused {suspect})", handshake.state_name());
                let error = Error::io(what, error);
                if handshake.is_login_refused_by_disconnect() { error.with_refused_login() } else { error }
            }
            None => Error::io(handshake.state_name(), error),
        };
        if !output.0.is_empty() {
            socket.write_all(&output.0).await.map_err(|e| lost(&e))?;
            output.wipe();
        }
        if socket.read_buf(&mut input).await.map_err(|e| lost(&e))? == 0 {
            return Err(lost(&io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the socket")));
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
                        let _ = socket.write_all(&output.0).await;
                        return Err(handshake_failed(error));
                    }
                }
            }
        }
    }
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
