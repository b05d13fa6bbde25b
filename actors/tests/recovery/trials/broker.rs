//! A broker that closes the connection because of declarations, consumers and deliveries.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use actix_pika_actors::testing::{
    HandshakeScript, HandshakeStep, MemoryPeer, PeerMessage, PeerSocket,
    protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue},
    types::AMQPValue,
};
use tokio::{sync::watch, time::Instant};

/// The name of the connection, as the broker sees it.
pub(super) const NAME: &str = "app";

/// What the broker does, and what it has seen.
#[derive(Default)]
pub(super) struct Script {
    /// Queues whose declaration it answers by closing the connection with 541.
    pub(super) fatal_queues: Vec<&'static str>,
    /// Queues whose consumers it answers by closing the connection.
    pub(super) fatal_consumers: Vec<(&'static str, u16, &'static str)>,
    /// Queues to whose consumers it delivers a message that is too large.
    pub(super) poisoned: Vec<&'static str>,
    /// Those messages are too large in their headers, and not in their bodies.
    pub(super) has_large_headers: bool,
    /// Whether it refuses the connection of a trial for a limit.
    pub(super) is_full: bool,
    /// A close without method and text.
    pub(super) is_bare: bool,
    /// Trials succeed.
    pub(super) spares_trials: bool,
    /// The frame that is answered came on the connection of a trial.
    is_trial: bool,
    seen: Vec<String>,
    trials: Vec<Instant>,
}

impl Script {
    fn is_fatal(&self, queue: &str) -> bool {
        !(self.spares_trials && self.is_trial) && self.fatal_queues.contains(&queue)
    }
}

#[derive(Clone)]
pub(super) struct Broker(Rc<RefCell<Script>>, watch::Sender<()>);

impl Broker {
    pub(super) fn start(peer: MemoryPeer) -> Self {
        let broker = Self(Rc::default(), watch::Sender::new(()));
        actix_rt::spawn(broker.clone().accept(peer.time_limit(Duration::from_secs(86_400))));
        broker
    }

    pub(super) fn set(&self, set: impl FnOnce(&mut Script)) {
        set(&mut self.0.borrow_mut());
    }

