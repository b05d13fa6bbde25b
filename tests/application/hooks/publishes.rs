//! What hooks see of publishes, and in which order they are called.

use actix::prelude::*;
use actix_pika::{
    Result,
    hook::{Hook, Incoming, Outgoing, PublishEnd, Span, TaskEnd},
    message::Confirmation,
    tasks::{Done, Task},
};
use std::time::Duration;

use super::{Hooked, Job, Log, recorder};
use crate::support::{get_message, until_unsettled, within};

/// HOK-01: hooks see a publish from the application to the broker, and a task from the broker to the application; each
/// poll of a handler is within all spans.
#[actix::test]
async fn hooks_are_called_in_order() {
    let log = Log::default();
    let hooked =
        Hooked::open(|connector| connector.hook(recorder("a", &log)).hook(recorder("b", &log))).await;
    let publisher = hooked.jobs.publisher::<Job>().hook(recorder("p", &log));
    within("a publish", 10, publisher.publish(&Job { id: 1 })).await.unwrap();
    let expected = [
        "publishing p message jobs",
        "publishing b message jobs",
        "publishing a message jobs",
        "published a message jobs: confirmed true",
        "published b message jobs: confirmed true",
        "published p message jobs: confirmed true",
    ];
    assert_eq!(log.take(), expected);

    let said = log.clone();
    let tasks = hooked.jobs.tasks::<Job>().hook(recorder("t", &log));
    let handle = move |job: Task<Job>| {
        said.add(format!("called {}", job.id));
        let headers = job.content().properties().unwrap().headers().unwrap().len();
        let said = said.clone();
        async move {
            said.add(format!("polled {headers}"));
            Ok(())
        }
    };
    let consumer = tasks.for_each(handle).await.unwrap();
    let lines = log.that_begin("end", 3).await;
    assert_eq!(lines, ["end t acked", "end b acked", "end a acked"]);
    let expected = [
        "begin a jobs 1",
        "> a",
        "begin b jobs 1",
        "< a",
        "> a",
        "> b",
        "begin t jobs 1",
        "< b",
        "< a",
        "> a",
        "> b",
        "> t",
        "called 1",
        "< t",
        "< b",
        "< a",
        "> a",
        "> b",
        "> t",
        "polled 3",
        "< t",
        "< b",
        "< a",
        "end t acked",
        "end b acked",
        "end a acked",
    ];
    assert_eq!(log.take(), expected);
    consumer.stop().await;
}

/// HOK-02: a message is published as hooks have left it; every way to publish a value tells them how it has ended, once.
#[actix::test]
async fn every_publish_begins_and_ends() {
    let log = Log::default();
    let hooked = Hooked::open(|connector| connector.hook(recorder("h", &log))).await;
    let publisher = hooked.jobs.publisher::<Job>();
    within("a publish", 10, publisher.publish_with(&Job { id: 1 }, |message| message.priority(3)))
        .await
        .unwrap();
    let delivery = get_message(&hooked.jobs).await;
    let properties = delivery.properties().unwrap();
    assert_eq!(properties.header("h").and_then(|value| value.as_str()), Some("seen"));
    assert_eq!(properties.priority(), Some(3));
    delivery.ack().unwrap();
    assert_eq!(log.take(), ["publishing h message jobs", "published h message jobs: confirmed true"]);

    let results = within("publishes", 10, publisher.publish_all(&[Job { id: 2 }, Job { id: 3 }])).await;
    assert!(results.iter().all(Result::is_ok));
    let [begin, end] = ["publishing h message jobs", "published h message jobs: confirmed true"];
    assert_eq!(log.take(), [begin, begin, end, end]);

    within("a publish", 20, publisher.publish_in(&Job { id: 4 }, Duration::from_millis(100))).await.unwrap();
    assert_eq!(log.take(), [begin, end]);

    let nowhere = hooked.channel.exchange("amq.direct").publisher::<Job>().key("nowhere");
    within("a publish", 10, nowhere.publish(&Job { id: 5 })).await.unwrap_err();
    assert_eq!(log.take(), ["publishing h message nowhere", "published h message nowhere: Unroutable"]);

    // Whether it was published is not known.
    drop(publisher.publish(&Job { id: 6 }));
    assert_eq!(log.take(), [begin, "published h message jobs: unknown"]);

    // What is not typed is not seen.
    within("a publish", 10, hooked.channel.default_exchange().publish("7", "dead")).await.unwrap();
    assert!(log.take().is_empty());
}

#[derive(Message, serde::Serialize, serde::Deserialize)]
#[rtype(result = "Result<Confirmation>")]
struct Placed {
    id: u32,
}

/// HOK-02: recipients and relays publish with hooks, too.
#[actix::test]
async fn recipients_and_relays_have_hooks() {
    let log = Log::default();
    let hooked = Hooked::open(|connector| connector.hook(recorder("h", &log))).await;
    let recipient: Recipient<Placed> = hooked.jobs.publisher::<Placed>().recipient().unwrap();
    within("a publish", 10, recipient.send(Placed { id: 1 })).await.unwrap().unwrap();
    assert_eq!(log.take(), ["publishing h message jobs", "published h message jobs: confirmed true"]);

    let to = hooked.channel.queue("dead").publisher::<Job>();
    let relay = hooked.jobs.tasks::<Job>().relay(&to, |job| Some(Job { id: job.id + 1 }));
    let relay = within("a relay", 10, relay).await.unwrap();
    log.that_begin("end", 1).await;
    let lines: Vec<String> = log.take().into_iter().filter(|line| !line.starts_with(['<', '>'])).collect();
    let expected = [
        "begin h jobs 1",
        "publishing h message dead",
        "published h message dead: confirmed true",
        "end h acked",
    ];
    assert_eq!(lines, expected);
    relay.stop().await;
}

