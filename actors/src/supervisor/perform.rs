//! Carries out the effects of the machine: starts actors, sends messages, publishes the state, sets the
//! timer.

use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Recipient};
use tokio::time::Instant;

#[cfg(feature = "testing")]
use super::StartStandIn;
use super::{
    ActiveConnection, ConnectionSupervisor,
    close_end::CloseEnd,
    effect::Effect,
    redeclare_steps::RecoveryStep,
    trial_connection::{StopTrial, TrialConnection},
    utility_channel::UtilityChannel,
};
use crate::{
    connection::Connection,
    error::Error,
    internal::{ChannelMessage, ConnectionCommand},
    message::{ConnectionEvent, ConnectionState},
    outbox::Outbox,
    transport::ReadCredit,
};

impl ConnectionSupervisor {
    /// Does what the machine asks for, then waits for its next deadline. Every handler ends with this.
    pub(super) fn perform_effects(&mut self, ctx: &mut Context<Self>) {
        // First, so that who hears of a change finds it counted.
        self.tally.note(self.supervision.note(), Instant::now());
        while let Some(effect) = self.supervision.next_effect() {
            self.perform(effect, ctx);
        }
        if !self.ready.is_empty() {
            self.ready.answer(&self.supervision.readiness(), Instant::now());
        }
        self.set_timer(ctx);
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Dial => self.start_connection(ctx),
            Effect::DropConnection => self.connection = None,
            Effect::Command(command) => self.command(command),
            Effect::SetState(state) => {
                self.state.send_replace(state);
            }
            Effect::Notify(event) => self.watchers.notify(&event),
            Effect::Attach(channel) => self.attach(channel),
            Effect::SendToChannel(channel, message) => {
                if let Some(entry) = self.channels.get(&channel) {
                    entry.recipient.do_send(message);
                }
            }
            Effect::StartUtility { number, steps } => self.start_utility(number, steps, ctx),
            Effect::StartTrial { number, steps } => self.start_trial(number, steps, ctx),
            Effect::StopTrial => self.stop_trial(),
            Effect::BlockUtility(blocked) => self.send_to_utility(ChannelMessage::Blocked(blocked)),
            Effect::DropUtility => self.utility = None,
            Effect::StopUtility(error) => {
                self.send_to_utility(ChannelMessage::ConnectionClosed { error });
                self.utility = None;
            }
            Effect::FailSecrets(error) => self.fail_secrets(&error, ctx),
            Effect::CountUnconfirmed => self.count_unconfirmed(),
            Effect::CloseForGood { error, cause, end } => self.close_for_good(&error, cause, &end, ctx),
            Effect::Stop => ctx.stop(),
        }
    }

    fn start_connection(&mut self, ctx: &mut Context<Self>) {
        let credit = Arc::new(ReadCredit::new(self.options.read_ahead, self.options.prefetch_bytes));
        let supervisor = ctx.address().recipient();
        let epoch = self.supervision.epoch;
        #[cfg(feature = "testing")]
        if let Some(StartStandIn(start)) = &mut self.stand_in {
            let (commands, flush) = start(epoch, supervisor);
            let (flush, broker) = (Arc::new(flush), Arc::default());
            self.connection = Some(ActiveConnection { commands, actor: None, flush, credit, broker });
            return;
        }
        let secret = self.secrets.current();
        let actor = Connection::new(self.options.clone(), epoch, credit.clone(), supervisor, secret).start();
        self.connection = Some(ActiveConnection {
            commands: actor.clone().recipient(),
            flush: Arc::new(actor.clone().recipient()),
            #[cfg(feature = "testing")]
            actor: Some(actor),
            credit,
            broker: Arc::default(),
        });
    }

    pub(super) fn command(&self, command: ConnectionCommand) {
        if let Some(connection) = &self.connection {
            connection.commands.do_send(command);
        }
    }

    fn attach(&self, number: u16) {
        if let Some(entry) = self.channels.get(&number) {
            self.attach_to_connection(number, &entry.recipient, entry.channel.outbox.clone());
            if let Some(reason) = self.supervision.blocked() {
                entry.recipient.do_send(ChannelMessage::Blocked(Some(reason)));
            }
        }
    }

    fn attach_to_connection(&self, channel: u16, recipient: &Recipient<ChannelMessage>, outbox: Arc<Outbox>) {
        let (Some(connection), Some(open)) = (&self.connection, self.supervision.open()) else { return };
        connection.commands.do_send(ConnectionCommand::AttachChannel {
            channel,
            recipient: recipient.clone(),
            outbox,
        });
        recipient.do_send(ChannelMessage::Attached {
            epoch: self.supervision.epoch,
            flush: connection.flush.clone(),
            frame_max: open.opened.negotiated.frame_max,
            credit: connection.credit.clone(),
            broker: connection.broker.clone(),
        });
    }

    fn start_utility(&mut self, number: u16, steps: Vec<RecoveryStep>, ctx: &mut Context<Self>) {
        let epoch = self.supervision.epoch;
        let supervisor = ctx.address().recipient();
        let (actor, outbox) = UtilityChannel::start_with(number, epoch, steps, supervisor, None);
        let recipient: Recipient<ChannelMessage> = actor.recipient();
        self.attach_to_connection(number, &recipient, outbox);
        recipient.do_send(ChannelMessage::Blocked(self.supervision.blocked()));
        self.utility = Some(recipient);
    }

    fn start_trial(&mut self, number: u64, steps: Vec<RecoveryStep>, ctx: &mut Context<Self>) {
        let (secret, supervisor) = (self.secrets.current(), ctx.address().recipient());
        self.stop_trial();
        self.trial = Some(TrialConnection::start_with(number, &self.options, secret, steps, supervisor));
    }

    pub(super) fn stop_trial(&mut self) {
        if let Some(trial) = self.trial.take() {
            trial.do_send(StopTrial);
        }
    }

    fn send_to_utility(&self, message: ChannelMessage) {
        if let Some(utility) = &self.utility {
            utility.do_send(message);
        }
    }

    fn count_unconfirmed(&mut self) {
        let outboxes = self.channels.values().map(|entry| &entry.channel.outbox);
        let count = || outboxes.map(|outbox| outbox.abandoned()).sum();
        self.closers.abandoned.get_or_insert_with(count);
    }

    fn close_for_good(
        &mut self,
        error: &Error,
        cause: Option<Error>,
        end: &CloseEnd,
        ctx: &mut Context<Self>,
    ) {
        self.connection = None;
        self.send_to_utility(ChannelMessage::ConnectionClosed { error: error.clone() });
        self.utility = None;
        self.stop_trial();
        self.count_unconfirmed();
        for (_, entry) in self.channels.drain() {
            entry.recipient.do_send(ChannelMessage::ConnectionClosed { error: error.clone() });
            if let Some(opening) = entry.opening {
                let _ = opening.send(Err(Error::connection_lost(error)));
            }
        }
        self.state.send_replace(ConnectionState::Closed(cause.clone()));
        self.watchers.close(ConnectionEvent::Closed(cause));
        self.fail_secrets(error, ctx);
        // Last, so that a caller on another thread sees the state `Closed` when it gets its reply.
        let result = end.result(self.closers.abandoned.unwrap_or_default());
        for closer in self.closers.answers.drain(..) {
            let _ = closer.send(result.clone());
        }
    }

    /// Wakes the actor at the next deadline of the machine or of a secret update.
    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let others = [self.secrets.deadline(), self.ready.deadline()];
        let deadline = others.into_iter().flatten().chain(self.supervision.deadline()).min();
        if self.timer.as_ref().map(|(at, _)| *at) == deadline {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = deadline {
            let left = at.saturating_duration_since(Instant::now());
            let timer = ctx.run_later(left, |supervisor, ctx| {
                supervisor.timer = None;
                let now = Instant::now();
                supervisor.supervision.time_passed(now);
                supervisor.expire_secrets(now, ctx);
                supervisor.perform_effects(ctx);
            });
            self.timer = Some((at, timer));
        }
    }
}
