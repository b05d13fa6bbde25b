//! Costs that are counted: how many messages to actors, batches and buffers a burst takes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use actix::{Actor, Addr, Context, Handler};
use bytes::{Bytes, BytesMut};

use crate::{
    channel::{Channel, OpenedChannel},
    internal::{ChannelMessage, SupervisorMessage},
    message::{
        Consume, ConsumerEnd, Delivery, DeliverySink, Get, Leave, OpenChannel, Outgoing, ReleaseChannel,
        SinkRegistration,
    },
    outbox::Flush,
    transport::ReadCredit,
    wire::{Assembler, FrameDecoder, Properties},
};

/// Stands for connection and supervisor, and counts the flushes.
#[derive(Default)]
struct Receiver {
    flushes: Arc<AtomicUsize>,
}

impl Actor for Receiver {
    type Context = Context<Self>;
}

impl Handler<Flush> for Receiver {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler<SupervisorMessage> for Receiver {
    type Result = ();

    fn handle(&mut self, _: SupervisorMessage, _: &mut Self::Context) {}
}

/// Keeps the batches as they came.
#[derive(Debug, Default)]
struct Batches(Mutex<Vec<Vec<Delivery>>>);

impl DeliverySink for Batches {
    fn bind(&self, _: SinkRegistration) {}

    fn batch(&self, deliveries: Vec<Delivery>) {
        self.0.lock().unwrap().push(deliveries);
    }

    fn ended(&self) {}

    fn leave(&self, _: Leave) {}

    fn has_target(&self) -> bool {
        true
    }

    fn take_back(&self) {}

    fn discard(&self) {}

    fn pause(&self, _: bool) {}

    fn end(&self, _: ConsumerEnd) {}
}

struct Bench {
    channel: OpenedChannel,
    flushes: Arc<AtomicUsize>,
}

impl Bench {
    /// A channel without confirms that the broker has opened.
    async fn open() -> Self {
        let receiver = Receiver::default();
        let flushes = receiver.flushes.clone();
        let receiver: Addr<Receiver> = receiver.start();
        let options = OpenChannel::new().confirms(false);
        let channel = Channel::start(
            1,
            &options,
            Assembler::new(1 << 20),
            Arc::default(),
            Arc::default(),
            receiver.clone().recipient(),
            false,
        );
        channel.actor.do_send(ChannelMessage::Attached {
            epoch: 1,
            flush: Arc::new(receiver.recipient()),
            frame_max: 131_072,
            credit: Arc::new(ReadCredit::new(1 << 20, 1 << 20)),
            broker: Arc::default(),
        });
        let bench = Self { channel, flushes };
        bench.receive(&frame(b"\0\x14\0\x0b\0\0\0\0")).await;
        bench.taken();
        bench
    }

    /// Decodes these bytes as the connection does, and sends the batches; returns how many they were.
    async fn receive(&self, bytes: &[u8]) -> usize {
        let (mut decoder, mut buffer, mut batches) = (FrameDecoder::new(131_072), BytesMut::from(bytes), 0);
        while let Some(batch) = decoder.next_batch(&mut buffer).unwrap() {
            batches += 1;
            self.channel.actor.send(ChannelMessage::Frames { epoch: 1, batch }).await.unwrap();
        }
        assert!(buffer.is_empty());
        batches
    }

    /// Takes what is written, as the connection does, and counts it: flushes, buffers, bytes.
    fn taken(&self) -> (usize, usize, usize) {
        let mut out: Vec<Bytes> = Vec::new();
        while self.channel.outbox.take(1, 64 * 1024, &mut out) {}
        (self.flushes.swap(0, Ordering::SeqCst), out.len(), out.iter().map(Bytes::len).sum())
    }

    async fn consume(&self, tag: &str) -> Arc<Batches> {
        let batches = Arc::new(Batches::default());
        let consume = Consume::new().queue("jobs").tag(tag).sink(batches.clone());
        let call = actix_rt::spawn(self.channel.actor.send(consume));
        tokio::task::yield_now().await;
        let mut ok = b"\0\x3c\0\x15".to_vec();
        ok.push(tag.len() as u8);
        ok.extend(tag.as_bytes());
        self.receive(&[frame(b"\0\x3c\0\x0b"), frame(&ok)].concat()).await;
        call.await.unwrap().unwrap().unwrap();
        self.taken();
        batches
    }

    /// Takes one message of four octets.
    async fn get(&self) -> Delivery {
        let call = actix_rt::spawn(self.channel.actor.send(Get::new("jobs")));
        tokio::task::yield_now().await;
        let method = b"\0\x3c\0\x47\0\0\0\0\0\0\0\x01\0\0\x04jobs\0\0\0\0";
        let header = b"\0\x3c\0\0\0\0\0\0\0\0\0\x04\0\0";
        self.receive(&[frame(method), frame_of(2, header), frame_of(3, b"body")].concat()).await;
        self.taken();
        call.await.unwrap().unwrap().unwrap().unwrap()
    }

    fn publish(&self) {
        let (properties, body) = (Properties::default(), Bytes::from_static(b"sixteen octets.."));
        let outgoing = Outgoing {
            exchange: "",
            routing_key: "jobs",
            mandatory: true,
            resend: true,
            properties: &properties,
            body: &body,
        };
        assert!(self.channel.outbox.queue_publish(outgoing).unwrap().is_some());
    }

