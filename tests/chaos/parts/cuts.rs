//! The network cuts connections at random bytes, with a FIN or a reset, or drops everything without a sign.

use std::time::{Duration, Instant};

use actix_pika::Connector;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::{broker::Vhost, proxy::*},
    traffic::{Traffic, TrafficConfig},
};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A silent peer is noticed after two heartbeats and a margin.
const SILENT_LIMIT: Duration = Duration::from_secs(3);

pub async fn run(row: &mut Row, plan: &Plan) {
    let leaks = Leaks::snapshot();
    let vhost = Vhost::fresh().await;
    let proxy = Proxy::to(&vhost.broker().address());
    row.messages = plan.pick(1_000_000, 6_000);
    row.faults = plan.pick(200, 12);
    let stalls = plan.pick(20, 1);
    let mut random = plan.random(row.part);
    let config = TrafficConfig::new(row.messages, random.u64(..));
    let connector = || Connector::new(&proxy.url(&vhost.url())).expect("a URL").heartbeat(HEARTBEAT);
    let mut traffic = Traffic::start(leaks, connector, config).await;

    let mut kinds: Vec<bool> = (0..row.faults).map(|n| n < stalls).collect();
    random.shuffle(&mut kinds);
    let mut slowest_notice = Duration::ZERO;
    for (n, stall) in kinds.into_iter().enumerate() {
        // Half of the messages for this fault are sent during it, the other half after it.
        let share = 2 * n as u64;
        traffic.allow_share(share + 1, 2 * row.faults);
        let since = if stall {
            slowest_notice = slowest_notice.max(go_silent(&proxy, &traffic, &mut random).await);
            Instant::now()
        } else {
            cut(&proxy, &traffic, &mut random, row.messages / row.faults).await
        };
        traffic.wait_for_flow(since, share + 2, 2 * row.faults).await;
    }
    row.silent_peer = Some((slowest_notice, SILENT_LIMIT));
    traffic.finish(row).await;
}

/// Cuts once and returns when. In one of four cases, the next connections are cut as well: in the handshake, during
/// topology recovery, or while publishes are resent.
async fn cut(proxy: &Proxy, traffic: &Traffic, random: &mut fastrand::Rng, messages: u64) -> Instant {
    let how = if random.bool() { Cut::Fin } else { Cut::Rst };
    let direction = if random.bool() { Direction::ToBroker } else { Direction::ToClient };
    let before = traffic.losses();
    proxy.cut_once_after(direction, random.u64(1..messages * 80), how);
    if tokio::time::timeout(Duration::from_secs(5), traffic.wait_for_loss(before)).await.is_err() {
        // Too few bytes went this way.
        proxy.stop_cutting();
        proxy.cut_all(how);
        traffic.wait_for_loss(before).await;
    }
    if random.u8(..4) == 0 {
        let accepted = proxy.accepted_count();
        let bytes = if random.bool() { 2_000 } else { 200_000 };
        proxy.cut_each_after(direction, random.u64(1..bytes), how);
        // Fewer bytes may go this way.
        let again = tokio::time::timeout(Duration::from_secs(3), proxy.wait_for_accepted(accepted + 2));
        again.await.ok();
        proxy.stop_cutting();
        return Instant::now();
    }
    let histories = [traffic.publishing.history(), traffic.consuming.history()];
    histories.iter().filter_map(|history| history.lost_at).max().unwrap_or_else(Instant::now)
}

/// Stalls the network until both connections notice, and returns how long that took.
async fn go_silent(proxy: &Proxy, traffic: &Traffic, random: &mut fastrand::Rng) -> Duration {
    let losses = [&traffic.publishing, &traffic.consuming].map(|watched| watched.history().losses);
    tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
    let since = Instant::now();
    let direction = if random.bool() { Direction::Both } else { Direction::ToClient };
    proxy.stall(direction);
    traffic.publishing.wait_for_loss(losses[0]).await;
    traffic.consuming.wait_for_loss(losses[1]).await;
    let noticed = since.elapsed();
    proxy.resume(direction);
    noticed
}
