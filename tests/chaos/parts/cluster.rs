//! The three nodes of a cluster are killed in turn, and started again.

use std::time::{Duration, Instant};

use actix_pika::{Connector, DeclareQueue};

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::broker::{Cluster, Vhost},
    traffic::{Traffic, TrafficConfig},
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let Some(cluster) = Cluster::start().await else { return };
    let leaks = Leaks::snapshot();
    let vhost = Vhost::fresh_on(cluster.node(1)).await;
    row.messages = plan.pick(100_000, 2_000);
    row.faults = plan.pick(10, 1);
    let mut random = plan.random(row.part);
    let queues = ["one", "other"].map(|name| DeclareQueue::new(name).quorum()).to_vec();
    let config = TrafficConfig { queues, ..TrafficConfig::new(row.messages, random.u64(..)) };
    let urls = [1, 2, 3].map(|number| cluster.node(number).url(vhost.name()));
    let connector = || Connector::from_uris(&urls).expect("URLs");
    let mut traffic = Traffic::start(leaks, connector, config).await;
    for n in 0..row.faults {
        let node = 1 + (n % 3) as usize;
        traffic.allow_share(3 * n + 1, 3 * row.faults);
        tokio::time::sleep(Duration::from_millis(random.u64(..500))).await;
        cluster.kill(node).await;
        // Two of three nodes are enough once they have elected leaders.
        cluster.node(1 + node % 3).wait_for_leaders().await;
        traffic.wait_for_flow(Instant::now(), 3 * n + 2, 3 * row.faults).await;
        cluster.start_again(node).await;
        traffic.wait_for_flow(Instant::now(), 3 * n + 3, 3 * row.faults).await;
    }
    traffic.finish(row).await;
}
