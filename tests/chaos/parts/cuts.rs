//! The network cuts connections, at any byte, in order or with a reset; or it goes silent.

use std::time::{Duration, Instant};

use actix_pika::Connector;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::{broker::Vhost, proxy::*},
    traffic::{Terms, Traffic},
};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A silent peer is noticed after two heartbeats, and a moment.
const NOTICED: Duration = Duration::from_secs(3);

pub async fn run(row: &mut Row, plan: &Plan) {
    let leaks = Leaks::look();
    let vhost = Vhost::fresh().await;
    let proxy = Proxy::to(&vhost.broker().address());
    row.messages = plan.pick(1_000_000, 6_000);
    row.faults = plan.pick(200, 12);
    let stalls = plan.pick(20, 1);
    let mut random = plan.random(row.part);
    let terms = Terms::new(row.messages, random.u64(..));
    let connector = || Connector::new(&proxy.url(&vhost.url())).expect("a URL").heartbeat(HEARTBEAT);
    let mut traffic = Traffic::start(leaks, connector, terms).await;

    let mut kinds: Vec<bool> = (0..row.faults).map(|n| n < stalls).collect();
    random.shuffle(&mut kinds);
    let mut silent = Duration::ZERO;
    for (n, stall) in kinds.into_iter().enumerate() {
        // Half of what this fault is due goes out with it, so that it has something to hit; half shows that it is over.
        let share = 2 * n as u64;
        traffic.allow(share + 1, 2 * row.faults);
        let since = if stall {
            silent = silent.max(go_silent(&proxy, &traffic, &mut random).await);
            Instant::now()
        } else {
            cut(&proxy, &traffic, &mut random, row.messages / row.faults).await
        };
        traffic.flows(since, share + 2, 2 * row.faults).await;
    }
    row.silent = Some((silent, NOTICED));
    traffic.finish(row).await;
}

/// Cuts once; tells when. Now and then more cuts wait for the next connections: in the handshake, while
/// they restore, or while publishes are sent again.
async fn cut(proxy: &Proxy, traffic: &Traffic, random: &mut fastrand::Rng, messages: u64) -> Instant {
    let how = if random.bool() { Cut::Fin } else { Cut::Rst };
    let way = if random.bool() { Way::Up } else { Way::Down };
    let before = traffic.lost();
    proxy.cut_once_after(way, random.u64(1..messages * 80), how);
    if tokio::time::timeout(Duration::from_secs(5), traffic.is_lost(before)).await.is_err() {
        // Too little went this way.
        proxy.cut_no_more();
        proxy.cut_all(how);
        traffic.is_lost(before).await;
    }
    if random.u8(..4) == 0 {
        let accepted = proxy.accepted_so_far();
        let bytes = if random.bool() { 2_000 } else { 200_000 };
        proxy.cut_each_after(way, random.u64(1..bytes), how);
        // Less may go this way.
        let again = tokio::time::timeout(Duration::from_secs(3), proxy.accepted(accepted + 2));
        again.await.ok();
        proxy.cut_no_more();
        return Instant::now();
    }
    let stories = [traffic.publishing.now(), traffic.consuming.now()];
    stories.iter().filter_map(|story| story.lost_at).max().unwrap_or_else(Instant::now)
}

/// Nothing gets through until both have noticed; tells how long that took.
async fn go_silent(proxy: &Proxy, traffic: &Traffic, random: &mut fastrand::Rng) -> Duration {
    let (one, other) = (traffic.publishing.now().lost, traffic.consuming.now().lost);
    tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
    let since = Instant::now();
    let way = if random.bool() { Way::Both } else { Way::Down };
    proxy.stall(way);
    let lost = async {
        traffic.publishing.until("a loss", 60, |story| story.lost > one).await;
        traffic.consuming.until("a loss", 60, |story| story.lost > other).await;
    };
    lost.await;
    let noticed = since.elapsed();
    proxy.resume(way);
    noticed
}
