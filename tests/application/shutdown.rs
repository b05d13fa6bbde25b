//! The end of a process: what runs is waited for, under one deadline, and the report is right.
//!
//! Signals are sent to a process of its own, this test binary, which runs only [`the_program`]. Its handlers hold until the
//! test lets them go.

use std::{
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::prelude::*;
use actix_pika::{
    Connector, Recovery,
    actix_web::{CountRequests, health, serve},
    codec::Raw,
    publisher::Publisher,
    shutdown::{Drain, Shutdown, ShutdownReport},
    tasks::{Done, DrainReport, Task},
    worker::SupervisedWorker,
};
use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, robust_connection::RobustConnection, within,
};

const URL: &str = "SHUTDOWN_PROGRAM_URL";
const TEST: &str = "SHUTDOWN_PROGRAM_TEST";
const WHAT: &str = "SHUTDOWN_PROGRAM_DOES";
const PLACE: &str = "SHUTDOWN_PROGRAM_CONNECTS_ON";
const WITHIN: &str = "SHUTDOWN_PROGRAM_WITHIN";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// Sends a line to the test.
async fn tell(line: &str) -> TcpStream {
    let mut stream = TcpStream::connect(variable(TEST)).await.unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    stream
}

/// Tells the test that a handler has begun, and waits until the test lets it go.
async fn hold(who: &str) {
    let mut stream = tell(who).await;
    stream.read_u8().await.expect("the test lets it go");
}

/// The program: it takes jobs from "in", and requests. Each ends with a publish to "out".
#[test]
#[ignore = "the other tests of this file run it as a process of its own"]
fn the_program() {
    if std::env::var(URL).is_ok() {
        System::new().block_on(program());
    }
}

async fn program() {
    let other = Arbiter::new();
    let connector = Connector::new(&variable(URL)).unwrap().recovery(Recovery::default());
    let connector = match &*variable(PLACE) {
        "another arbiter" => connector.arbiter(&other.handle()),
        "its own thread" => connector.own_thread(),
        _ => connector,
    };
    let publishing = connector.clone().name("publishing").connect().await.unwrap();
    let consuming = connector.name("consuming").connect().await.unwrap();
    let channel = publishing.channel().await.unwrap();
    let out = channel.queue("out").publisher::<String>().codec(Raw);
    let jobs = consuming.channel().await.unwrap().queue("in");
    let jobs = jobs.tasks::<String>().codec(Raw).at_once(2).prefetch(4);
    let shutdown = Shutdown::within(Duration::from_secs(variable(WITHIN).parse().unwrap()));
    let report = match &*variable(WHAT) {
        "worker" => {
            let worker =
                SupervisedWorker::new(move || Holding(out.clone())).feed(jobs).start().await.unwrap();
            let shutdown = shutdown.worker(worker).connection(publishing).connection(consuming);
            shutdown.on_signal().await
        }
        "blocked" => {
            let worker = SupervisedWorker::new(|| Blocking).feed(jobs).threads(1).start().await.unwrap();
            let shutdown = shutdown.worker(worker).connection(publishing).connection(consuming);
            shutdown.on_signal().await
        }
        _ => {
            let publisher = out.clone();
            let handle = move |_: Task<String>| {
                let out = publisher.clone();
                async move {
                    hold("task").await;
                    out.publish(&"task".to_owned()).await?;
                    Ok(())
                }
            };
            let consumer = jobs.for_each(handle).await.unwrap();
            let shutdown = shutdown.consumer(consumer).connection(publishing).connection(consuming);
            let counted = CountRequests::of(&shutdown);
            let server = HttpServer::new(move || {
                App::new()
                    .wrap(counted.clone())
                    .app_data(web::Data::new(out.clone()))
                    .route("/work", web::post().to(work))
            });
            let server = server.workers(2).bind(("127.0.0.1", 0)).unwrap();
            tell(&format!("port {}", server.addrs()[0].port())).await;
            serve(server, shutdown).await
        }
    };
    tell(&format!("report {}", figures(&report.unwrap()))).await;
}

