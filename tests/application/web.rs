//! In an actix-web application: extractors, errors as responses, health routes.

use std::time::Duration;

use actix_http::Request;
use actix_pika::{
    Connection, DeclareQueue, OpenChannel,
    actix_web::health,
    options::OnOutage,
    publisher::Publisher,
    rpc::{RpcClient, RpcError},
    shutdown::Shutdown,
    tasks::Task,
    testing::protocol::connection,
};
use actix_web::{
    App, HttpResponse, ResponseError,
    body::{BoxBody, to_bytes},
    dev::{Service, ServiceResponse},
    test::{TestRequest, call_service, init_service},
    web::{self, Data},
};
use serde_json::Value;

use crate::support::{
    broker::Vhost,
    eventually,
    robust_connection::RobustConnection,
    scripted_peer::{connect_to_peer, open_channel},
    within,
};

/// What a handler publishes.
#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    id: u64,
}

async fn place(orders: Publisher<Order>, order: web::Json<Order>) -> actix_pika::Result<HttpResponse> {
    orders.publish(&order).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// Posts an order to an application with this publisher, and returns the response.
async fn post(publisher: &Publisher<Order>) -> Response {
    let app = App::new().app_data(Data::new(publisher.clone())).route("/orders", web::post().to(place));
    let app = init_service(app).await;
    let request = TestRequest::post().uri("/orders").set_json(Order { id: 7 }).to_request();
    Response::of(within("a response", 20, call_service(&app, request)).await.into()).await
}

struct Response {
    status: u16,
    retry_after: Option<u64>,
    body: String,
}

impl Response {
    async fn of(response: HttpResponse) -> Self {
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.map(|value| value.to_str().unwrap().parse().unwrap());
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body()).await.unwrap();
        Self { status, retry_after, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Asserts what holds for every error: a fixed sentence and an id, without what is behind the service.
    fn is_error(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.retry_after.is_some(), status == 503, "{:?}", self.retry_after);
        assert!(self.retry_after.is_none_or(|secs| (1..=30).contains(&secs)));
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
        assert_eq!(body["request_id"].as_str().unwrap().len(), 16);
        for internal in ["orders", "memory", "vhost", "127.0.0.1", "guest", "NOT_FOUND", "Publisher"] {
            assert!(!self.body.contains(internal), "{}", self.body);
        }
    }
}

/// WEB-03
#[actix::test]
async fn a_handler_gets_its_publisher() {
    let bench = RobustConnection::connect().await;
    let channel = bench.channel().await;
    let orders = channel.declare_queue("orders").await.unwrap().publisher::<Order>();
    let response = post(&orders).await;
    assert_eq!((response.status, &*response.body), (202, ""));
    let oracle = bench.oracle().await;
    assert_eq!(oracle.drain_bodies("orders").await, [br#"{"id":7}"#]);
}

/// WEB-03: also channels and clients of calls; one that is missing is an error of the server, told in the log only.
#[actix::test]
async fn a_missing_handle_is_an_internal_error() {
    let app = App::new()
        .route("/publisher", web::get().to(async |_: Publisher<Order>| HttpResponse::Ok()))
        .route("/channel", web::get().to(async |_: actix_pika::Channel| HttpResponse::Ok()))
        .route("/rpc", web::get().to(async |_: RpcClient| HttpResponse::Ok()));
    let app = init_service(app).await;
    for path in ["/publisher", "/channel", "/rpc"] {
        let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        Response::of(response.into()).await.is_error(500);
    }
    let bench = RobustConnection::connect().await;
    let channel = bench.channel().await;
    let app = App::new().app_data(Data::new(channel)).route(
        "/channel",
        web::get().to(async |channel: actix_pika::Channel| {
            channel.default_exchange().publish("x", "nowhere").await.map(|_| HttpResponse::Ok())
        }),
    );
    let app = init_service(app).await;
    let response = call_service(&app, TestRequest::get().uri("/channel").to_request()).await;
    Response::of(response.into()).await.is_error(502);
}

/// WEB-01: while the connection is down.
#[actix::test]
async fn without_a_connection_a_request_is_tried_later() {
    let mut bench = RobustConnection::connect_with(|connector| {
        connector.recovery(actix_pika::Recovery::fixed(Duration::from_secs(12)))
    })
    .await;
    let options = OpenChannel::new().on_outage(OnOutage::Fail);
    let channel = bench.connection.channel_with(options).await.unwrap();
    let orders = channel.declare_queue("orders").await.unwrap().publisher::<Order>();
    let waiting = OpenChannel::new().deadline(Duration::from_millis(200));
    let waiting = bench.connection.channel_with(waiting).await.unwrap().queue("orders").publisher::<Order>();
    bench.disconnect().await;
    for publisher in [&orders, &waiting] {
        let response = post(publisher).await;
        response.is_error(503);
        // The next attempt is known.
        let wait = response.retry_after.unwrap();
        assert!((6..=12).contains(&wait), "{wait}");
    }
}

/// WEB-01: while the broker blocks the connection; when the window is full; when no confirm comes.
#[actix::test]
async fn a_broker_that_does_not_keep_up_is_tried_later() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let options = OpenChannel::new().window(1).deadline(Duration::from_millis(300));
    let channel = open_channel(&connection, &mut socket, 1, options).await;
    let orders = channel.queue("orders").publisher::<Order>();
    let held = actix_rt::spawn({
        let orders = orders.clone();
        async move { post(&orders).await }
    });
    socket.expect_publish(1).await.unwrap();
    let own = orders.clone().deadline(Duration::from_millis(10));
    post(&own).await.is_error(503);
    within("a response", 10, held).await.unwrap().is_error(504);

    let channel = open_channel(&connection, &mut socket, 2, options_of(300)).await;
    let orders = channel.queue("orders").publisher::<Order>();
    socket.send(0, connection::Blocked { reason: "low on memory".into() }).await.unwrap();
    eventually("blocked", 10, async || connection.is_blocked().then_some(())).await;
    post(&orders).await.is_error(503);
}

fn options_of(millis: u64) -> OpenChannel {
    OpenChannel::new().deadline(Duration::from_millis(millis))
}

/// WEB-01: what the broker or the library does not take.
#[actix::test]
async fn a_message_that_is_not_taken_has_a_status() {
    let bench = RobustConnection::connect().await;
    let channel = bench.channel().await;
    let nowhere = channel.queue("orders").publisher::<Order>();
    post(&nowhere).await.is_error(502);
    let full =
        DeclareQueue::new("orders").max_length(0).overflow(actix_pika::options::Overflow::RejectPublish);
    channel.declare_queue(full).await.unwrap();
    post(&nowhere).await.is_error(502);
    let large = channel.default_exchange().publisher::<Order>().key("x".repeat(256));
    post(&large).await.is_error(413);
    let missing = channel.exchange("orders").publisher::<Order>();
    post(&missing).await.is_error(500);
    bench.connection.close().await.unwrap();
    post(&nowhere).await.is_error(503);
}

/// WEB-02: errors of calls.
#[actix::test]
async fn an_error_of_a_call_is_a_response() {
    let late = RpcError::Timeout { may_have_run: true, cause: None };
    Response::of(late.error_response()).await.is_error(504);
    let remote = RpcError::Remote(actix_pika::rpc::RemoteError::new("no-funds", "guest has nothing"));
    Response::of(remote.error_response()).await.is_error(502);
}

/// Asks a route of `app`.
async fn ask<S>(app: &S, path: &str) -> (u16, Value)
where
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    let response = call_service(app, TestRequest::get().uri(path).to_request()).await;
    let response: HttpResponse = response.into();
    assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
    let response = Response::of(response).await;
    (response.status, serde_json::from_str(&response.body).unwrap())
}

fn not_ready(what: &str, name: &str, why: &str) -> (u16, Value) {
    let reason = serde_json::json!({ "what": what, "name": name, "why": why });
    (503, serde_json::json!({ "ready": false, "not_ready": [reason] }))
}

fn ready() -> (u16, Value) {
    (200, serde_json::json!({ "ready": true }))
}

fn alive(live: bool) -> (u16, Value) {
    (if live { 200 } else { 503 }, serde_json::json!({ "live": live }))
}

/// WEB-05: a connection that is down is no reason to restart.
#[actix::test]
async fn a_lost_connection_is_not_ready() {
    let mut bench = RobustConnection::connect_with(|connector| connector.name("orders")).await;
    let app = init_service(App::new().service(health(&bench.connection))).await;
    assert_eq!(ask(&app, "/health/ready").await, ready());
    assert_eq!(ask(&app, "/health/live").await, alive(true));
    bench.disconnect().await;
    assert_eq!(ask(&app, "/health/ready").await, not_ready("connection", "orders", "down"));
    assert_eq!(ask(&app, "/health/live").await, alive(true));
    bench.proxy.accept_new().await;
    bench.wait_for_recovery().await;
    assert_eq!(ask(&app, "/health/ready").await, ready());
    bench.connection.close().await.unwrap();
    assert_eq!(ask(&app, "/health/live").await, alive(false));
}

/// WEB-05
#[actix::test]
async fn a_blocked_connection_is_not_ready() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let app = App::new().service(health(&connection).live_path("/livez").ready_path("/readyz"));
    let app = init_service(app).await;
    assert_eq!(ask(&app, "/readyz").await, ready());
    socket.send(0, connection::Blocked { reason: "low on memory".into() }).await.unwrap();
    eventually("blocked", 10, async || connection.is_blocked().then_some(())).await;
    assert_eq!(ask(&app, "/readyz").await, not_ready("connection", "0", "blocked"));
    assert_eq!(ask(&app, "/livez").await, alive(true));
}

