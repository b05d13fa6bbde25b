//! PLAIN authentication, and the broker's permissions.

use crate::support::{broker::Vhost, broker::encode, eventually, oracle::Oracle, within};
use actix_pika::testing::{HandshakeScript, Peer};
use actix_pika::{
    Channel, Connection, Connector, DeclareExchange, DeclareQueue, Error, ErrorKind, OpenChannel, Publishing,
    connect,
};

/// AUTH-03: also when the connector is used a second time.
#[actix::test]
async fn plain_sends_user_and_password_separated_by_nul() {
    let logins = [("guest", "guest"), ("", ""), ("Jürgen", "p@ss:w/ör%d"), ("a b", "\u{1F511}#?&=")];
    for (user, password) in logins {
        let peer = Peer::listen().await.unwrap();
        let url = format!("amqp://{}:{}@{}/", encode(user), encode(password), peer.addr());
        let connector = Connector::new(&url).unwrap();
        for connector in [connector.clone(), connector] {
            let server = async {
                let mut socket = peer.accept().await.unwrap();
                (socket.handshake_with(&HandshakeScript::new()).await.unwrap(), socket)
            };
            let both = async { tokio::join!(connector.connect(), server) };
            let (result, (handshake, _socket)) = within("a handshake", 10, both).await;
            assert!(!result.unwrap().is_closed());
            assert_eq!(handshake.mechanism, "PLAIN");
            assert_eq!(handshake.response, format!("\0{user}\0{password}").into_bytes());
        }
    }
}

/// AUTH-03, URI-01: with the real broker, and every character that a URI has to escape.
#[actix::test]
async fn special_characters_in_login_and_vhost_work() {
    let vhost = Vhost::fresh().await;
    for password in ["p@ss:w/ör%d?#[]&=+ ", "%2f", "*"] {
        let user = vhost.create_user(password).await;
        vhost.permit(&user, ".*", ".*", ".*").await;
        let connection = within("connect", 10, connect(vhost.url_as(&user, password))).await.unwrap();
        within("close", 10, connection.close()).await.unwrap();
    }
    let broker = vhost.broker();
    for name in ["/", "//", "v/host", "@test", "ä ö", "-test", "%2f"].map(crate::support::unique) {
        let named = Vhost::named(broker, name.clone()).await;
        let url = named.url();
        let declare = async { connect(url).await?.channel().await?.declare_queue("here").await.map(drop) };
        within("a declare", 10, declare).await.unwrap();
        assert_eq!(named.queues().await.len(), 1, "{name}");
    }
}

/// Connects as a user with these permissions. There are queues and topic exchanges named "mine" and "theirs".
async fn limited(configure: &str, write: &str, read: &str) -> (Vhost, Connection) {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("secret").await;
    vhost.permit(&user, configure, write, read).await;
    let oracle = Oracle::connect(&vhost.url()).await;
    for queue in ["mine", "theirs"] {
        oracle.declare_queue(queue).await;
        oracle.declare_exchange(&format!("{queue}.x"), lapin::ExchangeKind::Topic).await;
    }
    let connection = within("connect", 10, connect(vhost.url_as(&user, "secret"))).await.unwrap();
    (vhost, connection)
}

/// Asserts that a call on a new channel is refused with 403, and that the error is one of the channel only.
async fn assert_forbidden<T: std::fmt::Debug>(
    connection: &Connection,
    kind: ErrorKind,
    call: impl AsyncFnOnce(Channel) -> Result<T, Error>,
) {
    let channel = connection.channel().await.expect("a new channel");
    let error = within("the error", 10, call(channel)).await.unwrap_err();
    assert_eq!((error.kind(), error.close_reason().map(|reason| reason.code)), (kind, Some(403)), "{error}");
    assert!(error.is_soft());
}

/// AUTH-09
#[actix::test]
async fn without_configure_permission_nothing_is_declared_or_deleted() {
    let (_vhost, connection) = limited("^mine", ".*", ".*").await;
    let refused = ErrorKind::Refused;
    assert_forbidden(&connection, refused, async |c| c.declare_queue("other").await).await;
    assert_forbidden(&connection, refused, async |c| {
        c.declare_exchange(DeclareExchange::topic("other")).await
    })
    .await;
    assert_forbidden(&connection, refused, async |c| c.queue("theirs").delete().await).await;
    assert_forbidden(&connection, refused, async |c| c.exchange("theirs.x").delete().await).await;
    let channel = connection.channel().await.unwrap();
    channel.declare_queue("mine").await.unwrap();
    // A passive declare needs no configure permission.
    channel.declare_queue(DeclareQueue::new("theirs").passive(true)).await.unwrap();
}

