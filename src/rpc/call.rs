//! One call, from its request to its reply.

use std::{pin::pin, time::Duration};

use actix_pika_actors::facade;
use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::{
    sync::oneshot::{self, error::RecvError},
    time::{Instant, timeout_at},
};

use super::{
    RpcError,
    calls::Fate,
    client::{Shared, Signal, closed_here},
    wire::{IDEMPOTENT, JSON, Reply, unreadable},
};
use crate::{Error, Exchange, Publishing, hook::PublishKind};

/// A request to be published.
pub(super) struct Request<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) key: &'a str,
    pub(super) body: Bytes,
    /// The name of the method; empty for a message without one.
    pub(super) name: &'static str,
    /// Whether it is sent again when its reply is lost.
    pub(super) repeats: bool,
}

/// A call in the table of its client, which it leaves when it is dropped.
pub(super) struct PendingCall<'a> {
    shared: &'a Shared,
    number: u64,
    signal: oneshot::Receiver<Signal>,
}

/// What a call does next.
enum Next {
    /// The request is sent; await the reply.
    Await,
    Signal(Result<Signal, RecvError>),
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        let number = self.number;
        self.shared.with_calls(|calls| calls.forget(number));
    }
}

impl<'a> PendingCall<'a> {
    /// Makes a call.
    pub(super) async fn run(
        shared: &'a Shared,
        request: Request<'_>,
        deadline: Duration,
    ) -> Result<Reply, RpcError> {
        let until = Instant::now() + deadline;
        let (to, signal) = oneshot::channel();
        let Some(number) = shared.with_calls(|calls| calls.open(request.repeats, to)) else {
            return Err(closed(shared, false));
        };
        let mut call = Self { shared, number, signal };
        let mut is_repeat = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RpcError::Timeout { may_have_run: is_repeat, cause: None });
            }
            let signal = match call.publish(&request, left, is_repeat).await? {
                Next::Signal(signal) => signal,
                Next::Await => match timeout_at(until, &mut call.signal).await {
                    Ok(signal) => signal,
                    Err(_) => return Err(RpcError::Timeout { may_have_run: true, cause: None }),
                },
            };
            match signal {
                Ok(Signal::Reply(content)) => return Reply::read(content).map_err(unreadable),
                Ok(Signal::Expired) => {
                    return Err(RpcError::Timeout { may_have_run: is_repeat, cause: None });
                }
                Ok(Signal::Ended(Fate::Lost, cause)) => {
                    let cause = cause.unwrap_or_else(|| lost(&request));
                    return Err(RpcError::Lost { may_have_run: true, cause });
                }
                Ok(Signal::Ended(Fate::Repeat, _)) => call.reopen()?,
                Err(_) => return Err(closed(shared, true)),
            }
            is_repeat = true;
        }
    }

    /// Publishes the request, until it is confirmed or the reply is there.
    async fn publish(
        &mut self,
        request: &Request<'_>,
        left: Duration,
        is_repeat: bool,
    ) -> Result<Next, RpcError> {
        let publishing = self.publishing(request, left);
        let publish = pin!(request.exchange.publish_hooked(PublishKind::Request, publishing, request.key));
        let confirmation = match select(&mut self.signal, publish).await {
            Either::Left((signal, _)) => return Ok(Next::Signal(signal)),
            Either::Right((Ok(confirmation), _)) => confirmation,
            Either::Right((Err(cause), _)) => return Err(self.failed(request, cause, is_repeat)),
        };
        let (number, epoch) = (self.number, confirmation.epoch().unwrap_or_default());
        Ok(match self.shared.with_calls(|calls| calls.sent(number, epoch)) {
            Some((_, fate)) => Next::Signal(Ok(Signal::Ended(fate, None))),
            None => Next::Await,
        })
    }

    fn publishing(&self, request: &Request<'_>, left: Duration) -> Publishing {
        let publishing = Publishing::new(request.body.clone())
            .content_type(JSON)
            .correlation_id(format!("{}-{}", self.shared.prefix, self.number))
            .reply_to(&*self.shared.reply_to)
            .persistent(self.shared.is_durable)
            .mandatory(true)
            .resend(request.repeats)
            .deadline(left)
            .expiration(left);
        let publishing =
            if request.name.is_empty() { publishing } else { publishing.message_type(request.name) };
        if request.repeats { publishing.header(IDEMPOTENT, true) } else { publishing }
    }

    fn failed(&self, request: &Request<'_>, cause: Error, is_repeat: bool) -> RpcError {
        let is_closed = self.shared.cause().is_some() || request.exchange.channel().is_closed();
        match RpcError::of_publish(cause, is_closed) {
            RpcError::Timeout { cause, .. } if is_repeat => RpcError::Timeout { may_have_run: true, cause },
            RpcError::Lost { cause, .. } if is_repeat => RpcError::Lost { may_have_run: true, cause },
            RpcError::Closed { cause, .. } if is_repeat => RpcError::Closed { may_have_run: true, cause },
            error => error,
        }
    }

    /// Enters the table again, to send the request again.
    fn reopen(&mut self) -> Result<(), RpcError> {
        let (to, signal) = oneshot::channel();
        let number = self.number;
        self.signal = signal;
        match self.shared.with_calls(|calls| calls.reopen(number, to)) {
            true => Ok(()),
            false => Err(closed(self.shared, true)),
        }
    }
}

fn closed(shared: &Shared, may_have_run: bool) -> RpcError {
    RpcError::Closed { may_have_run, cause: shared.cause().unwrap_or_else(closed_here) }
}

fn lost(request: &Request<'_>) -> Error {
    let closed = request.exchange.channel().close_cause();
    closed
        .unwrap_or_else(|| facade::connection_closed("the connection on which the reply was awaited is lost"))
}
