//! How often a quorum queue has delivered a message, and which settles count toward its delivery limit.

use crate::support::{broker::Line, get_message, modes::Bench, take, within};
use actix_pika::{Channel, Consume, DeclareQueue, Delivery, Queue, message::DeathReason, testing::Probe};

/// Declares a quorum queue with a limit of two redeliveries, and one for its dead letters.
async fn declare_limited(channel: &Channel) -> (Queue, Queue) {
    let dead = channel.declare_queue("dead").await.unwrap();
    let limited = DeclareQueue::new("limited").quorum().delivery_limit(2);
    let limited = limited.dead_letter_exchange("").dead_letter_routing_key("dead");
    (channel.declare_queue(limited).await.unwrap(), dead)
}

/// Settles the same message up to `times` times, and returns what its headers counted before each settle. Ends early when
/// the message is dead-lettered.
async fn settle_repeatedly(
    bench: &Bench,
    times: usize,
    settle: impl Fn(Delivery),
) -> (Vec<(Option<u64>, Option<u64>)>, bool) {
    let (limited, dead) = declare_limited(&bench.channel).await;
    bench.channel.default_exchange().publish("x", "limited").await.unwrap();
    let (mut probe, mut dead_probe) = (Probe::<Delivery>::start(), Probe::<Delivery>::start());
    limited.consume_with(Consume::new().prefetch(1), probe.recipient()).await.unwrap();
    dead.consume(dead_probe.recipient()).await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..times {
        let delivery = tokio::select! {
            delivery = probe.next() => delivery.unwrap(),
            dead = dead_probe.next() => {
                let dead = dead.unwrap();
                assert_eq!(dead.deaths()[0].reason, DeathReason::DeliveryLimit);
                dead.ack().unwrap();
                return (counts, true);
            }
        };
        counts.push((delivery.acquired_count(), delivery.delivery_count()));
        settle(delivery);
    }
    // The last settle may have been one too many.
    tokio::select! {
        delivery = probe.next() => delivery.unwrap().ack().unwrap(),
        dead = dead_probe.next() => {
            dead.unwrap().ack().unwrap();
            return (counts, true);
        }
    }
    (counts, false)
}

/// What the headers of the first deliveries say on a line where `failed` of the settles count.
fn counted(line: Line, times: u64, count: bool) -> Vec<(Option<u64>, Option<u64>)> {
    let present = |n: u64| (n > 0).then_some(n);
    (0..times)
        .map(|n| {
            let failed = if count { n } else { 0 };
            match line {
                line if line < Line(4, 3) => (None, present(failed)),
                _ => (present(n), present(failed)),
            }
        })
        .collect()
}

crate::modes! {
    /// TOP-36: `reject` with requeue counts as a failure on every line, and the third one exceeds a limit of two.
    async fn reject_counts_toward_the_delivery_limit(bench: Bench) {
        let line = bench.vhost.broker().line().await;
        let (counts, dead) = settle_repeatedly(&bench, 5, |delivery| delivery.reject(true).unwrap()).await;
        assert_eq!((counts, dead), (counted(line, 3, true), true));
    }

    /// TOP-36: `nack` with requeue counts up to 4.2. From 4.3 on it only counts as a delivery (`x-acquired-count`), so a
    /// consumer can hand back what it has not begun as often as it likes.
    async fn nack_counts_toward_the_delivery_limit_of_older_lines_only(bench: Bench) {
        let line = bench.vhost.broker().line().await;
        let (counts, dead) = settle_repeatedly(&bench, 25, |delivery| delivery.nack(true).unwrap()).await;
        if line.nack_counts() {
            assert_eq!((counts, dead), (counted(line, 3, true), true));
        } else {
            assert_eq!((counts, dead), (counted(line, 25, false), false));
        }
    }

    /// TOP-36: a channel that closes with an unsettled delivery counts as a failure on every line.
    async fn a_closed_channel_counts_toward_the_delivery_limit(bench: Bench) {
        let line = bench.vhost.broker().line().await;
        let (limited, dead) = declare_limited(&bench.channel).await;
        bench.channel.default_exchange().publish("x", "limited").await.unwrap();
        let mut counts = Vec::new();
        for _ in 0..3 {
            let channel = bench.another_channel().await;
            let mut probe = Probe::<Delivery>::start();
            channel.queue("limited").consume(probe.recipient()).await.unwrap();
            let delivery = take(&mut probe, 1).await.remove(0);
            counts.push((delivery.acquired_count(), delivery.delivery_count()));
            // Closed before the delivery is dropped, which would requeue it with a frame.
            within("close", 10, channel.close()).await.unwrap();
        }
        assert_eq!(counts, counted(line, 3, true));
        let dead = get_message(&dead).await;
        assert_eq!(dead.deaths()[0].reason, DeathReason::DeliveryLimit);
        dead.ack().unwrap();
        assert!(limited.get().await.unwrap().is_none());
    }
}
