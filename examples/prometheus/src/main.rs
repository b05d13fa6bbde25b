//! Places orders and handles them, and has its metrics at `/metrics` for Prometheus. See README.md.
//!
//! ```text
//! cargo run -p actix-pika-example-prometheus     # uses AMQP_URL, or the broker on localhost
//! ```

#![allow(clippy::print_stdout, missing_docs)]

use std::{
    env, error,
    time::{Duration, SystemTime},
};

use actix_pika::{
    Connector, Recovery,
    actix_web::serve,
    hook::{Hook, Outgoing, Span},
    metrics,
    publisher::Publisher,
    retry::Retry,
    shutdown::Shutdown,
    tasks::{Done, Failure, Task},
};
use actix_web::{App, HttpResponse, HttpServer, get, post, web};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Says when a message was published, so that its age is known at its delivery.
struct Timestamp;

impl Hook for Timestamp {
    fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
        let properties = std::mem::take(message.properties_mut());
        *message.properties_mut() = properties.with_timestamp(SystemTime::now());
        None
    }
}

#[get("/metrics")]
async fn scrape(prometheus: web::Data<PrometheusHandle>) -> String {
    metrics::sample(); // the counts of now, not those of the last second
    prometheus.render()
}

#[post("/orders/{id}")]
async fn place(id: web::Path<u64>, orders: Publisher<u64>) -> actix_pika::Result<HttpResponse> {
    orders.publish(&id).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// Takes longer for some orders than for others, and fails for a few.
async fn handle(order: Task<u64>) -> Done {
    actix_rt::time::sleep(Duration::from_millis(5 + *order % 40)).await;
    match *order % 100 {
        13 if order.attempt() == 1 => Err(Failure::retry("the warehouse is closed")),
        99 => Err(Failure::reject("there is no such article")),
        _ => Ok(()),
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn error::Error>> {
    // First, so that nothing happens without it.
    let prometheus = PrometheusBuilder::new().set_buckets(&metrics::BUCKETS)?.install_recorder()?;

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connector = Connector::new(&url)?.recovery(Recovery::default()).hook(Timestamp).metrics();
    let publishing = connector.clone().name("publishing").connect().await?;
    let consuming = connector.name("consuming").connect().await?;

    let retry = Retry::ladder(&[Duration::from_secs(5), Duration::from_secs(60)]);
    let queue = consuming.channel().await?.declare_jobs("orders", &retry).await?;
    let consumer = queue.tasks::<u64>().at_once(8).retry(retry).for_each(handle).await?;
    let orders = publishing.channel().await?.queue("orders").publisher::<u64>();

    // Ten orders in a second, so that there is something to see.
    let customer = orders.clone();
    actix_rt::spawn(async move {
        for id in 0.. {
            if let Err(error) = customer.publish(&id).await {
                println!("order {id}: {error}");
            }
            actix_rt::time::sleep(Duration::from_millis(100)).await;
        }
    });

    let shutdown = Shutdown::within(Duration::from_secs(25))
        .consumer(consumer)
        .connection(publishing)
        .connection(consuming);
    let (page, orders) = (web::Data::new(prometheus), web::Data::new(orders));
    let server = HttpServer::new(move || {
        App::new().app_data(page.clone()).app_data(orders.clone()).service(scrape).service(place)
    });
    println!("http://127.0.0.1:8080/metrics");
    println!("{}", serve(server.workers(2).bind(("127.0.0.1", 8080))?, shutdown).await?);
    Ok(())
}
