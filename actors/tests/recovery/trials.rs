//! What costs a connection is left out when the next one recovers, and tried on a connection of its own.

use std::{cell::RefCell, collections::HashMap, future::Future, rc::Rc, time::Duration};

use actix_pika_actors::{
    ConnectionEvent, ConnectionOptions, Consume, DeclareQueue, Degradation, EntityKind, GetHealth, Health,
    OpenChannel, OpenedChannel, Qos, Recovery, Skipped, WatchConnection,
    facade::deliver_into,
    testing::{
        HandshakeScript, HandshakeStep, MemoryPeer, PeerMessage, PeerSocket, Probe,
        protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue},
        types::AMQPValue,
    },
};
use tokio::{sync::watch, time::Instant};

use super::common::{Client, Deliveries};

/// The name of the connection, as the broker sees it.
const NAME: &str = "app";

/// What the broker does, and what it has seen.
#[derive(Default)]
struct Script {
    /// Queues whose declaration it answers by closing the connection with 541.
    fatal_queues: Vec<&'static str>,
    /// Queues whose consumers it answers by closing the connection.
    fatal_consumers: Vec<(&'static str, u16, &'static str)>,
    /// Queues to whose consumers it delivers a message that is too large.
    poisoned: Vec<&'static str>,
    /// Those messages are too large in their headers, and not in their bodies.
    has_large_headers: bool,
    /// Whether it refuses the connection of a trial for a limit.
    is_full: bool,
    /// A close without method and text.
    is_bare: bool,
    /// Trials succeed.
    spares_trials: bool,
    /// The frame that is answered came on the connection of a trial.
    is_trial: bool,
    seen: Vec<String>,
    /// When each trial was connected.
    trials: Vec<Instant>,
}

impl Script {
    fn is_fatal(&self, queue: &str) -> bool {
        !(self.spares_trials && self.is_trial) && self.fatal_queues.contains(&queue)
    }
}

#[derive(Clone)]
struct Broker(Rc<RefCell<Script>>, watch::Sender<()>);

impl Broker {
    fn start(peer: MemoryPeer) -> Self {
        let broker = Self(Rc::default(), watch::Sender::new(()));
        actix_rt::spawn(broker.clone().accept(peer.time_limit(Duration::from_secs(86_400))));
        broker
    }

    fn set(&self, set: impl FnOnce(&mut Script)) {
        set(&mut self.0.borrow_mut());
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().seen)
    }

    fn count(&self, what: &str) -> usize {
        self.0.borrow().seen.iter().filter(|seen| *seen == what).count()
    }

    /// Ends the present connections without a close.
    fn cut(&self) {
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

/// A client with a name, and a broker that it reconnects to after 100 milliseconds.
struct Test {
    broker: Broker,
    client: Client,
    events: Probe<ConnectionEvent>,
}

impl Test {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        tokio::time::pause();
        let peer = MemoryPeer::new();
        let client = Client::dial_in_memory(&peer, |options| {
            options.recovery = Recovery::fixed(Duration::from_millis(100));
            options.client_properties.insert("connection_name", NAME);
            set(options);
        });
        let broker = Broker::start(peer);
        client.opened().await;
        let events = Probe::start().time_limit(Duration::from_secs(3600));
        client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
        Self { broker, client, events }
    }

    async fn channel(&self) -> OpenedChannel {
        self.client.supervisor.send(OpenChannel::new()).await.unwrap().unwrap()
    }

    async fn consume(&self, channel: &OpenedChannel, queue: &str, options: Consume) -> Deliveries {
        let mut deliveries = Deliveries::new();
        let consume = deliver_into(options.queue(queue).tag(queue), deliveries.sink.clone());
        channel.actor.send(consume).await.unwrap().unwrap();
        work(&mut deliveries).await;
        deliveries
    }

    async fn declare(&self, channel: &OpenedChannel, declare: DeclareQueue) {
        channel.actor.send(declare).await.unwrap().unwrap();
    }

    /// Cuts the connection. Returns what the recovery that follows has skipped.
    async fn cut(&mut self) -> Vec<(EntityKind, String)> {
        self.broker.cut();
        self.recovered().await
    }

    async fn recovered(&mut self) -> Vec<(EntityKind, String)> {
        loop {
            if let ConnectionEvent::Recovered { skipped, .. } = self.events.next().await.unwrap() {
                return skipped.iter().map(|one| (one.kind, one.name.clone())).collect();
            }
        }
    }

    async fn missing(&self) -> Vec<Skipped> {
        let Health::Degraded(reasons) = self.client.supervisor.send(GetHealth).await.unwrap() else {
            return Vec::new();
        };
        let missing = |reason| match reason {
            Degradation::Missing(missing) => Some(missing),
            _ => None,
        };
        reasons.into_iter().filter_map(missing).collect()
    }

    /// Waits until nothing is missing.
    async fn healthy(&mut self) {
        loop {
            if self.client.supervisor.send(GetHealth).await.unwrap().is_up() {
                return;
            }
            self.events.next().await.unwrap();
        }
    }
}

