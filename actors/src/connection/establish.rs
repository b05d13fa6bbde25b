//! From nothing to an open connection: dial, then shake hands, all under one time limit.

use std::{cell::Cell, io, sync::Arc};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use zeroize::Zeroize;

use crate::{
    error::{CloseReason, Error, Result},
    options::ConnectionOptions,
    transport::dial,
    wire::{Cutter, Handshake, HandshakeError, Mechanism, Negotiated, Progress, Terms, foreign_greeting},
};

/// Before tuning, no honest broker sends more in a frame.
const GREETING_MAX: u32 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Established {
    pub(super) socket: TcpStream,
    pub(super) negotiated: Negotiated,
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

pub(super) async fn establish(options: Arc<ConnectionOptions>) -> Result<Established> {
    let stage = Cell::new("connecting");
    match timeout(options.connect_timeout, dial_and_shake(&options, &stage)).await {
        Ok(result) => result,
        Err(_) => {
            Err(Error::timeout(format!("{}: nothing within {:?}", stage.get(), options.connect_timeout)))
        }
    }
    .map_err(|error| error.on(format!("{}:{}", options.address.host, options.address.port)))
}

async fn dial_and_shake(options: &ConnectionOptions, stage: &Cell<&'static str>) -> Result<Established> {
    let mut socket = dial(&options.address.host, options.address.port).await?;
    let mut handshake = Handshake::new(Terms {
        mechanism: Mechanism::Plain,
        user: options.user.clone(),
        password: options.password.clone(),
        vhost: options.vhost.clone(),
        locale: "en_US".into(),
        channel_max: options.channel_max,
        frame_max: options.frame_max,
        heartbeat: options.heartbeat,
        client_properties: options.client_properties.clone(),
    });
    let mut cutter = Cutter::new(GREETING_MAX);
    let mut input = BytesMut::with_capacity(4096);
    let mut output = Wiped(BytesMut::new());
    handshake.start(&mut output.0);
    loop {
        stage.set(handshake.stage());
        let lost = |error: &io::Error| Error::io(handshake.stage(), error);
        if !output.0.is_empty() {
            socket.write_all(&output.0).await.map_err(|e| lost(&e))?;
            output.wipe();
        }
        if socket.read_buf(&mut input).await.map_err(|e| lost(&e))? == 0 {
            return Err(lost(&io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the socket")));
        }
        if let Some(fault) = foreign_greeting(&input) {
            return Err(fault.into());
        }
        while let Some(run) = cutter.next_run(&mut input)? {
            for frame in run.iter() {
                match handshake.advance(&frame, &mut output.0) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Open(negotiated)) => {
                        return Ok(Established { socket, negotiated, rest: input });
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
