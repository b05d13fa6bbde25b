//! The broker closes connections, as an operator has it do.

use std::time::Instant;

use actix_pika::Connector;

use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    story::Told,
    support::{broker::Vhost, eventually},
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
            1 => {
                close_one(&vhost, &traffic.publishing, &reason).await;
                close_one(&vhost, &traffic.consuming, &reason).await;
            }
            _ if random.bool() => close_one(&vhost, &traffic.publishing, &reason).await,
            _ => close_one(&vhost, &traffic.consuming, &reason).await,
        }
        traffic.is_lost(lost).await;
        traffic.flows(Instant::now(), 2 * n + 2, 2 * row.faults).await;
    }
    traffic.finish(row).await;
}

/// Closes a connection that is open. It is not looked up: the list names those that are gone for a while, and they can be
/// "closed" again.
async fn close_one(vhost: &Vhost, told: &Told, reason: &str) {
    eventually("a connection to close", 30, async || {
        let (local, peer) = (told.connection.local_addr()?, told.connection.peer_addr()?);
        vhost.try_delete_connection(&format!("{local} -> {peer}"), reason).await.then_some(())
    })
    .await;
}
