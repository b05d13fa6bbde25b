//! The calls that await a reply, and what reads the replies.

use std::sync::{Mutex, MutexGuard, PoisonError};

use actix_pika_actors::facade::LogSchedule;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Error,
    message::Content,
    rpc::calls::{Calls, Match, ReplyLifetime},
};

/// What the handles, the calls and the consumer of the replies share.
#[derive(Debug)]
pub(super) struct Replies {
    pub(super) queue: String,
    /// The correlation id of a call is this and its number.
    prefix: String,
    calls: Mutex<Calls<oneshot::Sender<Content>>>,
    /// Why there are no more replies.
    closed: Mutex<Option<Error>>,
    log: Mutex<LogSchedule>,
}

impl Replies {
    pub(super) fn new(queue: String, prefix: String) -> Self {
        let calls = Mutex::new(Calls::new(ReplyLifetime::Queue));
        Self { queue, prefix, calls, closed: Default::default(), log: Default::default() }
    }

    /// Adds a call. Returns its number and where its reply comes.
    ///
    /// # Errors
    /// Why there are no more replies.
    pub(super) fn open(&self) -> Result<(u64, oneshot::Receiver<Content>), Error> {
        let (to, reply) = oneshot::channel();
        match lock(&self.calls).open(false, to) {
            Some(number) => Ok((number, reply)),
            None => Err(self.cause()),
        }
    }

    pub(super) fn correlation_id(&self, call: u64) -> String {
        format!("{}-{call}", self.prefix)
    }

    /// Nobody waits for the call any more.
    pub(super) fn forget(&self, call: u64) {
        lock(&self.calls).forget(call);
    }

    /// Passes a reply to its call.
    pub(super) fn take(&self, content: Content) {
        let number = content.properties().ok().and_then(|properties| {
            properties.correlation_id()?.strip_prefix(&*self.prefix)?.strip_prefix('-')?.parse().ok()
        });
        match number.map(|number| lock(&self.calls).reply(number)) {
            // A call that was dropped meanwhile needs none.
            Some(Match::Call(to)) => drop(to.send(content)),
            Some(Match::Late) => log::debug!("json rpc {}: a reply is late", self.queue),
            Some(Match::Unknown) | None => self.unexpected(&content),
        }
    }

    fn unexpected(&self, content: &Content) {
        let Some(so_far) = lock(&self.log).count(Instant::now()) else { return };
        let id = content.properties().ok().and_then(|properties| properties.correlation_id());
        let bytes = content.body().len();
        log::warn!(
            "json rpc {}: dropped a message of {bytes} bytes, which is the reply of no call: its correlation id is \
             {id:?}{so_far}",
            self.queue
        );
    }

    /// Ends all calls. The first cause counts.
    pub(super) fn close(&self, cause: Error) {
        lock(&self.closed).get_or_insert(cause);
        let calls = lock(&self.calls).close();
        drop(calls); // each call sees that its sender is gone
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.closed).is_some()
    }

    pub(super) fn cause(&self) -> Error {
        lock(&self.closed).clone().unwrap_or_else(super::closed_here)
    }

    pub(super) fn pending(&self) -> usize {
        lock(&self.calls).pending()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{ErrorKind, Publishing, testing::TestContent};

    fn reply(id: &str, body: &'static str) -> Content {
        TestContent::new(Publishing::new(body).correlation_id(id)).build()
    }

    #[test]
    fn a_reply_goes_to_the_call_of_its_correlation_id() {
        let replies = Replies::new("q".into(), "my-prefix".into());
        let (first, mut one) = replies.open().unwrap();
        let (second, mut two) = replies.open().unwrap();
        assert_eq!((replies.correlation_id(first), replies.pending()), ("my-prefix-1".into(), 2));
        for id in ["my-prefix-3", "my-prefix", "my-prefix-x", "other-1", ""] {
            replies.take(reply(id, "no"));
        }
        replies.take(TestContent::new("no id").build());
        assert_eq!(replies.pending(), 2);
        replies.take(reply(&replies.correlation_id(second), "two"));
        replies.take(reply(&replies.correlation_id(second), "again"));
        assert_eq!(two.try_recv().unwrap().body(), b"two");
        assert!(one.try_recv().is_err());
        replies.forget(first);
        assert_eq!(replies.pending(), 0);
    }

    #[test]
    fn the_end_of_the_replies_ends_all_calls() {
        let replies = Replies::new("q".into(), "p".into());
        let (_, mut reply) = replies.open().unwrap();
        replies.close(Error::codec("first"));
        replies.close(super::super::closed_here());
        assert!(matches!(reply.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert_eq!((replies.open().unwrap_err().kind(), replies.is_closed()), (ErrorKind::Codec, true));
    }
}
