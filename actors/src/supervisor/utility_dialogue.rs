//! What the utility channel sends and expects: it opens, sends its steps, opens again after a refusal, and
//! closes.

use super::redeclare_steps::{RecoveryStep, RecoverySteps, StepResult};
use crate::{
    error::{CloseReason, Result},
    message::methods,
    wire::{AMQPClass, Fault, basic, channel, ids, queue},
};

/// Class and method of `basic.cancel-ok`.
const CANCEL_OK: (u16, u16) = (60, 31);

#[derive(Debug)]
pub(super) struct UtilityDialogue {
    state: UtilityState,
    steps: RecoverySteps,
    /// The trial consumer has got a delivery since the channel opened.
    delivered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UtilityState {
    /// `channel.open` has no reply yet.
    Opening,
    /// Steps are sent and replies are received.
    Working,
    /// `channel.close` has no reply yet.
    Closing,
    Closed,
}

impl UtilityDialogue {
    pub(super) fn new(steps: Vec<RecoveryStep>) -> Self {
        Self { state: UtilityState::Opening, steps: RecoverySteps::new(steps), delivered: false }
    }

    pub(super) fn open(&mut self, send: &mut impl FnMut(&AMQPClass) -> Result<()>) {
        (self.state, self.delivered) = (UtilityState::Opening, false);
        send_own(send, &methods::channel_open());
    }

    /// Goes on without the reply to the cancel of a trial consumer, which has started by then.
    pub(super) fn skip_cancel(&mut self, send: &mut impl FnMut(&AMQPClass) -> Result<()>) {
        if self.state == UtilityState::Working && self.steps.replied(CANCEL_OK, None) {
            self.send_next(send);
        }
    }

    /// Returns whether the channel is closed, and every step has a result.
    pub(super) fn is_closed(&self) -> bool {
        self.state == UtilityState::Closed
    }

    pub(super) fn take_results(&mut self) -> Vec<StepResult> {
        self.steps.take_results()
    }

    /// Reads a method of the broker.
    ///
    /// # Errors
    /// A reply that no step expects.
    pub(super) fn read(
        &mut self,
        method: AMQPClass,
        send: &mut impl FnMut(&AMQPClass) -> Result<()>,
    ) -> Result<(), Fault> {
        let reply = ids(&method);
        match (method, self.state) {
            (AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)), UtilityState::Opening) => {
                self.state = UtilityState::Working;
                self.send_next(send);
                Ok(())
            }
            (AMQPClass::Channel(channel::AMQPMethod::Close(close)), state) => {
                send_own(send, &methods::channel_close_ok());
                if state != UtilityState::Closing {
                    let text = close.reply_text.to_string();
                    let (class_id, method_id) = (close.class_id, close.method_id);
                    self.steps.refused(CloseReason::new(close.reply_code, text, class_id, method_id));
                    self.open(send);
                }
                Ok(())
            }
            (AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)), UtilityState::Closing) => {
                self.state = UtilityState::Closed;
                Ok(())
            }
            // A delivery to the trial consumer, or its cancel because the queue was deleted.
            (AMQPClass::Basic(basic::AMQPMethod::Deliver(_)), _) => {
                self.delivered = true;
                Ok(())
            }
            (AMQPClass::Basic(basic::AMQPMethod::Cancel(_)), _) => Ok(()),
            // The cancel was not waited for.
            (AMQPClass::Basic(basic::AMQPMethod::CancelOk(_)), UtilityState::Closing) => Ok(()),
            (AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)), _) => {
                self.replied(reply, Some(ok.queue.to_string()), send)
            }
            _ => self.replied(reply, None, send),
        }
    }

    fn replied(
        &mut self,
        reply: (u16, u16),
        name: Option<String>,
        send: &mut impl FnMut(&AMQPClass) -> Result<()>,
    ) -> Result<(), Fault> {
        if !self.steps.replied(reply, name) {
            let fault = Fault::unexpected("a reply that no method on the utility channel expects");
            return Err(fault.with_method(reply.0, reply.1));
        }
        self.send_next(send);
        Ok(())
    }

    /// Sends the next steps when all replies have come, or closes the channel after the last one.
    fn send_next(&mut self, send: &mut impl FnMut(&AMQPClass) -> Result<()>) {
        while self.state == UtilityState::Working && self.steps.is_answered() {
            if self.steps.is_done() {
                if std::mem::take(&mut self.delivered) {
                    // RabbitMQ 4.3 does not count this as a failed delivery, as it does the end of a channel.
                    send_own(send, &methods::basic_nack_all());
                }
                self.state = UtilityState::Closing;
                send_own(send, &methods::channel_close(200, "done"));
            } else {
                self.steps.send_pending(&mut *send);
            }
        }
    }
}

