//! A channel that may be lost: what the broker might refuse is tried here, so that it costs no channel of the user's.

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

/// How long the broker may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct UtilityChannel {
    number: u16,
    epoch: u64,
    outbox: Arc<Outbox>,
    supervisor: Recipient<SupervisorMessage>,
    steps: RecoverySteps,
    stage: UtilityState,
    blocked: bool,
    heard: Instant,
    reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UtilityState {
    Opening,
    Working,
    Closing,
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
            deadline: SILENCE,
        }));
        let actor = Self {
            number,
            epoch,
            outbox: outbox.clone(),
            supervisor,
            steps: RecoverySteps::new(steps),
            stage: UtilityState::Opening,
            blocked: false,
            heard: Instant::now(),
            reported: false,
        };
        (actor.start(), outbox)
    }

    fn send(outbox: &Outbox, number: u16, method: &AMQPClass) -> Result<()> {
        let mut frame = BytesMut::new();
        put_method(&mut frame, number, method)?;
        outbox.method(frame.freeze())
    }

    fn say(&self, method: channel::AMQPMethod) {
        // Nothing of this class is too long, and a closed outbox has no reader.
        let _ = Self::send(&self.outbox, self.number, &AMQPClass::Channel(method));
    }

    fn open(&mut self) {
        self.stage = UtilityState::Opening;
        self.say(channel::AMQPMethod::Open(channel::Open {}));
    }

    fn work(&mut self) {
        self.stage = UtilityState::Working;
        let (outbox, number) = (self.outbox.clone(), self.number);
        self.steps.say(|method| Self::send(&outbox, number, method));
        self.go_on();
    }

    /// Says more, or closes when all is answered.
    fn go_on(&mut self) {
        if !self.steps.is_quiet() || self.stage != UtilityState::Working {
            return;
        }
        if self.steps.is_done() {
            self.stage = UtilityState::Closing;
            let reply_text = short_truncated("done");
            self.say(channel::AMQPMethod::Close(channel::Close {
                reply_code: 200,
                reply_text,
                class_id: 0,
                method_id: 0,
            }));
        } else {
            self.work();
        }
    }

    fn report(&mut self, ctx: &mut Context<Self>) {
        self.reported = true;
        let results = self.steps.outcomes();
        self.supervisor.do_send(SupervisorMessage::StepsDone {
            epoch: self.epoch,
            number: self.number,
            results,
        });
        ctx.stop();
    }

    fn read(&mut self, run: &FrameBatch, ctx: &mut Context<Self>) -> Result<(), Fault> {
        for frame in run.iter() {
            if frame.kind != FrameKind::Method {
                // A delivery to the probe; it goes back when the channel closes.
                continue;
            }
            let method = read_method(&frame.payload)?;
            let answer = ids(&method);
            match method {
                AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) if self.stage == UtilityState::Opening => {
                    self.work()
                }
                AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                    self.say(channel::AMQPMethod::CloseOk(channel::CloseOk {}));
                    if self.stage == UtilityState::Closing {
                        continue;
                    }
                    let text = close.reply_text.to_string();
                    let (class_id, method_id) = (close.class_id, close.method_id);
                    self.steps.refused(CloseReason::new(close.reply_code, text, class_id, method_id));
                    self.open();
                }
                AMQPClass::Channel(channel::AMQPMethod::CloseOk(_))
                    if self.stage == UtilityState::Closing =>
                {
                    self.report(ctx);
                    return Ok(());
                }
                AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => {
                    self.answered(answer, Some(ok.queue.to_string()))?;
                }
                // Deliveries, and a cancel of the probe, whose queue is gone again.
                AMQPClass::Basic(basic::AMQPMethod::Deliver(_)) => {}
                AMQPClass::Basic(basic::AMQPMethod::Cancel(_)) => {}
                _ => self.answered(answer, None)?,
            }
        }
        Ok(())
    }

    fn answered(&mut self, answer: (u16, u16), name: Option<String>) -> Result<(), Fault> {
        if !self.steps.answered(answer, name) {
            let fault = Fault::unexpected("an answer that nobody asked for");
            return Err(fault.with_method(answer.0, answer.1));
        }
        self.go_on();
        Ok(())
    }
}

impl Actor for UtilityChannel {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        ctx.run_interval(SILENCE / 10, |scratch, ctx| {
            if scratch.blocked {
                scratch.heard = Instant::now();
            } else if scratch.heard.elapsed() >= SILENCE {
                ctx.stop();
            }
        });
    }
}

impl Drop for UtilityChannel {
    // Whatever ended it, a panic included: the supervisor does not wait for ever.
    fn drop(&mut self) {
        if !self.reported {
            let results = Vec::new();
            self.supervisor.do_send(SupervisorMessage::StepsDone {
                epoch: self.epoch,
                number: self.number,
                results,
            });
        }
        self.outbox.close(Error::stopped("the scratch channel ended"), None);
    }
}

impl Handler<ChannelMessage> for UtilityChannel {
    type Result = ();

    fn handle(&mut self, letter: ChannelMessage, ctx: &mut Context<Self>) {
        match letter {
            ChannelMessage::Attached { epoch, flush, frame_max, .. } => {
                self.outbox.attach(epoch, flush, frame_max, false);
                self.open();
            }
            ChannelMessage::Frames { epoch, batch } if epoch == self.epoch => {
                self.heard = Instant::now();
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
