//! How much memory a peer can make a client use. The bytes that are allocated are counted for the whole process, so that
//! one test runs at a time.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::print_stdout)]

mod common;

use std::alloc::System;

use actix_pika_actors::{
    ConnectionOptions, Consume, OpenChannel,
    testing::{
        HandshakeScript, PeerMessage, RawFrame,
        protocol::{BasicProperties, basic},
    },
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};
use tokio::sync::{Mutex, MutexGuard};

use self::common::{Bench, TAG};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static ALONE: Mutex<()> = Mutex::const_new(());

const MIB: usize = 1 << 20;

/// Counts the bytes that are allocated and not freed since it was made.
struct Memory {
    before: Stats,
    _alone: MutexGuard<'static, ()>,
}

impl Memory {
    async fn start() -> Self {
        let _alone = ALONE.lock().await;
        Self { before: ALLOCATOR.stats(), _alone }
    }

    fn used(&self) -> usize {
        let now = ALLOCATOR.stats();
        let allocated = now.bytes_allocated - self.before.bytes_allocated;
        let freed = now.bytes_deallocated - self.before.bytes_deallocated;
        allocated.saturating_sub(freed)
    }
}

/// Returns whether the limits are the default ones, as `make memory` has it. Otherwise they are small, so that less
/// is sent.
fn is_full() -> bool {
    std::env::var("MEMORY").is_ok_and(|value| value == "full")
}

/// Checks the most memory that was used, and prints it in a full run.
fn check(used: usize, bound: usize) {
    if is_full() {
        println!("{} MB in use at most, bound {} MB", used / 1_000_000, bound / 1_000_000);
    }
    assert!(used < bound, "{used} is not below {bound}");
}

/// Sends the beginning of a body on each of 40 channels, in turns of 100,000 octets.
async fn forty_bodies(limit: usize, bytes: usize, announced: u64) -> usize {
    let memory = Memory::start().await;
    let script = HandshakeScript::new().tune(2047, 131_072, 0);
    let set = |options: &mut ConnectionOptions| options.partial_body_max = limit;
    let mut bench = Bench::open_with(&script, set).await;
    let mut all = Vec::new();
    for number in 1..=40 {
        let channel = bench.channel(number, OpenChannel::new().confirms(false)).await;
        all.push((bench.consume(&channel).await, channel));
        let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag: 1, ..Default::default() };
        let header = RawFrame::header(number, announced, &BasicProperties::default());
        bench.socket.send_frames(&[RawFrame::method(number, names), header]).await.unwrap();
    }
    let part = vec![b'x'; 100_000];
    let mut most = 0;
    for _ in 0..bytes / part.len() {
        for number in 1..=40 {
            bench.socket.send_frames(&[RawFrame::body(number, &part[..])]).await.unwrap();
        }
        most = most.max(memory.used());
    }
    bench.assert_works(41).await;
    most.max(memory.used())
}

/// PRO-19: the limit holds for all channels of a connection. Buffers have up to twice their bytes, and 1 MiB at
/// first.
#[actix::test]
async fn incomplete_bodies_are_bounded_by_connection() {
    let (limit, bytes, announced) = match is_full() {
        true => (ConnectionOptions::default().partial_body_max, 39_000_000, 128 << 20),
        false => (16 * MIB, 3_900_000, 12_800_000),
    };
    check(forty_bodies(limit, bytes, announced).await, 2 * limit + 16 * MIB);
}

/// Deliveries of 16 bytes, which are held, between large ones that are acknowledged at once. Each would keep the block
/// in which it came.
async fn small_between_large(count: u64) -> usize {
    let memory = Memory::start().await;
    let mut bench = Bench::open_with(&HandshakeScript::new().tune(2047, 131_072, 0), |_| {}).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let consume = Consume::new().tag(TAG).prefetch(60_000);
    let mut deliveries = bench.consume_as(&channel, consume).await;
    let (small, large) = (PeerMessage::from("sixteen octets.."), PeerMessage::from(vec![b'x'; 62_000]));
    let mut held = Vec::new();
    for n in 1..=count {
        bench.socket.deliver(1, TAG, 2 * n - 1, small.clone()).await.unwrap();
        bench.socket.deliver(1, TAG, 2 * n, large.clone()).await.unwrap();
        held.push(deliveries.next().await.unwrap());
        let large = deliveries.next().await.unwrap();
        assert_eq!(large.body().len(), 62_000);
        large.ack().unwrap();
        if n % 100 == 0 {
            while bench.socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag < 2 * n {}
        }
    }
    let used = memory.used();
    for delivery in held {
        assert_eq!(delivery.body(), b"sixteen octets..");
        delivery.ack().unwrap();
    }
    used
}

/// PRO-19
#[actix::test]
async fn small_deliveries_do_not_keep_the_blocks_of_large_ones() {
    let count = if is_full() { 5000 } else { 1000 };
    check(small_between_large(count).await, 10 * MIB);
}

/// Sends `count` deliveries to a consumer that handles none, and returns the most memory meanwhile and whether the
/// consumer was cancelled for it. The peer sends without regard to `basic.cancel` and to the prefetch.
async fn unhandled(
    set: impl FnOnce(&mut ConnectionOptions),
    prefetch: u16,
    count: u64,
    bytes: usize,
) -> usize {
    let memory = Memory::start().await;
    let mut bench = Bench::open_with(&HandshakeScript::new().tune(2047, 131_072, 0), set).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let deliveries = bench.consume_as(&channel, Consume::new().tag(TAG).prefetch(prefetch)).await;
    let names =
        |delivery_tag| basic::Deliver { consumer_tag: TAG.into(), delivery_tag, ..Default::default() };
    let frames = PeerMessage::from(vec![b'x'; bytes]).body_frame_size(131_064).frames(1, 131_072);
    let mut most = 0;
    for tag in 1..=count {
        bench.socket.send_frames(&[RawFrame::method(1, names(tag))]).await.unwrap();
        bench.socket.send_frames(&frames).await.unwrap();
        most = most.max(memory.used());
    }
    assert_eq!(bench.socket.expect::<basic::Cancel>(1).await.unwrap().consumer_tag.as_str(), TAG);
    drop(deliveries);
    most
}

/// PRO-19: what comes over the bound returns to the queue: the consumer starts again with a smaller prefetch.
#[actix::test]
async fn prefetched_deliveries_are_bounded_in_bytes() {
    let (limit, bytes) = match is_full() {
        true => (ConnectionOptions::default().prefetch_bytes, 2_000_000),
        false => (8 * MIB, 300_000),
    };
    let set = |options: &mut ConnectionOptions| options.prefetch_bytes = limit;
    check(unhandled(set, 250, 250, bytes).await, limit + limit / 2);
}

/// PRO-19: a peer that sends beyond the prefetch is not read, until the consumer is cancelled as too slow.
#[actix::test]
async fn deliveries_beyond_the_prefetch_are_bounded_in_bytes() {
    let defaults = ConnectionOptions::default();
    let (prefetched, read_ahead, count, bytes) = match is_full() {
        true => (defaults.prefetch_bytes, defaults.read_ahead, 2000, 1_000_000),
        false => (8 * MIB, 4 * MIB, 250, 300_000),
    };
    let set = |options: &mut ConnectionOptions| {
        options.prefetch_bytes = prefetched;
        options.read_ahead = read_ahead;
        options.stall_limit = std::time::Duration::from_millis(200);
    };
    check(unhandled(set, 10, count, bytes).await, prefetched + prefetched / 2 + read_ahead);
}
