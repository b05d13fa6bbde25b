//! Server-sent events, and an actor, behind one consumer:
//!
//! ```sh
//! cargo run --example sse
//! curl -N 'http://127.0.0.1:8080/events/orders.%23'         # orders.#, until you stop it
//! curl -X POST -d 'two books' http://127.0.0.1:8080/publish/orders.at
//! ```
//!
//! `AMQP_URL` names another broker, `LISTEN` another address.

#![allow(clippy::print_stdout, missing_docs)]

use std::convert::Infallible;

use actix::{Actor, Context, Handler};
use actix_pika::{
    Channel, Publishing,
    bridge::{Bridge, BridgeEvent},
    connect_robust,
};
use actix_web::{
    App, HttpResponse, HttpServer, Responder,
    error::ErrorServiceUnavailable,
    get, post,
    web::{Bytes, Data, Path},
};
use futures_util::StreamExt;

/// Counts orders. A web socket is such an actor, too.
#[derive(Default)]
struct Orders(u64);

impl Actor for Orders {
    type Context = Context<Self>;
}

impl Handler<BridgeEvent> for Orders {
    type Result = ();

    fn handle(&mut self, event: BridgeEvent, _: &mut Self::Context) {
        match event {
            BridgeEvent::Message(_) => self.0 += 1,
            other => println!("after {} orders: {other:?}", self.0),
        }
    }
}

/// One line of an event that a browser understands. What was lost has a name of its own, on which a page reads all again.
fn line(event: BridgeEvent) -> Result<Bytes, Infallible> {
    Ok(Bytes::from(match event {
        BridgeEvent::Message(order) => {
            let body = String::from_utf8_lossy(order.body()).replace(['\r', '\n'], " ");
            format!("event: message\ndata: {body}\n\n")
        }
        BridgeEvent::Lagged(lost) => format!("event: lagged\ndata: {lost}\n\n"),
        BridgeEvent::Gap => "event: gap\ndata:\n\n".to_owned(),
        _ => "event: end\ndata:\n\n".to_owned(),
    }))
}

#[get("/events/{pattern}")]
async fn events(bridge: Data<Bridge>, pattern: Path<String>) -> actix_web::Result<impl Responder> {
    let events = bridge.stream(&pattern, 64).await.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Ok().content_type("text/event-stream").streaming(events.map(line)))
}

#[post("/publish/{key}")]
async fn publish(
    channel: Data<Channel>,
    key: Path<String>,
    body: Bytes,
) -> actix_web::Result<impl Responder> {
    // Nobody may be there to read it.
    let publishing = Publishing::new(body).mandatory(false);
    channel.exchange("amq.topic").publish(publishing, &key).await.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Accepted())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://guest:guest@localhost/".into());
    let listen = std::env::var("LISTEN").unwrap_or("127.0.0.1:8080".into());
    let channel = connect_robust(url).await?.channel().await?;
    let bridge = channel.exchange("amq.topic").bridge().start().await?;
    let _orders = bridge.subscribe("orders.#", 1024, Orders::default().start()).await?;
    let (data, publisher) = (Data::new(bridge.clone()), Data::new(channel));
    let app = move || {
        App::new().app_data(data.clone()).app_data(publisher.clone()).service(events).service(publish)
    };
    HttpServer::new(app).bind(listen)?.run().await?;
    bridge.stop();
    Ok(())
}