async fn work(out: Publisher<String, Raw>) -> actix_pika::Result<HttpResponse> {
    hold("request").await;
    out.publish(&"request".to_owned()).await?;
    Ok(HttpResponse::Accepted().body("done"))
}

struct Holding(Publisher<String, Raw>);

impl Actor for Holding {
    type Context = Context<Self>;
}

impl Handler<Task<String>> for Holding {
    type Result = ResponseFuture<Done>;

    fn handle(&mut self, _: Task<String>, _: &mut Self::Context) -> Self::Result {
        let out = self.0.clone();
        Box::pin(async move {
            hold("task").await;
            out.publish(&"task".to_owned()).await?;
            Ok(())
        })
    }
}

/// Blocks its thread for good.
struct Blocking;

impl Actor for Blocking {
    type Context = Context<Self>;
}

impl Handler<Task<String>> for Blocking {
    type Result = Done;

    fn handle(&mut self, _: Task<String>, _: &mut Self::Context) -> Done {
        let mut stream = std::net::TcpStream::connect(variable(TEST))?;
        std::io::Write::write_all(&mut stream, b"task\n")?;
        loop {
            std::thread::park();
        }
    }
}

fn figures(report: &ShutdownReport) -> Value {
    let tasks = report.tasks();
    let requests = report.requests.map(|requests| [requests.in_flight, requests.finished, requests.cut]);
    let closed = |name: &str| {
        let connection = report.connections.iter().find(|one| one.name == name).unwrap();
        json!([connection.unconfirmed, connection.result.is_ok()])
    };
    json!({
        "signal": report.signal.map(|signal| signal.to_string()),
        "forced": report.is_forced,
        "late": report.deadline_passed,
        "requests": requests,
        "tasks": [tasks.finished, tasks.given_back, tasks.abandoned],
        "reported": report.consumers.iter().all(|one| one.has_reported),
        "publishing": closed("publishing"),
        "consuming": closed("consuming"),
        "complete": report.is_complete(),
    })
}

/// The program in a process of its own, which is killed when it is dropped.
struct Program {
    vhost: Vhost,
    oracle: Oracle,
    listener: TcpListener,
    process: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A handler that holds.
type Held = BufReader<TcpStream>;

impl Program {
    /// Starts the program, with six jobs in its queue.
    async fn start(what: &str, place: &str, secs: u32) -> Self {
        let vhost = Vhost::fresh().await;
        let oracle = Oracle::connect(&vhost.url()).await;
        for queue in ["in", "out"] {
            oracle.declare_queue(queue).await;
        }
        for job in 0..6 {
            oracle.publish("", "in", job.to_string()).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "shutdown::the_program", "--ignored", "--nocapture"]);
        command.env(URL, vhost.url()).env(TEST, listener.local_addr().unwrap().to_string());
        command.env(WHAT, what).env(PLACE, place).env(WITHIN, secs.to_string());
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        Self { vhost, oracle, listener, process }
    }

    /// Returns the next line.
    async fn line(&self) -> (String, Held) {
        let (stream, _) = within("a line of the program", 30, self.listener.accept()).await.unwrap();
        let (mut stream, mut line) = (BufReader::new(stream), String::new());
        within("a line of the program", 10, stream.read_line(&mut line)).await.unwrap();
        (line, stream)
    }

    /// Returns the next line, which begins with `word`, without it.
    async fn told(&self, word: &str) -> (String, Held) {
        let (line, stream) = self.line().await;
        let rest = line.strip_prefix(word).unwrap_or_else(|| panic!("{word} was expected, not {line:?}"));
        (rest.trim().to_owned(), stream)
    }