fn send_own(send: &mut impl FnMut(&AMQPClass) -> Result<()>, method: &AMQPClass) {
    // None of these methods is too long, and a closed outbox needs no method.
    let _ = send(method);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{DeclareQueue, QueueName};

    #[derive(Default)]
    struct Sent(Vec<(u16, u16)>);

    impl Sent {
        fn take(&mut self) -> Vec<(u16, u16)> {
            std::mem::take(&mut self.0)
        }

        fn sink(&mut self) -> impl FnMut(&AMQPClass) -> Result<()> {
            |method| {
                self.0.push(ids(method));
                Ok(())
            }
        }
    }

    const OPEN: (u16, u16) = (20, 10);
    const CLOSE: (u16, u16) = (20, 40);
    const CLOSE_OK: (u16, u16) = (20, 41);
    const DECLARE: (u16, u16) = (50, 10);

    fn dialogue(queues: &[&str]) -> (UtilityDialogue, Sent) {
        let step = |name: &&str| RecoveryStep::of_queue(&DeclareQueue::new(*name), &QueueName::new(*name));
        let mut dialogue = UtilityDialogue::new(queues.iter().map(step).collect());
        let mut sent = Sent::default();
        dialogue.open(&mut sent.sink());
        assert_eq!(sent.take(), [OPEN]);
        (dialogue, sent)
    }

    fn open_ok() -> AMQPClass {
        AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))
    }

    fn declare_ok() -> AMQPClass {
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(queue::DeclareOk::default()))
    }

    fn refusal() -> AMQPClass {
        let (reply_text, class_id, method_id) = ("refused".into(), 50, 10);
        AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
            reply_code: 406,
            reply_text,
            class_id,
            method_id,
        }))
    }

    fn close_ok() -> AMQPClass {
        AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))
    }

    #[test]
    fn the_channel_opens_again_after_a_refusal_and_closes_after_the_last_step() {
        let (mut dialogue, mut sent) = dialogue(&["a", "b"]);
        let expected = [
            (open_ok(), vec![DECLARE, DECLARE]),
            (refusal(), vec![CLOSE_OK, OPEN]),
            (open_ok(), vec![DECLARE]),
            (declare_ok(), vec![CLOSE]),
            (close_ok(), vec![]),
        ];
        for (method, replies) in expected {
            assert!(!dialogue.is_closed());
            dialogue.read(method, &mut sent.sink()).unwrap();
            assert_eq!(sent.take(), replies);
        }
        assert!(dialogue.is_closed());
        let results = dialogue.take_results();
        assert!(results[0].is_err() && results[1].is_ok());
    }

    #[test]
    fn without_steps_the_channel_only_opens_and_closes() {
        let (mut dialogue, mut sent) = dialogue(&[]);
        dialogue.read(open_ok(), &mut sent.sink()).unwrap();
        assert_eq!(sent.take(), [CLOSE]);
        // The broker may close the channel at the same time.
        dialogue.read(refusal(), &mut sent.sink()).unwrap();
        assert_eq!(sent.take(), [CLOSE_OK]);
        dialogue.read(close_ok(), &mut sent.sink()).unwrap();
        assert!(dialogue.is_closed());
    }

    #[test]
    fn an_unexpected_reply_is_a_fault() {
        let (mut dialogue, mut sent) = dialogue(&["a"]);
        dialogue.read(open_ok(), &mut sent.sink()).unwrap();
        assert!(dialogue.read(open_ok(), &mut sent.sink()).is_err());
    }
}
