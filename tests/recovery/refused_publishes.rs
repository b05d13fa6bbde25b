//! Publishes and calls that RabbitMQ refuses again and again, on a channel that others use as well.

use actix_pika::{
    Channel, ChannelEvent, Connection, Connector, Consume, DeclareQueue, Delivery, ErrorKind, OpenChannel,
    Publishing, Recovery, testing::Probe,
};
use futures_util::future::join_all;

use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, robust_connection::RobustConnection, within,
};

/// Counts how often a channel was reopened since the last time.
async fn reopened(events: &mut Probe<ChannelEvent>) -> usize {
    let events = events.drain().await;
    events.iter().filter(|event| matches!(event, ChannelEvent::Reopened(_))).count()
}

fn watch(channel: &Channel) -> Probe<ChannelEvent> {
    let events = Probe::start();
    channel.watch(events.recipient());
    events
}

/// Publishes one after the other until `others` are done; returns how many were confirmed.
async fn beside<T>(channel: &Channel, others: impl Future<Output = T>) -> (usize, T) {
    let exchange = channel.default_exchange();
    let mut others = std::pin::pin!(others);
    let mut confirmed = 0;
    loop {
        let publish = exchange.publish(confirmed.to_string(), "shared");
        tokio::select! {
            done = &mut others => return (confirmed, done),
            outcome = publish => outcome.unwrap(),
        };
        confirmed += 1;
    }
}

/// A user that may publish only the topics of the exchange "topics" that begin with "w.".
async fn limited_to_topics() -> (Vhost, Connection) {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("secret").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    Oracle::connect(&vhost.url()).await.declare_exchange("topics", lapin::ExchangeKind::Topic).await;
    vhost.permit_topics(&user, "topics", "^w\\.", ".*").await;
    let connector = Connector::new(&vhost.url_as(&user, "secret")).unwrap().recovery(Recovery::default());
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    (vhost, connection)
}

/// PUB-54: more topics than other places are remembered; each closes the channel once, and no publish beside them fails.
#[actix::test]
async fn ever_new_forbidden_topics_leave_their_neighbours_alone() {
    let (_vhost, connection) = limited_to_topics().await;
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    channel.declare_queue("shared").await.unwrap();
    let mut events = watch(&channel);
    let topics = channel.exchange("topics");
    let all = async || {
        for n in 0..80 {
            let error = topics.publish("wrong", &format!("r.{n}")).await.unwrap_err();
            assert_eq!((error.code(), error.is_retryable()), (Some(403), false), "{n}: {error}");
        }
    };
    let (confirmed, ()) = within("80 topics", 60, beside(&channel, all())).await;
    // The last event is there before the reply to a call.
    channel.declare_queue("shared").await.unwrap();
    assert_eq!(reopened(&mut events).await, 80);
    // One for each close; the last one has its confirm when all is done.
    assert!(confirmed >= 79, "{confirmed}");
    // Some of them ask again, one in a second.
    within("80 topics", 60, beside(&channel, all())).await;
    let again = reopened(&mut events).await;
    assert!(again <= 10, "{again}");
    let allowed = topics.publish(Publishing::new("m").mandatory(false), "w.1");
    within("an allowed topic", 10, allowed).await.unwrap();
    assert!(!channel.is_closed());
}

/// PUB-51: RabbitMQ cuts the routing key of a forbidden topic from its text.
#[actix::test]
async fn a_long_topic_is_refused_once() {
    let (_vhost, connection) = limited_to_topics().await;
    for (confirms, letter) in [(true, "k"), (false, "l")] {
        let key = format!("r.{}", letter.repeat(250));
        let channel = connection.channel_with(OpenChannel::new().confirms(confirms)).await.unwrap();
        channel.declare_queue("shared").await.unwrap();
        let mut events = watch(&channel);
        let topics = channel.exchange("topics");
        eventually("the refusal", 10, async || {
            let error = topics.publish("wrong", &key).await.err()?;
            assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(403)), "{error}");
            Some(())
        })
        .await;
        within("a publish", 10, channel.default_exchange().publish("m", "shared")).await.unwrap();
        channel.declare_queue("shared").await.unwrap();
        assert!(reopened(&mut events).await <= 1, "{confirms}");
    }
}

