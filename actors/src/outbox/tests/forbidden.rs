//! Forbidden publishes: one goes to the broker after a pause, and its confirm ends the refusals.

use super::{super::forbidden_place::ForbiddenPlace, *};
use crate::{error::CloseReason, message::Publishing};

#[actix::test]
async fn the_confirm_of_the_publish_that_asks_lets_the_next_ones_through() {
    let (outbox, _flushes) = attached(true, 4096);
    let outbox = Arc::new(outbox);
    let publish = || outbox.try_publish("x", "k", &Publishing::new("body"));
    let before = publish().unwrap().expect("room in the window");
    let text = "ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'u'".to_owned();
    let refused = Error::channel_closed("closed", Some(CloseReason::new(403, text, 60, 40)));
    let past = Instant::now().checked_sub(Duration::from_secs(2)).expect("a machine that runs for longer");
    outbox.missing().forbid(ForbiddenPlace::Exchange("x".to_owned()), refused, past);
    let asks = publish().unwrap().expect("room in the window");
    let error = publish().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(403)));
    assert!(!error.is_retryable() && !error.may_have_arrived(), "{error}");
    assert!(outbox.try_publish("y", "k", &Publishing::new("body")).unwrap().is_some());
    take_all(&outbox, 1 << 16);
    outbox.ack(1, false).unwrap();
    assert!(publish().is_err(), "the confirm of another publish");
    outbox.ack(2, false).unwrap();
    assert!(publish().unwrap().is_some() && !outbox.missing().is_any());
    before.await.unwrap();
    asks.await.unwrap();
}
