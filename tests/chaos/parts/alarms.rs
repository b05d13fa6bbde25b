//! The broker raises a memory alarm repeatedly, and accepts no publishes during it.

use std::time::{Duration, Instant};

use actix_pika::Connector;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::broker::{Alarm, SecondNode, Vhost},
    traffic::{Traffic, TrafficConfig},
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let node = SecondNode::start().await;
    let leaks = Leaks::snapshot();
    let vhost = Vhost::fresh_on(node.broker()).await;
    row.messages = plan.pick(200_000, 2_000);
    row.faults = plan.pick(20, 2);
    let duration = plan.pick(Duration::from_secs(5), Duration::from_millis(200));
    let config = TrafficConfig::new(row.messages, plan.random(row.part).u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL");
    let mut traffic = Traffic::start(leaks, connector, config).await;
    for n in 0..row.faults {
        node.alarm(Alarm::Memory).await;
        traffic.allow_share(2 * n + 1, 2 * row.faults);
        let history = traffic.publishing.wait_for("blocked", 60, |history| history.blocked > n).await;
        tokio::time::sleep(duration).await;
        node.end_alarm(Alarm::Memory).await;
        let since = Instant::now();
        let blocked = history.blocked;
        traffic.publishing.wait_for("unblocked", 60, |history| history.unblocked == blocked).await;
        traffic.wait_for_flow(since, 2 * n + 2, 2 * row.faults).await;
    }
    let losses = traffic.losses();
    traffic.finish(row).await;
    if losses > 0 {
        row.fail(format!("{losses} connections were lost"));
    }
    if row.blocked != row.faults {
        row.fail(format!("{} alarms, but {} Blocked events", row.faults, row.blocked));
    }
}
