//! An auto-delete exchange that goes with the exclusive queues of a lost connection.

use std::time::Duration;

use actix_pika::{Connector, DeclareExchange, DeclareQueue, Recovery};
use futures_util::StreamExt;

use super::{healthy, recovered};
use crate::support::{
    broker::Vhost,
    proxy::{Cut, Proxy},
    within,
};

/// Loses a connection with an auto-delete exchange and `queues` exclusive queues, and checks each binding afterwards.
async fn bindings_come_back(recovery: Recovery, queues: usize, rounds: usize) {
    for round in 0..rounds {
        let vhost = Vhost::fresh().await;
        let proxy = Proxy::to(&vhost.broker().address());
        let connector = Connector::new(&proxy.url(&vhost.url())).unwrap().recovery(recovery);
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        let news = DeclareExchange::direct("news").auto_delete(true);
        let exchange = channel.declare_exchange(news).await.unwrap();
        let mut streams = Vec::new();
        for n in 0..queues {
            let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
            queue.bind("news", &n.to_string()).await.unwrap();
            streams.push(queue.deliveries().await.unwrap());
        }
        let mut events = connection.events();
        proxy.cut_all(if round % 2 == 0 { Cut::Rst } else { Cut::Fin });
        recovered(&mut events).await;
        healthy(&connection, 5).await;
        for (n, stream) in streams.iter_mut().enumerate() {
            within("a publish", 5, exchange.publish("m", &n.to_string())).await.unwrap();
            within("a delivery", 5, stream.next()).await.unwrap().ack().unwrap();
        }
        within("close", 10, connection.close()).await.unwrap();
    }
}

/// Every binding is back when the broker removes the queues of the lost connection after a fast reconnect.
#[actix::test]
#[ignore = "known fault: the exchange deletes itself after it was declared again, and its bindings stay away"]
async fn bindings_of_an_auto_delete_exchange_survive_a_fast_reconnect() {
    bindings_come_back(Recovery::fixed(Duration::from_millis(1)), 100, 4).await;
}

/// Every binding is back with the default recovery when the broker needs longer to remove more queues.
#[actix::test]
#[ignore = "known fault: the exchange deletes itself after it was declared again, and its bindings stay away"]
async fn bindings_of_an_auto_delete_exchange_survive_the_default_recovery() {
    bindings_come_back(Recovery::default(), 200, 8).await;
}
