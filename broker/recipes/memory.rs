use std::time::Duration;

use actix_pika::{Connector, DeclareQueue, connect_robust};
use actix_pika_broker::Broker;
use tokio::time::{pause, sleep};

#[actix::test]
async fn a_job_expires_after_an_hour() {
    pause();
    let broker = Broker::builder().start_here();
    let connector = Connector::new(&broker.url()).unwrap().memory(broker.dialer());
    let connection = connect_robust(connector).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let jobs = DeclareQueue::new("jobs").message_ttl(Duration::from_secs(3600));
    channel.declare_queue(jobs).await.unwrap();

    channel.default_exchange().publish("job 1", "jobs").await.unwrap();
    broker.assert_messages("jobs", 1, 0);
    // Takes no time.
    sleep(Duration::from_secs(3601)).await;
    broker.assert_messages("jobs", 0, 0);
}
