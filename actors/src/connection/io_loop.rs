//! One turn of a connection: read, take, write, beat, in this order.
//!
//! Reading comes first, so that two peers that both write cannot wait for each other for ever. Nothing is taken from a
//! channel while a write is pending: what nobody takes holds its callers back.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use actix::{ActorContext, ActorFuture, Context};
use bytes::{Bytes, BytesMut};

use super::{Connection, ConnectionPhase, heartbeat::HeartbeatAction, read_stall::WatchdogAction};
use crate::{
    error::Error,
    transport::{ReadProgress, Writer},
    wire::put_heartbeat,
};

/// Read at most this much in one turn: more makes the timers of the whole arbiter late.
const READ_BUDGET: usize = 64 * 1024;
/// Taken from one channel at a time.
const TAKE: usize = 64 * 1024;
/// Taken from all channels before the socket is asked.
const HIGH_WATER: usize = 256 * 1024;
/// Written in one turn at most, before others get theirs.
const WRITE_BUDGET: u32 = 8;

/// The item that keeps a Connection actor turning.
pub(super) struct IoLoop;

impl ActorFuture<Connection> for IoLoop {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        connection: &mut Connection,
        ctx: &mut Context<Connection>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        match connection.turn(cx) {
            Ok(Turn::Goes) => Poll::Pending,
            Ok(Turn::Over) => {
                if let Some(error) = connection.last_error.take() {
                    connection.report.ended(error);
                }
                ctx.stop();
                Poll::Ready(())
            }
            Err(error) => {
                log::debug!("connection {}: {error}", connection.epoch());
                // After connection.close the broker resets the socket: the first reason counts.
                let error = connection.last_error.take().unwrap_or(error);
                connection.report.ended(error);
                ctx.stop();
                Poll::Ready(())
            }
        }
    }
}

enum Turn {
    Goes,
    Over,
}

impl Connection {
    fn turn(&mut self, cx: &mut TaskContext<'_>) -> Result<Turn, Error> {
        let deaf = self.listen(cx)?;
        if let Err(error) = self.speak(cx) {
            self.fall_mute(error);
        }
        let ending = matches!(self.phase, ConnectionPhase::Ending);
        if ending || self.mute {
            let in_time = self.linger.as_mut().is_some_and(|linger| linger.as_mut().poll(cx).is_pending());
            let said_all = ending && self.writer.is_empty() && !self.await_close_ok;
            return Ok(if said_all || !in_time { Turn::Over } else { Turn::Goes });
        }
        self.relieve(cx, deaf);
        match self.pulse.poll(cx, self.heard, self.writer.writes(), deaf) {
            HeartbeatAction::None => {}
            HeartbeatAction::Send if self.writer.is_empty() => {
                let mut frame = BytesMut::new();
                put_heartbeat(&mut frame);
                self.writer.push(frame.freeze());
                if let Err(error) = self.speak(cx) {
                    self.fall_mute(error);
                    cx.waker().wake_by_ref();
                }
            }
            HeartbeatAction::Send => {}
            HeartbeatAction::PeerIsDead => {
                let what =
                    format!("nothing from the broker for two heartbeats of {:?}", self.pulse.interval());
                return Err(Error::connection_lost(&Error::timeout(what)));
            }
        }
        Ok(Turn::Goes)
    }

    /// Reads what is there, within the budget; tells whether reading pauses because too much waits for user code.
    fn listen(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, Error> {
        let mut budget = READ_BUDGET;
        self.cut();
        loop {
            // At the end only last words count, and deliveries in front of them are dropped.
            if !matches!(self.phase, ConnectionPhase::Ending) && self.credit.must_pause(cx.waker()) {
                return Ok(true);
            }
            let Some(socket) = &mut self.socket else { return Ok(false) };
            match self.reader.poll_read(socket, cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(ReadProgress::Read(n))) => {
                    self.heard += 1;
                    self.cut();
                    if n >= budget {
                        cx.waker().wake_by_ref();
                        return Ok(false);
                    }
                    budget -= n;
                }
                Poll::Ready(Ok(ReadProgress::End)) => {
                    let error = std::io::Error::new(
                        std::io::ErrorKind::UnexpectedEof,
                        "the broker closed the socket",
                    );
                    return Err(Error::io("reading", &error));
                }
                Poll::Ready(Err(error)) => return Err(Error::io("reading", &error)),
            }
        }
    }

    /// Sees to it that a consumer that takes nothing does not keep the others from hearing for ever.
    fn relieve(&mut self, cx: &mut TaskContext<'_>, deaf: bool) {
        match self.stall.poll(cx, deaf, self.options.stall_limit) {
            WatchdogAction::None => {}
            WatchdogAction::Warn => log::warn!(
                "connection {}: not read for {:?}, since too much waits for slow consumers",
                self.epoch(),
                self.options.stall_limit / 4
            ),
            WatchdogAction::Relieve => {
                if let Some((channel, consumer)) = self.credit.greediest() {
                    self.routes.choked(channel, consumer);
                }
            }
        }
    }

    /// Cuts what was read into runs and hands them on.
    fn cut(&mut self) {
        loop {
            match self.cutter.next_run(&mut self.reader.buffer) {
                Ok(Some(run)) if run.channel == 0 => self.control(&run),
                Ok(Some(run)) if matches!(self.phase, ConnectionPhase::Ending) => drop(run),
                Ok(Some(run)) => {
                    if let Err(fault) = self.routes.deliver(self.report.epoch, run) {
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
        self.reader.want(self.cutter.wanted());
    }

    /// Takes and writes until nothing is left, the socket is full, or the budget is spent.
    fn speak(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Error> {
        if self.mute {
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
            if !self.routes.any_ready() || matches!(self.phase, ConnectionPhase::Ending) {
                break;
            }
            if rounds == WRITE_BUDGET {
                cx.waker().wake_by_ref();
                break;
            }
            rounds += 1;
            while self.writer.pending() < HIGH_WATER
                && self.routes.take_next(self.report.epoch, TAKE, &mut taken)
            {
                taken.drain(..).for_each(|chunk| self.writer.push(chunk));
            }
        }
        self.taken = taken;
        Ok(())
    }
}
