//! The broker closes connections at the request of an operator.

use std::time::Instant;

use actix_pika::Connector;

use crate::{
    history::WatchedConnection,
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::{broker::Vhost, eventually},
    traffic::{Traffic, TrafficConfig},
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let leaks = Leaks::snapshot();
    let vhost = Vhost::fresh().await;
    row.messages = plan.pick(200_000, 3_000);
    row.faults = plan.pick(200, 6);
    let mut random = plan.random(row.part);
    let config = TrafficConfig::new(row.messages, random.u64(..));
    let connector = || Connector::new(&vhost.url()).expect("a URL");
    let mut traffic = Traffic::start(leaks, connector, config).await;
    for n in 0..row.faults {
        traffic.allow_share(2 * n + 1, 2 * row.faults);
        let losses = traffic.losses();
        let reason = format!("close {n}");
        // One connection or all. rabbitmqctl reaches the project's own node only.
        match random.u8(..4) {
            0 if vhost.broker().is_own() => {
                let close = ["-q", "close_all_connections", "--vhost", vhost.name(), &reason];
                vhost.rabbitmqctl(&close).await;
            }
            1 => {
                close_one(&vhost, &traffic.publishing, &reason).await;
                close_one(&vhost, &traffic.consuming, &reason).await;
            }
            _ if random.bool() => close_one(&vhost, &traffic.publishing, &reason).await,
            _ => close_one(&vhost, &traffic.consuming, &reason).await,
        }
        traffic.wait_for_loss(losses).await;
        traffic.wait_for_flow(Instant::now(), 2 * n + 2, 2 * row.faults).await;
    }
    traffic.finish(row).await;
}

/// Closes the current connection by its addresses. The list of connections is not used, because it contains closed
/// connections for a while, and closing one of them succeeds.
pub(super) async fn close_one(vhost: &Vhost, watched: &WatchedConnection, reason: &str) {
    eventually("a connection to close", 30, async || {
        let (local, peer) = (watched.connection.local_addr()?, watched.connection.peer_addr()?);
        vhost.try_delete_connection(&format!("{local} -> {peer}"), reason).await.then_some(())
    })
    .await;
}
