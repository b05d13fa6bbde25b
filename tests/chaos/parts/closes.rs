//! The broker closes connections, as an operator has it do.

use std::time::Instant;

use actix_pika::Connector;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::broker::Vhost,
    traffic::{Terms, Traffic},
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let leaks = Leaks::look();
    let vhost = Vhost::fresh().await;
    row.messages = plan.pick(200_000, 3_000);
    row.faults = plan.pick(200, 6);
    let mut random = plan.random(row.part);
    let terms = Terms::new(row.messages, random.u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL");
    let mut traffic = Traffic::start(leaks, connector, terms).await;
    for n in 0..row.faults {
        traffic.allow(2 * n + 1, 2 * row.faults);
        let lost = traffic.lost();
        let reason = format!("close {n}");
        // One connection, or all; rabbitmqctl reaches the project's own node only.
        match random.u8(..4) {
            0 if vhost.broker().is_own() => {
                let close = ["-q", "close_all_connections", "--vhost", vhost.name(), &reason];
                vhost.rabbitmqctl(&close).await;
            }
            1 => drop(vhost.delete_connections(&reason).await),
            _ => close_one(&vhost, &mut random, &reason).await,
        }
        traffic.is_lost(lost).await;
        traffic.flows(Instant::now(), 2 * n + 2, 2 * row.faults).await;
    }
    traffic.finish(row).await;
}

/// Closes one; the list may still name one that is gone.
async fn close_one(vhost: &Vhost, random: &mut fastrand::Rng, reason: &str) {
    for _ in 0..100 {
        let mut connections = vhost.connections().await;
        random.shuffle(&mut connections);
        for connection in &connections {
            let name = connection["name"].as_str().expect("a connection's name");
            if vhost.try_delete_connection(name, reason).await {
                return;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no connection to close");
}