/// Waits for the delivery that each new consumer gets.
#[track_caller]
fn work(deliveries: &mut Deliveries) -> impl Future<Output = ()> {
    let next = deliveries.next();
    async move {
        let delivery = next.await.unwrap();
        assert_eq!(delivery.body(), b"work");
        let _ = delivery.ack();
    }
}

async fn pass(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}

fn pauses(trials: &[Instant]) -> Vec<u64> {
    trials.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect()
}

const TIMED_OUT: &str = "INTERNAL_ERROR - timed out consuming from quorum queue 'slow' in vhost '/'";

/// REC-50: a declaration that costs the connection is left out once it has done so, and tried alone with doubling
/// pauses. Everything else recovers, and the connection is not lost again.
#[actix::test]
async fn a_declaration_that_costs_the_connection_is_tried_alone() {
    declaration_is_tried_alone(false).await;
}

/// REC-50: the same where the broker gives no method for its close, as for a channel process that has crashed.
#[actix::test]
async fn a_declaration_that_crashes_its_channel_is_tried_alone() {
    declaration_is_tried_alone(true).await;
}

async fn declaration_is_tried_alone(is_bare: bool) {
    let mut test = Test::start().await;
    let (first, second) = (test.channel().await, test.channel().await);
    test.declare(&second, DeclareQueue::new("other")).await;
    test.declare(&second, DeclareQueue::new("temporary").durable(false)).await;
    let mut deliveries = test.consume(&first, "jobs", Consume::new()).await;
    test.broker.seen();
    test.broker.set(|script| (script.fatal_queues, script.is_bare) = (vec!["temporary"], is_bare));
    assert_eq!(test.cut().await, [(EntityKind::Queue, "temporary".to_owned())]);
    work(&mut deliveries).await;
    let costly = ["connect", "declare other", "declare temporary"];
    let without = ["connect", "declare other", "consume jobs"];
    assert_eq!(test.broker.seen(), [&costly[..], &without[..]].concat());
    let missing = test.missing().await;
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].error.close_reason().unwrap().code, 541);
    pass(60).await;
    let trials = test.broker.0.borrow().trials.clone();
    assert_eq!(pauses(&trials)[..5], [2, 4, 8, 10, 10]);
    assert_eq!(test.broker.count("trial"), trials.len());
    assert_eq!(test.broker.seen().len(), 2 * trials.len(), "a trial declares, and nothing else happens");

    test.broker.set(|script| script.fatal_queues.clear());
    test.healthy().await;
    assert_eq!(test.broker.seen(), ["trial", "declare temporary", "declare temporary"]);
    assert_eq!(test.cut().await, []);
    work(&mut deliveries).await;
}

/// REC-51: a consumer whose restart costs the connection comes back when the broker accepts it. Its trial neither takes
/// messages without ack nor is started with others.
#[actix::test]
async fn a_consumer_that_costs_the_connection_is_tried_alone() {
    let mut test = Test::start().await;
    let (first, second) = (test.channel().await, test.channel().await);
    let mut slow = test.consume(&first, "slow", Consume::new().no_ack(true)).await;
    let mut jobs = test.consume(&first, "jobs", Consume::new()).await;
    let mut mail = test.consume(&second, "mail", Consume::new()).await;
    test.broker.seen();
    test.broker.set(|script| script.fatal_consumers = vec![("slow", 541, TIMED_OUT)]);
    assert_eq!(test.cut().await, [(EntityKind::Consumer, "slow".to_owned())]);
    work(&mut jobs).await;
    work(&mut mail).await;
    assert_eq!(test.broker.count("connect"), 2);
    pass(5).await;
    assert_eq!(test.missing().await.len(), 1);
    test.broker.seen();
    test.broker.set(|script| script.fatal_consumers.clear());
    test.healthy().await;
    assert_eq!(test.broker.seen(), ["trial", "consume slow", "consume slow, no ack"]);
    work(&mut slow).await;
    assert_eq!(test.cut().await, []);
    work(&mut slow).await;
}

/// REC-51: the trial of a consumer has the prefetch that its channel shares, which quorum queues refuse with 540.
#[actix::test]
async fn the_trial_of_a_consumer_has_its_shared_prefetch() {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    let _slow = test.consume(&channel, "slow", Consume::new()).await;
    channel.actor.send(Qos::new(7).global(true)).await.unwrap().unwrap();
    let refused = "NOT_IMPLEMENTED - queue 'slow' in vhost '/' does not support global qos";
    test.broker.set(|script| script.fatal_consumers = vec![("slow", 540, refused)]);
    assert_eq!(test.cut().await, [(EntityKind::Consumer, "slow".to_owned())]);
    test.broker.seen();
    pass(2).await;
    assert_eq!(test.broker.seen(), ["trial", "shared 7", "consume slow"]);
    let missing = test.missing().await;
    assert_eq!(missing[0].error.close_reason().unwrap().code, 540);
}

