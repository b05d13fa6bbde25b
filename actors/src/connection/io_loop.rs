//! The I/O loop of a connection: each poll reads, then takes bytes from channels and writes them, then looks
//! at the timers.
//!
//! Reading comes first: otherwise two peers that both write could wait for each other forever. While a write
//! is pending no bytes are taken from a channel, so that a slow socket holds publishers back.

use std::{
    io,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use actix::{ActorContext, ActorFuture, Context};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{
    Connection,
    heartbeat::HeartbeatAction,
    read_stall::{SlowConsumerWatchdog, WatchdogAction},
};
use crate::{
    error::Error,
    options::clamp_timeout,
    transport::{ReadProgress, Writer},
    wire::put_heartbeat,
};

/// The most bytes to read in one poll. More would delay the timers of everything on this thread.
const READ_BUDGET: usize = 64 * 1024;
/// The bytes to take from one channel at a time.
const TAKE_BYTES: usize = 64 * 1024;
/// The bytes to take from all channels before the socket is written to.
const HIGH_WATER: usize = 256 * 1024;
/// The most writes in one poll.
const WRITE_BUDGET: u32 = 8;

/// The item of the actor's context that polls its socket until the connection has ended.
pub(super) struct IoLoop;

impl ActorFuture<Connection> for IoLoop {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        connection: &mut Connection,
        ctx: &mut Context<Connection>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let error = match connection.poll_io(cx) {
            Ok(IoState::Running) => return Poll::Pending,
            Ok(IoState::Ended) => connection.phase.take_cause(),
            Ok(IoState::TimedOut) => connection.phase.timed_out(),
            Err(error) => {
                let error = connection.explain(error);
                log::debug!("connection {}: {error}", connection.epoch());
                Some(connection.socket_ended(error))
            }
        };
        if let Some(error) = error {
            connection.end_report.send(error);
        }
        ctx.stop();
        Poll::Ready(())
    }
}

enum IoState {
    Running,
    Ended,
    /// The time for final frames is over.
    TimedOut,
}

impl Connection {
    fn poll_io(&mut self, cx: &mut TaskContext<'_>) -> Result<IoState, Error> {
        let read_paused = self.poll_read(cx)?;
        if let Some(reason) = self.blocks.poll_ends() {
            self.report_blocked(reason);
        }
        if let Err(error) = self.poll_write(cx) {
            let error = self.explain(error);
            self.close_write(error);
        }
        if self.phase.is_closing() || self.phase.is_write_closed() {
            if self.phase.is_closed(self.writer.is_empty()) && self.poll_close_notify(cx).is_ready() {
                return Ok(IoState::Ended);
            }
            return Ok(if self.close_timer.is_due(cx) { IoState::TimedOut } else { IoState::Running });
        }
        self.poll_watchdog(cx, read_paused);
        self.poll_heartbeat(cx, read_paused)?;
        Ok(IoState::Running)
    }

    /// Ends TLS in an orderly way, within the time for closing.
    fn poll_close_notify(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        match &mut self.socket {
            Some(socket) if !self.phase.is_write_closed() => socket.poll_close_notify(cx),
            _ => Poll::Ready(()),
        }
    }

    /// Reads what is there, within the budget. Returns whether reading is paused because consumers hold too
    /// much.
    fn poll_read(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, Error> {
        let mut budget = READ_BUDGET;
        self.decode_frames();
        loop {
            // While closing, deliveries are dropped, so they need no credit.
            if !self.phase.is_closing() && self.credit.must_pause(cx.waker()) && !self.must_read_on() {
                return Ok(true);
            }
            let Some(socket) = &mut self.socket else { return Ok(false) };
            match self.reader.poll_read(socket, cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(ReadProgress::Read(n))) => {
                    self.reads += 1;
                    self.decode_frames();
                    self.check_answers(n);
                    self.check_memory();
                    if n >= budget {
                        cx.waker().wake_by_ref();
                        return Ok(false);
                    }
                    budget -= n;
                }
                Poll::Ready(Ok(ReadProgress::End)) => {
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the socket");
                    return Err(Error::io("reading", &error));
                }
                Poll::Ready(Err(error)) => return Err(Error::io("reading", &error)),
            }
        }
    }

    /// Gives up a peer that does not read what it makes the client write.
    pub(super) fn check_answers(&mut self, read: usize) {
        if self.answers.has_read(read, self.writer.is_empty())
            && let Err(fault) = self.answers.look(self.channels.waiting_answers())
        {
            self.fail(fault);
        }
    }

    /// Returns whether to read on though consumers hold too much: the application waits for a confirm or a reply,
    /// maybe before it settles anything. A consumer without a prefetch, which acknowledges, is given one then.
    #[cold]
    fn must_read_on(&mut self) -> bool {
        if !self.credit.memory().awaits_reply() && !self.channels.awaits_confirm() {
            return false;
        }
        let Some((channel, consumer)) = self.credit.limitable_consumer() else { return false };
        self.channels.limit_prefetch(channel, consumer);
        true
    }

    /// Has a channel reduce the prefetch of a consumer when unsettled deliveries have too many bytes.
    fn check_memory(&mut self) {
        let memory = self.credit.memory();
        memory.set_blocks(self.reader.held_bytes());
        if let Some(channel) = memory.channel_over_bound() {
            self.channels.reduce_prefetch(channel);
        }
    }

