//! The connection of a trial: an actor that opens a connection of its own for the steps that have cost one
//! before, sends them on channel 1, and reports their results once.
//!
//! To its `Connection` actor it is the supervisor. It ends with its connection, at its time limit, or when
//! the supervisor stops it.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient};

use super::{
    redeclare_steps::{RecoveryStep, StepResult},
    utility_channel::UtilityChannel,
};
use crate::{
    connection::Connection,
    error::Error,
    internal::{BrokerNotes, ChannelMessage, ConnectionCommand, SupervisorMessage, TrialResult},
    options::{ConnectionOptions, clamp_timeout},
    outbox::Flush,
    secret::Secret,
    transport::ReadCredit,
    wire::{Assembler, Fault, Negotiated, Value},
};

/// The only channel of the connection.
const CHANNEL: u16 = 1;
/// The only connection of the actor.
const EPOCH: u64 = 1;
/// How long the steps may take once the connection is open.
const STEPS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the broker may take for the close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct TrialConnection {
    number: u64,
    options: Arc<ConnectionOptions>,
    secret: Option<Secret>,
    steps: Vec<RecoveryStep>,
    supervisor: Recipient<SupervisorMessage>,
    connection: Option<TrialSocket>,
    channel: Option<Recipient<ChannelMessage>>,
    /// Why the connection has ended.
    ended: Option<Error>,
    /// The results of steps, where the channel ended early.
    results: Option<Vec<StepResult>>,
    reported: bool,
}

#[derive(Debug)]
struct TrialSocket {
    actor: Addr<Connection>,
    flush: Arc<Recipient<Flush>>,
    credit: Arc<ReadCredit>,
}

/// Ends a trial without a result.
#[derive(Debug)]
pub(super) struct StopTrial;

impl Message for StopTrial {
    type Result = ();
}

impl TrialConnection {
    /// Starts the trial with this number. It connects with the options of the connection that it is for.
    pub(super) fn start_with(
        number: u64,
        options: &ConnectionOptions,
        secret: Option<Secret>,
        steps: Vec<RecoveryStep>,
        supervisor: Recipient<SupervisorMessage>,
    ) -> Addr<Self> {
        let options = Arc::new(named(options));
        let (connection, channel, ended, results) = (None, None, None, None);
        let reported = false;
        let trial = Self {
            number,
            options,
            secret,
            steps,
            supervisor,
            connection,
            channel,
            ended,
            results,
            reported,
        };
        trial.start()
    }

    fn opened(&mut self, negotiated: &Negotiated, ctx: &mut Context<Self>) {
        let Some(TrialSocket { actor, flush, credit }) = &self.connection else { return };
        let content = Assembler::new(self.options.body_max);
        let supervisor = ctx.address().recipient();
        let steps = self.steps.clone();
        let (channel, outbox) = UtilityChannel::start_with(CHANNEL, EPOCH, steps, supervisor, Some(content));
        let recipient: Recipient<ChannelMessage> = channel.recipient();
        actor.do_send(ConnectionCommand::AttachChannel {
            channel: CHANNEL,
            recipient: recipient.clone(),
            outbox,
        });
        recipient.do_send(ChannelMessage::Attached {
            epoch: EPOCH,
            flush: flush.clone(),
            frame_max: negotiated.frame_max,
            credit: credit.clone(),
            broker: Arc::new(BrokerNotes::new(negotiated.rules())),
        });
        self.channel = Some(recipient);
        ctx.run_later(STEPS_TIMEOUT, |_, ctx| ctx.stop());
    }

    /// The connection has ended. What the channel has read before is still to come.
    fn connection_ended(&mut self, error: Error, ctx: &mut Context<Self>) {
        match &self.channel {
            Some(channel) if !self.reported => {
                channel.do_send(ChannelMessage::ConnectionClosed { error: error.clone() });
                self.ended = Some(error);
                self.report_interrupted(ctx);
            }
            Some(_) => ctx.stop(),
            None => self.report(TrialResult::NotMade(error), ctx),
        }
    }

    /// The channel has ended before all replies had come.
    fn channel_lost(&mut self, results: Vec<StepResult>, ctx: &mut Context<Self>) {
        self.results = Some(results);
        if self.ended.is_none() {
            // Changes nothing where a fault on the channel was reported before.
            let fault = Fault::internal("no answer during a trial");
            self.command(ConnectionCommand::Fail { fault });
        }
        self.report_interrupted(ctx);
    }

    fn report_interrupted(&mut self, ctx: &mut Context<Self>) {
        if let (Some(_), Some(error)) = (&self.results, &self.ended) {
            let error = error.clone();
            let mut results = self.results.take().unwrap_or_default();
            results.push(Err(error));
            let result = trial_result(&self.steps, results);
            self.report(result, ctx);
        }
    }