/// REC-50: where a limit refuses the connection of a trial, the trial waits, and the reason stays that of the refusal.
#[actix::test]
async fn a_trial_waits_while_a_limit_refuses_its_connection() {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    test.declare(&channel, DeclareQueue::new("temporary").durable(false)).await;
    test.broker.set(|script| script.fatal_queues = vec!["temporary"]);
    test.cut().await;
    test.broker.seen();
    test.broker.set(|script| script.is_full = true);
    pass(8).await;
    assert_eq!(test.broker.seen(), ["refused"; 3]);
    assert_eq!(test.missing().await[0].error.close_reason().unwrap().code, 541);
    test.broker.set(|script| (script.is_full, script.fatal_queues) = (false, Vec::new()));
    test.healthy().await;
}

/// REC-52: an exclusive queue cannot be tried on another connection: it is tried last, once for each reconnect that it
/// has not caused itself.
#[actix::test]
async fn an_exclusive_queue_that_costs_the_connection_is_tried_last() {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    test.declare(&channel, DeclareQueue::new("mine").exclusive(true)).await;
    let mut jobs = test.consume(&channel, "jobs", Consume::new()).await;
    test.broker.seen();
    test.broker.set(|script| script.fatal_queues = vec!["mine"]);
    let mine = [(EntityKind::Queue, "mine".to_owned())];
    assert_eq!(test.cut().await, mine);
    assert_eq!(test.recovered().await, mine, "it was tried once more, last");
    pass(600).await;
    let seen = test.broker.seen();
    let expected = [
        ["connect", "declare mine"].as_slice(),
        &["connect", "consume jobs", "declare mine"],
        &["connect", "consume jobs"],
    ];
    assert_eq!(seen, expected.concat());
    work(&mut jobs).await;
    assert_eq!(test.missing().await.len(), 1);
    test.broker.set(|script| script.fatal_queues.clear());
    assert_eq!(test.cut().await, mine);
    test.healthy().await;
    assert_eq!(test.broker.seen(), ["connect", "consume jobs", "declare mine"]);
}

/// REC-53: a consumer whose deliveries cannot be read three times in a row is left out and tried alone, where the same
/// delivery costs only the trial. The others go on.
#[actix::test]
async fn a_consumer_whose_deliveries_cannot_be_read_is_left_out() {
    consumer_is_left_out(false).await;
}

/// REC-53: the same where the connection refuses the frame before its channel gets it.
#[actix::test]
async fn a_consumer_whose_deliveries_have_too_large_frames_is_left_out() {
    consumer_is_left_out(true).await;
}

async fn consumer_is_left_out(has_large_headers: bool) {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    let mut poisoned = test.consume(&channel, "poisoned", Consume::new()).await;
    let mut jobs = test.consume(&channel, "jobs", Consume::new()).await;
    test.broker.seen();
    test.broker.set(|script| {
        (script.poisoned, script.has_large_headers) = (vec!["poisoned"], has_large_headers);
    });
    test.broker.cut();
    let skipped = loop {
        let skipped = test.recovered().await;
        if !skipped.is_empty() {
            break skipped;
        }
    };
    assert_eq!(skipped, [(EntityKind::Consumer, "poisoned".to_owned())]);
    assert_eq!(test.broker.count("connect"), 4);
    work(&mut jobs).await;
    pass(60).await;
    assert_eq!(test.broker.count("connect"), 4);
    assert!(test.broker.count("trial") >= 6);
    assert_eq!(test.missing().await.len(), 1);
    test.broker.set(|script| script.poisoned.clear());
    test.healthy().await;
    work(&mut poisoned).await;
}

/// REC-50: a trial that succeeds although the connection is lost again: the pauses go on growing.
#[actix::test]
async fn a_fatal_entity_that_costs_the_connection_again_waits_longer_each_time() {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    test.declare(&channel, DeclareQueue::new("temporary").durable(false)).await;
    test.broker.set(|script| (script.fatal_queues, script.spares_trials) = (vec!["temporary"], true));
    test.cut().await;
    let lost = Instant::now();
    for _ in 0..8 {
        test.recovered().await;
    }
    let trials = test.broker.0.borrow().trials.clone();
    assert_eq!((trials[0] - lost).as_secs(), 0);
    assert_eq!(pauses(&trials), [2, 4, 8, 16, 32, 64, 128]);
    test.broker.set(|script| script.fatal_queues.clear());
    test.healthy().await;
    pass(20).await;
    test.broker.set(|script| script.fatal_queues = vec!["temporary"]);
    let trials = test.broker.0.borrow().trials.len();
    test.cut().await;
    pass(2).await;
    assert_eq!(test.broker.0.borrow().trials.len(), trials + 1, "it had stood");
}

/// REC-50: a close ends the trial that is under way.
#[actix::test]
async fn a_trial_ends_with_its_connection() {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    test.declare(&channel, DeclareQueue::new("temporary").durable(false)).await;
    test.broker.set(|script| script.fatal_queues = vec!["temporary"]);
    test.cut().await;
    test.broker.seen();
    test.client.supervisor.send(actix_pika_actors::CloseConnection::new()).await.unwrap().unwrap();
    pass(600).await;
    assert_eq!(test.broker.seen(), Vec::<String>::new());
}