    /// Decodes what was read into batches of frames, and dispatches them by channel.
    pub(super) fn decode_frames(&mut self) {
        loop {
            match self.decoder.next_batch(&mut self.reader.buffer) {
                Ok(Some(batch)) if batch.channel == 0 => self.handle_channel_0(&batch),
                Ok(Some(batch)) if self.phase.is_closing() => drop(batch),
                Ok(Some(batch)) => {
                    if let Err(fault) = self.channels.deliver(self.end_report.epoch, batch, Instant::now) {
                        self.fail(fault);
                    }
                }
                Ok(None) => break,
                Err(fault) => {
                    self.reader.buffer.clear();
                    self.fail(fault);
                    break;
                }
            }
        }
        self.reader.want(self.decoder.missing_bytes());
    }

    /// Takes bytes from channels and writes them until nothing is left, the socket is full, or the budget is
    /// spent.
    fn poll_write(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Error> {
        if self.phase.is_write_closed() {
            self.writer = Writer::default();
            return Ok(());
        }
        let mut taken: Vec<Bytes> = std::mem::take(&mut self.taken);
        let mut rounds = 0;
        while let Some(socket) = &mut self.socket {
            match self.writer.poll_write(socket, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(Error::io("writing", &error)),
                Poll::Pending => break,
            }
            if !self.channels.any_ready() || self.phase.is_closing() {
                break;
            }
            if rounds == WRITE_BUDGET {
                cx.waker().wake_by_ref();
                break;
            }
            rounds += 1;
            while self.writer.pending() < HIGH_WATER
                && self.channels.take_next(self.end_report.epoch, TAKE_BYTES, &mut taken)
            {
                taken.drain(..).for_each(|chunk| self.writer.push(chunk));
            }
        }
        self.taken = taken;
        Ok(())
    }

    /// Keeps a slow consumer from pausing the whole connection forever.
    fn poll_watchdog(&mut self, cx: &mut TaskContext<'_>, read_paused: bool) {
        if !read_paused {
            if self.watchdog.take().is_some() {
                self.watchdog_timer.clear();
            }
            return;
        }
        let limit = clamp_timeout(self.options.stall_limit);
        let watchdog = self.watchdog.get_or_insert_with(|| {
            let watchdog = SlowConsumerWatchdog::start(Instant::now(), limit);
            self.watchdog_timer.set(watchdog.due());
            watchdog
        });
        while self.watchdog_timer.is_due(cx) {
            let action = watchdog.expire(Instant::now());
            self.watchdog_timer.set(watchdog.due());
            match action {
                WatchdogAction::Warn => log::warn!(
                    "connection {}: reading paused for {:?}, slow consumers hold too much",
                    self.end_report.epoch,
                    limit / 4
                ),
                WatchdogAction::CancelSlowestConsumer => {
                    if let Some((channel, consumer)) = self.credit.largest_consumer() {
                        self.channels.cancel_slow_consumer(channel, consumer);
                    }
                }
            }
        }
    }

    /// Names the cause of an error of the socket, if this thread was blocked before.
    fn explain(&self, error: Error) -> Error {
        let now = Instant::now();
        let Some(heartbeat) = &self.heartbeat else { return error };
        let Some(stall) = heartbeat.recent_stall(now) else { return error };
        if heartbeat.stall(now).is_some() {
            warn_of_stall(self.epoch(), stall, heartbeat.interval());
        }
        error.after_stall(stall)
    }

    /// Sends a heartbeat when one is due; fails when the peer is dead.
    fn poll_heartbeat(&mut self, cx: &mut TaskContext<'_>, read_paused: bool) -> Result<(), Error> {
        let Some(heartbeat) = &mut self.heartbeat else { return Ok(()) };
        let mut send = false;
        while self.heartbeat_timer.is_due(cx) {
            let now = Instant::now();
            self.credit.io_clock().ran(now);
            if let Some(stall) = heartbeat.stall(now) {
                warn_of_stall(self.end_report.epoch, stall, heartbeat.interval());
            }
            match heartbeat.tick(now, self.reads, self.writer.writes(), read_paused) {
                HeartbeatAction::None => {}
                HeartbeatAction::Send => send = true,
                HeartbeatAction::PeerIsDead => {
                    let what =
                        format!("nothing from the broker for two heartbeats of {:?}", heartbeat.interval());
                    return Err(Error::connection_lost(&Error::timeout(what)));
                }
            }
            self.heartbeat_timer.set(heartbeat.next_tick());
        }
        if send && self.writer.is_empty() {
            let mut frame = BytesMut::new();
            put_heartbeat(&mut frame);
            self.writer.push(frame.freeze());
            if let Err(error) = self.poll_write(cx) {
                self.close_write(error);
                cx.waker().wake_by_ref();
            }
        }
        Ok(())
    }
}

fn warn_of_stall(epoch: u64, stall: Duration, interval: Duration) {
    log::warn!(
        "connection {epoch}: its arbiter stood still for {stall:.1?}; the broker closes a connection from which \
         nothing comes for two to three heartbeat intervals of {interval:?}. Move the connection to a thread of \
         its own (Connector::own_thread), or what blocks to a SyncArbiter or to spawn_blocking"
    );
}