/// WEB-05: a consumer whose queue somebody has deleted, and one that was stopped.
#[actix::test]
async fn a_missing_consumer_is_not_ready() {
    let bench = RobustConnection::connect().await;
    let channel = bench.channel().await;
    let oracle = bench.oracle().await;
    // Declared by another client, so that it is not declared again.
    oracle.declare_queue("orders").await;
    let consume = actix_pika::Consume::new().tag("shipping");
    let tasks = channel.queue("orders").tasks::<Order>().consume(consume);
    let consumer = tasks.for_each(async |_: Task<Order>| Ok(())).await.unwrap();
    let shutdown = Shutdown::within(Duration::from_secs(9))
        .consumer(consumer.clone())
        .connection(bench.connection.clone());
    let app = init_service(App::new().service(health(&shutdown))).await;
    assert_eq!(ask(&app, "/health/ready").await, ready());
    bench.vhost.delete_queue("orders").await;
    let missing = not_ready("consumer", "shipping", "missing");
    let is_missing = async || (ask(&app, "/health/ready").await == missing).then_some(());
    eventually("a missing consumer", 20, is_missing).await;
    oracle.declare_queue("orders").await;
    let is_ready = async || (ask(&app, "/health/ready").await == ready()).then_some(());
    eventually("the consumer", 20, is_ready).await;
    consumer.stop().await;
    assert_eq!(ask(&app, "/health/ready").await, not_ready("consumer", "shipping", "stopped"));
    assert_eq!(ask(&app, "/health/live").await, alive(true));
}

