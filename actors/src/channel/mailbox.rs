//! The mailbox of the Channel actor: which messages it takes, and from whom.
//!
//! Every handler calls the machine once, and then carries out the outputs of the machine. Only the actor,
//! here and in `mod.rs`, reads the clock.

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::{AsyncContext, Context, Handler};
use tokio::time::Instant;

use super::{
    Channel, ChannelMachine, Number, Reply,
    machine::ConnectionLink,
    output::Output,
    publish_reply::{Route, answer_publish},
};
use crate::{
    error::{Error, ErrorKind, Result},
    internal::ChannelMessage,
    message::{
        BindExchange, BindQueue, CancelConsumer, ChannelEvent, CloseChannel, CommitTx, Confirmation, Consume,
        Consumed, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue, Delivery, FollowChannel, Get,
        PauseConsumer, Publish, PurgeQueue, Qos, QueueDeclared, Recover, ReleaseChannel, RollbackTx,
        SelectTx, Settle, SinkRegistration, TargetLost, UnbindExchange, UnbindQueue, WatchChannel,
    },
    outbox::{FinalFrames, PublishFuture, Tick},
    wire::Fault,
};

impl Channel {
    /// Calls the machine, then carries out its outputs.
    #[inline]
    pub(super) fn turn<T>(
        &mut self,
        ctx: &mut Context<Self>,
        turn: impl FnOnce(&mut ChannelMachine) -> T,
    ) -> T {
        let answer = turn(&mut self.machine);
        while let Some(output) = self.machine.outputs.next() {
            self.carry_out(output, Some(ctx));
        }
        if self.machine.outputs.take_tick() {
            self.keep_ticking(ctx);
        }
        answer
    }

    /// Carries out an output. Without a context the actor has ended, and starts nothing any more.
    pub(super) fn carry_out(&mut self, output: Output, ctx: Option<&mut Context<Self>>) {
        match (output, ctx) {
            (Output::Supervisor(message), _) => self.supervisor.do_send(message),
            (Output::Event(event @ ChannelEvent::Closed(_)), _) => self.watchers.close(event),
            (Output::Event(event), Some(_)) => self.watchers.notify(&event),
            (Output::BindSink { sink, consumer, tag, permits }, Some(ctx)) => {
                sink.bind(SinkRegistration { consumer, tag, permits, lost: ctx.address().recipient() });
            }
            (Output::RetryNacks { channel_epoch, after }, Some(ctx)) => {
                ctx.run_later(after, move |channel, ctx| {
                    channel.turn(ctx, |machine| machine.retry_nacks(channel_epoch, Instant::now()));
                });
            }
            (Output::RequeueAt(at), Some(ctx)) => self.requeue_at(at, ctx),
            (Output::Reopen { channel_epoch, after }, Some(ctx)) => {
                ctx.run_later(after, move |channel, ctx| {
                    channel.turn(ctx, |machine| machine.reopen_when_due(channel_epoch, Instant::now()));
                });
            }
            (
                Output::Event(_)
                | Output::BindSink { .. }
                | Output::RetryNacks { .. }
                | Output::RequeueAt(_)
                | Output::Reopen { .. },
                None,
            ) => {}
        }
    }

    fn requeue_at(&mut self, at: Instant, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.requeue_timer.take() {
            ctx.cancel_future(earlier);
        }
        let wait = at.saturating_duration_since(Instant::now());
        let timer = ctx.run_later(wait, |channel, ctx| {
            channel.requeue_timer = None;
            channel.turn(ctx, |machine| {
                machine.next_requeue = None;
                machine.requeue_due(Instant::now());
            });
        });
        self.requeue_timer = Some(timer);
    }

    fn keep_ticking(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.ticking, true) {
            ctx.run_later(self.machine.outbox.config().tick(), |channel, ctx| {
                channel.ticking = false;
                channel.turn(ctx, |machine| machine.tick(Instant::now()));
            });
        }
    }
}

impl ChannelMachine {
    /// Takes a message of the supervisor, or frames of the connection.
    #[inline]
    fn receive(&mut self, message: ChannelMessage) {
        match message {
            ChannelMessage::Frames { epoch, batch } => self.frames(epoch, &batch, Instant::now),
            ChannelMessage::Attached { epoch, flush, frame_max, credit, broker } => {
                let share = credit.share(self.number());
                let connection = ConnectionLink { epoch, credit, share, broker };
                self.attached(connection, flush, frame_max, Instant::now());
            }
            ChannelMessage::Detached { epoch, error } => {
                if self.epoch() == epoch {
                    self.connection_lost(&error);
                    self.continue_closing(Instant::now());
                    self.outputs.request_tick();
                }
            }
            ChannelMessage::ConnectionClosed { error } => {
                let error = match error.kind() {
                    ErrorKind::Limit => Error::channel_closed(error.to_string(), None),
                    _ => Error::connection_lost(&error),
                };
                self.end(error, FinalFrames::None, Number::InUse);
            }
            ChannelMessage::QueueRenamed { old, new } => self.queue_renamed(old, new),
            ChannelMessage::EntityFound { kind, name } => self.entity_found(kind, &name),
            ChannelMessage::StartConsumer { consumer, declare } => {
                self.start_cancelled(consumer, declare, Instant::now());
            }
            ChannelMessage::ForgetConsumer { tag } => self.give_up_consumer(&tag, Instant::now()),
            ChannelMessage::ConsumerRepaired { consumer, result } => {
                self.consumer_repaired(consumer, result, Instant::now());
            }
            ChannelMessage::ConsumerAtFault { consumer, error } => self.consumer_at_fault(consumer, error),
            ChannelMessage::ConsumerNotAtFault { tag } => self.consumer_not_at_fault(&tag),
            ChannelMessage::CancelSlowConsumer { consumer } => {
                let tag = self.consumers.by_id(consumer).map(|entry| entry.tag().clone());
                if let Some(tag) = tag {
                    log::warn!("channel {}: consumer {tag:?} cancelled, too slow", self.number());
                }
                self.cancel_slow_consumer(consumer, Instant::now());
            }
            ChannelMessage::ReducePrefetch => self.reduce_prefetch(Instant::now()),
            ChannelMessage::LimitPrefetch { consumer } => self.limit_prefetch(consumer, Instant::now()),
            ChannelMessage::Blocked(reason) => self.outbox.set_blocked(reason),
            ChannelMessage::ConnectFailed { error } => self.connect_failed(&error),
            ChannelMessage::Drain => self.drain(Instant::now()),
            #[cfg(feature = "testing")]
            ChannelMessage::Panic => panic!("a test asked for it"),
        }
    }
}

