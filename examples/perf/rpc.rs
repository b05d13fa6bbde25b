//! Makes calls.

use std::time::Instant;

use actix_pika::{
    Consume, OpenChannel, Publishing, Result, connect,
    message::Properties,
    rpc::{Rpc, RpcRequest},
};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{Args, Job, Meter, declare, env_is};

impl RpcRequest for Job {
    type Reply = Self;

    const NAME: &'static str = "perf-echo";
}

/// Makes typed calls one after the other.
async fn typed(args: &Args) -> Result<(Meter, bool)> {
    let (connection, serving) = (connect(&args.url).await?, connect(&args.url).await?);
    let channel = serving.channel().await?;
    // A task of its own, because the builder of a server is not Send.
    let server =
        actix::spawn(async move { Rpc::serve_fn(&channel, |job: Job| async move { Ok(job) }).await });
    let server = server.await.expect("task")?;
    let client = Rpc::client(&connection).await?;
    let mut latencies = Vec::with_capacity(args.messages as usize);
    let mut right = 0;
    let mut meter = Meter::start();
    for id in 0..args.messages {
        let start = Instant::now();
        let request = Job { id, ..Job::new() };
        let reply = client.send(request).await;
        right += u64::from(reply.is_ok_and(|reply| reply.id == id));
        latencies.push(start.elapsed().as_nanos() as u64);
    }
    meter.stop();
    meter.latencies = latencies;
    client.close().await;
    server.unregister().await?;
    connection.close().await?;
    serving.close().await?;
    Ok((meter, right == args.messages))
}

pub(super) async fn rpc(args: &Args) -> Result<(Meter, bool)> {
    if env_is("BENCH_STYLE", "typed") {
        return typed(args).await;
    }
    let (client, server) = (connect(&args.url).await?, connect(&args.url).await?);
    let options = || OpenChannel::new().confirms(false);
    let client_channel = client.channel_with(options()).await?;
    let server_channel = server.channel_with(options()).await?;
    declare(&server_channel, &args.queue).await?;
    let mut requests = server_channel.queue(&args.queue).deliveries_with(Consume::new().no_ack(true)).await?;
    let mut replies =
        client_channel.queue("amq.rabbitmq.reply-to").deliveries_with(Consume::new().no_ack(true)).await?;
    let exchange = server_channel.default_exchange();
    let serving = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let properties = request.properties()?;
            let (Some(to), Some(id)) = (properties.reply_to(), properties.correlation_id()) else { continue };
            let reply = Publishing::new(request.body())
                .properties(Properties::new().with_correlation_id(id))
                .persistent(false)
                .mandatory(false);
            exchange.publish(reply, to).await?;
        }
        Ok::<(), actix_pika::Error>(())
    });
    let exchange = client_channel.default_exchange();
    let body = Bytes::from(vec![b'x'; args.body]);
    let mut latencies = Vec::with_capacity(args.messages as usize);
    let mut right = 0;
    let mut meter = Meter::start();
    for n in 0..args.messages {
        let start = Instant::now();
        let id = n.to_string();
        let properties =
            Properties::new().with_correlation_id(id.as_str()).with_reply_to("amq.rabbitmq.reply-to");
        let request = Publishing::new(&body).properties(properties).persistent(false).mandatory(false);
        exchange.publish(request, &args.queue).await?;
        let Some(reply) = replies.next().await else { break };
        let matches = reply.properties()?.correlation_id() == Some(id.as_str());
        right += u64::from(matches && reply.body().len() == args.body);
        latencies.push(start.elapsed().as_nanos() as u64);
    }
    meter.stop();
    meter.latencies = latencies;
    server_channel.queue(&args.queue).delete().await?;
    client.close().await?;
    server.close().await?;
    serving.abort();
    Ok((meter, right == args.messages))
}
