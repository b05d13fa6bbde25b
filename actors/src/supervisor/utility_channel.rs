//! The utility channel: an actor for a channel of the library's own, on which topology is redeclared and consumers are
//! tried. A refusal closes this channel, and none of the application's.
//!
//! It opens the channel, sends its steps, closes the channel, and reports the results once. The steps are in
//! `redeclare_steps.rs`.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Recipient};
use bytes::BytesMut;
use tokio::time::Instant;

use super::redeclare_steps::{RecoveryStep, RecoverySteps};
use crate::{
    error::{CloseReason, Error, Result},
    message::internal::{ChannelMessage, SupervisorMessage},
    outbox::{Outbox, OutboxConfig},
    wire::{
        AMQPClass, Fault, FrameBatch, FrameKind, basic, channel, ids, put_method, queue, read_method,
        short_truncated,
    },
};

/// How long the broker may send nothing.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct UtilityChannel {
    number: u16,
    epoch: u64,
    outbox: Arc<Outbox>,
    supervisor: Recipient<SupervisorMessage>,
    steps: RecoverySteps,
    state: UtilityState,
    /// The broker blocks the connection, and may answer late.
    blocked: bool,
    last_frame: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UtilityState {
    /// `channel.open` is not answered yet.
    Opening,
    /// Steps are sent and answered.
    Working,
    /// `channel.close` is not answered yet.
    Closing,
    /// The results are reported.
    Reported,
}

impl UtilityChannel {
    pub(super) fn start_with(
        number: u16,
        epoch: u64,
        steps: Vec<RecoveryStep>,
        supervisor: Recipient<SupervisorMessage>,
    ) -> (Addr<Self>, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::new(OutboxConfig {
            channel: number,
            confirms: false,
            window: 1,
            window_bytes: 1,
            deadline: REPLY_TIMEOUT,
        }));
        let actor = Self {
            number,
            epoch,
            outbox: outbox.clone(),
            supervisor,
            steps: RecoverySteps::new(steps),
            state: UtilityState::Opening,
            blocked: false,
            last_frame: Instant::now(),
        };
        (actor.start(), outbox)
    }

    fn send_on(outbox: &Outbox, number: u16, method: &AMQPClass) -> Result<()> {
        let mut frame = BytesMut::new();
        put_method(&mut frame, number, method)?;
        outbox.method(frame.freeze())
    }

    fn send(&self, method: channel::AMQPMethod) {
        // No method of this class is too long, and nobody reads from a closed outbox.
        let _ = Self::send_on(&self.outbox, self.number, &AMQPClass::Channel(method));
    }

    fn open(&mut self) {
        self.state = UtilityState::Opening;
        self.send(channel::AMQPMethod::Open(channel::Open {}));
    }

    fn send_steps(&mut self) {
        self.state = UtilityState::Working;
        let (outbox, number) = (self.outbox.clone(), self.number);
        self.steps.send_pending(|method| Self::send_on(&outbox, number, method));
        self.send_next();
    }

    /// Sends the next steps, or closes the channel, when all is answered.
    fn send_next(&mut self) {
        if !self.steps.is_answered() || self.state != UtilityState::Working {
            return;
        }
        if self.steps.is_done() {
            self.state = UtilityState::Closing;
            let (reply_text, class_id, method_id) = (short_truncated("done"), 0, 0);
            let close = channel::Close { reply_code: 200, reply_text, class_id, method_id };
            self.send(channel::AMQPMethod::Close(close));
        } else {
            self.send_steps();
        }
    }

    fn report(&mut self) {
        self.state = UtilityState::Reported;
        let (epoch, number, results) = (self.epoch, self.number, self.steps.take_results());
        self.supervisor.do_send(SupervisorMessage::StepsDone { epoch, number, results });
    }

    fn read(&mut self, batch: &FrameBatch, ctx: &mut Context<Self>) -> Result<(), Fault> {
        for frame in batch.iter() {
            if frame.kind != FrameKind::Method {
                // Content of a delivery to the trial consumer, which is requeued when the channel closes.
                continue;
            }
            let method = read_method(&frame.payload)?;
            let reply = ids(&method);
            match method {
                AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) if self.state == UtilityState::Opening => {
                    self.send_steps();
                }
                AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                    self.send(channel::AMQPMethod::CloseOk(channel::CloseOk {}));
                    if self.state == UtilityState::Closing {
                        continue;
                    }
                    let text = close.reply_text.to_string();
                    let (class_id, method_id) = (close.class_id, close.method_id);
                    self.steps.refused(CloseReason::new(close.reply_code, text, class_id, method_id));
                    self.open();
                }
                AMQPClass::Channel(channel::AMQPMethod::CloseOk(_))
                    if self.state == UtilityState::Closing =>
                {
                    self.report();
                    ctx.stop();
                    return Ok(());
                }
                AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => {
                    self.replied(reply, Some(ok.queue.to_string()))?;
                }
                // A delivery to the trial consumer, or its cancel because the queue was deleted.
                AMQPClass::Basic(basic::AMQPMethod::Deliver(_) | basic::AMQPMethod::Cancel(_)) => {}
                _ => self.replied(reply, None)?,
            }
        }
        Ok(())
    }

    fn replied(&mut self, reply: (u16, u16), name: Option<String>) -> Result<(), Fault> {
        if !self.steps.replied(reply, name) {
            let fault = Fault::unexpected("a reply that no method on the utility channel expects");
            return Err(fault.with_method(reply.0, reply.1));
        }
        self.send_next();
        Ok(())
    }
}

impl Actor for UtilityChannel {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        ctx.run_interval(REPLY_TIMEOUT / 10, |channel, ctx| {
            if channel.blocked {
                channel.last_frame = Instant::now();
            } else if channel.last_frame.elapsed() >= REPLY_TIMEOUT {
                ctx.stop();
            }
        });
    }
}

impl Drop for UtilityChannel {
    // Whatever ended the actor, a panic included: the supervisor does not wait forever.
    fn drop(&mut self) {
        if self.state != UtilityState::Reported {
            let (epoch, number, results) = (self.epoch, self.number, Vec::new());
            self.supervisor.do_send(SupervisorMessage::StepsDone { epoch, number, results });
        }
        self.outbox.close(Error::stopped("the utility channel ended"), None);
    }
}

impl Handler<ChannelMessage> for UtilityChannel {
    type Result = ();

    fn handle(&mut self, message: ChannelMessage, ctx: &mut Context<Self>) {
        match message {
            ChannelMessage::Attached { epoch, flush, frame_max, .. } => {
                self.outbox.attach(epoch, flush, frame_max, false);
                self.open();
            }
            ChannelMessage::Frames { epoch, batch } if epoch == self.epoch => {
                self.last_frame = Instant::now();
                if let Err(fault) = self.read(&batch, ctx) {
                    self.supervisor.do_send(SupervisorMessage::ProtocolFault { epoch, fault });
                    ctx.stop();
                }
            }
            ChannelMessage::Blocked(blocked) => self.blocked = blocked,
            ChannelMessage::Detached { .. } | ChannelMessage::ConnectionClosed { .. } => ctx.stop(),
            _ => {}
        }
    }
}