/// PUB-51: RabbitMQ cuts the name of a missing exchange from its text, for a publish and for a binding.
#[actix::test]
async fn a_missing_exchange_with_a_long_name_is_known() {
    let robust = RobustConnection::connect().await;
    for (by_binding, letter) in [(true, "x"), (false, "y")] {
        let name = letter.repeat(250);
        let channel = robust.connection.channel_with(OpenChannel::new().confirms(false)).await.unwrap();
        let mut events = watch(&channel);
        let queue = channel.declare_queue("shared").await.unwrap();
        if by_binding {
            let error = queue.bind(&name, "k").await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some(404)), "{error}");
        }
        eventually("the refusal", 10, async || {
            let error = channel.exchange(&name).publish("wrong", "k").await.err()?;
            assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
            Some(())
        })
        .await;
        channel.declare_queue("shared").await.unwrap();
        assert!(reopened(&mut events).await <= 1, "{by_binding}");
    }
}

/// PUB-53: publishes under other users' names, and requests without a consumer for replies, close the channel once.
#[actix::test]
async fn a_property_that_is_refused_closes_the_channel_once() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("shared").await.unwrap();
    let mut events = watch(&channel);
    let exchange = channel.default_exchange();
    let exchange = &exchange;
    let wrong = |content: Publishing| async move {
        let error = exchange.publish(content, "shared").await.unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), (Some(406), false), "{error}");
        assert!(!error.may_have_arrived(), "{error}");
    };
    let users = async {
        for n in 0..20 {
            wrong(Publishing::new("wrong").user_id(format!("user {n}"))).await;
        }
    };
    within("20 users", 30, beside(&channel, users)).await;
    // One of them may ask again after a second.
    assert!(reopened(&mut events).await <= 2);
    let own = Publishing::new("m").user_id(robust.vhost.broker().user());
    within("a publish", 10, exchange.publish(own, "shared")).await.unwrap();
    let request = || Publishing::new("m").reply_to("amq.rabbitmq.reply-to");
    let requests = async {
        for _ in 0..20 {
            wrong(request()).await;
        }
    };
    within("20 requests", 30, beside(&channel, requests)).await;
    assert!(reopened(&mut events).await <= 2);
    // Behind the consumer of replies they are accepted at once.
    let replies = channel.queue("amq.rabbitmq.reply-to");
    let mut probe = Probe::<Delivery>::start();
    let consume = replies.consume_with(Consume::new().no_ack(true), probe.recipient());
    let _consumer = within("a consumer", 10, consume).await.unwrap();
    within("a request", 10, exchange.publish(request(), "shared")).await.unwrap();
    assert!(probe.drain().await.is_empty() && !channel.is_closed());
}

/// CH-38: an application that looks again and again for a queue that does not exist holds up no publish beside it.
#[actix::test]
async fn a_call_that_is_refused_again_and_again_leaves_its_neighbours_alone() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("shared").await.unwrap();
    let mut events = watch(&channel);
    let looks = async {
        for n in 0..20 {
            let error = channel.declare_queue(DeclareQueue::new("gone").passive(true)).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some(404)), "{n}: {error}");
        }
    };
    let (confirmed, ()) = within("20 calls", 60, beside(&channel, looks)).await;
    // One for each close; the last one has its confirm when all is done.
    assert!(confirmed >= 19, "{confirmed}");
    channel.declare_queue("shared").await.unwrap();
    assert_eq!(reopened(&mut events).await, 20);
    let all = join_all((0..10).map(|n| channel.default_exchange().publish(n.to_string(), "shared")));
    assert!(within("publishes", 10, all).await.iter().all(Result::is_ok));
}
