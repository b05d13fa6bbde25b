//! The number of allocations per message. One test only, because they are counted for the whole process.

#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use std::{
    alloc::System,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::{Actor, Context, Handler};
use actix_pika_actors::{
    Consume, Consumed, Delivery, OpenChannel,
    facade::deliver_to,
    testing::{
        PeerMessage, RawFrame,
        protocol::{BasicProperties, basic},
    },
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use self::common::{Bench, Call, TAG, TryPublish, answer_consume, ask, at_once};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BURST: u64 = 400;

/// Returns the number of allocations in a region, reallocations included.
fn allocations(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.allocations + change.reallocations
}

/// The peer allocates for every frame, so it runs before and after what is counted.
#[actix::test]
async fn no_allocation_per_message() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let mut sent = 0;
    for round in 0..3 {
        let region = Region::new(ALLOCATOR);
        for _ in 0..BURST {
            channel.outbox.try_publish_text("jobs", "sixteen octets..");
        }
        let publishing = allocations(&region);
        for _ in 0..BURST {
            bench.socket.expect_publish(1).await.unwrap();
        }
        let acks: Vec<_> = (sent + 1..=sent + BURST)
            .map(|delivery_tag| RawFrame::method(1, basic::Ack { delivery_tag, multiple: false }))
            .collect();
        bench.socket.send_frames(&acks).await.unwrap();
        sent += BURST;
        let region = Region::new(ALLOCATOR);
        while channel.outbox.load().unconfirmed > 0 {
            tokio::task::yield_now().await;
        }
        let confirming = allocations(&region);
        // In the first round the buffers still grow.
        if round > 0 {
            assert!(publishing < 40, "{publishing} for {BURST} publishes");
            assert!(confirming < 40, "{confirming} for {BURST} confirms");
        }
    }

    let consume = Consume::new().tag(TAG).prefetch(1000);
    let mut deliveries = bench.consume_as(&channel, consume).await;
    for round in 0..3 {
        bench.socket.send_frames(&burst(TAG, round)).await.unwrap();
        let region = Region::new(ALLOCATOR);
        for _ in 0..BURST {
            let delivery = deliveries.next().await.unwrap();
            assert_eq!(delivery.body().len(), 16);
            delivery.ack().unwrap();
        }
        let consuming = allocations(&region);
        acknowledged(&mut bench, round).await;
        if round > 0 {
            // The timer of `Deliveries::next` does not allocate.
            assert!(consuming < 80, "{consuming} for {BURST} deliveries");
        }
    }

    let mut deliveries = bench.consume_as(&channel, Consume::new().tag("no-ack").no_ack(true)).await;
    for round in 3..6 {
        bench.socket.send_frames(&burst("no-ack", round)).await.unwrap();
        let region = Region::new(ALLOCATOR);
        for _ in 0..BURST {
            assert!(deliveries.next().await.unwrap().is_no_ack());
        }
        let consuming = allocations(&region);
        if round > 3 {
            assert!(consuming < 80, "{consuming} for {BURST} deliveries without acknowledgement");
        }
    }

    let handled = Arc::new(AtomicU64::new(0));
    let target = Acknowledging(handled.clone()).start().recipient();
    let consume = Consume::new().queue("jobs").tag("handler").prefetch(1000);
    let call: Call<Consumed> = ask(&channel.actor, deliver_to(consume, target, None));
    answer_consume(&mut bench.socket, 1).await;
    call.answer().await.unwrap();
    let mut least = usize::MAX;
    for round in 6..26 {
        bench.socket.send_frames(&burst("handler", round)).await.unwrap();
        let region = Region::new(ALLOCATOR);
        let all = (round - 5) * BURST;
        let handled = async {
            while handled.load(Ordering::Relaxed) < all {
                tokio::task::yield_now().await;
            }
        };
        at_once("a burst is handled", handled).await;
        let consuming = allocations(&region);
        acknowledged(&mut bench, round).await;
        // Requests are sent until the target is known to be quick. On a machine that is busy it may not be.
        if round >= 16 {
            least = least.min(consuming);
        }
    }
    // A mailbox allocates an envelope and an entry for each message.
    assert!(least < 2 * BURST as usize + 80, "{least} for {BURST} deliveries to a handler");
}

struct Acknowledging(Arc<AtomicU64>);

impl Actor for Acknowledging {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Acknowledging {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        delivery.ack().unwrap();
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the frames of a burst of deliveries.
fn burst(consumer: &str, round: u64) -> Vec<RawFrame> {
    let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("text/plain".into());
    let delivery = |n| {
        let delivery_tag = round * BURST + n;
        let names = basic::Deliver { consumer_tag: consumer.into(), delivery_tag, ..Default::default() };
        let content = PeerMessage::from("sixteen octets..").properties(&properties);
        std::iter::once(RawFrame::method(1, names)).chain(content.frames(1, 4096))
    };
    (1..=BURST).flat_map(delivery).collect()
}

/// Waits until the deliveries of all bursts up to this one are acknowledged.
async fn acknowledged(bench: &mut Bench, round: u64) {
    let last = (round + 1) * BURST;
    while bench.socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag < last {}
}