    fn report(&mut self, result: TrialResult, ctx: &mut Context<Self>) {
        self.send_report(result);
        ctx.stop();
    }

    fn send_report(&mut self, result: TrialResult) {
        if !std::mem::replace(&mut self.reported, true) {
            let trial = self.number;
            self.supervisor.do_send(SupervisorMessage::TrialDone { trial, result });
        }
    }

    fn command(&self, command: ConnectionCommand) {
        if let Some(connection) = &self.connection {
            connection.actor.do_send(command);
        }
    }
}

/// Returns what the results of some steps mean; there are fewer if the connection has ended before the rest.
/// A consumer can start although an exchange or a binding is refused.
pub(super) fn trial_result(steps: &[RecoveryStep], mut results: Vec<StepResult>) -> TrialResult {
    // Without steps, the channel itself is what is tried.
    if results.len() < steps.len() || (steps.is_empty() && !results.is_empty()) {
        let ended = || Error::timeout("the trial ended without a result");
        return TrialResult::Refused(results.pop().and_then(StepResult::err).unwrap_or_else(ended));
    }
    let is_consumer =
        |step: &RecoveryStep| matches!(step, RecoveryStep::TrialConsume(_) | RecoveryStep::TrialCancel(_));
    let has_consumer = steps.iter().any(is_consumer);
    let decisive = steps.iter().zip(results).filter(|(step, _)| !has_consumer || is_consumer(step));
    let refused = decisive.filter_map(|(_, result)| result.err()).next();
    refused.map_or(TrialResult::Accepted, TrialResult::Refused)
}

/// Names the connection after the one that it is for, as the management interface shows it.
fn named(options: &ConnectionOptions) -> ConnectionOptions {
    let mut options = options.clone();
    let name = options.client_properties.get("connection_name").and_then(Value::as_str);
    let name = name.map_or("(trial)".into(), |name| format!("{name} (trial)"));
    options.client_properties.insert("connection_name", name);
    options
}

impl Actor for TrialConnection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        let credit = Arc::new(ReadCredit::new(self.options.read_ahead, self.options.prefetch_bytes));
        let supervisor = ctx.address().recipient();
        let connection =
            Connection::new(self.options.clone(), EPOCH, credit.clone(), supervisor, self.secret.take());
        let actor = connection.start();
        let flush = Arc::new(actor.clone().recipient());
        self.connection = Some(TrialSocket { actor, flush, credit });
        // Each address has the connect timeout for itself.
        let addresses = u32::try_from(self.options.other_addresses.len() + 1).unwrap_or(u32::MAX);
        let connecting = clamp_timeout(self.options.connect_timeout).saturating_mul(addresses);
        let limit = clamp_timeout(connecting.saturating_add(STEPS_TIMEOUT));
        ctx.run_later(limit, |_, ctx| ctx.stop());
    }
}

impl Drop for TrialConnection {
    // Runs after a panic too: the supervisor gets its report, and the connection is closed.
    fn drop(&mut self) {
        self.send_report(TrialResult::NotMade(Error::timeout("the trial ended without a result")));
        let (text, within) = ("the trial is over".into(), CLOSE_TIMEOUT);
        self.command(ConnectionCommand::Close { code: 200, text, within });
        if let Some(channel) = &self.channel {
            let error = Error::stopped("the trial is over");
            channel.do_send(ChannelMessage::ConnectionClosed { error });
        }
    }
}

impl Handler<StopTrial> for TrialConnection {
    type Result = ();

    fn handle(&mut self, _: StopTrial, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<SupervisorMessage> for TrialConnection {
    type Result = ();

    fn handle(&mut self, message: SupervisorMessage, ctx: &mut Context<Self>) {
        match message {
            SupervisorMessage::ConnectionOpened { negotiated, .. } => self.opened(&negotiated, ctx),
            SupervisorMessage::ConnectionEnded { error, .. } => self.connection_ended(error, ctx),
            SupervisorMessage::ConnectionBlocked { reason, .. } => {
                if let Some(channel) = &self.channel {
                    channel.do_send(ChannelMessage::Blocked(reason.as_deref().map(Into::into)));
                }
            }
            SupervisorMessage::ProtocolFault { fault, .. } => self.command(ConnectionCommand::Fail { fault }),
            SupervisorMessage::StepsDone { results, .. } => {
                let result = trial_result(&self.steps, results);
                self.report(result, ctx);
            }
            SupervisorMessage::UtilityLost { results, .. } => self.channel_lost(results, ctx),
            _ => {}
        }
    }
}
