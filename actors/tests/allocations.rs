//! The number of allocations per message. One test only, because they are counted for the whole process.

#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use std::alloc::System;

use actix_pika_actors::{
    Consume, OpenChannel,
    testing::{
        PeerMessage, RawFrame,
        protocol::{BasicProperties, basic},
    },
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use self::common::{Bench, TAG, TryPublish};

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
    let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("text/plain".into());
    for round in 0..3u64 {
        let frames: Vec<RawFrame> = (1..=BURST)
            .flat_map(|n| {
                let delivery_tag = round * BURST + n;
                let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag, ..Default::default() };
                let content = PeerMessage::from("sixteen octets..").properties(&properties);
                std::iter::once(RawFrame::method(1, names)).chain(content.frames(1, 4096))
            })
            .collect();
        bench.socket.send_frames(&frames).await.unwrap();
        let region = Region::new(ALLOCATOR);
        for _ in 0..BURST {
            let delivery = deliveries.next().await.unwrap();
            assert_eq!(delivery.body().len(), 16);
            delivery.ack().unwrap();
        }
        let consuming = allocations(&region);
        let last = (round + 1) * BURST;
        while bench.socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag < last {}
        if round > 0 {
            // The timer of `Deliveries::next` does not allocate.
            assert!(consuming < 80, "{consuming} for {BURST} deliveries");
        }
    }
}
