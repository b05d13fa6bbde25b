//! The reply to a [`Publish`](crate::Publish) message. Its caller gets one in every case, so that a
//! [`MailboxError`](actix::MailboxError) always means that the message was not read.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{Reply, Responder};
use crate::{
    message::Confirmation,
    outbox::{Destination, Outbox, PublishFuture},
};

/// Where a [`Publish`] message goes.
pub(super) struct Route {
    pub(super) outbox: Arc<Outbox>,
    pub(super) exchange: String,
    pub(super) routing_key: String,
}

impl Destination for Route {
    fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    fn exchange(&self) -> &str {
        &self.exchange
    }

    fn routing_key(&self) -> &str {
        &self.routing_key
    }
}

/// Publishes, and replies with the outcome.
pub(super) fn answer_publish(publish: PublishFuture<Route>) -> Reply<Confirmation> {
    let (reply, responder) = Reply::later();
    actix_rt::spawn(Answer { publish, responder: Some(responder) });
    reply
}

struct Answer {
    publish: PublishFuture<Route>,
    /// Unset once it has replied.
    responder: Option<Responder<Confirmation>>,
}

impl Future for Answer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = ready!(Pin::new(&mut self.publish).poll(cx));
        if let Some(responder) = self.responder.take() {
            let _ = responder.send(outcome);
        }
        Poll::Ready(())
    }
}

impl Drop for Answer {
    // With the arbiter.
    fn drop(&mut self) {
        if let Some(responder) = self.responder.take() {
            let _ = responder.send(self.publish.give_up());
        }
    }
}
