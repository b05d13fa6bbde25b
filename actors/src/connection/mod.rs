//! The Connection actor: one socket, from dialling to its end. It is never repaired: after a loss the
//! supervisor starts another one, with the next epoch.
//!
//! | file | what it does |
//! |---|---|
//! | `establish`, `failed_attempt` | dials, and runs the handshake; the error when no address accepts |
//! | `phase` | opening, open, write closed, closing |
//! | `io_loop` | reads, decodes, writes; polls the timers |
//! | `control` | channel 0: close, blocked, update-secret |
//! | `attached_channels` | where frames of a channel go, and which channels have bytes to write |
//! | `heartbeat`, `read_stall` | when to send heartbeats and when the peer is dead; slow consumers |
//! | `block_reports` | how many `connection.blocked` are reported |
//! | `unread_answers` | a peer that does not read the answers to what it sends |
//!
//! Its mailbox: [`Flush`] from an outbox that has bytes to write, [`ConnectionCommand`] from the supervisor.
//! It reports to the supervisor with [`SupervisorMessage`], and sends frames to channels with
//! `ChannelMessage::Frames`.

mod attached_channels;
mod block_reports;
mod control;
mod establish;
mod failed_attempt;
mod heartbeat;
#[cfg(feature = "testing")]
mod hostile;
mod io_loop;
mod phase;
mod read_stall;
#[cfg(feature = "testing")]
mod test_hooks;
mod timer;
mod unread_answers;

use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture};
use bytes::Bytes;
use tokio::time::Instant;

#[cfg(test)]
pub(crate) use self::failed_attempt::FailedAttempt;
#[cfg(feature = "testing")]
pub(crate) use self::hostile::HostileConnection;
use self::{
    attached_channels::AttachedChannels,
    block_reports::BlockReports,
    establish::{Established, establish},
    heartbeat::Heartbeat,
    io_loop::IoLoop,
    phase::ConnectionPhase,
    read_stall::SlowConsumerWatchdog,
    timer::Timer,
    unread_answers::UnreadAnswers,
};
use crate::{
    error::Error,
    internal::{ConnectionCommand, SupervisorMessage},
    options::ConnectionOptions,
    outbox::Flush,
    secret::Secret,
    transport::{ReadCredit, Reader, Socket, Writer},
    wire::FrameDecoder,
};

/// The actor of one socket to a broker: it dials, runs the handshake, decodes frames, writes bytes, and sends
/// heartbeats. The [`ConnectionSupervisor`](crate::ConnectionSupervisor) starts it; applications send their
/// messages to the supervisor, not to this actor.
///
/// **Over a reconnect**: another Connection actor replaces it.
#[derive(Debug)]
pub struct Connection {
    options: Arc<ConnectionOptions>,
    /// The current password, if it differs from that of the options.
    secret: Option<Secret>,
    phase: ConnectionPhase,
    /// Limits how long the connection waits for final frames once it closes or cannot write any more.
    close_timer: Timer,
    end_report: EndReport,
    channels: AttachedChannels,
    credit: Arc<ReadCredit>,
    socket: Option<Socket>,
    reader: Reader,
    decoder: FrameDecoder,
    writer: Writer,
    answers: UnreadAnswers,
    blocks: BlockReports,
    /// Something was dropped because writing failed.
    content_lost: bool,
    /// The number of reads so far.
    reads: u64,
    /// Scratch space for chunks taken from channels, kept for its allocation.
    taken: Vec<Bytes>,
    heartbeat: Option<Heartbeat>,
    heartbeat_timer: Timer,
    /// Set while reading is paused.
    watchdog: Option<SlowConsumerWatchdog>,
    watchdog_timer: Timer,
    /// The number of `connection.update-secret` that have no reply of the broker.
    unanswered_secrets: usize,
}

/// Sends the end of the connection to the supervisor exactly once, even if the actor panics.
#[derive(Debug)]
struct EndReport {
    epoch: u64,
    supervisor: Recipient<SupervisorMessage>,
    sent: bool,
}

