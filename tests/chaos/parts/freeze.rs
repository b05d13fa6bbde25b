//! The node stops for a while, its sockets open, and goes on.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use actix_pika::Connector;
use futures_util::FutureExt;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::broker::{SecondNode, Vhost},
    traffic::{Terms, Traffic},
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let node = SecondNode::start().await;
    let leaks = Leaks::look();
    let vhost = Vhost::fresh_on(node.broker()).await;
    row.messages = plan.pick(20_000, 2_000);
    row.faults = 1;
    let heartbeat = plan.pick(Duration::from_secs(5), Duration::from_secs(1));
    let lasts = heartbeat * 6;
    let terms = Terms::new(row.messages, plan.random(row.part).u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL").heartbeat(heartbeat);
    let mut traffic = Traffic::start(leaks, connector, terms).await;
    node.sync().await;
    traffic.flows(Instant::now(), 1, 3).await;

    let stopped = Instant::now();
    node.pause().await;
    traffic.allow(2, 3);
    let noticed = AssertUnwindSafe(async {
        traffic.publishing.until("a loss", 120, |story| story.lost > 0).await;
        traffic.consuming.until("a loss", 120, |story| story.lost > 0).await;
        stopped.elapsed()
    });
    let noticed = noticed.catch_unwind().await;
    tokio::time::sleep(lasts.saturating_sub(stopped.elapsed())).await;
    // Whatever came of it: the next part needs the node.
    node.resume().await;
    let since = Instant::now();
    let noticed = noticed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    row.silent = Some((noticed, heartbeat * 2 + Duration::from_secs(1)));
    traffic.flows(since, 3, 3).await;
    traffic.finish(row).await;
}
