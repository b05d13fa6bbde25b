//! Reads the replies of a client, and notices when some do not come any more.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use actix_pika_actors::facade::{self, LogSchedule};
use futures_core::Stream;
use tokio::{sync::watch, time::Instant};

use super::{
    calls::Match,
    client::{Shared, Signal, closed_here},
};
use crate::{
    Channel, ChannelEvent, ConsumerEnd, Delivery, DeliveryStream, Error, events::Events, message::DeleteQueue,
};

/// How many replies are read before the other tasks of the arbiter have their turn.
const READ_AT_ONCE: usize = 256;

/// Reads replies until its client is closed or dropped, or the channel ends.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) channel: Channel,
    pub(super) replies: DeliveryStream,
    pub(super) events: Events<ChannelEvent>,
    /// The reply queue of this client, which is deleted with it.
    pub(super) queue: Option<String>,
    pub(super) log: LogSchedule,
    /// Dropped at the end.
    pub(super) ended: watch::Sender<()>,
}

/// The arbiter may end before the client.
impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.close(facade::stopped("the arbiter of the client has ended"));
    }
}

impl Reader {
    pub(super) async fn run(mut self) {
        let stop = self.shared.clone();
        let mut stopped = std::pin::pin!(stop.stop.notified());
        let why = poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(closed_here());
            }
            self.poll_end(cx)
        })
        .await;
        self.shared.close(why);
        self.close().await;
    }

    /// Reads what there is. It is woken by replies, by events, and when the connection is lost.
    fn poll_end(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Error> {
        for read in 1.. {
            match Pin::new(&mut self.replies).poll_next(cx) {
                Poll::Ready(Some(reply)) => self.reply(reply),
                Poll::Ready(None) => return Poll::Ready(self.end()),
                Poll::Pending => break,
            }
            if read == READ_AT_ONCE {
                cx.waker().wake_by_ref();
                break;
            }
        }
        while let Poll::Ready(event) = Pin::new(&mut self.events).poll_next(cx) {
            if event.is_none() {
                return Poll::Ready(self.end());
            }
        }
        self.end_lost_calls();
        Poll::Pending
    }

    fn end_lost_calls(&self) {
        let outbox = self.channel.outbox();
        let live = outbox.live_epoch();
        let ended = self.shared.with_calls(|calls| calls.live(live));
        if !ended.is_empty() {
            let cause = facade::unavailable(outbox);
            for (to, fate) in ended {
                // A call that was dropped meanwhile needs none.
                to.send(Signal::Ended(fate, cause.clone())).ok();
            }
        }
    }

    fn reply(&mut self, reply: Delivery) {
        let (content, token) = reply.split();
        let number = content.properties().ok().and_then(|properties| {
            let number =
                properties.correlation_id()?.strip_prefix(&*self.shared.prefix)?.strip_prefix('-')?;
            number.parse().ok()
        });
        match number.map(|number| self.shared.with_calls(|calls| calls.reply(number))) {
            Some(Match::Call(call)) => {
                // No server sends the header: it is a request that has expired.
                let signal = if content.deaths().is_empty() {
                    self.shared.counted().replies += 1;
                    Signal::Reply(content)
                } else {
                    Signal::Expired
                };
                call.send(signal).ok();
            }
            Some(Match::Late) => log::debug!("rpc client {}: a reply is late", self.shared.prefix),
            Some(Match::Unknown) | None => self.unexpected(&content),
        }
        // From a lost connection, it comes again, and is late then. A direct reply has none.
        token.ack().ok();
    }

    fn unexpected(&mut self, content: &crate::message::Content) {
        self.shared.counted().unexpected += 1;
        let Some(so_far) = self.log.count(Instant::now()) else { return };
        let client = &self.shared.prefix;
        let bytes = content.body().len();
        match content.properties().ok().and_then(|properties| properties.correlation_id()) {
            None => log::warn!(
                "rpc client {client}: dropped a message of {bytes} bytes without a correlation id{so_far}"
            ),
            Some(id) => log::warn!(
                "rpc client {client}: dropped a message of {bytes} bytes with correlation id {id:?}, which is that of \
                 no call{so_far}"
            ),
        }
    }

    /// Returns why no reply comes any more.
    fn end(&self) -> Error {
        let end = match self.replies.end() {
            Some(ConsumerEnd::Closed(cause)) => Some(cause.clone()),
            _ => None,
        };
        end.or_else(|| self.channel.close_cause())
            .unwrap_or_else(|| facade::stopped("the consumer of the replies has ended"))
    }

    /// Closes what belongs to the client.
    async fn close(&mut self) {
        if let Some(queue) = self.queue.take() {
            // Otherwise it expires.
            self.channel.delete_queue(DeleteQueue::new(queue)).await.ok();
        }
        self.channel.close().await.ok();
        self.ended.send_replace(());
    }
}
