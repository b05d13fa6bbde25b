//! Publishing over lost connections and closed channels.

use std::{collections::HashSet, time::Duration};

use crate::support::{
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    within,
};
use actix_pika::{Confirm, ErrorKind, Publishing};

/// Design 13.1, design 13.4, NET-03: over six cuts, each publish is confirmed and arrives, in order except for repeats,
/// and no load is left in the channel.
#[actix::test]
async fn publishes_continue_over_cuts() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("jobs").await.unwrap();
    let exchange = channel.default_exchange();
    let mut confirms: Vec<Confirm> = Vec::new();
    for round in 0..6u32 {
        // The confirms of the second half are lost with the connection.
        for n in 0..100u32 {
            if n == 50 {
                for confirm in confirms.drain(..) {
                    within("a confirm", 20, confirm).await.unwrap();
                }
                robust.proxy.stall(Direction::ToClient);
            }
            let number = round * 100 + n;
            let size = if n % 25 == 24 { 300_000 } else { 10 };
            let mut body = number.to_be_bytes().to_vec();
            body.resize(size, b'x');
            confirms.push(exchange.publish_deferred(body, "jobs").await.unwrap());
        }
        let cut = if round % 2 == 0 { Cut::Rst } else { Cut::Fin };
        robust.proxy.cut_all(cut);
        robust.proxy.resume(Direction::ToClient);
        robust.wait_for_loss().await;
        let skipped = robust.wait_for_recovery().await;
        assert!(skipped.is_empty(), "{skipped:?}");
    }
    for (n, confirm) in (551..).zip(confirms) {
        assert_eq!(within("a confirm", 20, confirm).await.unwrap().sequence(), Some(n));
    }
    let load = channel.load();
    assert_eq!((load.unconfirmed, load.bytes, load.waiting), (0, 0, 0));
    let (mut seen, mut last, mut repeats) = (HashSet::new(), None, 0);
    while let Some(delivery) = channel.queue("jobs").get().await.unwrap() {
        let number = u32::from_be_bytes(*delivery.body().first_chunk().unwrap());
        if seen.insert(number) {
            assert_eq!(number, last.map_or(0, |last| last + 1));
            last = Some(number);
        } else {
            repeats += 1;
        }
        delivery.ack().unwrap();
    }
    assert_eq!(last, Some(599));
    assert!(repeats <= 6 * 50, "{repeats}");
    within("close", 10, robust.connection.close()).await.unwrap();
}

/// Design 13.1, CH-16: each publish to a missing exchange fails and closes the channel, which is reopened; other
/// publishes are confirmed.
#[actix::test]
async fn publishes_to_a_missing_exchange_leave_others_confirmed() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("jobs").await.unwrap();
    let (exchange, missing) = (channel.default_exchange(), channel.exchange("missing"));
    for _ in 0..3 {
        let error = within("a result", 10, missing.publish("x", "jobs")).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, false));
        assert_eq!(error.close_reason().unwrap().code, 404);
        let next = exchange.publish(Publishing::new("y").resend(false), "jobs");
        within("a result", 10, next).await.unwrap();
    }
    let count = within("a purge", 10, channel.queue("jobs").purge()).await.unwrap();
    assert_eq!(count, 3);
    tokio::time::timeout(Duration::from_secs(10), robust.connection.close()).await.unwrap().unwrap();
}
