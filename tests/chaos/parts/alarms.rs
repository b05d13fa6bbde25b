//! The broker has too little memory, again and again, and takes no publishes meanwhile.

use std::time::{Duration, Instant};

use actix_pika::Connector;

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
    row.messages = plan.pick(200_000, 2_000);
    row.faults = plan.pick(20, 2);
    let lasts = plan.pick(Duration::from_secs(5), Duration::from_millis(200));
    let terms = Terms::new(row.messages, plan.random(row.part).u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL");
    let watermark = async |fraction: &str| {
        node.broker().rabbitmqctl(&["-q", "set_vm_memory_high_watermark", fraction]).await;
    };
    let mut traffic = Traffic::start(leaks, connector, terms).await;
    for n in 0..row.faults {
        watermark("0").await;
        traffic.allow(2 * n + 1, 2 * row.faults);
        let blocked = traffic.publishing.until("the notice", 30, |story| story.blocked > n).await;
        tokio::time::sleep(lasts).await;
        watermark("0.4").await;
        let since = Instant::now();
        traffic
            .publishing
            .until("the end of the alarm", 30, |story| story.unblocked == blocked.blocked)
            .await;
        traffic.flows(since, 2 * n + 2, 2 * row.faults).await;
    }
    let lost = traffic.lost();
    traffic.finish(row).await;
    if lost > 0 {
        row.fail(format!("{lost} connections were lost to an alarm"));
    }
    if row.blocked != row.faults {
        row.fail(format!("{} alarms were told {} times", row.faults, row.blocked));
    }
}
