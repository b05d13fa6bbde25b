//! Declares one of every kind of queue, exchange, binding and consumer, and compares them in the management API before and
//! after cuts.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use actix_pika::{
    Channel, Connector, Consume, DeclareExchange, DeclareQueue, DeliveryStream, Queue,
    message::{BindQueue, DeleteExchange, UnbindQueue},
    testing::GetRecordCounts,
};

use crate::{
    history::WatchedConnection,
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::{broker::Vhost, eventually, proxy::*, within},
    traffic::recovery,
};

pub async fn run(row: &mut Row, plan: &Plan) {
    let leaks = Leaks::snapshot();
    let started = Instant::now();
    let vhost = Vhost::fresh().await;
    let proxy = Proxy::to(&vhost.broker().address());
    row.faults = plan.pick(50, 6);
    let mut random = plan.random(row.part);
    let connector = Connector::new(&proxy.url(&vhost.url())).expect("a URL").recovery(recovery());
    let watched = WatchedConnection::connect(connector).await;
    let topology = within("the topology", 60, Topology::declare(&watched)).await.expect("the topology");
    let before = eventually("all consumers in the management API", 60, async || {
        let list = topology.list(&vhost).await;
        let consumers = list.iter().filter(|line| line.starts_with("ConsumerInfo")).count();
        (consumers == topology.consumers.len()).then_some(list)
    });
    let before = before.await;
    let records = watched.connection.actor().send(GetRecordCounts).await.expect("records");
    for cut in 1..=row.faults {
        let how = if random.bool() { Cut::Fin } else { Cut::Rst };
        let losses = watched.history().losses;
        // In half of the cases, the next connections are cut early as well.
        if random.bool() {
            let direction = if random.bool() { Direction::ToBroker } else { Direction::ToClient };
            proxy.cut_each_after(direction, random.u64(1..6000), how);
            let accepted = proxy.accepted_count();
            proxy.cut_all(how);
            within("a connection", 30, proxy.wait_for_accepted(accepted + 1)).await;
            // Recovery may need fewer bytes than that.
            let again = tokio::time::timeout(Duration::from_secs(3), proxy.wait_for_accepted(accepted + 2));
            again.await.ok();
            proxy.stop_cutting();
        } else {
            proxy.cut_all(how);
        }
        let since = Instant::now();
        watched.wait_for_loss(losses).await;
        watched.wait_until_up().await;
        row.slowest = row.slowest.max(since.elapsed());
        // The broker removes the consumers of the old connection with a delay.
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut after = topology.list(&vhost).await;
        while after != before && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
            after = topology.list(&vhost).await;
        }
        for line in before.difference(&after) {
            row.fail(format!("missing after cut {cut}: {line}"));
        }
        for line in after.difference(&before) {
            row.fail(format!("additional after cut {cut}: {line}"));
        }
        if !row.failures.is_empty() {
            break;
        }
    }
    let now = watched.connection.actor().send(GetRecordCounts).await.expect("records");
    if now != records {
        row.fail(format!("records: {records:?} before, {now:?} after"));
    }
    within("close", 60, watched.connection.close()).await.expect("a close");
    let history = watched.history();
    history.faults.iter().for_each(|fault| row.fail(fault.clone()));
    row.losses = history.losses;
    row.took = started.elapsed();
    row.growth = leaks.growth();
    row.leaks = Some(leaks);
}

/// The handles of everything declared. Dropping the last handle of a channel or consumer would close it.
struct Topology {
    channels: Vec<Channel>,
    /// Queues named by the broker.
    server_named: Vec<Queue>,
    consumers: Vec<DeliveryStream>,
}

impl Topology {
    async fn declare(watched: &WatchedConnection) -> actix_pika::Result<Self> {
        let channel = watched.connection.channel().await?;
        let other = watched.connection.channel().await?;
        let server_named = Self::declare_all(&channel).await?;
        let consumers = Self::consume(&other, &server_named).await?;
        Self::declare_and_delete(&channel).await?;
        Ok(Self { channels: vec![channel, other], server_named, consumers })
    }

