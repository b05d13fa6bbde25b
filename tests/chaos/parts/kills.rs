//! The node is killed under load, and started again.

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
    row.messages = plan.pick(200_000, 2_000);
    row.faults = plan.pick(20, 1);
    let mut random = plan.random(row.part);
    let config = TrafficConfig::new(row.messages, random.u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL");
    let mut traffic = Traffic::start(leaks, connector, config).await;
    node.sync().await;
    for n in 0..row.faults {
        traffic.allow_share(2 * n + 1, 2 * row.faults);
        tokio::time::sleep(Duration::from_millis(random.u64(..500))).await;
        node.kill9().await;
        node.start_again().await;
        traffic.wait_for_flow(Instant::now(), 2 * n + 2, 2 * row.faults).await;
    }
    traffic.finish(row).await;
}
