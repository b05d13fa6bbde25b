//! Services of actix's registry as handlers of tasks.

use actix::prelude::*;
use actix_pika::{
    ConsumerEnd,
    tasks::{Done, Task},
};
use tokio::sync::mpsc;

use super::{End, consumers};
use crate::{
    ends_when_told,
    support::{eventually, within},
    tasks::{Job, Jobs, reports},
};

#[derive(Default)]
struct Service {
    report: Option<mpsc::UnboundedSender<u32>>,
}

impl Actor for Service {
    type Context = Context<Self>;
}

impl Supervised for Service {}
impl SystemService for Service {}

#[derive(Message)]
#[rtype(result = "()")]
struct ReportTo(mpsc::UnboundedSender<u32>);

impl Handler<ReportTo> for Service {
    type Result = ();

    fn handle(&mut self, to: ReportTo, _: &mut Self::Context) {
        self.report = Some(to.0);
    }
}

impl Handler<Task<Job>> for Service {
    type Result = Done;

    fn handle(&mut self, job: Task<Job>, ctx: &mut Self::Context) -> Done {
        self.report.as_ref().expect("the service was told where to report").send(job.id)?;
        match job.id {
            3 => ctx.stop(),
            5 => panic!("a handler panics in this test"),
            _ => {}
        }
        Ok(())
    }
}

ends_when_told!(Service);

/// WRK-30: a service of the registry handles tasks, over a stop too. A panic ends it for good: its consumer ends with
/// `TargetGone`, what it has not done returns, and the registry goes on handing out the address that is dead.
#[actix::test]
async fn a_service_that_panics_is_gone_and_its_consumer_tells() {
    let jobs = Jobs::new().await;
    let (report, mut runs) = reports();
    Service::from_registry().send(ReportTo(report)).await.unwrap();
    let consumer = jobs.queue.tasks::<Job>().at_once(2).to(Service::from_registry()).await.unwrap();
    jobs.publish(1..=4).await;
    assert_eq!(runs.take(4).await, [1, 2, 3, 4], "actix restarts it after the stop, with the same address");
    jobs.until_empty().await;
    assert_eq!(consumers(&jobs, "jobs").await, 1);

    jobs.publish(5..=8).await;
    let end = within("the end of the consumer", 20, consumer.ended()).await;
    assert!(matches!(end, ConsumerEnd::TargetGone), "{end:?}");
    assert_eq!(runs.next().await, 5);
    assert!(runs.is_empty());
    assert!(!Service::from_registry().connected(), "the registry keeps the dead address");
    assert_eq!(Service::from_registry().send(End::Stop).await, Err(MailboxError::Closed));
    jobs.oracle.wait_for_count("jobs", 4).await;
    let none = async || (consumers(&jobs, "jobs").await == 0).then_some(());
    eventually("its consumer is cancelled", 20, none).await;
    assert_eq!(jobs.ids("jobs").await, [5, 6, 7, 8]);

    let error = jobs.queue.tasks::<Job>().to(Service::from_registry()).await;
    let consumer = error.expect("the consumer starts, and ends at once");
    assert!(matches!(within("its end", 20, consumer.ended()).await, ConsumerEnd::TargetGone));
}

/// Subscribes in `started`, as no actor should.
struct Subscribing(Jobs);

impl Actor for Subscribing {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (queue, actor) = (self.0.queue.clone(), ctx.address());
        let consume = async move { queue.tasks::<Job>().to(actor).await.unwrap() };
        ctx.wait(consume.into_actor(self).map(|_, _, _| ()));
    }
}

impl Supervised for Subscribing {}

impl Handler<Task<Job>> for Subscribing {
    type Result = Done;

    fn handle(&mut self, _: Task<Job>, _: &mut Self::Context) -> Done {
        Ok(())
    }
}

ends_when_told!(Subscribing);

/// WRK-31: why no actor should consume in `started`: under actix's `Supervisor`, three restarts leave four consumers.
#[actix::test]
async fn an_actor_that_consumes_in_started_has_one_consumer_more_after_each_restart() {
    let jobs = Jobs::new().await;
    let channel = jobs.channel.clone();
    let oracle_url = jobs.vhost.url();
    let oracle = crate::support::oracle::Oracle::connect(&oracle_url).await;
    let actor = Supervisor::start(move |_| Subscribing(jobs));
    for consumers in 1..=4 {
        let so_many = async || (oracle.queue_counts("jobs").await.unwrap().1 == consumers).then_some(());
        eventually("one consumer more", 20, so_many).await;
        actor.send(End::Stop).await.unwrap();
    }
    drop(channel);
}
