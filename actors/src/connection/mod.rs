//! The Connection actor: one life of one socket. It dials, shakes hands, cuts frames, writes bytes, beats, and dies;
//! it is never repaired, only replaced.
//!
//! `drive` moves the bytes, `control` speaks for channel 0, `routes` knows who reads which channel.

mod control;
mod establish;
mod heartbeat;
mod io_loop;
mod read_stall;
mod routes;
#[cfg(feature = "testing")]
mod test_hooks;

use std::{pin::Pin, sync::Arc};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture};
use bytes::Bytes;
use tokio::{net::TcpStream, time::Sleep};

use self::{
    establish::{Established, establish},
    heartbeat::Heartbeat,
    io_loop::IoLoop,
    read_stall::SlowConsumerWatchdog,
    routes::AttachedChannels,
};
use crate::{
    error::Error,
    message::internal::{ConnectionCommand, SupervisorMessage},
    options::ConnectionOptions,
    outbox::Flush,
    secret::Secret,
    transport::ReadCredit,
    transport::{Reader, Writer},
    wire::FrameDecoder,
};

/// Lives one life of one socket: it dials, shakes hands, cuts frames, writes bytes, beats, and dies. It takes no
/// messages of an application; those are for the [`ConnectionSupervisor`](crate::ConnectionSupervisor), which
/// starts it.
///
/// **Over a reconnect**: it is replaced by another one.
#[derive(Debug)]
pub struct Connection {
    options: Arc<ConnectionOptions>,
    report: Report,
    routes: AttachedChannels,
    credit: Arc<ReadCredit>,
    socket: Option<TcpStream>,
    reader: Reader,
    cutter: FrameDecoder,
    writer: Writer,
    /// Reads so far.
    heard: u64,
    pulse: Heartbeat,
    stall: SlowConsumerWatchdog,
    phase: ConnectionPhase,
    /// What a take put out, kept for its memory.
    taken: Vec<Bytes>,
    await_close_ok: bool,
    last_error: Option<Error>,
    /// Nothing can be written any more, but there may be something to read.
    mute: bool,
    linger: Option<Pin<Box<Sleep>>>,
    /// The password of now, where it is not that of the options any more.
    secret: Option<Secret>,
    /// `connection.update-secret` that the broker has not answered.
    secrets_under_way: usize,
}

#[derive(Debug)]
enum ConnectionPhase {
    /// Dialling or shaking hands.
    Opening,
    Open,
    /// The reason is reported; what is left are last words, and the peer's.
    Ending,
}

/// Tells the supervisor of the end, exactly once, a panic included.
#[derive(Debug)]
struct Report {
    epoch: u64,
    supervisor: Recipient<SupervisorMessage>,
    ended: bool,
}

impl Report {
    fn ended(&mut self, error: Error) {
        if !std::mem::replace(&mut self.ended, true) {
            self.supervisor.do_send(SupervisorMessage::ConnectionEnded { epoch: self.epoch, error });
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.ended(Error::stopped("the Connection actor ended without a reason"));
    }
}

impl Connection {
    pub(crate) fn new(
        options: Arc<ConnectionOptions>,
        epoch: u64,
        credit: Arc<ReadCredit>,
        supervisor: Recipient<SupervisorMessage>,
        secret: Option<Secret>,
    ) -> Self {
        Self {
            secret,
            secrets_under_way: 0,
            cutter: FrameDecoder::new(options.frame_max),
            options,
            report: Report { epoch, supervisor, ended: false },
            routes: AttachedChannels::default(),
            credit,
            socket: None,
            reader: Reader::default(),
            writer: Writer::default(),
            heard: 0,
            pulse: Heartbeat::default(),
            stall: SlowConsumerWatchdog::default(),
            phase: ConnectionPhase::Opening,
            taken: Vec::new(),
            await_close_ok: false,
            last_error: None,
            mute: false,
            linger: None,
        }
    }

    fn epoch(&self) -> u64 {
        self.report.epoch
    }

    /// Takes everything that channels have asked to be taken.
    fn write_out(&mut self) {
        while self.routes.take_next(self.report.epoch, usize::MAX, &mut self.taken) {
            self.taken.drain(..).for_each(|chunk| self.writer.push(chunk));
        }
    }

    fn unroute(&mut self, channel: u16) {
        if let Some(outbox) = self.routes.remove(channel) {
            // Its last words, which may be an answer to channel.close.
            while outbox.take(self.report.epoch, usize::MAX, &mut self.taken) {}
            self.taken.drain(..).for_each(|chunk| self.writer.push(chunk));
        }
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        let opening =
            establish(self.options.clone(), self.secret.take()).into_actor(self).map(|result, actor, ctx| {
                match result {
                    Ok(established) => {
                        log::debug!("connection {}: open, {:?}", actor.epoch(), established.negotiated);
                        actor.socket = Some(established.socket);
                        actor.reader.buffer = established.rest;
                        actor.cutter.set_frame_max(established.negotiated.frame_max);
                        actor.pulse = Heartbeat::start(established.negotiated.heartbeat);
                        actor.phase = ConnectionPhase::Open;
                        let epoch = actor.epoch();
                        let Established { negotiated, link, .. } = established;
                        actor.report.supervisor.do_send(SupervisorMessage::ConnectionOpened {
                            epoch,
                            negotiated,
                            link,
                        });
                        ctx.spawn(IoLoop);
                    }
                    Err(error) => {
                        log::debug!("connection {}: {error}", actor.epoch());
                        actor.report.ended(error);
                        ctx.stop();
                    }
                }
            });
        ctx.spawn(opening);
    }
}

impl Handler<Flush> for Connection {
    type Result = ();

    fn handle(&mut self, flush: Flush, _: &mut Self::Context) {
        if flush.epoch == self.epoch() {
            self.routes.ready(flush.channel);
        }
    }
}

impl Handler<ConnectionCommand> for Connection {
    type Result = ();

    fn handle(&mut self, order: ConnectionCommand, ctx: &mut Self::Context) {
        match order {
            ConnectionCommand::AttachChannel { channel, down, outbox } => {
                self.routes.add(channel, down, outbox)
            }
            ConnectionCommand::DetachChannel { channel } => self.unroute(channel),
            ConnectionCommand::Close { code, text, within } => match self.phase {
                ConnectionPhase::Opening => {
                    self.report.ended(Error::connection_closed("closed by the application", None));
                    ctx.stop();
                }
                ConnectionPhase::Open => self.close(code, &text, within),
                ConnectionPhase::Ending => {}
            },
            ConnectionCommand::Fail { fault } => self.fail(fault),
            ConnectionCommand::UpdateSecret { frame } => self.update_secret(frame.0),
        }
    }
}
