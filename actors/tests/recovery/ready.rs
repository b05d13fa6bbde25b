//! Waiting until a connection is ready again.

use std::{io, time::Duration};

use actix_pika_actors::{
    AwaitReady, CloseConnection, ErrorKind, OpenChannel, Recovery, testing::HandshakeScript,
};

use super::common::{ask, recovery::RecoveryBench};

/// REC-43: callers wait for the recovery, not only for the connection.
#[actix::test]
async fn callers_wait_until_the_recovery_is_complete() {
    let mut test = RecoveryBench::start().await;
    let _channel = test.bench.channel(1, OpenChannel::new()).await;
    let supervisor = test.bench.client.supervisor.clone();
    ask(&supervisor, AwaitReady::new()).answer().await.unwrap();
    test.disconnect().await;
    let waiting = [AwaitReady::new(), AwaitReady::new().within(Duration::from_secs(60))];
    let waiting = waiting.map(|wait| ask(&supervisor, wait));
    ask(&supervisor, AwaitReady::new()).give_up().await;
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    let short =
        ask(&supervisor, AwaitReady::new().within(Duration::from_millis(20))).answer().await.unwrap_err();
    assert_eq!((short.kind(), short.is_retryable()), (ErrorKind::Timeout, true));
    assert!(short.to_string().contains("being recovered"), "{short}");
    assert!(waiting.iter().all(|call| !call.is_answered()));
    test.bench
        .socket
        .answer(1, |_: actix_pika_actors::testing::protocol::confirm::Select| {
            actix_pika_actors::testing::protocol::confirm::SelectOk {}
        })
        .await
        .unwrap();
    for call in waiting {
        call.answer().await.unwrap();
    }
    test.recovered().await;
}

/// REC-43: the error of the limit has the cause of the outage; the end of the connection ends every wait.
#[actix::test]
async fn callers_get_the_cause_of_the_outage_and_of_the_end() {
    let recovery = Recovery::fixed(Duration::from_secs(60));
    let mut test =
        RecoveryBench::start_with(&HandshakeScript::new(), |options| options.recovery = recovery).await;
    test.disconnect().await;
    let supervisor = test.bench.client.supervisor.clone();
    let reset = Some(io::ErrorKind::ConnectionReset);
    let short =
        ask(&supervisor, AwaitReady::new().within(Duration::from_millis(20))).answer().await.unwrap_err();
    assert_eq!((short.kind(), short.io_kind()), (ErrorKind::Timeout, reset), "{short}");
    let waiting = ask(&supervisor, AwaitReady::new());
    ask(&supervisor, CloseConnection::new()).answer().await.unwrap();
    let late = ask(&supervisor, AwaitReady::new());
    for call in [waiting, late] {
        assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    }
}