/// AUTH-09: permissions name the default exchange `amq.default`.
#[actix::test]
async fn without_write_permission_nothing_is_published_or_bound() {
    let (vhost, connection) = limited(".*", "^mine", ".*").await;
    let (refused, closed) = (ErrorKind::Refused, ErrorKind::ChannelClosed);
    assert_forbidden(&connection, closed, async |c| c.exchange("theirs.x").publish("x", "y").await).await;
    assert_forbidden(&connection, closed, async |c| c.default_exchange().publish("x", "mine").await).await;
    assert_forbidden(&connection, refused, async |c| c.queue("theirs").bind("mine.x", "k").await).await;
    assert_forbidden(&connection, closed, async |_| {
        // Without confirms the next call fails.
        let unconfirmed = connection.channel_with(OpenChannel::new().confirms(false)).await?;
        unconfirmed.default_exchange().publish("x", "mine").await?;
        unconfirmed.set_qos(1).await
    })
    .await;
    let channel = connection.channel().await.unwrap();
    channel.queue("mine").bind("mine.x", "k").await.unwrap();
    channel.exchange("mine.x").publish(Publishing::new("allowed"), "k").await.unwrap();
    let oracle = Oracle::connect(&vhost.url()).await;
    assert_eq!(oracle.count("mine").await, 1);
}

/// AUTH-09
#[actix::test]
async fn without_read_permission_nothing_is_consumed_purged_or_bound_from() {
    let (_vhost, connection) = limited(".*", ".*", "^mine").await;
    let refused = ErrorKind::Refused;
    assert_forbidden(&connection, refused, async |c| c.queue("theirs").deliveries().await).await;
    assert_forbidden(&connection, refused, async |c| c.queue("theirs").get().await).await;
    assert_forbidden(&connection, refused, async |c| c.queue("theirs").purge().await).await;
    assert_forbidden(&connection, refused, async |c| c.queue("mine").bind("theirs.x", "k").await).await;
    let channel = connection.channel().await.unwrap();
    assert!(channel.queue("mine").get().await.unwrap().is_none());
}

/// AUTH-10: they limit the keys to publish and to bind. They do not apply to other exchanges, or to a direct exchange.
#[actix::test]
async fn topic_permissions_limit_the_keys_of_their_exchange() {
    let (vhost, connection) = limited(".*", ".*", ".*").await;
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.declare_exchange("mine.direct", lapin::ExchangeKind::Direct).await;
    oracle.bind("theirs", "mine.x", "#").await;
    let user = vhost.users().pop().unwrap();
    for exchange in ["mine.x", "mine.direct"] {
        vhost.permit_topics(&user, exchange, "^w\\.", "^r\\.").await;
    }
    let (refused, closed) = (ErrorKind::Refused, ErrorKind::ChannelClosed);
    assert_forbidden(&connection, closed, async |c| c.exchange("mine.x").publish("x", "r.1").await).await;
    assert_forbidden(&connection, refused, async |c| c.queue("mine").bind("mine.x", "w.1").await).await;
    assert_forbidden(&connection, refused, async |c| c.queue("mine").bind("mine.x", "#").await).await;
    let channel = connection.channel().await.unwrap();
    channel.queue("mine").bind("mine.x", "r.1").await.unwrap();
    channel.exchange("mine.x").publish("x", "w.1").await.unwrap();
    assert_eq!((oracle.count("mine").await, oracle.count("theirs").await), (0, 1));
    for key in ["r.1", "w.1", "other"] {
        channel.queue("mine").bind("mine.direct", key).await.unwrap();
        channel.exchange("mine.direct").publish("x", key).await.unwrap();
        // The other topic exchange has no topic permissions.
        channel.queue("mine").bind("theirs.x", key).await.unwrap();
        channel.exchange("theirs.x").publish("x", key).await.unwrap();
    }
    assert_eq!(oracle.count("mine").await, 6);
}

/// AUTH-14: the next connect is refused.
#[actix::test]
async fn deleting_a_user_closes_its_connections() {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("secret").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    let url = vhost.url_as(&user, "secret");
    let connection = within("connect", 10, connect(&url)).await.unwrap();
    eventually("the API lists the connection", 10, async || {
        (!vhost.connections().await.is_empty()).then_some(())
    })
    .await;
    vhost.delete_user(&user).await;
    let error = within("the end", 15, connection.closed()).await.unwrap_err();
    let reason = error.close_reason().expect("the broker's reason");
    assert_eq!((error.kind(), reason.code), (ErrorKind::ConnectionClosed, 320));
    assert!(reason.text.contains(&format!("user '{user}' is deleted")), "{}", reason.text);
    let error = within("connect", 10, connect(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
}

/// AUTH-15
#[actix::test]
async fn a_user_id_that_is_not_the_login_is_refused() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    channel.declare_queue("jobs").await.unwrap();
    let exchange = channel.default_exchange();
    exchange.publish(Publishing::new("x").user_id(vhost.broker().user()), "jobs").await.unwrap();
    let error = exchange.publish(Publishing::new("x").user_id("somebody"), "jobs").await.unwrap_err();
    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 406));
}
