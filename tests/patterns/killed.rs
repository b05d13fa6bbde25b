//! A process that is killed (SIGKILL) at every step of a retry and of a relay loses nothing.
//!
//! The killed process is this test binary, which runs only [`the_program`]. A proxy holds it at each step.

use crate::support::{broker::Vhost, eventually, oracle::Oracle, proxy::*, within};
use actix_pika::{
    Channel, DeclareQueue, Publishing, Recovery,
    codec::Raw,
    connect,
    retry::Retry,
    tasks::{Failure, Task},
};
use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

const URL: &str = "KILLED_PROGRAM_URL";
const WHAT: &str = "KILLED_PROGRAM_DOES";

fn ladder() -> Retry {
    Retry::ladder(&[Duration::from_millis(200)])
}

/// The program that is killed: it relays from "jobs" to "done", or fails at the first try of each job and publishes it
/// to "done" at the second.
#[test]
#[ignore = "the other tests of this file run it as a process of its own"]
fn the_program() {
    let Ok(url) = std::env::var(URL) else { return };
    actix::System::new().block_on(async move {
        let connector = actix_pika::Connector::new(&url).unwrap().recovery(Recovery::default());
        let channel = connector.connect().await.unwrap().channel().await.unwrap();
        let done = channel.queue("done").publisher::<String>().codec(Raw);
        let tasks = channel.queue("jobs").tasks::<String>().codec(Raw).at_once(8);
        let consumer = match std::env::var(WHAT).as_deref() {
            Ok("relay") => tasks.relay(&done, Some).await,
            _ => {
                let handle = move |task: Task<String>| {
                    let done = (task.attempt() > 1).then(|| done.publish(&task));
                    async move {
                        match done {
                            Some(publish) => Ok(publish.await.map(drop)?),
                            None => Err(Failure::retry("the first try")),
                        }
                    }
                };
                tasks.retry(ladder()).for_each(handle).await
            }
        };
        consumer.unwrap().ended().await;
    });
}

/// The killed process, and what is around it.
struct Killed {
    vhost: Vhost,
    oracle: Oracle,
    proxy: Proxy,
    channel: Channel,
    what: &'static str,
}