    pub(super) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().seen)
    }

    pub(super) fn count(&self, what: &str) -> usize {
        self.0.borrow().seen.iter().filter(|seen| *seen == what).count()
    }

    /// Returns when each trial was connected.
    pub(super) fn trials(&self) -> Vec<Instant> {
        self.0.borrow().trials.clone()
    }

    /// Ends the present connections without a close.
    pub(super) fn cut(&self) {
        self.1.send_replace(());
    }

    async fn accept(self, mut peer: MemoryPeer) {
        while let Ok(mut socket) = peer.accept().await {
            let script = HandshakeScript::new().tune(10, 4096, 0);
            let is_full = self.0.borrow().is_full;
            let limit = "NOT_ALLOWED - access to vhost '/' refused: connection limit (1) is reached";
            let script = if is_full { script.refuse_at(HandshakeStep::OpenOk, 530, limit) } else { script };
            let terms = socket.handshake_with(&script).await.unwrap();
            if is_full {
                self.set(|script| script.seen.push("refused".into()));
                continue;
            }
            let name = terms.properties.inner().get("connection_name").cloned();
            let is_trial = match name {
                Some(AMQPValue::LongString(name)) if name.as_bytes() == NAME.as_bytes() => false,
                Some(AMQPValue::LongString(name)) => {
                    assert_eq!(name.to_string(), "app (trial)");
                    true
                }
                other => panic!("{other:?}"),
            };
            self.set(|script| {
                script.seen.push(if is_trial { "trial".into() } else { "connect".into() });
                if is_trial {
                    script.trials.push(Instant::now());
                }
            });
            actix_rt::spawn(self.clone().serve(socket, is_trial));
        }
    }

    async fn serve(self, mut socket: PeerSocket, is_trial: bool) {
        socket.set_time_limit(Duration::from_secs(86_400));
        let mut cut = self.1.subscribe();
        // The last delivery tag of each channel.
        let mut tags = HashMap::new();
        loop {
            let frame = tokio::select! {
                frame = socket.next_frame() => frame,
                _ = cut.changed() => return,
            };
            let Ok(frame) = frame else { return };
            self.set(|script| script.is_trial = is_trial);
            if !self.answer(&mut socket, &mut tags, frame.channel, frame.class()).await {
                return;
            }
        }
    }

    /// Returns `false` once the connection has ended.
    async fn answer(
        &self,
        socket: &mut PeerSocket,
        tags: &mut HashMap<u16, u64>,
        on: u16,
        class: Option<AMQPClass>,
    ) -> bool {
        let answered = match class {
            Some(AMQPClass::Connection(connection::AMQPMethod::Close(_))) => {
                let _ = socket.send(0, connection::CloseOk {}).await;
                return false;
            }
            Some(AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) => return false,
            Some(AMQPClass::Channel(channel::AMQPMethod::Open(_))) => {
                tags.remove(&on);
                socket.send(on, channel::OpenOk {}).await
            }
            Some(AMQPClass::Channel(channel::AMQPMethod::Close(_))) => {
                socket.send(on, channel::CloseOk {}).await
            }
            Some(AMQPClass::Confirm(_)) => socket.send(on, confirm::SelectOk {}).await,
            Some(AMQPClass::Exchange(exchange::AMQPMethod::Declare(_))) => {
                socket.send(on, exchange::DeclareOk {}).await
            }
            Some(AMQPClass::Queue(queue::AMQPMethod::Declare(declare))) => {
                let name = declare.queue.to_string();
                self.set(|script| script.seen.push(format!("declare {name}")));
                if self.0.borrow().is_fatal(&name) {
                    self.refuse(socket, 541, "INTERNAL_ERROR", (50, 10)).await;
                    return true;
                }
                let ok = queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 0 };
                socket.send(on, ok).await
            }
            Some(AMQPClass::Basic(basic::AMQPMethod::Qos(qos))) => {
                if qos.global {
                    self.set(|script| script.seen.push(format!("shared {}", qos.prefetch_count)));
                }
                socket.send(on, basic::QosOk {}).await
            }
            Some(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) => {
                let tag = tags.entry(on).or_default();
                *tag += 1;
                return self.consume(socket, on, consume, *tag).await;
            }
            Some(AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel))) => {
                socket.send(on, basic::CancelOk { consumer_tag: cancel.consumer_tag }).await
            }
            _ => Ok(()),
        };
        answered.is_ok()
    }

    async fn consume(
        &self,
        socket: &mut PeerSocket,
        on: u16,
        consume: basic::Consume,
        delivery: u64,
    ) -> bool {
        let (name, tag) = (consume.queue.to_string(), consume.consumer_tag.to_string());
        let no_ack = if consume.no_ack { ", no ack" } else { "" };
        self.set(|script| script.seen.push(format!("consume {name}{no_ack}")));
        let fatal = self.0.borrow().fatal_consumers.iter().find(|(fatal, ..)| *fatal == name).copied();
        if let Some((_, code, text)) = fatal {
            self.refuse(socket, code, text, (60, 20)).await;
            return true;
        }
        if socket.send(on, basic::ConsumeOk { consumer_tag: consume.consumer_tag }).await.is_err() {
            return false;
        }
        let poisoned = self.0.borrow().poisoned.iter().any(|poisoned| *poisoned == name);
        if poisoned && self.0.borrow().has_large_headers {
            let method = basic::Deliver {
                consumer_tag: tag.as_str().into(),
                delivery_tag: delivery,
                ..Default::default()
            };
            // The head of a header frame of 32 MiB.
            let [high, low] = on.to_be_bytes();
            return socket.send(on, method).await.is_ok()
                && socket.send_raw(&[2, high, low, 2, 0, 0, 0]).await.is_ok();
        }
        let message = PeerMessage::from("work");
        let message = if poisoned { message.announced_size(1 << 40) } else { message };
        socket.deliver(on, &tag, delivery, message).await.is_ok()
    }

    async fn refuse(&self, socket: &mut PeerSocket, code: u16, text: &str, ids: (u16, u16)) {
        let is_bare = self.0.borrow().is_bare;
        let (class_id, method_id) = if is_bare { (0, 0) } else { ids };
        let reply_text = if is_bare { "INTERNAL_ERROR".into() } else { text.into() };
        let close = connection::Close { reply_code: code, reply_text, class_id, method_id };
        let _ = socket.send(0, close).await;
    }
}