impl EndReport {
    fn send(&mut self, error: Error) {
        if !std::mem::replace(&mut self.sent, true) {
            self.supervisor.do_send(SupervisorMessage::ConnectionEnded { epoch: self.epoch, error });
        }
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        self.send(Error::stopped("the Connection actor ended without a reason"));
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
            decoder: FrameDecoder::new(options.frame_max),
            options,
            secret,
            phase: ConnectionPhase::Opening,
            close_timer: Timer::default(),
            end_report: EndReport { epoch, supervisor, sent: false },
            channels: AttachedChannels::default(),
            credit,
            socket: None,
            reader: Reader::default(),
            writer: Writer::default(),
            answers: UnreadAnswers::default(),
            blocks: BlockReports::default(),
            content_lost: false,
            reads: 0,
            taken: Vec::new(),
            heartbeat: None,
            heartbeat_timer: Timer::default(),
            watchdog: None,
            watchdog_timer: Timer::default(),
            unanswered_secrets: 0,
        }
    }

    fn epoch(&self) -> u64 {
        self.end_report.epoch
    }

    /// Starts the I/O loop on the socket of a finished handshake.
    fn opened(&mut self, established: Established, ctx: &mut Context<Self>) {
        let Established { socket, negotiated, info, rest } = established;
        log::debug!("connection {}: open, {negotiated:?}", self.epoch());
        self.socket = Some(socket);
        self.reader.buffer = rest;
        self.decoder.set_frame_max(negotiated.frame_max);
        self.heartbeat = Heartbeat::start(negotiated.heartbeat, Instant::now());
        if let Some(heartbeat) = &self.heartbeat {
            self.heartbeat_timer.set(heartbeat.next_tick());
            self.credit.io_clock().ran(Instant::now());
            self.credit.io_clock().set_limit(heartbeat.lost_after());
        }
        self.phase = ConnectionPhase::Open;
        let epoch = self.epoch();
        let opened = SupervisorMessage::ConnectionOpened { epoch, negotiated, socket: info };
        self.end_report.supervisor.do_send(opened);
        ctx.spawn(IoLoop);
    }

    /// Takes everything from all channels that have bytes to write.
    fn take_from_all_channels(&mut self) {
        while self.channels.take_next(self.end_report.epoch, usize::MAX, &mut self.taken) {
            self.taken.drain(..).for_each(|chunk| self.writer.push(chunk));
        }
    }

    fn detach_channel(&mut self, channel: u16) {
        if let Some(outbox) = self.channels.detach(channel) {
            // Its final frames: one may be channel.close-ok.
            while outbox.take(self.end_report.epoch, usize::MAX, &mut self.taken) {}
            self.taken.drain(..).for_each(|chunk| self.writer.push(chunk));
        }
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        let opening = establish(self.options.clone(), self.secret.take()).into_actor(self);
        ctx.spawn(opening.map(|result, connection, ctx| match result {
            Ok(established) => connection.opened(established, ctx),
            Err(error) => {
                log::debug!("connection {}: {error}", connection.epoch());
                connection.end_report.send(error);
                ctx.stop();
            }
        }));
    }
}

impl Handler<Flush> for Connection {
    type Result = ();

    fn handle(&mut self, flush: Flush, _: &mut Self::Context) {
        if flush.epoch == self.epoch() {
            self.channels.mark_ready(flush.channel);
        }
    }
}

impl Handler<ConnectionCommand> for Connection {
    type Result = ();

    fn handle(&mut self, command: ConnectionCommand, ctx: &mut Self::Context) {
        match command {
            ConnectionCommand::AttachChannel { channel, recipient, outbox } => {
                self.channels.attach(channel, recipient, outbox);
            }
            ConnectionCommand::DetachChannel { channel } => self.detach_channel(channel),
            ConnectionCommand::Close { code, text, within } => match self.phase {
                ConnectionPhase::Opening => {
                    self.end_report.send(Error::connection_closed_here("closed by the application"));
                    ctx.stop();
                }
                ConnectionPhase::Open | ConnectionPhase::WriteClosed { .. } => {
                    self.close(code, &text, within);
                }
                ConnectionPhase::Closing(_) => {}
            },
            ConnectionCommand::Fail { fault } => self.fail(fault),
            ConnectionCommand::UpdateSecret { frame } => self.update_secret(frame.0),
        }
    }
}