    /// Waits until the actor has handled all its messages.
    async fn settled(&self) {
        self.channel.actor.send(ChannelMessage::Blocked(None)).await.unwrap();
    }

    /// Checks that what the connection takes now has `channel.close` for its only frame.
    async fn expect_close(&self) {
        self.settled().await;
        let mut out: Vec<Bytes> = Vec::new();
        assert!(!self.channel.outbox.take(1, 64 * 1024, &mut out));
        assert_eq!(out.len(), 1);
        assert_eq!(out[0][7..13], *b"\0\x14\0\x28\0\xc8");
        assert!(self.channel.outbox.closed().is_some());
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    frame_of(1, payload)
}

fn frame_of(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 1];
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xCE);
    bytes
}

/// A delivery of four octets.
fn delivery(consumer: &str, tag: u64) -> Vec<u8> {
    let mut method = b"\0\x3c\0\x3c".to_vec();
    method.push(consumer.len() as u8);
    method.extend(consumer.as_bytes());
    method.extend(tag.to_be_bytes());
    method.extend(b"\0\0\x04jobs");
    let header = b"\0\x3c\0\0\0\0\0\0\0\0\0\x04\0\0";
    [frame(&method), frame_of(2, header), frame_of(3, b"body")].concat()
}

#[actix::test]
async fn a_burst_of_deliveries_is_one_message_and_one_batch() {
    let bench = Bench::open().await;
    let batches = bench.consume("a").await;
    let burst: Vec<u8> = (1..=100).flat_map(|tag| delivery("a", tag)).collect();
    assert_eq!(bench.receive(&burst).await, 1);
    let lengths: Vec<usize> = batches.0.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(lengths, [100]);
}

#[actix::test]
async fn a_burst_for_two_consumers_is_one_batch_each() {
    let bench = Bench::open().await;
    let (a, b) = (bench.consume("a").await, bench.consume("b").await);
    let burst: Vec<u8> = (1..=100).flat_map(|tag| delivery(["a", "b"][tag as usize % 2], tag)).collect();
    assert_eq!(bench.receive(&burst).await, 1);
    for batches in [a, b] {
        let lengths: Vec<usize> = batches.0.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(lengths, [50]);
    }
}

#[actix::test]
async fn a_burst_of_acks_is_one_message_and_one_frame() {
    let bench = Bench::open().await;
    let batches = bench.consume("a").await;
    let burst: Vec<u8> = (1..=100).flat_map(|tag| delivery("a", tag)).collect();
    bench.receive(&burst).await;
    let deliveries = std::mem::take(&mut *batches.0.lock().unwrap());
    deliveries.into_iter().flatten().for_each(|delivery| delivery.ack().unwrap());
    tokio::task::yield_now().await;
    assert_eq!(bench.taken(), (1, 1, 21));
}

#[actix::test]
async fn acks_around_a_gap_are_as_few_frames_as_can_be() {
    let bench = Bench::open().await;
    let batches = bench.consume("a").await;
    let burst: Vec<u8> = (1..=10).flat_map(|tag| delivery("a", tag)).collect();
    bench.receive(&burst).await;
    let mut deliveries: Vec<Delivery> =
        std::mem::take(&mut *batches.0.lock().unwrap()).into_iter().flatten().collect();
    let kept = deliveries.remove(7);
    deliveries.into_iter().for_each(|delivery| delivery.ack().unwrap());
    tokio::task::yield_now().await;
    // 1 to 7 in one, 9 and 10 singly.
    assert_eq!(bench.taken(), (1, 1, 3 * 21));
    kept.ack().unwrap();
    tokio::task::yield_now().await;
    assert_eq!(bench.taken(), (1, 1, 21));
}

#[actix::test]
async fn a_burst_of_publishes_is_one_message_and_few_buffers() {
    let bench = Bench::open().await;
    for _ in 0..1000 {
        bench.publish();
    }
    tokio::task::yield_now().await;
    let (messages, buffers, bytes) = bench.taken();
    // Method, header and body frame of each; buffers double from 1 KiB to 64 KiB.
    assert_eq!((messages, bytes), (1, 1000 * (21 + 22 + 24)));
    assert!(buffers <= 8, "{buffers}");
}

/// Without waiting for a tick: these come a second apart.
#[actix::test]
async fn a_released_channel_closes_with_its_last_settle() {
    let bench = Bench::open().await;
    let delivery = bench.get().await;
    bench.channel.actor.send(ReleaseChannel).await.unwrap();
    assert_eq!(bench.taken(), (0, 0, 0));
    delivery.ack().unwrap();
    tokio::task::yield_now().await;
    bench.settled().await;
    assert!(bench.channel.outbox.closed().is_none());
    assert_eq!(bench.taken(), (1, 1, 21));
    bench.expect_close().await;
}

#[actix::test]
async fn a_released_channel_closes_when_its_last_publish_is_taken() {
    let bench = Bench::open().await;
    bench.publish();
    bench.channel.actor.send(ReleaseChannel).await.unwrap();
    bench.settled().await;
    assert!(bench.channel.outbox.closed().is_none());
    assert_eq!(bench.taken(), (1, 1, 21 + 22 + 24));
    bench.expect_close().await;
}
