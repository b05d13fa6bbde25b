//! The mailbox of the ConnectionSupervisor: each message that it takes, from the application and from its
//! actors.
//!
//! A handler passes values to the machine and then carries out its effects.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, MessageResult, Recipient};
use tokio::time::Instant;

use super::{
    ChannelEntry, ConnectionSupervisor,
    missing::{EntityKey, Repair},
    phase::Phase,
    ready::Readiness,
};
use crate::{
    channel::{Channel, OpenedChannel, Reply},
    error::{Error, Result},
    internal::{BrokerNotes, ChannelMessage, ConnectionCommand, RepairPlace, SocketInfo, SupervisorMessage},
    message::{
        AwaitReady, CloseConnection, FollowConnection, Forget, GetHealth, GetMissing, GetState, OpenChannel,
        Opened, ReleaseConnection, UpdateSecret, WatchConnection,
    },
    options::Recovery,
    wire::{Assembler, Negotiated},
};

impl Handler<OpenChannel> for ConnectionSupervisor {
    type Result = Reply<OpenedChannel>;

    fn handle(&mut self, open: OpenChannel, ctx: &mut Context<Self>) -> Self::Result {
        let reply = self.open_channel(&open, ctx).unwrap_or_else(|error| Reply::now(Err(error)));
        self.perform_effects(ctx);
        reply
    }
}

impl Handler<CloseConnection> for ConnectionSupervisor {
    type Result = Reply<()>;

    fn handle(&mut self, close: CloseConnection, ctx: &mut Context<Self>) -> Self::Result {
        if let Phase::Closed(_) = self.supervision.phase {
            return Reply::now(Ok(()));
        }
        let (reply, answer) = Reply::later();
        self.closers.answers.push(answer);
        self.supervision.close(close, Instant::now());
        self.perform_effects(ctx);
        reply
    }
}

impl Handler<AwaitReady> for ConnectionSupervisor {
    type Result = Reply<()>;

    fn handle(&mut self, wait: AwaitReady, ctx: &mut Context<Self>) -> Self::Result {
        match self.supervision.readiness() {
            Readiness::Ready => Reply::now(Ok(())),
            Readiness::Over(error) => Reply::now(Err(error)),
            Readiness::NotYet(_) => {
                let (reply, caller) = Reply::later();
                self.ready.push(wait.within, caller, Instant::now());
                self.perform_effects(ctx);
                reply
            }
        }
    }
}

impl Handler<UpdateSecret> for ConnectionSupervisor {
    type Result = Reply<()>;

    fn handle(&mut self, update: UpdateSecret, ctx: &mut Context<Self>) -> Self::Result {
        let reply = self.update_secret(update);
        self.perform_effects(ctx);
        reply
    }
}

impl Handler<WatchConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, watch: WatchConnection, _: &mut Context<Self>) {
        self.watchers.add_recipient(watch.0);
    }
}

impl Handler<FollowConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, follow: FollowConnection, _: &mut Context<Self>) {
        self.watchers.add_stream(follow.0);
    }
}

impl Handler<GetState> for ConnectionSupervisor {
    type Result = MessageResult<GetState>;

    fn handle(&mut self, _: GetState, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.supervision.phase.state())
    }
}

impl Handler<GetHealth> for ConnectionSupervisor {
    type Result = MessageResult<GetHealth>;

    fn handle(&mut self, _: GetHealth, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.supervision.health())
    }
}

impl Handler<GetMissing> for ConnectionSupervisor {
    type Result = MessageResult<GetMissing>;

    fn handle(&mut self, _: GetMissing, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.supervision.missing.list())
    }
}

impl Handler<Forget> for ConnectionSupervisor {
    type Result = bool;

    fn handle(&mut self, Forget { kind, name }: Forget, ctx: &mut Context<Self>) -> Self::Result {
        let was_wanted = self.supervision.give_up(kind, &name);
        self.perform_effects(ctx);
        was_wanted
    }
}

impl Handler<ReleaseConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, _: ReleaseConnection, ctx: &mut Context<Self>) {
        self.supervision.release(Instant::now());
        self.perform_effects(ctx);
    }
}

