//! Three nodes in a cluster, of which one after the other is killed and started again.

use std::time::{Duration, Instant};

use actix_pika::{Connector, DeclareQueue};

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::broker::{Broker, Cluster, Vhost},
    traffic::{Terms, Traffic},
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let cluster = Cluster::start().await;
    let leaks = Leaks::look();
    let vhost = Vhost::fresh_on(cluster.node(1)).await;
    row.messages = plan.pick(100_000, 2_000);
    row.faults = plan.pick(10, 1);
    let mut random = plan.random(row.part);
    let queues = ["one", "other"].map(|name| DeclareQueue::new(name).quorum()).to_vec();
    let terms = Terms { queues, ..Terms::new(row.messages, random.u64(..)) };
    let urls = [1, 2, 3].map(|number| cluster.node(number).url(vhost.name()));
    let connector = || Connector::from_uris(&urls).expect("URLs");
    let mut traffic = Traffic::start(leaks, connector, terms).await;
    for n in 0..row.faults {
        let node = 1 + (n % 3) as usize;
        traffic.allow(3 * n + 1, 3 * row.faults);
        tokio::time::sleep(Duration::from_millis(random.u64(..500))).await;
        cluster.kill(node).await;
        // Two of three are enough, once they have agreed on leaders.
        led(cluster.node(1 + node % 3)).await;
        traffic.flows(Instant::now(), 3 * n + 2, 3 * row.faults).await;
        cluster.start_again(node).await;
        traffic.flows(Instant::now(), 3 * n + 3, 3 * row.faults).await;
    }
    traffic.finish(row).await;
}

/// Waits until each quorum queue has a leader on a node that runs, as this node sees it.
async fn led(broker: &Broker) {
    let wait = "F = fun F(S) -> case ra:members(S, 5000) of {ok, _, {_, N}} -> case net_adm:ping(N) of \
        pong -> ok; _ -> timer:sleep(20), F(S) end; _ -> timer:sleep(20), F(S) end end, \
        [F({element(1, amqqueue:get_pid(Q)), node()}) || Q <- rabbit_amqqueue:list(), \
        amqqueue:get_type(Q) =:= rabbit_quorum_queue].";
    broker.rabbitmqctl(&["eval", wait]).await;
}
