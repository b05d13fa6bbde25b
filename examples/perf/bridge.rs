//! A bridge with a thousand actors, one of which is stuck.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use actix::prelude::*;
use actix_pika::{
    Result,
    bridge::{BridgeEvent, Subscription},
    connect,
};

use super::{Args, Meter};

const SUBSCRIBERS: u64 = 1000;
/// The bound of each subscriber, and the most messages that are published before they are handled.
const BOUND: usize = 64;
const AHEAD: u64 = 32;

/// Counts what it gets, unless it is stuck.
struct Subscriber {
    handled: Arc<AtomicU64>,
    is_stuck: bool,
}

impl Actor for Subscriber {
    type Context = Context<Self>;
}

impl Handler<BridgeEvent> for Subscriber {
    type Result = ();

    fn handle(&mut self, event: BridgeEvent, ctx: &mut Self::Context) {
        if self.is_stuck {
            ctx.wait(actix::fut::wrap_future(std::future::pending()));
        } else if let BridgeEvent::Message(_) = event {
            self.handled.fetch_add(1, Relaxed);
        }
    }
}

/// Publishes messages, and waits until all subscribers but the stuck one have handled them.
pub(super) async fn bridge(args: &Args) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let channel = connection.channel().await?;
    let exchange = channel.exchange("amq.topic");
    let bridge = exchange.bridge().prefetch(args.prefetch).start().await?;
    let handled = Arc::new(AtomicU64::new(0));
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for n in 0..SUBSCRIBERS {
        let actor = Subscriber { handled: handled.clone(), is_stuck: n == 0 }.start();
        let pattern = ["#", "perf.*", "perf.#"][n as usize % 3];
        subscriptions.push(bridge.subscribe(pattern, BOUND, actor).await?);
    }
    let others = SUBSCRIBERS - 1;
    let until_handled = async |messages: u64| {
        while handled.load(Relaxed) < messages * others {
            tokio::task::yield_now().await;
        }
    };
    let mut meter = Meter::start();
    for n in 0..args.messages {
        until_handled(n.saturating_sub(AHEAD)).await;
        drop(exchange.publish_deferred(args.publishing(), "perf.a").await?);
    }
    until_handled(args.messages).await;
    meter.stop();
    let lost: Vec<u64> = subscriptions.iter().map(Subscription::lost).collect();
    let stats = bridge.stats();
    eprintln!("{stats:?}; the stuck one has lost {}", lost[0]);
    let verified = lost[1..].iter().all(|lost| *lost == 0) && stats.received == args.messages;
    connection.close().await?;
    Ok((meter, verified))
}
