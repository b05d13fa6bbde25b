//! Messages sent to the `Channel` actor directly, without handles.

use crate::support::recorded_connection::{RecordedConnection, SettleFrame};
use actix_pika::{
    Consume, DeclareQueue, Delivery, ErrorKind, OpenChannel, Publishing, actors,
    message::{CancelConsumer, CloseChannel, DeleteQueue, Get, Publish, PurgeQueue, Qos, Settle},
    testing::Probe,
};
use futures_util::{StreamExt, future::join_all};

crate::modes! {
    /// ACT-09: 34 messages, in order.
    async fn publish_messages_are_delivered_to_an_actor(bench: Bench) {
        let channel: &actix::Addr<actors::Channel> = bench.channel.actor();
        channel.send(DeclareQueue::new("jobs")).await.unwrap().unwrap();
        let mut probe = Probe::<Delivery>::start();
        let consume = Consume::new().queue("jobs").deliver_to(probe.recipient());
        let consumed = channel.send(consume).await.unwrap().unwrap();
        let publishes = (0..34).map(|n| channel.send(Publish::new("", "jobs", n.to_string())));
        for result in join_all(publishes).await {
            assert_eq!(result.unwrap().unwrap().sequence().is_some(), bench.confirms);
        }
        for n in 0..34 {
            let delivery = probe.next().await.unwrap();
            assert_eq!((delivery.body(), delivery.consumer_tag()), (n.to_string().as_bytes(), &*consumed.tag));
            channel.send(Settle::ack(delivery)).await.unwrap().unwrap();
        }
        channel.send(CancelConsumer::new(&*consumed.tag)).await.unwrap().unwrap();
        assert_eq!(channel.send(DeleteQueue::new("jobs")).await.unwrap().unwrap(), 0);
    }

    /// ACT: sent by `do_send`, some of them large or empty.
    async fn a_hundred_messages_keep_their_order(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let channel = bench.channel.actor();
        let mut probe = Probe::<Delivery>::start();
        let body = |n: usize| match n % 10 {
            3 => Vec::new(),
            7 => vec![n as u8; 131_082],
            _ => n.to_string().into_bytes(),
        };
        channel.send(Consume::new().queue("jobs").deliver_to(probe.recipient())).await.unwrap().unwrap();
        for n in 0..100 {
            channel.do_send(Publish::new("", "jobs", Publishing::new(body(n)).message_id(n.to_string())));
        }
        for n in 0..100 {
            let delivery = probe.next().await.unwrap();
            assert_eq!(delivery.properties().unwrap().message_id(), Some(n.to_string().as_str()));
            assert!(delivery.body() == body(n), "{n}");
            channel.do_send(Settle::ack(delivery));
        }
        channel.send(CloseChannel::new()).await.unwrap().unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// ACT: `Get`, and every kind of `Settle`.
    async fn get_and_settle_messages_send_their_frames(bench: Bench) {
        let oracle = bench.fill_queue("jobs", (1..=8).map(|n| n.to_string())).await;
        let recorded = RecordedConnection::open(&bench).await;
        let channel = recorded.channel.actor();
        let get = async || channel.send(Get::new("jobs")).await.unwrap().unwrap().unwrap();
        let (one, two, three) = (get().await, get().await, get().await);
        channel.send(Settle::nack(two, true)).await.unwrap().unwrap();
        channel.send(Settle::ack_all(three)).await.unwrap().unwrap();
        let error = channel.send(Settle::ack(one)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleDelivery);
        recorded.flush().await;
        let two = get().await;
        assert!(two.redelivered());
        let four = get().await;
        channel.send(Settle::nack_all(four, false)).await.unwrap().unwrap();
        drop(two);
        channel.send(Settle::reject(get().await, false)).await.unwrap().unwrap();
        recorded.flush().await;
        let nack = |tag, requeue| SettleFrame::Nack { tag, multiple: false, requeue };
        let expected = [
            nack(2, true),
            SettleFrame::Ack { tag: 3, multiple: true },
            nack(4, false),
            nack(5, false),
            SettleFrame::Reject { tag: 6, requeue: false },
        ];
        assert_eq!(recorded.settle_frames(), expected);
        assert_eq!(channel.send(PurgeQueue::new("jobs")).await.unwrap().unwrap(), 3);
        assert_eq!(oracle.count("jobs").await, 0);
    }

    /// ACT: later messages fail with the cause of the channel's end.
    async fn a_refused_message_fails_with_the_reason(bench: Bench) {
        let channel = bench.channel.actor();
        let error = channel.send(Get::new("missing")).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 404));
        let later = channel.send(Qos::new(1)).await.unwrap().unwrap_err();
        assert_eq!((later.kind(), later.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
        let later = channel.send(Publish::new("", "jobs", "x")).await.unwrap().unwrap_err();
        assert_eq!((later.kind(), later.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
        let probe = Probe::<Delivery>::start();
        let consume = Consume::new().queue("jobs").deliver_to(probe.recipient());
        assert_eq!(channel.send(consume).await.unwrap().unwrap_err().kind(), ErrorKind::ChannelClosed);
        channel.send(CancelConsumer::new("any")).await.unwrap().unwrap();
        channel.send(CloseChannel::new()).await.unwrap().unwrap();
    }

    /// ACT: the client refuses it, and sends nothing.
    async fn a_consume_without_a_target_is_refused(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let error = bench.channel.actor().send(Consume::new().queue("jobs")).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.close_reason().is_none() && !bench.channel.is_closed());
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }

    /// RPC-13: direct replies repeat the next delivery tag, which does not affect the acks of other deliveries.
    async fn direct_replies_and_other_deliveries_share_a_channel(bench: Bench) {
        let jobs = bench.channel.declare_queue("jobs").await.unwrap();
        let replies = bench.channel.queue("amq.rabbitmq.reply-to");
        let mut replies = replies.deliveries_with(Consume::new().no_ack(true)).await.unwrap();
        let mut requests = jobs.deliveries().await.unwrap();
        let server = bench.another_channel().await.default_exchange();
        for n in 0..5 {
            let request = Publishing::new(format!("{n}")).reply_to("amq.rabbitmq.reply-to");
            bench.channel.default_exchange().publish(request, "jobs").await.unwrap();
            let request = requests.next().await.unwrap();
            let reply_to = request.properties().unwrap().reply_to().unwrap().to_owned();
            // A mandatory reply would be delivered and also returned.
            server.publish(Publishing::new(request.body()).mandatory(false), &reply_to).await.unwrap();
            assert_eq!(replies.next().await.unwrap().body(), format!("{n}").as_bytes());
            request.ack().unwrap();
        }
        bench.channel.close().await.unwrap();
        assert_eq!(bench.another_channel().await.queue("jobs").delete().await.unwrap(), 0);
    }

    /// ACT-08: before and after its end.
    async fn state_and_load_of_a_channel_can_be_read_at_any_time(bench: Bench) {
        assert!(!bench.channel.is_closed());
        assert!(bench.channel.close_cause().is_none());
        assert_eq!(bench.channel.load().unsettled, 0);
        bench.connection.close().await.unwrap();
        assert!(bench.channel.is_closed());
        assert_eq!(bench.channel.close_cause().unwrap().kind(), ErrorKind::ConnectionClosed);
        assert_eq!(bench.channel.load().unconfirmed, 0);
        let error = bench.connection.channel_with(OpenChannel::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
    }
}