/// A hook whose every part panics.
struct Panics;

struct PanicsWithin {
    before: bool,
}

impl Span for PanicsWithin {
    fn within(&self, run: &mut dyn FnMut()) {
        assert!(!self.before, "a span panics in this test");
        run();
        panic!("a span panics in this test");
    }

    fn published(&self, _: &PublishEnd<'_>) {
        panic!("a span panics in this test");
    }

    fn ended(&self, _: &TaskEnd<'_>) {
        panic!("a span panics in this test");
    }
}

impl Drop for PanicsWithin {
    fn drop(&mut self) {
        panic!("a span panics in this test");
    }
}

impl Hook for Panics {
    fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
        assert_ne!(message.body(), r#"{"id":1}"#, "a hook panics in this test");
        Some(Box::new(PanicsWithin { before: message.body() == r#"{"id":2}"# }))
    }

    fn published(&self, _: &PublishEnd<'_>) {
        panic!("a hook panics in this test");
    }

    fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
        let body = message.content().body();
        assert_ne!(body, br#"{"id":1}"#, "a hook panics in this test");
        Some(Box::new(PanicsWithin { before: body == br#"{"id":2}"# }))
    }

    fn end(&self, _: &TaskEnd<'_>) {
        panic!("a hook panics in this test");
    }
}

struct Worker(Log);

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Task<Job>> for Worker {
    type Result = ResponseFuture<Done>;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Self::Result {
        let (log, scope) = (self.0.clone(), job.scope());
        scope.enter(|| log.add(format!("called {}", job.id)));
        Box::pin(scope.run(async move {
            log.add(format!("polled {}", job.id));
            Ok(())
        }))
    }
}

/// HOK-03: a hook that panics, in whatever it does, costs nothing: messages are published and handled once, and the other
/// hooks see all of it.
#[actix::test]
async fn a_hook_that_panics_breaks_nothing() {
    let log = Log::default();
    let hooked = Hooked::open(|connector| connector.hook(Panics).hook(recorder("h", &log))).await;
    hooked.publish(1..=3).await;
    let expected = ["publishing h message jobs", "published h message jobs: confirmed true"].repeat(3);
    assert_eq!(log.take(), expected);
    let said = log.clone();
    let consumer = hooked.jobs.for_each(1, move |job: Task<Job>| {
        said.add(format!("called {}", job.id));
        let said = said.clone();
        async move {
            said.add(format!("polled {}", job.id));
            Ok(())
        }
    });
    let consumer = consumer.await.unwrap();
    assert_eq!(log.that_begin("end", 3).await, ["end h acked"; 3]);
    let lines = log.take();
    let count = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!((count("begin"), count("called"), count("polled"), count("end")), (3, 3, 3, 3));
    consumer.stop().await;

    hooked.publish(1..=3).await;
    let consumer = hooked.jobs.tasks::<Job>().to(Worker(log.clone()).start()).await.unwrap();
    assert_eq!(log.that_begin("end", 3).await, ["end h acked"; 3]);
    let lines = log.take();
    let count = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!((count("begin"), count("called"), count("polled"), count("end")), (3, 3, 3, 3));
    consumer.stop().await;
    until_unsettled(&hooked.channel, 0).await;
}

/// A span that calls what it surrounds so often, and may panic before.
struct Calls(usize);

impl Span for Calls {
    fn within(&self, run: &mut dyn FnMut()) {
        assert_ne!(self.0, 3, "a span panics in this test");
        (0..self.0).for_each(|_| run());
    }
}

struct CallsAsOften;

impl Hook for CallsAsOften {
    fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
        let id = serde_json::from_slice::<Job>(message.content().body()).ok()?.id;
        Some(Box::new(Calls(id as usize)))
    }
}

/// HOK-04: a span that calls what it surrounds not at all, or twice, or panics, costs the spans of the other hooks nothing.
#[actix::test]
async fn a_span_that_calls_wrongly_leaves_the_others_as_they_are() {
    let log = Log::default();
    let hooked = Hooked::open(|connector| connector.hook(CallsAsOften).hook(recorder("h", &log))).await;
    hooked.publish(0..=3).await;
    log.take();
    let said = log.clone();
    let consumer = hooked.jobs.tasks::<Job>().at_once(1).for_each(move |job: Task<Job>| {
        let said = said.clone();
        async move {
            said.add(format!("polled {}", job.id));
            Ok(())
        }
    });
    let consumer = consumer.await.unwrap();
    log.that_begin("end", 4).await;
    let lines = log.take();
    for id in 0..=3 {
        let at = lines.iter().position(|line| *line == format!("polled {id}")).unwrap();
        assert_eq!((&*lines[at - 1], &*lines[at + 1]), ("> h", "< h"), "{lines:?}");
    }
    let entered = lines.iter().filter(|line| *line == "> h").count();
    assert_eq!(entered, 8, "once for the call of each handler, and once for its poll: {lines:?}");
    consumer.stop().await;
}