    /// Waits until all tasks that fit are delivered.
    async fn until_delivered(&self) {
        let delivered = async || (self.oracle.queue_counts("in").await?.0 == 2).then_some(());
        eventually("four deliveries", 10, delivered).await;
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Sends a signal, and waits until the program takes no more tasks.
    async fn begin(&self, signal: &str) {
        self.signal(signal);
        self.oracle.wait_for_consumers("in", 0).await;
    }

    /// Waits for the report, and for the end of the process.
    async fn report(&mut self) -> Value {
        let report = self.told("report").await.0;
        let process = &mut self.process;
        let ended =
            eventually("the end of the process", 10, || std::future::ready(process.try_wait().unwrap()))
                .await;
        assert!(ended.success(), "{ended}");
        serde_json::from_str(&report).unwrap()
    }

    /// Returns what was published, sorted, and how many jobs are left.
    async fn left(&self) -> (Vec<String>, u32) {
        let mut out = self.oracle.drain_bodies("out").await;
        out.sort();
        let out = out.into_iter().map(|body| String::from_utf8(body).unwrap());
        (out.collect(), self.oracle.count("in").await)
    }
}

async fn post(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = "POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

async fn let_go(held: Vec<Held>) {
    for mut held in held {
        held.write_all(b"!").await.unwrap();
    }
}

/// A program with two requests and two tasks in flight.
struct Busy {
    program: Program,
    held: Vec<Held>,
    requests: Vec<tokio::task::JoinHandle<std::io::Result<String>>>,
}

impl Busy {
    async fn start(place: &str, secs: u32) -> Self {
        let program = Program::start("serve", place, secs).await;
        let (mut held, mut port) = (Vec::new(), None);
        while held.len() < 2 || port.is_none() {
            let (line, stream) = program.line().await;
            match line.trim().strip_prefix("port ") {
                Some(number) => port = Some(number.parse().unwrap()),
                None => held.push(stream),
            }
        }
        program.until_delivered().await;
        let port = port.unwrap();
        let requests = (0..2).map(|_| actix_rt::spawn(post(port))).collect();
        for _ in 0..2 {
            held.push(program.told("request").await.1);
        }
        Self { program, held, requests }
    }
}

async fn nothing_is_cut_off(place: &str, signal: &str, name: &str) {
    let Busy { mut program, held, requests } = Busy::start(place, 60).await;
    program.begin(signal).await;
    let_go(held).await;
    for request in requests {
        let response = within("a response", 20, request).await.unwrap().unwrap();
        assert!(
            response.starts_with("HTTP/1.1 202 Accepted\r\n") && response.ends_with("done"),
            "{response}"
        );
    }
    let expected = json!({
        "signal": name, "forced": false, "late": false, "requests": [2, 2, 0], "tasks": [2, 2, 0],
        "reported": true, "publishing": [0, true], "consuming": [0, true], "complete": true,
    });
    assert_eq!(program.report().await, expected, "{place}, {signal}");
    let out = ["request", "request", "task", "task"].map(str::to_owned);
    assert_eq!(program.left().await, (out.to_vec(), 4), "{place}, {signal}");
}

/// SHUT-10
#[actix::test]
async fn with_connections_on_the_first_arbiter_nothing_is_cut_off() {
    nothing_is_cut_off("the first arbiter", "-TERM", "SIGTERM").await;
    nothing_is_cut_off("the first arbiter", "-INT", "SIGINT").await;
}

/// SHUT-10: also not 300 milliseconds after the workers of the server, when actix-web's own handling stops the `System`.
#[actix::test]
async fn with_connections_on_another_arbiter_nothing_is_cut_off() {
    nothing_is_cut_off("another arbiter", "-TERM", "SIGTERM").await;
    nothing_is_cut_off("another arbiter", "-INT", "SIGINT").await;
}

/// SHUT-10
#[actix::test]
async fn with_connections_on_their_own_threads_nothing_is_cut_off() {
    nothing_is_cut_off("its own thread", "-TERM", "SIGTERM").await;
    nothing_is_cut_off("its own thread", "-INT", "SIGINT").await;
}

/// SHUT-10: a process without an HTTP server.
#[actix::test]
async fn a_worker_finishes_its_tasks() {
    for (signal, name) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
        let mut program = Program::start("worker", "the first arbiter", 60).await;
        let held = vec![program.told("task").await.1, program.told("task").await.1];
        program.until_delivered().await;
        program.begin(signal).await;
        let_go(held).await;
        let expected = json!({
            "signal": name, "forced": false, "late": false, "requests": null, "tasks": [2, 2, 0],
            "reported": true, "publishing": [0, true], "consuming": [0, true], "complete": true,
        });
        assert_eq!(program.report().await, expected);
        assert_eq!(program.left().await, (vec!["task".to_owned(); 2], 4));
    }
}

/// SHUT-11
#[actix::test]
async fn a_second_signal_ends_the_process_at_once() {
    for (first, second) in [("-TERM", "-INT"), ("-INT", "-INT")] {
        let Busy { mut program, held, requests } = Busy::start("the first arbiter", 3_600).await;
        program.begin(first).await;
        program.signal(second);
        let report = program.report().await;
        for (figure, expected) in [
            ("forced", json!(true)),
            ("late", json!(false)),
            ("requests", json!([2, 0, 2])),
            ("tasks", json!([0, 2, 2])),
            ("complete", json!(false)),
        ] {
            assert_eq!(report[figure], expected, "{figure}: {report}");
        }
        drop(held);
        for request in requests {
            let response = within("the end of a connection", 10, request).await.unwrap();
            assert_eq!(response.unwrap_or_default(), "");
        }
        program.oracle.wait_for_count("in", 6).await;
        assert_eq!(program.left().await, (Vec::new(), 6));
    }
}

/// SHUT-12
#[actix::test]
async fn at_the_deadline_what_runs_is_cut_off_and_connections_are_closed() {
    let Busy { mut program, held, requests } = Busy::start("the first arbiter", 10).await;
    program.begin("-TERM").await;
    let expected = json!({
        "signal": "SIGTERM", "forced": false, "late": true, "requests": [2, 0, 2], "tasks": [0, 2, 2],
        "reported": true, "publishing": [0, true], "consuming": [0, true], "complete": false,
    });
    assert_eq!(program.report().await, expected);
    drop((held, requests));
    program.oracle.wait_for_count("in", 6).await;
    assert_eq!(program.left().await, (Vec::new(), 6));
}

/// SHUT-12: a handler that blocks its thread.
#[actix::test]
async fn a_blocked_thread_is_given_up_and_connections_are_closed() {
    let mut program = Program::start("blocked", "the first arbiter", 10).await;
    let held = program.told("task").await.1;
    program.until_delivered().await;
    program.signal("-TERM");
    let expected = json!({
        "signal": "SIGTERM", "forced": false, "late": true, "requests": null, "tasks": [0, 0, 0],
        "reported": false, "publishing": [0, true], "consuming": [0, true], "complete": false,
    });
    assert_eq!(program.report().await, expected);
    drop(held);
    program.oracle.wait_for_count("in", 6).await;
}

/// Something that notes when it is stopped and drained.
struct Noted {
    name: &'static str,
    log: Arc<Mutex<Vec<String>>>,
}

impl Noted {
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{what} {}", self.name));
    }
}

