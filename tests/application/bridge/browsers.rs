//! Server-sent events with actix-web.

use super::*;
use crate::support::broker::Vhost;
use actix_pika::{actix_web::serve, bridge::Bridge, connect, shutdown::Shutdown};
use actix_web::{App, HttpResponse, HttpServer, web};
use std::{convert::Infallible, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn events(bridge: web::Data<Bridge>) -> HttpResponse {
    let events = bridge.stream("orders.#", 64).await.unwrap();
    let line = |event| format!("data: {:?}\n\n", Told::from(event));
    let lines = events.map(move |event| Ok::<_, Infallible>(web::Bytes::from(line(event))));
    HttpResponse::Ok().content_type("text/event-stream").streaming(lines)
}

async fn read_until(socket: &mut TcpStream, read: &mut String, text: &str) {
    while !read.contains(text) {
        let mut part = [0; 1024];
        let bytes = within("an event", 10, socket.read(&mut part)).await.unwrap();
        assert!(bytes > 0, "the response has ended: {read}");
        read.push_str(std::str::from_utf8(&part[..bytes]).unwrap());
    }
}

/// BRG-11: a browser gets events as they come; at a shutdown its request ends, and nothing waits for it.
#[actix::test]
async fn a_shutdown_ends_requests_that_read_from_a_bridge() {
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let bridge = channel.exchange("amq.topic").bridge().start().await.unwrap();
    let data = web::Data::new(bridge.clone());
    let app = move || App::new().app_data(data.clone()).route("/events", web::get().to(events));
    let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0];
    let shutdown = Shutdown::within(Duration::from_secs(60)).bridge(bridge.clone()).connection(connection);
    let handle = shutdown.handle();
    let served = actix_rt::spawn(serve(server, shutdown));

    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut read = String::new();
    read_until(&mut socket, &mut read, "text/event-stream").await;
    publish(&channel, "amq.topic", "orders.at", 1).await;
    read_until(&mut socket, &mut read, r#"Message("orders.at", "1")"#).await;
    handle.begin();
    read_until(&mut socket, &mut read, r#"Ended("cancelled")"#).await;
    let report = within("the shutdown", 30, served).await.unwrap().unwrap();
    assert!(report.is_complete(), "{report}");
    assert!(report.took < Duration::from_secs(30), "{report}");
    assert_eq!(bridge.stats().subscribers, 0);
}
