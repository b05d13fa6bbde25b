//! How a channel opens, drains and closes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::{AsyncContext, Context, Handler};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Channel, ChannelState, Number, Reply, replies::PendingReply};
use crate::{
    error::{CloseReason, Error, ErrorKind, Result},
    message::{
        ChannelEvent, CloseChannel, ConsumerEnd, FollowChannel, ReleaseChannel, WatchChannel,
        internal::{ChannelMessage, SupervisorMessage},
    },
    options::clamp_timeout,
    outbox::Tick,
    wire::{AMQPClass, Fault, channel as methods, confirm, put_method, short_truncated},
};

impl Handler<ChannelMessage> for Channel {
    type Result = ();

    fn handle(&mut self, letter: ChannelMessage, ctx: &mut Context<Self>) {
        if !self.robust {
            return self.receive(letter, ctx);
        }
        // A panic would cost the address that all handles have. Little of what it leaves half done outlives a life.
        if catch_unwind(AssertUnwindSafe(|| self.receive(letter, ctx))).is_err() {
            log::error!("channel {}: a panic in the library; the connection is given up", self.number());
            self.fault(Fault::internal("the Channel actor panicked"));
        }
    }
}

impl Channel {
    fn receive(&mut self, letter: ChannelMessage, ctx: &mut Context<Self>) {
        match letter {
            ChannelMessage::Frames { epoch, batch } => {
                if epoch != self.epoch {
                    log::debug!(
                        "channel {}: {} frames of an earlier life, dropped",
                        self.number(),
                        batch.frames
                    );
                    return;
                }
                if let Err(fault) = self.read(&batch) {
                    self.fault(fault);
                }
                self.report_changes();
                self.look_after_restore(ctx);
                self.look_after_nacks(ctx);
                self.look_after_drain();
                if self.waits() {
                    self.keep_ticking(ctx);
                }
            }
            ChannelMessage::Attached { epoch, flush, frame_max, credit } => {
                let again = matches!(self.phase, ChannelState::Lost);
                self.epoch = epoch;
                self.credit = Some(credit);
                self.outbox.attach(epoch, flush, frame_max, again);
                if again {
                    self.be_patient();
                    self.restore();
                    self.keep_ticking(ctx);
                } else if matches!(self.phase, ChannelState::Opening) {
                    self.open(ctx);
                }
            }
            ChannelMessage::Detached { epoch, error } => {
                if epoch == self.epoch {
                    self.lost(&error);
                    self.look_after_drain();
                    self.keep_ticking(ctx);
                }
            }
            ChannelMessage::ConnectionClosed { error } if error.kind() == ErrorKind::Limit => {
                self.end(Error::channel_closed(error.to_string(), None), None, Number::InUse);
            }
            ChannelMessage::ConnectionClosed { error } => {
                self.end(Error::connection_lost(&error), None, Number::InUse)
            }
            ChannelMessage::QueueRenamed { old, new } => self.queue_renamed(old, new),
            ChannelMessage::ConsumerRepaired { consumer, result } => self.repaired(consumer, result, ctx),
            ChannelMessage::CancelSlowConsumer { consumer } => {
                log::warn!("channel {}: consumer {consumer} is too slow, and cancelled", self.number());
                self.shed(consumer, ConsumerEnd::TooSlow, ctx);
            }
            ChannelMessage::Blocked(blocked) => self.outbox.set_blocked(blocked),
            ChannelMessage::Drain => {
                self.draining = true;
                let error = Error::connection_closed("the connection is being closed", None);
                self.outbox.refuse_more(error);
                self.outbox.lose_patience();
                self.look_after_drain();
                self.keep_ticking(ctx);
            }
            #[cfg(feature = "testing")]
            ChannelMessage::Panic => panic!("a test asked for it"),
        }
    }

