use std::{collections::BTreeSet, time::Duration};

use actix_pika::{ConnectionEvent, Connector, Consume, connect_robust};
use actix_pika_broker::Broker;
use futures_util::StreamExt;
use tokio::time::{pause, timeout};

const LIMIT: Duration = Duration::from_secs(60);

#[actix::test]
async fn a_cut_loses_nothing() {
    pause();
    let broker = Broker::builder().start_here();
    let connector = Connector::new(&broker.url()).unwrap().memory(broker.dialer());
    let connection = connect_robust(connector).await.unwrap();
    let mut events = connection.events();
    let channel = connection.channel().await.unwrap();
    let jobs = channel.declare_queue("jobs").await.unwrap();
    for n in 0..100 {
        channel.default_exchange().publish(format!("job {n}"), "jobs").await.unwrap();
    }

    let cut = broker.connections()[0].id;
    // In the middle of a delivery.
    assert!(broker.cut_after(cut, 2000));
    let mut deliveries = jobs.deliveries_with(Consume::new().prefetch(10)).await.unwrap();
    let mut distinct = BTreeSet::new();
    let mut came = 0;
    let consume = async {
        while let Some(delivery) = deliveries.next().await {
            came += 1;
            distinct.insert(delivery.body().to_vec());
            // One from before the cut cannot be acked any more: it comes again.
            let _ = delivery.ack();
        }
    };
    // Not until 100 have come, since some come twice.
    let empty = broker.until(|state| state.ready("jobs") + state.unacked("jobs") == 0);
    let consumed = async {
        tokio::select! {
            () = empty => {}
            () = consume => panic!("the consumer has ended"),
        }
    };
    timeout(LIMIT, consumed).await.unwrap();
    assert_eq!(distinct.len(), 100);
    assert!(came >= 100);

    // It was cut: the connection is another one, and the client has told of it.
    assert!(broker.connections().iter().all(|connection| connection.id != cut));
    let recovered =
        async { while !matches!(events.next().await, Some(ConnectionEvent::Recovered { .. })) {} };
    timeout(LIMIT, recovered).await.unwrap();
}
