//! The process of the node is paused with open sockets, and resumed.

use std::time::{Duration, Instant};

use actix_pika::Connector;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::broker::{SecondNode, Vhost},
    traffic::{Traffic, TrafficConfig},
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let node = SecondNode::start().await;
    let leaks = Leaks::snapshot();
    let vhost = Vhost::fresh_on(node.broker()).await;
    row.messages = plan.pick(20_000, 2_000);
    row.faults = 1;
    let heartbeat = plan.pick(Duration::from_secs(5), Duration::from_secs(1));
    let pause = heartbeat * 6;
    let config = TrafficConfig::new(row.messages, plan.random(row.part).u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL").heartbeat(heartbeat);
    let mut traffic = Traffic::start(leaks, connector, config).await;
    node.sync().await;
    traffic.wait_for_flow(Instant::now(), 1, 3).await;

    let losses = [&traffic.publishing, &traffic.consuming].map(|watched| watched.history().losses);
    node.pause().await;
    let since = Instant::now();
    traffic.allow_share(2, 3);
    traffic.publishing.wait_for_loss(losses[0]).await;
    traffic.consuming.wait_for_loss(losses[1]).await;
    row.silent_peer = Some((since.elapsed(), heartbeat * 2 + Duration::from_secs(1)));
    tokio::time::sleep(pause.saturating_sub(since.elapsed())).await;
    node.resume().await;
    traffic.wait_for_flow(Instant::now(), 3, 3).await;
    traffic.finish(row).await;
}
