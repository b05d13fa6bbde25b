//! What depends on the version of the broker, or on a permission of its operator.

use crate::support::{
    broker::{Broker, SecondNode, Setting, Vhost},
    within,
};
use actix_pika::{
    Connector, DeclareQueue, ErrorKind, connect,
    events::{ConnectionState, Permission},
};

/// CON-29: the version of the handshake is that of the management API, and the rules are those of its line.
#[actix::test]
async fn the_rules_are_those_of_the_broker_of_the_handshake() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let ConnectionState::Open(opened) = connection.state() else { panic!("open") };
    let version = vhost.broker().full_version().await;
    assert_eq!((opened.product(), opened.version()), (Some("RabbitMQ"), Some(&*version)));
    let rules = connection.rules().expect("rules of a RabbitMQ");
    assert_eq!(opened.rules(), Some(rules));
    let line = vhost.broker().line().await;
    assert_eq!((rules.version.0, rules.version.1), (line.0, line.1));
    assert_eq!(rules.least_frame_max, line.least_frame_max());
    assert_eq!(rules.largest_body, line.largest_body() as u64);
    assert_eq!((rules.nack_counts, rules.delivery_limit), (line.nack_counts(), line.delivery_limit()));
    assert_eq!(!rules.late_delivery_cancels_consumer, line.late_settle_closes_channel());
    assert_eq!(rules.shared_prefetch == Permission::IfPermitted, !line.shares_prefetch());
    connection.close().await.unwrap();
    assert_eq!(connection.rules(), None);
}

/// CON-29: a queue that is neither durable nor exclusive is never refused by the client. If the operator of the broker
/// does not permit it, the broker closes the connection with 541, and the error says why in words.
#[actix::test]
async fn a_transient_queue_that_the_operator_denies_is_explained() {
    let test = async {
        let mut node = SecondNode::start().await;
        let denied = node.broker().line().await.has_permissions();
        if denied {
            node.configure(&[Setting::PermitTransientQueues(false)]).await;
        }
        let vhost = Vhost::fresh_on(node.broker()).await;
        let connection = connect(vhost.url()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.declare_queue(DeclareQueue::new("mine").durable(false).exclusive(true)).await.unwrap();
        let transient = channel.declare_queue(DeclareQueue::new("ticks").durable(false)).await;
        if !denied {
            assert_eq!(connection.rules().unwrap().transient_queues, Permission::Always);
            transient.unwrap();
            return;
        }
        let error = transient.unwrap_err();
        let reason = error.close_reason().expect("the broker's reason");
        assert_eq!(
            (error.kind(), reason.code, reason.method),
            (ErrorKind::ConnectionClosed, 541, "queue.declare")
        );
        assert_eq!(error.entity(), Some("ticks"));
        assert!(
            error.to_string().contains("does not permit queues that are neither durable nor exclusive"),
            "{error}"
        );
    };
    within("a node with another configuration", 120, test).await;
}

/// CON-22: a broker that is configured with a smaller `frame_max` than it accepts resets every connection; the client
/// names the cause instead. Earlier lines accept it.
#[actix::test]
async fn a_frame_max_below_that_of_the_line_is_named() {
    let test = async {
        let mut node = SecondNode::start().await;
        let least = node.broker().line().await.least_frame_max();
        node.configure(&[Setting::FrameMax(4096)]).await;
        let vhost = Vhost::fresh_on(node.broker()).await;
        let connected = Connector::new(&vhost.url()).unwrap().connect().await;
        if least == 4096 {
            assert_eq!(connected.unwrap().frame_max(), Some(4096));
            return;
        }
        let error = connected.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        let text = error.to_string();
        assert!(text.contains("frame_max of the server is 4096 bytes") && text.contains("8192"), "{text}");
    };
    within("a node with another configuration", 120, test).await;
    assert!(Broker::under_test().line().await.least_frame_max() >= 4096);
}
