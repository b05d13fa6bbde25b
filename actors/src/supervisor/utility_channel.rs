//! The utility channel: an actor for a channel of the library's own, on which topology is redeclared and
//! consumers are tried. A refusal closes this channel, and none of the application's.
//!
//! It reports the results of its steps once, when it ends. What it sends is decided in `utility_dialogue.rs`,
//! the steps are in `redeclare_steps.rs`.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Recipient};
use bytes::BytesMut;
use tokio::time::Instant;

use super::{redeclare_steps::RecoveryStep, utility_dialogue::UtilityDialogue};
use crate::{
    error::{Error, Result},
    internal::{ChannelMessage, SupervisorMessage},
    outbox::{FinalFrames, Outbox, OutboxConfig},
    wire::{
        AMQPClass, Assembler, ContentMethod, Fault, Frame, FrameBatch, FrameKind, Inbound, parse_method,
        put_method, read_method,
    },
};

/// How long the broker may send nothing.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a trial on a connection of its own waits for the reply to `basic.cancel`.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct UtilityChannel {
    number: u16,
    epoch: u64,
    outbox: Arc<Outbox>,
    supervisor: Recipient<SupervisorMessage>,
    dialogue: UtilityDialogue,
    /// Reads what is delivered to a trial consumer, where a fault in that must show.
    content: Option<Assembler>,
    /// The broker blocks the connection, and may reply late.
    blocked: bool,
    last_frame: Instant,
}

impl UtilityChannel {
    pub(super) fn start_with(
        number: u16,
        epoch: u64,
        steps: Vec<RecoveryStep>,
        supervisor: Recipient<SupervisorMessage>,
        content: Option<Assembler>,
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
            dialogue: UtilityDialogue::new(steps),
            content,
            blocked: false,
            last_frame: Instant::now(),
        };
        (actor.start(), outbox)
    }

    fn read(&mut self, batch: &FrameBatch) -> Result<(), Fault> {
        let Self { dialogue, content, outbox, number, .. } = self;
        for frame in batch.iter() {
            if dialogue.is_closed() {
                break;
            }
            // Content belongs to a delivery to the trial consumer, which is requeued when the channel closes.
            if let Some(content) = content {
                read_content(content, &frame)?;
            }
            if frame.kind == FrameKind::Method {
                dialogue.read(read_method(&frame.payload)?, &mut sender(outbox, *number))?;
            }
        }
        Ok(())
    }
}

/// Reads a part of a delivery, and drops the delivery once it is complete.
fn read_content(content: &mut Assembler, frame: &Frame) -> Result<(), Fault> {
    match frame.kind {
        FrameKind::Method => match parse_method(&frame.payload)? {
            Inbound::Deliver(head) => content.begin(ContentMethod::Deliver(head), frame.payload.clone()),
            _ if content.idle() => Ok(()),
            _ => Err(Fault::unexpected("a method before the content was complete")),
        },
        FrameKind::Header => content.header(&frame.payload).map(drop),
        FrameKind::Body => content.body(frame.payload.clone()).map(drop),
        FrameKind::Heartbeat => Ok(()),
    }
}

/// Returns what encodes methods for the channel and puts them into the outbox.
fn sender(outbox: &Outbox, number: u16) -> impl FnMut(&AMQPClass) -> Result<()> {
    move |method| {
        let mut frame = BytesMut::new();
        put_method(&mut frame, number, method)?;
        match method {
            // The broker decides how often the channel closes and opens again.
            AMQPClass::Channel(_) => outbox.answer(frame.freeze()),
            _ => outbox.method(frame.freeze()),
        }
    }
}

impl Actor for UtilityChannel {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        if self.content.is_some() {
            // The end of the connection cancels the consumer as well.
            ctx.run_interval(CANCEL_TIMEOUT, |channel, _| {
                if !channel.blocked && channel.last_frame.elapsed() >= CANCEL_TIMEOUT {
                    channel.dialogue.skip_cancel(&mut sender(&channel.outbox, channel.number));
                }
            });
        }
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
    // Reports after a panic too, so that the supervisor does not wait forever.
    fn drop(&mut self) {
        let (epoch, number, results) = (self.epoch, self.number, self.dialogue.take_results());
        self.supervisor.do_send(match self.dialogue.is_closed() {
            true => SupervisorMessage::StepsDone { epoch, number, results },
            false => SupervisorMessage::UtilityLost { epoch, number, results },
        });
        self.outbox.end(Error::stopped("the utility channel ended"), FinalFrames::None);
    }
}

impl Handler<ChannelMessage> for UtilityChannel {
    type Result = ();

    fn handle(&mut self, message: ChannelMessage, ctx: &mut Context<Self>) {
        match message {
            ChannelMessage::Attached { epoch, flush, frame_max, .. } => {
                self.outbox.attach(epoch, flush, frame_max, false);
                self.dialogue.open(&mut sender(&self.outbox, self.number));
            }
            ChannelMessage::Frames { epoch, batch } if epoch == self.epoch => {
                self.last_frame = Instant::now();
                match self.read(&batch) {
                    Ok(()) if !self.dialogue.is_closed() => {}
                    Ok(()) => ctx.stop(),
                    Err(fault) => {
                        self.supervisor.do_send(SupervisorMessage::ProtocolFault { epoch, fault });
                        ctx.stop();
                    }
                }
            }
            ChannelMessage::Blocked(reason) => self.blocked = reason.is_some(),
            ChannelMessage::Detached { .. } | ChannelMessage::ConnectionClosed { .. } => ctx.stop(),
            _ => {}
        }
    }
}