impl Handler<SupervisorMessage> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, message: SupervisorMessage, ctx: &mut Context<Self>) {
        if message.epoch().is_some_and(|epoch| !self.supervision.is_current(epoch)) {
            return;
        }
        let now = Instant::now();
        match message {
            SupervisorMessage::ConnectionOpened { negotiated, socket, .. } => {
                self.connection_opened(negotiated, socket, now, ctx);
            }
            SupervisorMessage::ConnectionEnded { error, .. } => self.supervision.connection_ended(error, now),
            SupervisorMessage::ContentLost { .. } => self.supervision.content_lost(),
            SupervisorMessage::ConnectionBlocked { reason, .. } => self.supervision.set_blocked(reason, now),
            SupervisorMessage::SecretUpdated { .. } => self.secret_updated(ctx),
            SupervisorMessage::ProtocolFault { fault, .. } => self.command(ConnectionCommand::Fail { fault }),
            SupervisorMessage::ChannelOpened { channel, result } => self.channel_opened(channel, result),
            SupervisorMessage::ChannelRecovered { channel, skipped, .. } => {
                self.supervision.channel_reopened(channel, skipped, now);
            }
            SupervisorMessage::ChannelBackingOff { channel, error, until, .. } => {
                self.supervision.channel_backing_off(channel, error, until, now);
            }
            SupervisorMessage::PrefetchWithheld { channel, error, .. } => {
                self.supervision.prefetch_withheld(channel, error, now);
            }
            SupervisorMessage::ChannelDrained { channel } => self.supervision.channel_drained(channel, now),
            SupervisorMessage::ChannelClosed { channel, free } => {
                self.channels.remove(&channel);
                self.supervision.channel_closed(channel, free, now);
            }
            SupervisorMessage::TopologyChanged(change) => self.supervision.topology_changed(change, now),
            SupervisorMessage::Deleting { kind, name, is_deleting } => {
                self.supervision.deleting(kind, &name, is_deleting, now);
            }
            SupervisorMessage::EntityGone { kind, name, error } => {
                self.supervision.entity_gone(kind, &name, &error, now);
            }
            SupervisorMessage::ConsumerMissing { channel, tag, error } => {
                self.supervision.consumer_missing(channel, &tag, error, now);
            }
            SupervisorMessage::ConsumerGivenUp { channel, tag } => {
                self.supervision.consumer_recovered(channel, &tag, now);
            }
            SupervisorMessage::ConsumersEnded(ended) => self.supervision.consumers_ended(ended, now),
            SupervisorMessage::EndedChannelGivenUp { id, tag } => {
                self.supervision.ended_given_up(id, tag.as_deref());
            }
            SupervisorMessage::RepairConsumer { channel, consumer, trial, cause, place, .. } => {
                let repair = Repair { channel, consumer, trial, cause };
                match place {
                    RepairPlace::UtilityChannel => self.supervision.repair(repair, now),
                    RepairPlace::OwnConnection => self.supervision.consumer_waits(repair, now),
                }
            }
            SupervisorMessage::ConsumerAtFault { channel, tag, error } => {
                self.supervision.add_fatal_entity(EntityKey::consumer(channel, &tag), error, now);
            }
            SupervisorMessage::UtilityLost { epoch, number, results } => {
                self.supervision.utility_lost(epoch, number, results, now);
            }
            SupervisorMessage::TrialDone { trial, result } => {
                self.supervision.trial_done(trial, result, now);
            }
            SupervisorMessage::ConsumerRepaired { channel, tag, .. } => {
                self.supervision.consumer_recovered(channel, &tag, now);
            }
            SupervisorMessage::StepsDone { number, results, .. } => {
                self.supervision.steps_done(number, results, now);
            }
        }
        self.perform_effects(ctx);
    }
}

impl ConnectionSupervisor {
    fn open_channel(
        &mut self,
        options: &OpenChannel,
        ctx: &mut Context<Self>,
    ) -> Result<Reply<OpenedChannel>> {
        let number = self.supervision.open_channel(options)?;
        let supervisor = ctx.address().recipient();
        let recovers = self.options.recovery != Recovery::Never;
        let (missing, tally) = (self.missing_exchanges.clone(), self.tally.clone());
        let assembler = Assembler::sharing(self.options.body_max, self.partial_bodies.clone());
        let channel = Channel::start(number, options, assembler, missing, tally, supervisor, recovers);
        let recipient: Recipient<ChannelMessage> = channel.actor.clone().recipient();
        let (reply, answer) = Reply::later();
        self.channels.insert(number, ChannelEntry { channel, recipient, opening: Some(answer) });
        Ok(reply)
    }

    fn channel_opened(&mut self, channel: u16, result: Result<(), Error>) {
        if let Some(entry) = self.channels.get_mut(&channel)
            && let Some(opening) = entry.opening.take()
        {
            // If the caller gave up, the lease is dropped here, which releases the channel.
            let _ = opening.send(result.map(|()| entry.channel.leased()));
            self.supervision.channel_opened(channel);
        }
    }

    fn connection_opened(
        &mut self,
        negotiated: Negotiated,
        socket: SocketInfo,
        now: Instant,
        ctx: &mut Context<Self>,
    ) {
        let SocketInfo { address, local, peer, lifetime } = socket;
        if let Some(connection) = &mut self.connection {
            connection.broker = Arc::new(BrokerNotes::new(negotiated.rules()));
        }
        let opened = Opened {
            negotiated: negotiated.into(),
            address,
            local_addr: local,
            peer_addr: peer,
            blocked: None,
        };
        if self.supervision.connection_opened(opened, now) {
            self.keep_fresh(lifetime, ctx);
        }
    }
}
