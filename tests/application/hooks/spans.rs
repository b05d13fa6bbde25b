//! Spans of `tracing`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use actix_pika::{
    hook::{TraceContext, TracePropagation, TracingSpans},
    tasks::{Failure, Task},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use super::{Hooked, Job, Log};
use crate::support::within;

/// A span, its fields, and whether it was closed.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    fields: BTreeMap<&'static str, String>,
    closed: bool,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

/// Keeps the spans of the library, and which one is entered.
#[derive(Clone, Default)]
struct Collector {
    last: Arc<AtomicU64>,
    spans: Arc<Mutex<HashMap<u64, Seen>>>,
    entered: Arc<Mutex<Vec<u64>>>,
    handles: Arc<Mutex<HashMap<u64, usize>>>,
}

impl Collector {
    fn current(&self) -> &'static str {
        let entered = self.entered.lock().unwrap();
        entered.last().map_or("none", |id| self.spans.lock().unwrap()[id].name)
    }

    /// Returns the spans in their order.
    fn all(&self) -> Vec<Seen> {
        let spans = self.spans.lock().unwrap();
        let mut ids: Vec<u64> = spans.keys().copied().collect();
        ids.sort_unstable();
        ids.iter().map(|id| spans[id].clone()).collect()
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "actix_pika"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.last.fetch_add(1, SeqCst) + 1;
        let mut seen = Seen { name: attributes.metadata().name(), ..Seen::default() };
        attributes.record(&mut seen);
        self.spans.lock().unwrap().insert(id, seen);
        self.handles.lock().unwrap().insert(id, 1);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(self.spans.lock().unwrap().get_mut(&span.into_u64()).unwrap());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        self.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.entered.lock().unwrap().pop(), Some(span.into_u64()));
    }

    fn clone_span(&self, id: &Id) -> Id {
        *self.handles.lock().unwrap().get_mut(&id.into_u64()).unwrap() += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut handles = self.handles.lock().unwrap();
        let left = handles.get_mut(&id.into_u64()).unwrap();
        *left -= 1;
        if *left == 0 {
            self.spans.lock().unwrap().get_mut(&id.into_u64()).unwrap().closed = true;
        }
        *left == 0
    }
}

/// HOK-30: a publish and a task have a span with the attributes of OpenTelemetry, which is closed when they have ended. Neither
/// has the body, a header or the text of an error.
#[actix::test]
async fn publishes_and_tasks_have_spans() {
    let collector = Collector::default();
    let _default = tracing::subscriber::set_default(collector.clone());
    let hooked =
        Hooked::open(|connector| connector.hook(TracePropagation::new()).hook(TracingSpans::new())).await;
    let log = Log::default();
    let (said, current) = (log.clone(), collector.clone());
    let handle = move |job: Task<Job>| {
        let (said, current) = (said.clone(), current.clone());
        async move {
            tokio::task::yield_now().await;
            said.add(current.current());
            if job.id == 8 { Err(Failure::reject("a secret")) } else { Ok(()) }
        }
    };
    let consumer = hooked.jobs.tasks::<Job>().for_each(handle).await.unwrap();
    let context = TraceContext::root(true);
    let publisher = hooked.channel.exchange("amq.topic").publisher::<Job>().key("job.new");
    hooked.jobs.bind("amq.topic", "job.*").await.unwrap();
    for id in [7, 8] {
        let publish = context.enter(|| {
            publisher.publish_with(&Job { id }, |message| {
                message.message_id("m-7").correlation_id("c-7").header("secret", "a secret")
            })
        });
        within("a publish", 10, publish).await.unwrap();
    }
    let nowhere = publisher.clone().key("nowhere").publish(&Job { id: 9 });
    within("a publish", 10, nowhere).await.unwrap_err();
    assert_eq!(log.lines(2).await, ["process", "process"]);
    within("the end", 10, consumer.stop()).await;
    assert_eq!(collector.current(), "none");

    let all = collector.all();
    assert!(all.iter().all(|span| span.closed), "{all:?}");
    assert!(!format!("{all:?}").contains("secret"), "{all:?}");
    let of =
        |name: &str| all.iter().filter(|span| span.name == name).map(|span| &span.fields).collect::<Vec<_>>();
    let (published, processed) = (of("publish"), of("process"));
    assert_eq!((published.len(), processed.len()), (3, 2));
    let expected = [
        ("messaging.destination.name", "amq.topic:job.new"),
        ("messaging.message.body.size", "8"),
        ("messaging.message.conversation_id", "c-7"),
        ("messaging.message.id", "m-7"),
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.rabbitmq.destination.routing_key", "job.new"),
        ("messaging.rabbitmq.publish.kind", "message"),
        ("messaging.system", "rabbitmq"),
        ("otel.kind", "producer"),
        ("otel.name", "publish amq.topic:job.new"),
    ];
    let fields: Vec<(&str, &str)> = published[0].iter().map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(fields, expected);
    assert_eq!(published[2]["error.type"], "Unroutable");
    assert_eq!(published[2]["otel.status_code"], "ERROR");

    let trace_id = format!("{:032x}", context.trace_id());
    let expected = [
        ("messaging.destination.name", "amq.topic:job.new:jobs"),
        ("messaging.message.body.size", "8"),
        ("messaging.message.conversation_id", "c-7"),
        ("messaging.message.id", "m-7"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.rabbitmq.attempt", "1"),
        ("messaging.rabbitmq.destination.routing_key", "job.new"),
        ("messaging.rabbitmq.outcome", "acked"),
        ("messaging.rabbitmq.queue", "jobs"),
        ("messaging.rabbitmq.redelivered", "false"),
        ("messaging.system", "rabbitmq"),
        ("otel.kind", "consumer"),
        ("otel.name", "process amq.topic:job.new:jobs"),
        ("trace_id", &*trace_id),
    ];
    let fields: Vec<(&str, &str)> = processed[0].iter().map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(fields, expected);
    assert_eq!(processed[1]["messaging.rabbitmq.outcome"], "rejected");
    assert_eq!(processed[1]["error.type"], "failed");
}
