//! The node is killed under way, and started again.

use std::time::{Duration, Instant};

use actix_pika::Connector;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::broker::{Broker, SecondNode, Vhost},
    traffic::{Terms, Traffic},
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let node = SecondNode::start().await;
    let leaks = Leaks::look();
    let vhost = Vhost::fresh_on(node.broker()).await;
    row.messages = plan.pick(200_000, 2_000);
    row.faults = plan.pick(20, 1);
    let mut random = plan.random(row.part);
    let terms = Terms::new(row.messages, random.u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL");
    let mut traffic = Traffic::start(leaks, connector, terms).await;
    node.sync().await;
    for n in 0..row.faults {
        traffic.allow(2 * n + 1, 2 * row.faults);
        tokio::time::sleep(Duration::from_millis(random.u64(..500))).await;
        node.kill9().await;
        node.start_again().await;
        elect(node.broker()).await;
        traffic.flows(Instant::now(), 2 * n + 2, 2 * row.faults).await;
    }
    traffic.finish(row).await;
}

/// Has every quorum queue elect its leader. RabbitMQ 3.10.8 forgets that after a start when a `basic.consume` comes before
/// it; the queue has no leader then, and its consumers wait, until it is started again.
async fn elect(broker: &Broker) {
    let quorum =
        "[amqqueue:get_pid(Q) || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue]";
    broker.rabbitmqctl(&["eval", &format!("[ra:trigger_election(Server) || Server <- {quorum}].")]).await;
}
