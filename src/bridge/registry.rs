//! The subscribers of a bridge and the bindings that they need, shared by its handles and tasks.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use actix::Recipient;
use actix_pika_actors::facade::{self, LogSchedule};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

use super::{BridgeEvent, BridgeStats, Subscribe, bindings::Bindings, inbox::Inbox, routes::Routes};
use crate::{ConsumerEnd, Result, message::Content, options::ExchangeKind};

/// Told when the binding of a subscriber is in place.
pub(super) type Bound = oneshot::Sender<Result<()>>;

pub(super) struct Registry {
    exchange: Box<str>,
    subscribers: Mutex<Subscribers>,
    /// Bindings are wanted that are not in place, or the reverse.
    pub(super) changed: Notify,
    /// Whether the bridge is to stop; set when no handle is left, too.
    pub(super) stopping: watch::Sender<bool>,
    /// Why the bridge has ended.
    pub(super) ended: watch::Sender<Option<ConsumerEnd>>,
    /// How many subscribers there are.
    pub(super) count: watch::Sender<usize>,
    received: AtomicU64,
    lost: AtomicU64,
    logged: Mutex<LogSchedule>,
}

struct Subscribers {
    routes: Routes<Arc<Inbox>>,
    bindings: Bindings<Bound>,
    all: HashMap<u64, Subscriber>,
    next_id: u64,
    has_ended: bool,
}

struct Subscriber {
    pattern: Arc<str>,
    inbox: Arc<Inbox>,
    actor: Option<Recipient<BridgeEvent>>,
}

impl Registry {
    pub(super) fn new(exchange: &str, kind: &ExchangeKind) -> Self {
        let (routes, bindings) = (Routes::new(kind), Bindings::new());
        let subscribers = Subscribers { routes, bindings, all: HashMap::new(), next_id: 0, has_ended: false };
        Self {
            exchange: Box::from(exchange),
            subscribers: Mutex::new(subscribers),
            changed: Notify::new(),
            stopping: watch::Sender::new(false),
            ended: watch::Sender::new(None),
            count: watch::Sender::new(0),
            received: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            logged: Mutex::default(),
        }
    }

    pub(super) fn exchange(&self) -> &str {
        &self.exchange
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a subscriber, which gets messages from now on, if its binding is in place: then, or else later, `bound` is
    /// told.
    ///
    /// # Errors
    /// `Limit` for a pattern over 255 bytes, `Stopped` if the bridge has ended.
    pub(super) fn add(
        &self,
        subscribe: &Subscribe,
        actor: Option<Recipient<BridgeEvent>>,
        bound: Bound,
    ) -> Result<(u64, Arc<Inbox>)> {
        let pattern: Arc<str> = Arc::from(&*subscribe.pattern);
        if pattern.len() > 255 {
            return Err(facade::limit(format!("a pattern has {} bytes, the most are 255", pattern.len())));
        }
        let inbox = Arc::new(Inbox::new(subscribe.max, subscribe.lagging));
        let mut subscribers = self.lock();
        if subscribers.has_ended || *self.stopping.borrow() {
            return Err(facade::stopped("the bridge has ended"));
        }
        let id = subscribers.next_id;
        subscribers.next_id += 1;
        let key = subscribers.routes.binding_of(&pattern);
        subscribers.routes.insert(&pattern, id, inbox.clone());
        subscribers.all.insert(id, Subscriber { pattern, inbox: inbox.clone(), actor });
        let in_place = subscribers.bindings.want(&key, bound);
        let count = subscribers.all.len();
        drop(subscribers);
        match in_place {
            Some(bound) => drop(bound.send(Ok(()))),
            None => self.changed.notify_one(),
        }
        self.count.send_replace(count);
        Ok((id, inbox))
    }

    /// Removes a subscriber, and its binding if no other needs it.
    pub(super) fn remove(&self, id: u64) {
        let mut subscribers = self.lock();
        let Some(removed) = subscribers.all.remove(&id) else { return };
        subscribers.routes.remove(&removed.pattern, id);
        let key = subscribers.routes.binding_of(&removed.pattern);
        subscribers.bindings.release(&key);
        let count = subscribers.all.len();
        drop(subscribers);
        self.changed.notify_one();
        self.count.send_replace(count);
    }

    /// Calls `change` with the bindings.
    pub(super) fn with_bindings<R>(&self, change: impl FnOnce(&mut Bindings<Bound>) -> R) -> R {
        change(&mut self.lock().bindings)
    }

    /// Gives a message to its subscribers. `matched` is a buffer for them.
    pub(super) fn fan_out(&self, content: Content, matched: &mut Vec<Arc<Inbox>>) {
        self.received.fetch_add(1, Relaxed);
        self.lock().routes.matching(&content, |inbox| matched.push(inbox.clone()));
        let content = Arc::new(content);
        let lost: u64 = matched.drain(..).map(|inbox| inbox.offer(&content)).sum();
        if lost > 0 {
            self.count_lost(lost);
        }
    }

    fn count_lost(&self, lost: u64) {
        let in_all = self.lost.fetch_add(lost, Relaxed) + lost;
        let logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now());
        if logged.is_some() {
            log::warn!(
                "bridge of {:?}: subscribers are too slow, and have lost {in_all} messages so far",
                self.exchange
            );
        }
    }

    fn inboxes(&self) -> Vec<Arc<Inbox>> {
        self.lock().all.values().map(|subscriber| subscriber.inbox.clone()).collect()
    }

    /// Tells all subscribers that messages may be lost.
    pub(super) fn gap(&self) {
        log::debug!("bridge of {:?}: messages may be lost", self.exchange);
        self.inboxes().iter().for_each(|inbox| inbox.gap());
    }

    /// Ends the bridge. The first end counts.
    pub(super) fn end(&self, end: ConsumerEnd) {
        let mut subscribers = self.lock();
        if std::mem::replace(&mut subscribers.has_ended, true) {
            return;
        }
        // Whoever waits for a binding sees that nobody tells it any more.
        let bindings = std::mem::replace(&mut subscribers.bindings, Bindings::new());
        drop(subscribers);
        drop(bindings);
        log::debug!("bridge of {:?}: ended, {end:?}", self.exchange);
        self.ended.send_replace(Some(end.clone()));
        self.changed.notify_one();
        self.inboxes().iter().for_each(|inbox| inbox.end(end.clone()));
    }

    /// Ends the subscriptions of actors that have stopped.
    pub(super) fn sweep(&self) {
        let has_stopped =
            |subscriber: &&Subscriber| subscriber.actor.as_ref().is_some_and(|actor| !actor.connected());
        let stopped: Vec<_> =
            self.lock().all.values().filter(has_stopped).map(|one| one.inbox.clone()).collect();
        for inbox in stopped {
            inbox.end(ConsumerEnd::TargetGone);
            inbox.discard();
        }
    }

    /// Returns how many messages subscribers have not taken or handled.
    pub(super) fn unhandled(&self) -> usize {
        self.inboxes().iter().map(|inbox| inbox.unhandled()).sum()
    }

    /// Loses all that waits for subscribers. Returns how much.
    pub(super) fn discard(&self) -> usize {
        self.inboxes().iter().map(|inbox| inbox.discard()).sum()
    }

    pub(super) fn stats(&self) -> BridgeStats {
        let subscribers = self.lock();
        BridgeStats {
            subscribers: subscribers.all.len(),
            bindings: subscribers.bindings.len(),
            received: self.received.load(Relaxed),
            lost: self.lost.load(Relaxed),
        }
    }
}
