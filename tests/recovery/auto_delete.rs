//! An auto-delete exchange that goes with the exclusive queues of a lost connection.

use std::time::Duration;

use actix_pika::{DeclareExchange, DeclareQueue, DeliveryStream, Recovery, events::Health};
use futures_util::StreamExt;

use crate::support::{proxy::Cut, robust_connection::RobustConnection, within};

/// Loses a connection with a chain of auto-delete exchanges and `queues` exclusive queues, and checks each binding afterwards.
async fn bindings_come_back(recovery: Recovery, queues: usize, rounds: usize) {
    for round in 0..rounds {
        let mut robust = RobustConnection::connect_with(|connector| connector.recovery(recovery)).await;
        let channel = robust.channel().await;
        for name in ["front", "news"] {
            channel.declare_exchange(DeclareExchange::direct(name).auto_delete(true)).await.unwrap();
        }
        let mut streams: Vec<DeliveryStream> = Vec::new();
        for n in 0..queues {
            let key = n.to_string();
            channel.exchange("news").bind("front", &key).await.unwrap();
            let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
            queue.bind("news", &key).await.unwrap();
            streams.push(queue.deliveries().await.unwrap());
        }
        robust.proxy.cut_all(if round % 2 == 0 { Cut::Rst } else { Cut::Fin });
        robust.wait_for_loss().await;
        robust.wait_for_recovery().await;
        robust.wait_for_health(Health::is_up).await;
        for (n, stream) in streams.iter_mut().enumerate() {
            within("a publish", 5, channel.exchange("front").publish("m", &n.to_string())).await.unwrap();
            within("a delivery", 5, stream.next()).await.unwrap().ack().unwrap();
        }
        within("close", 10, robust.connection.close()).await.unwrap();
    }
}

/// REC-54: every binding is back when the broker removes the queues of the lost connection after a fast reconnect.
#[actix::test]
async fn bindings_of_an_auto_delete_exchange_survive_a_fast_reconnect() {
    bindings_come_back(Recovery::fixed(Duration::from_millis(1)), 100, 4).await;
}

/// REC-54: every binding is back with the default recovery when the broker needs longer to remove more queues.
#[actix::test]
async fn bindings_of_an_auto_delete_exchange_survive_the_default_recovery() {
    bindings_come_back(Recovery::default(), 200, 4).await;
}