    fn open(&mut self, ctx: &mut Context<Self>) {
        let open = AMQPClass::Channel(methods::AMQPMethod::Open(methods::Open {}));
        self.ask(open, "channel.open", None, PendingReply::Open);
        if self.outbox.terms().confirms {
            let select = AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }));
            self.ask(select, "confirm.select", None, PendingReply::ConfirmSelect);
        }
        self.keep_ticking(ctx);
    }

    /// One step of opening is done.
    pub(super) fn opened(&mut self, confirms: bool) {
        if matches!(self.phase, ChannelState::Opening) && confirms == self.outbox.terms().confirms {
            self.phase = ChannelState::Open;
            let channel = self.number();
            log::debug!("channel {channel}: open");
            self.supervisor.do_send(SupervisorMessage::ChannelOpened { channel, result: Ok(()) });
        }
    }

    /// The frames that came break the protocol; the connection must go.
    pub(super) fn fault(&mut self, fault: Fault) {
        let epoch = self.epoch;
        self.supervisor.do_send(SupervisorMessage::ProtocolFault { epoch, fault: fault.clone() });
        if self.robust {
            return self.lost(&fault.into());
        }
        self.end(Error::connection_lost(&fault.into()), None, Number::InUse);
    }

    /// The broker closed the channel.
    pub(super) fn closed_by_broker(&mut self, close: methods::Close) {
        let cause = (close.class_id, close.method_id);
        let text = close.reply_text.to_string();
        let reason = CloseReason::new(close.reply_code, text, close.class_id, close.method_id);
        log::debug!("channel {}: closed by the broker, {reason}", self.number());
        let refused = self.replies.refuse(cause, &reason);
        let refused = refused.unwrap_or_default();
        let entity = refused.entity.or_else(|| reason.entity().map(str::to_owned));
        let refused = refused.what;
        let reopens = self.reopens(&reason, &refused);
        let error = Error::channel_closed("the broker closed the channel", Some(reason));
        let error = match entity {
            Some(entity) => error.on(entity),
            None => error,
        };
        let close_ok = AMQPClass::Channel(methods::AMQPMethod::CloseOk(methods::CloseOk {}));
        match self.frame(&close_ok) {
            Ok(final_frames) if reopens => self.reopen(error, final_frames, refused),
            final_frames => self.end(error, final_frames.ok(), Number::Free),
        }
    }

    /// Our own `channel.close` was answered.
    pub(super) fn close_answered(&mut self) -> Result<(), Fault> {
        match self.phase {
            ChannelState::Closing { reopen: true, .. } => {
                self.replies.fail_all(&self.cause());
                self.restore();
                return Ok(());
            }
            ChannelState::Closing { .. } => {}
            _ => return Err(Fault::command("channel.close-ok without channel.close").with_method(20, 41)),
        }
        self.end(Error::channel_closed("the channel is closed", None), None, Number::Free);
        Ok(())
    }

    /// Ends the channel for good and answers everyone.
    pub(super) fn end(&mut self, error: Error, final_frames: Option<Bytes>, number: Number) {
        let (abandoned, error) = match &self.phase {
            ChannelState::Closed(_) => return,
            // The first reason counts.
            ChannelState::Closing { abandoned, error, .. } => (*abandoned, error.clone()),
            ChannelState::Opening
            | ChannelState::Open
            | ChannelState::Lost
            | ChannelState::Restoring
            | ChannelState::Draining { .. } => (self.outbox.load().unconfirmed, error),
        };
        let channel = self.number();
        if matches!(self.phase, ChannelState::Opening) {
            self.supervisor.do_send(SupervisorMessage::ChannelOpened { channel, result: Err(error.clone()) });
        }
        let by_us = matches!(self.phase, ChannelState::Closing { .. }) && error.close_reason().is_none();
        self.watchers.close(ChannelEvent::Closed((!by_us).then(|| error.clone())));
        self.phase = ChannelState::Closed(error.clone());
        self.outbox.close(error.clone(), final_frames);
        self.replies.fail_all(&error);
        self.report_changes();
        self.fail_waiting(&error);
        self.consumers.end_all(|| ConsumerEnd::Closed(error.clone()));
        self.answer_closers(abandoned);
        self.supervisor.do_send(SupervisorMessage::ChannelDrained { channel });
        self.supervisor.do_send(SupervisorMessage::ChannelClosed { channel, free: number == Number::Free });
    }

    fn answer_closers(&mut self, abandoned: usize) {
        for closer in self.closers.drain(..) {
            let answer = match abandoned {
                0 => Ok(()),
                n => Err(Error::timeout(format!(
                    "closed with {n} publishes unconfirmed, which may have arrived"
                ))
                .maybe_arrived()),
            };
            // Nobody waits any more: fine.
            let _ = closer.send(answer);
        }
    }

    /// The broker closed the channel, too, before it read our close. It is closed now; but the number is not free before
    /// the answer to ours is here, which RabbitMQ may lose when it ends the channel.
    pub(super) fn closes_crossed(&mut self) {
        if let ChannelState::Closing { abandoned, crossed, .. } = &mut self.phase {
            *crossed = true;
            let abandoned = *abandoned;
            self.answer_closers(abandoned);
        }
    }

    pub(super) fn close_frame(&self, code: u16, text: &str) -> Result<Bytes, Fault> {
        let close =
            methods::Close { reply_code: code, reply_text: short_truncated(text), class_id: 0, method_id: 0 };
        self.frame(&AMQPClass::Channel(methods::AMQPMethod::Close(close)))
    }

    /// Says `channel.close` and answers everyone but the closers. Behind it only the answer to a close of the
    /// broker's may follow: for anything else, a settle included, the channel would be one that is not open.
    pub(super) fn say_close(&mut self, code: u16, text: &str, error: Error) {
        let abandoned = self.outbox.load().unconfirmed;
        if let Ok(frame) = self.close_frame(code, text) {
            self.outbox.close_behind(error.clone(), frame);
        }
        self.replies.fail_all(&error);
        self.consumers.end_all(|| ConsumerEnd::Closed(error.clone()));
        self.phase = ChannelState::Closing { abandoned, error, reopen: false, crossed: false };
        self.replies.expect("channel.close", None, (20, 40), PendingReply::Close);
    }

    /// The broker has not answered for too long: whether it will, and with what, cannot be known any more.
    fn give_up(&mut self, silence: &Error) {
        let channel = self.number();
        if matches!(self.phase, ChannelState::Closing { crossed: true, .. }) {
            // Answers nothing but `Err` to a close that was not made.
            let _ = self.close_answered();
            return;
        }
        log::warn!("channel {channel}: {silence}; the channel is given up");
        if self.close_to_reopen(silence) {
            return;
        }
        self.watchers.close(ChannelEvent::Closed(Some(silence.clone())));
        match self.phase {
            ChannelState::Closing { .. } => {
                self.closers.drain(..).for_each(|closer| drop(closer.send(Err(silence.clone()))));
                self.end(silence.clone(), None, Number::InUse);
                return;
            }
            ChannelState::Opening => {
                self.supervisor
                    .do_send(SupervisorMessage::ChannelOpened { channel, result: Err(silence.clone()) });
            }
            _ => {}
        }
        let error = Error::channel_closed(format!("the channel is given up: {silence}"), None);
        self.say_close(541, "no answer to a call", error);
    }

    /// Opening or closing takes too long, but will be done once the broker reads us again.
    fn held_up(&mut self, error: &Error) {
        self.closers.drain(..).for_each(|closer| drop(closer.send(Err(error.clone()))));
        if matches!(self.phase, ChannelState::Opening) {
            self.supervisor.do_send(SupervisorMessage::ChannelOpened {
                channel: self.number(),
                result: Err(error.clone()),
            });
            self.say_close(200, "nobody waits for the channel any more", error.clone());
        }
    }

    pub(super) fn frame(&self, method: &AMQPClass) -> Result<Bytes, Fault> {
        let mut frame = BytesMut::new();
        put_method(&mut frame, self.number(), method)?;
        Ok(frame.freeze())
    }

    fn begin_close(&mut self, code: u16, text: String) {
        if matches!(self.phase, ChannelState::Open) {
            // As late as publishes are noticed to be late: each is answered by its own deadline.
            let terms = self.outbox.terms();
            let until = Instant::now() + clamp_timeout(terms.deadline) + terms.tick();
            self.outbox.refuse_more(Error::channel_closed("the channel is being closed", None));
            self.outbox.lose_patience();
            self.phase = ChannelState::Draining { code, text, until };
            self.look_after_drain();
        }
    }

    /// Goes on with closing when nothing is under way any more.
    pub(super) fn look_after_drain(&mut self) {
        if self.draining || self.released.is_some() || matches!(self.phase, ChannelState::Draining { .. }) {
            let load = self.outbox.load();
            let idle = load.unconfirmed == 0 && load.waiting == 0 && load.drained;
            if self.draining && idle {
                self.draining = false;
                self.supervisor.do_send(SupervisorMessage::ChannelDrained { channel: self.number() });
            }
            let unneeded = self.released.is_some_and(|until| idle || Instant::now() >= until);
            if unneeded && load.unsettled == 0 && self.consumers.is_empty() && self.replies.is_empty() {
                self.begin_close_unneeded();
            }
            let now = Instant::now();
            if let ChannelState::Draining { code, text, until } = &self.phase
                && ((load.unconfirmed == 0 && load.waiting == 0) || now >= *until)
            {
                let (code, text) = (*code, text.clone());
                // What is late hears so, and not that the channel is closed.
                self.outbox.expire(now);
                self.say_close(code, &text, Error::channel_closed("the channel is closed", None));
            }
        }
    }

    fn begin_close_unneeded(&mut self) {
        if matches!(self.phase, ChannelState::Lost) {
            self.close_unopened();
        } else if matches!(self.phase, ChannelState::Open) {
            let until = Instant::now();
            self.phase = ChannelState::Draining { code: 200, text: "no handle is left".into(), until };
        }
    }

    pub(super) fn keep_ticking(&mut self, ctx: &mut Context<Self>) {
        if !self.ticking {
            self.ticking = true;
            ctx.run_later(self.outbox.terms().tick(), Self::tick);
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.ticking = false;
        if matches!(self.phase, ChannelState::Closed(_)) {
            return;
        }
        let now = Instant::now();
        let publishing = self.outbox.expire(now);
        let waiting = self.expire_waiting(now);
        let deadline = self.outbox.terms().deadline;
        if matches!(self.phase, ChannelState::Opening)
            && self.replies.is_empty()
            && now.saturating_duration_since(self.since) >= deadline
        {
            let what = format!("channel.open: no connection within {deadline:?}");
            return self.end(Error::timeout(what), None, Number::Free);
        }
        let silence = self.replies.expire(now, deadline, self.outbox.is_blocked());
        match silence {
            Some(error) if error.kind() == ErrorKind::Blocked => self.held_up(&error),
            Some(silence) => self.give_up(&silence),
            None => {}
        }
        self.report_changes();
        self.look_after_drain();
        let closing = matches!(self.phase, ChannelState::Draining { .. } | ChannelState::Opening);
        if publishing
            || waiting
            || closing
            || self.draining
            || self.released.is_some()
            || !self.replies.is_empty()
        {
            self.keep_ticking(ctx);
        }
    }
}

