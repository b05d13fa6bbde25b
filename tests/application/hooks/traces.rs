//! Traces by the headers of messages.

use std::{future::IntoFuture, time::Duration};

use actix::prelude::*;
use actix_pika::{
    DeclareQueue, Publishing,
    hook::{TraceContext, TracePropagation},
    retry::Retry,
    rpc::{Answer, Rpc, RpcRequest},
    tasks::{Done, Failure, Task},
};

use super::{Hooked, Job, Log};
use crate::support::{get_message, within};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn parent() -> TraceContext {
    TraceContext::parse(PARENT, Some("rojo=1")).unwrap()
}

async fn open() -> Hooked {
    Hooked::open(|connector| connector.hook(TracePropagation::new())).await
}

/// Describes the context of a handler: trace, tracestate, that of the link.
fn current() -> String {
    let Some(context) = TraceContext::current() else { return "none".to_owned() };
    let link = context.link().map_or("-".to_owned(), TraceContext::traceparent);
    let same = context.trace_id() == parent().trace_id();
    let is_own = context.span_id() != parent().span_id();
    let state = context.tracestate().unwrap_or("-").to_owned();
    format!("same trace: {same}, own span: {is_own}, state: {state}, link: {link}")
}

/// HOK-20: a publish has the current context, once; without one it has none; that of the user is kept.
#[actix::test]
async fn a_publish_has_the_current_context() {
    let hooked = open().await;
    let publisher = hooked.jobs.publisher::<Job>();
    let (none, context) = (Job { id: 1 }, parent());
    within("a publish", 10, publisher.publish(&none)).await.unwrap();
    within("a publish", 10, context.enter(|| publisher.publish(&Job { id: 2 }))).await.unwrap();
    let mine = |message: Publishing| message.header("traceparent", "mine").header("tracestate", "a=1");
    within("a publish", 10, context.enter(|| publisher.publish_with(&Job { id: 3 }, mine))).await.unwrap();
    let mut headers = Vec::new();
    for _ in 0..3 {
        let delivery = get_message(&hooked.jobs).await;
        let of = |key| {
            let headers = delivery.properties().unwrap().headers()?.iter();
            let all: Vec<String> = headers
                .filter(|(name, _)| name.as_str() == Some(key))
                .filter_map(|(_, value)| Some(value.as_str()?.to_owned()))
                .collect();
            Some(all)
        };
        headers.push((of("traceparent").unwrap_or_default(), of("tracestate").unwrap_or_default()));
        delivery.ack().unwrap();
    }
    let one = |text: &str| vec![text.to_owned()];
    assert_eq!(headers, [(vec![], vec![]), (one(PARENT), one("rojo=1")), (one("mine"), one("a=1"))]);
}

/// HOK-21: a trace goes from a publish to a handler, to what that publishes, and to the next handler.
#[actix::test]
async fn a_trace_goes_on_from_handler_to_handler() {
    let hooked = open().await;
    let second = hooked.channel.declare_queue("second").await.unwrap();
    let (log, next) = (Log::default(), second.publisher::<Job>());
    let said = log.clone();
    let first = move |job: Task<Job>| {
        let (said, next) = (said.clone(), next.clone());
        async move {
            said.add(format!("first {}", current()));
            tokio::task::yield_now().await; // the context is that of each poll
            next.publish(&job).await?;
            said.add(format!("first {}", current()));
            Ok(())
        }
    };
    let said = log.clone();
    let last = move |_: Task<Job>| {
        said.add(format!("second {}", current()));
        async { Ok(()) }
    };
    let consumers = [hooked.jobs.for_each(4, first).await.unwrap(), second.for_each(4, last).await.unwrap()];
    within("a publish", 10, parent().enter(|| hooked.jobs.publisher().publish(&Job { id: 1 })))
        .await
        .unwrap();
    let expected = "same trace: true, own span: true, state: rojo=1, link: -";
    assert_eq!(log.that_begin("first", 2).await, [format!("first {expected}"), format!("first {expected}")]);
    assert_eq!(log.that_begin("second", 1).await, [format!("second {expected}")]);
    assert_eq!(TraceContext::current(), None);
    for consumer in consumers {
        consumer.stop().await;
    }
}

/// HOK-22: what others send as a traceparent is used if it is valid, and is no obstacle otherwise.
#[actix::test]
async fn a_wrong_traceparent_is_ignored() {
    let hooked = open().await;
    let log = Log::default();
    let said = log.clone();
    let handle = move |job: Task<Job>| {
        said.add(format!("{} {}", job.id, current()));
        async { Ok(()) }
    };
    let consumer = hooked.jobs.for_each(1, handle).await.unwrap();
    let message = |id: u32| Publishing::new(format!("{{\"id\":{id}}}"));
    let messages = [
        message(1).header("traceparent", PARENT.as_bytes().to_vec()),
        message(2).header("traceparent", "00-0-0-01"),
        message(3).header("traceparent", 7).header("tracestate", "rojo=1"),
        message(4).header("traceparent", vec![0xff_u8, 0xfe]),
        message(5).header("traceparent", PARENT).header("tracestate", "x".repeat(600)),
        message(6).header("traceparent", PARENT.to_uppercase()),
    ];
    for message in messages {
        within("a publish", 10, hooked.channel.default_exchange().publish(message, "jobs")).await.unwrap();
    }
    let trace = "same trace: true, own span: true, state: -, link: -";
    let expected = [
        format!("1 {trace}"),
        "2 none".into(),
        "3 none".into(),
        "4 none".into(),
        format!("5 {trace}"),
        "6 none".into(),
    ];
    assert_eq!(log.lines(6).await, expected);
    consumer.stop().await;
}