impl Drain for Noted {
    fn name(&self) -> String {
        self.name.into()
    }

    fn stop(&self) {
        self.note("stop");
    }

    fn drain(&self, _: Duration) -> BoxFuture<'static, DrainReport> {
        self.note("drain");
        assert!(self.name != "broken", "a drain panics in this test");
        let is_silent = self.name == "silent";
        Box::pin(async move {
            if is_silent {
                std::future::pending::<()>().await;
            }
            let mut report = DrainReport::default();
            report.finished = 1;
            report
        })
    }
}

/// SHUT-13
#[actix::test]
async fn each_kind_is_drained_in_its_turn() {
    let log = Arc::<Mutex<Vec<String>>>::default();
    let noted = |name| Noted { name, log: log.clone() };
    let bench = RobustConnection::connect().await;
    let shutdown = Shutdown::within(Duration::from_secs(20))
        .connection(bench.connection.clone())
        .bridge(noted("bridge"))
        .relay(noted("relay"))
        .consumer(noted("first"))
        .consumer(noted("second"));
    let (handle, other) = (shutdown.handle(), shutdown.handle());
    assert!(!handle.is_draining());
    handle.begin();
    let report = within("the end", 20, shutdown.on_signal()).await.unwrap();
    assert!(other.is_draining() && report.is_complete() && report.signal.is_none(), "{report}");
    let expected = [
        "stop first",
        "stop second",
        "stop bridge",
        "drain first",
        "drain second",
        "drain relay",
        "drain bridge",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
    let finished = |all: &[actix_pika::shutdown::Drained]| -> Vec<_> {
        all.iter().map(|one| (one.name.clone(), one.report.finished)).collect()
    };
    assert_eq!(finished(&report.consumers), [("first".to_owned(), 1), ("second".to_owned(), 1)]);
    assert_eq!(finished(&report.relays), [("relay".to_owned(), 1)]);
    assert_eq!(finished(&report.bridges), [("bridge".to_owned(), 1)]);
    assert!(bench.connection.is_closed());
}

/// SHUT-13: what panics, or never reports, keeps nothing from its end.
#[actix::test]
async fn a_drain_that_fails_costs_only_its_report() {
    let log = Arc::<Mutex<Vec<String>>>::default();
    let noted = |name| Noted { name, log: log.clone() };
    let bench = RobustConnection::connect().await;
    let shutdown = Shutdown::within(Duration::from_secs(4))
        .consumer(noted("broken"))
        .consumer(noted("silent"))
        .consumer(noted("good"))
        .connection(bench.connection.clone());
    let report = within("the end", 20, shutdown.now()).await;
    let reported: Vec<_> = report.consumers.iter().map(|one| (&*one.name, one.has_reported)).collect();
    assert_eq!(reported, [("broken", false), ("silent", false), ("good", true)]);
    assert!(report.deadline_passed && !report.is_complete());
    assert!(report.connections[0].result.is_ok(), "{report}");
}

/// SHUT-14: a connection that is down is given up, and the report has what was not confirmed.
#[actix::test]
async fn unconfirmed_publishes_of_a_lost_connection_are_counted() {
    let mut bench = RobustConnection::connect().await;
    let channel = bench.channel().await;
    channel.declare_queue("out").await.unwrap();
    bench.disconnect().await;
    let mut confirms = Vec::new();
    for n in 0..3 {
        let exchange = channel.default_exchange();
        confirms.push(within("room", 10, exchange.publish_deferred(n.to_string(), "out")).await.unwrap());
    }
    let shutdown = Shutdown::within(Duration::from_secs(20)).connection(bench.connection.clone());
    let report = within("the end", 10, shutdown.now()).await;
    assert_eq!((report.unconfirmed(), report.connections[0].unconfirmed), (3, 3));
    assert!(report.connections[0].result.is_err() && !report.deadline_passed, "{report}");
    for confirm in confirms {
        within("an end", 10, confirm).await.unwrap_err();
    }
}

/// SHUT-13: during the pause everything goes on, and the process is not ready.
#[actix::test]
async fn during_the_pause_everything_goes_on() {
    let bench = RobustConnection::connect().await;
    let channel = bench.channel().await;
    channel.declare_queue("out").await.unwrap();
    let shutdown = Shutdown::within(Duration::from_secs(3_600)).pause(Duration::from_secs(3_000));
    let shutdown = shutdown.connection(bench.connection.clone());
    let app = App::new().service(health(&shutdown)).service(health(&bench.connection).ready_path("/one"));
    let app = actix_web::test::init_service(app).await;
    let handle = shutdown.handle();
    let ended = actix_rt::spawn(shutdown.on_signal());
    handle.begin();
    for path in ["/health/ready", "/one"] {
        let not_ready = async || {
            let request = actix_web::test::TestRequest::get().uri(path).to_request();
            let response = actix_web::test::call_service(&app, request).await;
            (response.status() == 503).then_some(response)
        };
        let response = eventually("a drain", 10, not_ready).await;
        let body = actix_web::test::read_body(response).await;
        assert_eq!(body, r#"{"ready":false,"not_ready":[{"what":"process","why":"draining"}]}"#);
    }
    within("a publish", 10, channel.default_exchange().publish("x", "out")).await.unwrap();
    assert!(!ended.is_finished());
    ended.abort();
}

/// A shutdown can be spawned.
#[test]
fn a_shutdown_is_send() {
    fn is_send<T: Send>(_: T) {}
    is_send(Shutdown::within(Duration::from_secs(1)).on_signal());
    is_send(Shutdown::within(Duration::from_secs(1)).now());
}
