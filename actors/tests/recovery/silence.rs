//! Channels that the broker does not open again.

use std::time::Duration;

use actix_pika_actors::{
    AwaitReady, ConnectionEvent, Degradation, EntityKind, GetHealth, GetMissing, Health, MissingEntity,
    NextTry, OpenChannel,
    testing::protocol::{channel as methods, confirm},
};

use super::common::{at_once, recovery::RecoveryBench};

/// Waits until one thing is missing for which `is` holds.
async fn missing(test: &RecoveryBench, is: impl Fn(&MissingEntity) -> bool) -> MissingEntity {
    at_once("it is missing", async {
        loop {
            let mut missing = test.bench.client.supervisor.send(GetMissing).await.unwrap();
            match missing.pop() {
                Some(one) if is(&one) => return one,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

/// REC-55: a channel whose `channel.open` or `confirm.select` has no reply holds up no other one: the connection is ready,
/// `missing` and the health name the channel, and it comes back when the broker replies.
#[actix::test]
async fn a_channel_that_is_not_opened_again_holds_up_no_other() {
    let mut test = RecoveryBench::start().await;
    let options = OpenChannel::new().deadline(Duration::from_millis(100));
    let silent = test.bench.channel(1, options).await;
    let neighbour = test.bench.channel(2, OpenChannel::new()).await;
    test.disconnect().await;
    test.reconnect().await;
    test.bench.socket.expect::<methods::Open>(1).await.unwrap();
    test.bench.socket.expect::<confirm::Select>(1).await.unwrap();
    test.reopen_channel(2).await;
    assert_eq!(test.bench.socket.expect::<methods::Close>(1).await.unwrap().reply_code, 541);
    loop {
        if let ConnectionEvent::Recovered { skipped, .. } = test.events.next().await.unwrap() {
            assert_eq!(skipped.len(), 1, "{skipped:?}");
            assert_eq!((skipped[0].kind, skipped[0].name.as_str()), (EntityKind::Channel, "1"));
            break;
        }
    }
    at_once("ready", test.bench.client.supervisor.send(AwaitReady::new())).await.unwrap().unwrap();
    test.bench.round_trip(&neighbour).await;
    // The close has no reply either.
    let waits = |one: &MissingEntity| one.kind == EntityKind::Channel && one.next_try == NextTry::AtReconnect;
    let error = missing(&test, waits).await.error.to_string();
    assert!(error.contains("channel.close: no answer within"), "{error}");
    let health = test.bench.client.supervisor.send(GetHealth).await.unwrap();
    let Health::Degraded(reasons) = &health else { panic!("{health:?}") };
    assert!(matches!(&reasons[..], [Degradation::Missing(one)] if one.kind == EntityKind::Channel));
    test.bench.socket.send(1, methods::CloseOk {}).await.unwrap();
    // Another opening without a reply, after the first pause.
    test.bench.socket.open_channel(1).await.unwrap();
    test.bench.socket.expect::<confirm::Select>(1).await.unwrap();
    test.bench.socket.answer(1, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    let error = missing(&test, |one| matches!(one.next_try, NextTry::At(_))).await.error.to_string();
    assert!(error.contains("confirm.select: no answer within"), "{error}");
    test.reopen_channel(1).await;
    at_once("up", async {
        while !test.bench.client.supervisor.send(GetHealth).await.unwrap().is_up() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    test.bench.round_trip(&silent).await;
    assert!(test.bench.client.supervisor.send(GetMissing).await.unwrap().is_empty());
}