/// HOK-23: a copy of a ladder keeps the first traceparent; its handler runs in a new trace that is linked to that. So
/// does each task of a batch.
#[actix::test]
async fn retries_and_batches_are_linked() {
    let hooked = open().await;
    let ladder = Retry::ladder(&[Duration::from_millis(100)]);
    let declare = hooked.channel.declare_jobs(DeclareQueue::new("mail").quorum(), &ladder);
    let mail = within("the queues", 20, declare).await.unwrap();
    let log = Log::default();
    let said = log.clone();
    let handle = move |task: Task<Job>| {
        let sent = TraceContext::extract(task.content().properties().unwrap()).unwrap().traceparent();
        said.add(format!("{} sent: {}, {}", task.attempt(), sent == PARENT, current()));
        async { Err(Failure::retry("busy")) }
    };
    let consumer =
        within("a consumer", 20, mail.tasks::<Job>().retry(ladder.clone()).for_each(handle)).await.unwrap();
    within("a publish", 10, parent().enter(|| mail.publisher().publish(&Job { id: 1 }))).await.unwrap();
    let expected = [
        "1 sent: true, same trace: true, own span: true, state: rojo=1, link: -".to_owned(),
        format!("2 sent: true, same trace: false, own span: true, state: -, link: {PARENT}"),
    ];
    assert_eq!(log.lines(2).await, expected);
    consumer.stop().await;
    let dead = get_message(&hooked.channel.queue("mail.dead")).await;
    assert_eq!(TraceContext::extract(dead.properties().unwrap()), Some(parent()));
    dead.ack().unwrap();

    log.take();
    let said = log.clone();
    let batches = hooked.jobs.tasks::<Job>().batches(2, Duration::from_secs(60));
    let handle = move |jobs: Vec<Task<Job>>| {
        said.add(current());
        for job in jobs {
            said.add(job.scope().enter(current));
        }
        async { Done::Ok(()) }
    };
    let consumer = batches.for_each(handle).await.unwrap();
    let publisher = hooked.jobs.publisher::<Job>();
    within("a publish", 10, parent().enter(|| publisher.publish(&Job { id: 1 }))).await.unwrap();
    within("a publish", 10, publisher.publish(&Job { id: 2 })).await.unwrap();
    let linked = format!("same trace: false, own span: true, state: -, link: {PARENT}");
    assert_eq!(log.lines(3).await, ["none".to_owned(), linked, "none".to_owned()]);
    consumer.stop().await;
}

#[derive(Message, serde::Serialize, serde::Deserialize)]
#[rtype(result = "Answer<String>")]
struct WhichTrace {
    id: u32,
}

impl RpcRequest for WhichTrace {
    type Reply = String;
    const NAME: &'static str = "which-trace";
}

/// HOK-24: a request has the context of its caller, and its handler runs in that trace; the reply has the context of the
/// handler.
#[actix::test]
async fn calls_are_part_of_their_trace() {
    let hooked = open().await;
    let server = Rpc::serve_fn(&hooked.channel, |_: WhichTrace| async move { Ok(current()) }).await.unwrap();
    let client = within("a client", 10, Rpc::client(&hooked.connection).into_future()).await.unwrap();
    let answer = within("a call", 10, parent().scope(client.send(WhichTrace { id: 1 }))).await.unwrap();
    assert_eq!(answer, "same trace: true, own span: true, state: rojo=1, link: -");
    assert_eq!(within("a call", 10, client.send(WhichTrace { id: 2 })).await.unwrap(), "none");

    // The reply, as another client sees it.
    let replies = hooked.channel.declare_queue("replies").await.unwrap();
    let request = Publishing::new(r#"{"id":3}"#).reply_to("replies").header("traceparent", PARENT);
    within("a request", 10, hooked.channel.default_exchange().publish(request, server.queue()))
        .await
        .unwrap();
    let reply = get_message(&replies).await;
    let context = TraceContext::extract(reply.properties().unwrap()).unwrap();
    assert_eq!((context.trace_id(), context.span_id() == parent().span_id()), (parent().trace_id(), false));
    reply.ack().unwrap();
    server.unregister().await.unwrap();
}

struct Worker(Log);

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Task<Job>> for Worker {
    type Result = ResponseFuture<Done>;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Self::Result {
        let (log, scope) = (self.0.clone(), job.scope());
        log.add(format!("outside {}", current()));
        log.add(format!("entered {}", scope.enter(current)));
        Box::pin(scope.run(async move {
            tokio::task::yield_now().await;
            log.add(format!("polled {}", current()));
            drop(job);
            Ok(())
        }))
    }
}

/// HOK-25: the handler of an actor, on another arbiter, has the trace in the scope of its task.
#[actix::test]
async fn an_actor_has_the_trace_in_the_scope_of_its_task() {
    let hooked = open().await;
    let log = Log::default();
    let (arbiter, to) = (Arbiter::new(), log.clone());
    let worker = Worker::start_in_arbiter(&arbiter.handle(), move |_| Worker(to));
    let consumer = hooked.jobs.tasks::<Job>().to(worker).await.unwrap();
    within("a publish", 10, parent().enter(|| hooked.jobs.publisher().publish(&Job { id: 1 })))
        .await
        .unwrap();
    let trace = "same trace: true, own span: true, state: rojo=1, link: -";
    let expected = ["outside none".to_owned(), format!("entered {trace}"), format!("polled {trace}")];
    assert_eq!(log.lines(3).await, expected);
    consumer.stop().await;
    arbiter.stop();
}
