//! Nodes that refuse a reconnect, and the pauses of the default recovery over outages in a row.

use std::time::Duration;

use crate::support::{
    broker::Vhost,
    eventually,
    proxy::{Cut, Proxy},
    robust_connection::RobustConnection,
    take, within,
};
use actix_pika::{
    ConnectionEvent, Connector, Delivery, ErrorKind, Recovery, connect,
    testing::{HandshakeScript, HandshakeStep, Peer, Probe},
};
use futures_util::StreamExt;

/// REC-66: another connection takes the only place of the virtual host.
#[actix::test]
async fn a_limit_of_connections_is_waited_out() {
    let short = Recovery::fixed(Duration::from_millis(200));
    let mut robust = RobustConnection::connect_with(|connector| connector.recovery(short)).await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume(probe.recipient()).await.unwrap();
    robust.vhost.limit_connections(Some(1)).await;
    robust.disconnect().await;
    let url = robust.vhost.url();
    let other = eventually("the free place", 20, async || connect(url.as_str()).await.ok()).await;
    robust.proxy.accept_new().await;
    let mut refused = 0;
    while refused < 3 {
        let event = within("an event", 30, robust.events.next()).await.unwrap();
        if let ConnectionEvent::Retrying { error, .. } = event
            && error.code() == Some(530)
        {
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Limit, true), "{error}");
            refused += 1;
        }
    }
    within("close", 10, other.close()).await.unwrap();
    assert!(robust.wait_for_recovery().await.is_empty());
    within("a publish", 10, channel.default_exchange().publish("work", "jobs")).await.unwrap();
    within("the delivery", 10, take(&mut probe, 1)).await.remove(0).ack().unwrap();
}

/// REC-66: a reconnect goes on to the next address when one node of several refuses the login.
#[actix::test]
async fn a_reconnect_passes_over_a_node_that_refuses_the_login() {
    let vhost = Vhost::fresh().await;
    let good = Proxy::to(&vhost.broker().address());
    let peer = Peer::listen().await.unwrap().time_limit(Duration::from_secs(120));
    let refusing = Proxy::to(&peer.addr().to_string());
    actix_rt::spawn(async move {
        let script = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED");
        while let Ok(mut socket) = peer.accept().await {
            let _ = socket.handshake_with(&script).await;
        }
    });
    refusing.refuse_new().await;
    let connector = Connector::from_uris([refusing.url(&vhost.url()), good.url(&vhost.url())]).unwrap();
    let connector = connector.recovery(Recovery::fixed(Duration::from_millis(300)));
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let mut events = connection.events();
    refusing.accept_new().await;
    good.cut_all(Cut::Rst);
    let recovered = async {
        loop {
            match events.next().await.unwrap() {
                ConnectionEvent::Recovered { skipped, .. } => break skipped,
                ConnectionEvent::Closed(cause) => panic!("{cause:?}"),
                _ => {}
            }
        }
    };
    assert!(within("the recovery", 20, recovered).await.is_empty());
    assert_eq!((refusing.accepted_count(), good.accepted_count()), (1, 2));
}

/// REC-65: by default no attempt waits for more than 5 s, and a few stable seconds start the count anew.
#[actix::test]
async fn a_second_outage_begins_with_short_pauses() {
    let mut robust =
        RobustConnection::connect_with(|connector| connector.recovery(Recovery::default())).await;
    for outage in 1..=2 {
        robust.proxy.refuse_new().await;
        robust.proxy.cut_all(Cut::Rst);
        for number in 1..=6 {
            let attempt = async {
                loop {
                    if let ConnectionEvent::Retrying { attempt, delay, .. } =
                        robust.events.next().await.unwrap()
                    {
                        break (attempt, delay);
                    }
                }
            };
            let (attempt, delay) = within("an attempt", 20, attempt).await;
            assert_eq!(attempt, number, "outage {outage}");
            let most = Duration::from_millis(200 << (number - 1)).min(Duration::from_secs(5));
            assert!(delay <= most, "outage {outage}: attempt {number} in {delay:?}");
        }
        robust.proxy.accept_new().await;
        robust.wait_for_recovery().await;
        // The connection has to stand for 5 seconds.
        tokio::time::sleep(Duration::from_millis(5500)).await;
    }
}