    async fn declare_all(channel: &Channel) -> actix_pika::Result<Vec<Queue>> {
        for exchange in [
            DeclareExchange::topic("events"),
            DeclareExchange::fanout("news").durable(false),
            DeclareExchange::direct("passing").auto_delete(true),
            DeclareExchange::fanout("inner").internal(true),
            DeclareExchange::headers("heads"),
            DeclareExchange::fanout("others"),
            DeclareExchange::direct("main").argument("alternate-exchange", "others"),
            // Passive declares are not recorded.
            DeclareExchange::topic("events").passive(true),
            DeclareExchange::topic("amq.topic").passive(true),
        ] {
            channel.declare_exchange(exchange).await?;
        }
        channel.exchange("inner").bind("events", "#.deep").await?;
        channel.exchange("news").bind("heads", "").await?;
        for queue in [
            DeclareQueue::new("classic")
                .argument("x-max-length", 1000)
                .argument("x-dead-letter-exchange", "others"),
            DeclareQueue::new("quorum").quorum(),
            DeclareQueue::new("transient").durable(false),
            DeclareQueue::new("mine").durable(false).exclusive(true),
            DeclareQueue::new("passing").durable(false).auto_delete(true),
            DeclareQueue::new("classic").passive(true),
        ] {
            channel.declare_queue(queue).await?;
        }
        let one = channel.declare_queue(DeclareQueue::server_named()).await?;
        let other = channel.declare_queue(DeclareQueue::new("").durable(false).exclusive(true)).await?;
        for (queue, source, key) in [
            ("classic", "events", "a.*"),
            ("classic", "events", "*.b"),
            ("quorum", "news", ""),
            ("transient", "inner", ""),
            ("passing", "passing", "now"),
            ("mine", "amq.topic", "mine.#"),
            (one.name(), "amq.fanout", ""),
            (other.name(), "main", "other"),
            (other.name(), "others", ""),
        ] {
            channel.queue(queue).bind(source, key).await?;
        }
        for color in ["red", "blue"] {
            let bind =
                BindQueue::new("classic", "heads", "").argument("x-match", "all").argument("color", color);
            channel.queue("classic").bind_with(bind).await?;
        }
        Ok(vec![one, other])
    }

    async fn consume(channel: &Channel, server_named: &[Queue]) -> actix_pika::Result<Vec<DeliveryStream>> {
        let mut consumers = Vec::new();
        for (queue, consume) in [
            ("classic", Consume::new().tag("seven").prefetch(7)),
            ("classic", Consume::new().tag("first").prefetch(1).priority(5)),
            ("quorum", Consume::new().tag("quorum").prefetch(3)),
            ("transient", Consume::new().tag("careless").no_ack(true)),
            ("mine", Consume::new().tag("alone").exclusive(true)),
            ("passing", Consume::new().tag("passing")),
            (server_named[0].name(), Consume::new().tag("unnamed")),
        ] {
            consumers.push(channel.queue(queue).deliveries_with(consume).await?);
        }
        channel.set_qos(9).await?;
        let consume = Consume::new().tag("nine");
        consumers.push(channel.queue(server_named[1].name()).deliveries_with(consume).await?);
        let cancelled = channel.queue("quorum").deliveries_with(Consume::new().tag("cancelled")).await?;
        cancelled.close().await?;
        Ok(consumers)
    }

    /// Declares and deletes what must not be declared again.
    async fn declare_and_delete(channel: &Channel) -> actix_pika::Result<()> {
        channel.declare_exchange(DeclareExchange::fanout("gone")).await?;
        let gone = channel.declare_queue("gone").await?;
        gone.bind("gone", "").await?;
        gone.bind("events", "gone").await?;
        channel.exchange("gone").bind("events", "gone").await?;
        channel.delete_exchange(DeleteExchange::new("gone")).await?;
        gone.delete().await?;
        // Deleted with its last binding.
        channel.declare_exchange(DeclareExchange::direct("brief").auto_delete(true)).await?;
        let classic = channel.queue("classic");
        classic.bind("brief", "x").await?;
        classic.unbind("brief", "x").await?;
        classic.bind("events", "unbound").await?;
        classic.unbind("events", "unbound").await?;
        let green =
            BindQueue::new("classic", "heads", "").argument("x-match", "all").argument("color", "green");
        classic.bind_with(green).await?;
        let green =
            UnbindQueue::new("classic", "heads", "").argument("x-match", "all").argument("color", "green");
        classic.unbind_with(green).await
    }

    /// Returns one line for each entity in the virtual host. Names given by the broker are replaced.
    async fn list(&self, vhost: &Vhost) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for one in vhost.exchanges().await {
            lines.insert(format!("{one:?}"));
        }
        for mut one in vhost.queues().await {
            one.name = self.normalized(&one.name);
            lines.insert(format!("{:?}", one.declared()));
        }
        for mut one in vhost.bindings().await {
            if !one.source.is_empty() {
                one.destination = self.normalized(&one.destination);
                lines.insert(format!("{one:?}"));
            }
        }
        for mut one in vhost.all_consumers().await {
            one.queue = self.normalized(&one.queue);
            lines.insert(format!("{one:?}"));
        }
        lines
    }

    fn normalized(&self, queue: &str) -> String {
        let at = self.server_named.iter().position(|named| queue == named.name());
        at.map_or_else(|| queue.to_owned(), |at| format!("server-named {at}"))
    }
}