/// WEB-05: a connection whose thread is blocked, or has ended.
#[actix::test]
async fn a_blocked_thread_is_not_alive() {
    let vhost = Vhost::fresh().await;
    let arbiter = actix::Arbiter::new();
    let connector = actix_pika::Connector::new(&vhost.url()).unwrap().arbiter(&arbiter.handle());
    let connection: Connection = within("connect", 10, connector.connect()).await.unwrap();
    let app = init_service(App::new().service(health(&connection))).await;
    assert_eq!(ask(&app, "/health/live").await, alive(true));
    let ((begun, begins), (go, wait)) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel::<()>());
    arbiter.spawn_fn(move || {
        begun.send(()).unwrap();
        wait.recv().unwrap();
    });
    within("a blocked thread", 10, begins).await.unwrap();
    assert_eq!(ask(&app, "/health/live").await, alive(false));
    assert_eq!(ask(&app, "/health/ready").await, not_ready("connection", "0", "does not answer"));
    go.send(()).unwrap();
    assert_eq!(ask(&app, "/health/live").await, alive(true));
    arbiter.stop();
    let ended = async || (ask(&app, "/health/live").await == alive(false)).then_some(());
    eventually("the end of the arbiter", 10, ended).await;
    assert_eq!(ask(&app, "/health/ready").await, not_ready("connection", "0", "ended"));
}
