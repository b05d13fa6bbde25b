//! From nothing to an open connection: dial, then shake hands, all under one time limit.

use std::{cell::Cell, io, net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use zeroize::Zeroize;

use crate::{
    credentials::Credentials,
    error::{CloseReason, Error, ErrorKind, Result},
    message::internal::SocketInfo,
    options::{Address, ConnectionOptions, clamp_timeout},
    secret::Secret,
    transport::Candidates,
    wire::{FrameDecoder, Handshake, HandshakeError, Negotiated, Progress, Terms, other_protocol_detected},
};

/// Before tuning, no honest broker sends more in a frame.
const GREETING_MAX: u32 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Established {
    pub(super) socket: TcpStream,
    pub(super) negotiated: Negotiated,
    pub(super) link: SocketInfo,
    /// What the broker has sent behind `connection.open-ok`.
    pub(super) rest: BytesMut,
}

/// What goes out in the handshake, the password among it: nothing of it stays in memory.
struct Wiped(BytesMut);

impl Wiped {
    fn wipe(&mut self) {
        self.0[..].zeroize();
        self.0.clear();
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Tries every address there is; each one has the connect limit for itself. A refusal of login or vhost is final: the
/// other addresses are of the same cluster, and asking on could lock an account out.
pub(super) async fn establish(
    options: Arc<ConnectionOptions>,
    secret: Option<Secret>,
) -> Result<Established> {
    let credentials = log_in(&options, secret).await?;
    let mut addresses: Vec<&Address> =
        std::iter::once(&options.address).chain(&options.other_addresses).collect();
    options.address_order.arrange(&mut addresses);
    let mut last = None;
    for address in addresses {
        match reach(address, &options, &credentials).await {
            Err(error) if !is_final(&error) => {
                log::debug!("not connected: {error}");
                last = Some(error);
            }
            result => return result,
        }
    }
    Err(last.unwrap_or_else(|| Error::protocol("no address to connect to")))
}

/// Asks the provider, if there is one; else the login is what the options say and what `update-secret` made of it.
async fn log_in(options: &ConnectionOptions, secret: Option<Secret>) -> Result<Credentials> {
    match &options.credentials {
        Some(provider) => provider.ask(options.connect_timeout).await,
        None => {
            let password = secret.unwrap_or_else(|| options.password.clone());
            Ok(Credentials::new(options.user.clone(), password))
        }
    }
}

fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Auth | ErrorKind::Vhost)
}

/// Tries all IP addresses of one host.
async fn reach(
    address: &Address,
    options: &ConnectionOptions,
    credentials: &Credentials,
) -> Result<Established> {
    let stage = Cell::new("looking up the name");
    let late = || Error::timeout(format!("{}: nothing within {:?}", stage.get(), options.connect_timeout));
    let mut until = Instant::now() + clamp_timeout(options.connect_timeout);
    let candidates = timeout_at(until, Candidates::of(address, options.happy_eyeballs)).await;
    let found = candidates.unwrap_or_else(|_| Err(late()));
    let mut candidates = found.map_err(|error| error.on(address.to_string()))?;
    loop {
        stage.set("connecting");
        let attempt = dial_and_shake(&mut candidates, options, credentials, &stage);
        let result = match timeout_at(until, attempt).await {
            Ok(Ok((socket, negotiated, rest))) => {
                return established(address, credentials, socket, negotiated, rest);
            }
            Ok(Err(error)) => error,
            Err(_) => late(),
        };
        let error = result.on(address.to_string());
        if candidates.is_empty() || is_final(&error) {
            return Err(error);
        }
        log::debug!("not connected: {error}");
        until = Instant::now() + clamp_timeout(options.connect_timeout);
    }
}

fn established(
    address: &Address,
    credentials: &Credentials,
    socket: TcpStream,
    negotiated: Negotiated,
    rest: BytesMut,
) -> Result<Established> {
    let end =
        |result: io::Result<SocketAddr>| result.map_err(|e| Error::io("asking for the socket's ends", &e));
    let link = SocketInfo {
        address: address.clone(),
        local: end(socket.local_addr())?,
        peer: end(socket.peer_addr())?,
        lifetime: credentials.lifetime(),
    };
    Ok(Established { socket, negotiated, link, rest })
}

async fn dial_and_shake(
    candidates: &mut Candidates,
    options: &ConnectionOptions,
    credentials: &Credentials,
    stage: &Cell<&'static str>,
) -> Result<(TcpStream, Negotiated, BytesMut)> {
    let mut socket = candidates.dial(&options.tcp).await?;
    let mut handshake = Handshake::new(Terms {
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
    let mut cutter = FrameDecoder::new(GREETING_MAX);
    let mut input = BytesMut::with_capacity(4096);
    let mut output = Wiped(BytesMut::new());
    handshake.start(&mut output.0);
    loop {
        stage.set(handshake.stage());
        let lost = |error: &io::Error| match handshake.suspect() {
            Some(suspect) => {
                let what = format!("{}, unless {suspect} was refused without a word", handshake.stage());
                Error::io(what, error)
            }
            None => Error::io(handshake.stage(), error),
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
        while let Some(run) = cutter.next_run(&mut input)? {
            let mut frames = run.iter();
            while let Some(frame) = frames.next() {
                match handshake.advance(&frame, &mut output.0) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Open(negotiated)) => {
                        // The broker may be in alarm, and say so in the same breath.
                        let mut rest = BytesMut::from(frames.rest());
                        rest.unsplit(input);
                        return Ok((socket, negotiated, rest));
                    }
                    Err(error) => {
                        // The broker's reason counts, not whether our last words reach it.
                        let _ = socket.write_all(&output.0).await;
                        return Err(refused(error));
                    }
                }
            }
        }
    }
}

fn refused(error: HandshakeError) -> Error {
    match error {
        HandshakeError::Refused { code, text, class_id, method_id } => {
            let reason = CloseReason::new(code, text, class_id, method_id);
            match code {
                403 => Error::auth("the credentials were refused", Some(reason)),
                530 => Error::vhost(reason),
                _ => Error::connection_closed(
                    "the broker closed the connection while opening it",
                    Some(reason),
                ),
            }
        }
        HandshakeError::Mechanism { offered } => {
            Error::auth(format!("no mechanism in common; the broker offers {offered:?}"), None)
        }
        HandshakeError::Limit(text) => Error::limit(text),
        HandshakeError::Fault(fault) => fault.into(),
        other => Error::protocol(other.to_string()),
    }
}