/// From the supervisor, and from the connection.
impl Handler<ChannelMessage> for Channel {
    type Result = ();

    fn handle(&mut self, message: ChannelMessage, ctx: &mut Context<Self>) {
        self.turn(ctx, |machine| {
            if !machine.recovers {
                return machine.receive(message);
            }
            // A panic would end the actor, whose address all handles have. The next connection resets most of
            // what it leaves half done.
            if catch_unwind(AssertUnwindSafe(|| machine.receive(message))).is_err() {
                log::error!("channel {}: panicked, the connection is given up", machine.number());
                machine.fault(Fault::internal("the Channel actor panicked"));
            }
        });
    }
}

/// From the outbox: a publish has a deadline, a delivery is to be requeued, or nothing is in flight any more.
impl Handler<Tick> for Channel {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.turn(ctx, |machine| {
            machine.continue_closing(Instant::now());
            machine.requeue_due(Instant::now());
            machine.outputs.request_tick();
        });
    }
}

/// From a delivery sink: its target has stopped or was dropped.
impl Handler<TargetLost> for Channel {
    type Result = ();

    fn handle(&mut self, lost: TargetLost, ctx: &mut Context<Self>) {
        self.turn(ctx, |machine| {
            machine.target_lost(lost, Instant::now());
        });
    }
}

/// Calls of the application that wait while the channel recovers.
macro_rules! calls {
    ($($call:ident -> $answer:ty;)*) => {$(
        impl Handler<$call> for Channel {
            type Result = Reply<$answer>;

            fn handle(&mut self, call: $call, ctx: &mut Context<Self>) -> Self::Result {
                self.turn(ctx, |machine| machine.call(call, Instant::now()))
            }
        }
    )*};
}

calls! {
    DeclareExchange -> ();
    DeleteExchange -> ();
    BindExchange -> ();
    UnbindExchange -> ();
    DeclareQueue -> QueueDeclared;
    BindQueue -> ();
    UnbindQueue -> ();
    PurgeQueue -> u32;
    DeleteQueue -> u32;
    Qos -> ();
    Consume -> Consumed;
    Get -> Option<Delivery>;
    SelectTx -> ();
    Recover -> ();
}

impl Handler<CommitTx> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, commit: CommitTx, ctx: &mut Context<Self>) -> Reply<()> {
        self.turn(ctx, |machine| machine.commit(commit, Instant::now()))
    }
}

impl Handler<RollbackTx> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, rollback: RollbackTx, ctx: &mut Context<Self>) -> Reply<()> {
        self.turn(ctx, |machine| machine.rollback(rollback, Instant::now()))
    }
}

impl Handler<CancelConsumer> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, cancel: CancelConsumer, ctx: &mut Context<Self>) -> Reply<()> {
        self.turn(ctx, |machine| machine.cancel_consumer(&cancel, Instant::now()))
    }
}

impl Handler<PauseConsumer> for Channel {
    type Result = Result<()>;

    fn handle(&mut self, pause: PauseConsumer, ctx: &mut Context<Self>) -> Result<()> {
        self.turn(ctx, |machine| machine.pause(pause))
    }
}

/// Publishes and acks of handles go to the outbox without the actor.
impl Handler<Publish> for Channel {
    type Result = Reply<Confirmation>;

    fn handle(&mut self, publish: Publish, _: &mut Context<Self>) -> Self::Result {
        answer_publish(self.publish(publish))
    }
}

impl Handler<Settle> for Channel {
    type Result = Result<()>;

    fn handle(&mut self, settle: Settle, _: &mut Context<Self>) -> Result<()> {
        settle.run()
    }
}

impl Handler<CloseChannel> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, close: CloseChannel, ctx: &mut Context<Self>) -> Reply<()> {
        self.turn(ctx, |machine| machine.close(close, Instant::now()))
    }
}

/// From the last handle when it is dropped.
impl Handler<ReleaseChannel> for Channel {
    type Result = ();

    fn handle(&mut self, _: ReleaseChannel, ctx: &mut Context<Self>) {
        self.turn(ctx, |machine| machine.release(Instant::now()));
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

impl Channel {
    fn publish(&self, publish: Publish) -> PublishFuture<Route> {
        let Publish { exchange, routing_key, mut content } = publish;
        if self.message_ids {
            content = content.generate_message_id();
        }
        PublishFuture::new(Route { outbox: self.machine.outbox.clone(), exchange, routing_key }, content)
    }
}