impl Killed {
    async fn new(what: &'static str) -> Self {
        let vhost = Vhost::fresh_plain().await;
        let proxy = Proxy::to(&vhost.broker().address());
        let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
        channel.declare_queue(DeclareQueue::new("done").quorum()).await.unwrap();
        channel.declare_jobs("jobs", &ladder()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        Self { vhost, oracle, proxy, channel, what }
    }

    /// Starts the program, which connects through the proxy.
    fn start(&self) -> Process {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args(["--exact", "killed::the_program", "--ignored", "--nocapture"]);
        command.env(URL, self.proxy.url(&self.vhost.url())).env(WHAT, self.what);
        Process(command.stdout(Stdio::null()).spawn().unwrap())
    }

    /// Waits until the program consumes.
    async fn until_it_consumes(&self) {
        let consumes = async || {
            let counts = self.oracle.queue_counts("jobs").await?;
            (counts.1 == 1).then_some(())
        };
        eventually("a consumer of the program", 30, consumes).await;
    }

    async fn publish(&self, jobs: std::ops::Range<u32>) {
        for n in jobs {
            let job = Publishing::new(n.to_string()).message_id(format!("job-{n}"));
            self.channel.default_exchange().publish(job, "jobs").await.unwrap();
        }
    }

    /// Waits until the broker has what is published for the first job, which is not acknowledged.
    async fn until_published(&self) {
        match self.what {
            "relay" => self.oracle.wait_for_count("done", 1).await,
            _ => {
                // The copy has gone through its step.
                let both = async || (self.vhost.queue_depth("jobs").await? == 2).then_some(());
                eventually("the job and its copy", 30, both).await;
            }
        }
    }

    /// Waits until nothing is left to do.
    async fn until_idle(&self) {
        let idle = async || {
            for queue in ["jobs", "jobs.retry.200"] {
                if self.vhost.queue_depth(queue).await? > 0 {
                    return None;
                }
            }
            Some(())
        };
        eventually("nothing to do", 60, idle).await;
    }

    /// Ends the process, checks that no job is left anywhere, and adds how often each job was done.
    async fn count(&self, mut process: Process, done: &mut BTreeMap<String, u32>) {
        process.kill();
        for job in self.oracle.drain("done").await {
            *done.entry(String::from_utf8(job.data).unwrap()).or_default() += 1;
        }
        for queue in ["jobs", "jobs.retry.200", "jobs.dead"] {
            assert_eq!(self.oracle.count(queue).await, 0, "{queue}");
        }
    }
}

/// A process that is killed when it is dropped.
struct Process(Child);

impl Process {
    /// Sends SIGKILL, and waits for the end.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the process is killed, for the first job.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// It has the job, and its publish has not arrived.
    BeforePublish,
    /// Its publish has arrived, the confirm has not.
    BeforeConfirm,
    /// It has the confirm, and its ack has not arrived.
    BeforeAck,
    /// Its ack has arrived.
    AfterAck,
}

/// Kills the program at a step, starts another, and returns how often the job was done.
async fn killed_at(step: Step, what: &'static str, expected: u32) {
    const PUBLISH: (u16, u16) = (60, 40);
    const DELIVER: (u16, u16) = (60, 60);
    const ACK: (u16, u16) = (60, 80);
    let killed = Killed::new(what).await;
    let proxy = &killed.proxy;
    proxy.record();
    let mut process = killed.start();
    killed.until_it_consumes().await;
    match step {
        Step::BeforePublish => {
            proxy.stall(Direction::ToBroker);
            killed.publish(0..1).await;
            within("the job", 20, proxy.wait_for_method(Direction::ToClient, DELIVER, 1)).await;
        }
        Step::BeforeConfirm => {
            // The publish is slow enough for its confirm to be stalled.
            proxy.delay(Direction::ToBroker, Duration::from_millis(500));
            killed.publish(0..1).await;
            within("the job", 20, proxy.wait_for_method(Direction::ToClient, DELIVER, 1)).await;
            proxy.stall(Direction::ToClient);
            within("the publish", 20, proxy.wait_for_method(Direction::ToBroker, PUBLISH, 1)).await;
            killed.until_published().await;
        }
        Step::BeforeAck => {
            // The confirm is slow enough for the ack to be stalled.
            proxy.delay(Direction::ToClient, Duration::from_millis(500));
            killed.publish(0..1).await;
            within("the publish", 20, proxy.wait_for_method(Direction::ToBroker, PUBLISH, 1)).await;
            proxy.stall(Direction::ToBroker);
            within("the confirm", 20, proxy.wait_for_method(Direction::ToClient, ACK, 1)).await;
        }
        Step::AfterAck => {
            killed.publish(0..1).await;
            within("the ack", 20, proxy.wait_for_method(Direction::ToBroker, ACK, 1)).await;
        }
    }
    process.kill();
    if step != Step::AfterAck {
        // What is held back was never sent.
        proxy.cut_all(Cut::Rst);
    }
    proxy.resume(Direction::Both);
    proxy.delay(Direction::Both, Duration::ZERO);
    let process = killed.start();
    within("the job", 60, killed.oracle.wait_for_count("done", expected)).await;
    killed.until_idle().await;
    let mut done = BTreeMap::new();
    killed.count(process, &mut done).await;
    assert_eq!(done, BTreeMap::from([("0".to_owned(), expected)]), "{step:?}");
}

/// Kills the program ten times at any place while it works, and returns how often all jobs were done.
async fn killed_anywhere(what: &'static str) -> u32 {
    const JOBS: u32 = 400;
    let killed = Killed::new(what).await;
    for round in 0..10 {
        let mut process = killed.start();
        killed.until_it_consumes().await;
        let before = killed.proxy.byte_count(Direction::ToBroker);
        let jobs = round * JOBS / 10..(round + 1) * JOBS / 10;
        let bytes = 100 + 250 * u64::from(round);
        let kill = async {
            killed.proxy.wait_for_bytes(Direction::ToBroker, before + bytes).await;
            process.kill();
        };
        futures_util::join!(within("some work", 30, kill), killed.publish(jobs));
    }
    let process = killed.start();
    let mut done = BTreeMap::new();
    let next = async || killed.oracle.get("done").await;
    while done.len() < JOBS as usize {
        let job = eventually("a job that is done", 30, next).await;
        *done.entry(String::from_utf8(job.data).unwrap()).or_default() += 1;
    }
    killed.until_idle().await;
    killed.count(process, &mut done).await;
    assert_eq!(done.len(), JOBS as usize);
    done.values().sum()
}

/// RLY-06: a relay that is killed before its publish or after its ack has published once, in between twice.
#[actix::test]
async fn a_killed_relay_loses_nothing() {
    killed_at(Step::BeforePublish, "relay", 1).await;
    killed_at(Step::BeforeConfirm, "relay", 2).await;
    killed_at(Step::BeforeAck, "relay", 2).await;
    killed_at(Step::AfterAck, "relay", 1).await;
}

/// RTY-15: a retry that is killed before its copy is published or after its ack is made once, in between twice.
#[actix::test]
async fn a_killed_retry_loses_nothing() {
    killed_at(Step::BeforePublish, "retry", 1).await;
    killed_at(Step::BeforeConfirm, "retry", 2).await;
    killed_at(Step::BeforeAck, "retry", 2).await;
    killed_at(Step::AfterAck, "retry", 1).await;
}

/// RLY-06: a relay that is killed ten times at any place loses nothing.
#[actix::test]
async fn a_relay_that_is_killed_again_and_again_loses_nothing() {
    let done = killed_anywhere("relay").await;
    assert!(done < 400 + 10 * 16, "{done}: more than what was in flight was repeated");
}

/// RTY-15: a retry that is killed ten times at any place loses nothing.
#[actix::test]
async fn a_retry_that_is_killed_again_and_again_loses_nothing() {
    let done = killed_anywhere("retry").await;
    assert!(done < 400 + 10 * 16, "{done}: more than what was in flight was repeated");
}