impl Handler<Tick> for Channel {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.look_after_drain();
        self.keep_ticking(ctx);
    }
}

impl Handler<CloseChannel> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, close: CloseChannel, ctx: &mut Context<Self>) -> Reply<()> {
        if matches!(self.phase, ChannelState::Closed(_)) {
            return Reply::now(Ok(()));
        }
        let (reply, responder) = Reply::later();
        self.closers.push(responder);
        if self.waits() {
            // There is nobody to say it to, or nobody who needs to hear it before what is under way.
            self.close_unopened();
            return reply;
        }
        self.begin_close(close.code, close.text);
        self.keep_ticking(ctx);
        reply
    }
}

impl Handler<ReleaseChannel> for Channel {
    type Result = ();

    fn handle(&mut self, _: ReleaseChannel, ctx: &mut Context<Self>) {
        self.released = Some(Instant::now() + clamp_timeout(self.outbox.terms().deadline));
        self.outbox.tell_idle();
        self.look_after_drain();
        self.keep_ticking(ctx);
    }
}

impl Handler<WatchChannel> for Channel {
    type Result = ();

    fn handle(&mut self, WatchChannel(recipient): WatchChannel, _: &mut Context<Self>) {
        self.watchers.add_recipient(recipient);
    }
}

impl Handler<FollowChannel> for Channel {
    type Result = ();

    fn handle(&mut self, FollowChannel(stream): FollowChannel, _: &mut Context<Self>) {
        self.watchers.add_stream(stream);
    }
}
