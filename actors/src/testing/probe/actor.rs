//! The actor behind a [`Probe`](super::Probe).

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix::{Actor, Context, Handler, Message, MessageResult};
use tokio::sync::mpsc::UnboundedSender;

/// Returns the reply to a message.
pub(super) type Answer<M> = Box<dyn FnMut(&M) -> <M as Message>::Result + Send>;

/// Counts messages, answers them, and passes them on.
pub(super) struct ProbeActor<M: Message> {
    messages: UnboundedSender<M>,
    count: Arc<AtomicUsize>,
    answer: Answer<M>,
}

impl<M: Message> ProbeActor<M> {
    pub(super) fn new(messages: UnboundedSender<M>, count: Arc<AtomicUsize>, answer: Answer<M>) -> Self {
        Self { messages, count, answer }
    }
}

/// The reply is sent when everything before it was handled.
pub(super) struct Fence<M>(PhantomData<fn() -> M>);

impl<M> Fence<M> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<M> Message for Fence<M> {
    type Result = ();
}

impl<M> Actor for ProbeActor<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Context = Context<Self>;
}

impl<M> Handler<M> for ProbeActor<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Result = MessageResult<M>;

    fn handle(&mut self, message: M, _: &mut Self::Context) -> Self::Result {
        self.count.fetch_add(1, Ordering::Release);
        let answer = (self.answer)(&message);
        // The test may have dropped the probe and kept a recipient.
        let _ = self.messages.send(message);
        MessageResult(answer)
    }
}

impl<M> Handler<Fence<M>> for ProbeActor<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Result = ();

    fn handle(&mut self, _: Fence<M>, _: &mut Self::Context) {}
}
