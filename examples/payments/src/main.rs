//! The service as a process.
//!
//! ```text
//! cargo run -p payments
//! curl -d '{"id":"1","cents":1999}' -H 'content-type: application/json' http://127.0.0.1:8080/payments
//! ```
//!
//! `AMQP_URL` and `LISTEN` change where it connects and listens.

use std::{env, error::Error, io, time::Duration};

use actix_pika::{Connector, Recovery, actix_web::serve, shutdown::Shutdown};
use actix_web::{App, HttpServer};
use payments::{Payment, declare, routes, work};

/// Where a provider of payments would be called, with the id: see [`work`].
async fn charge(payment: Payment) -> io::Result<()> {
    log::info!("charged {payment:?}");
    Ok(())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init(); // RUST_LOG=info
    let setting = |name, default: &str| env::var(name).unwrap_or_else(|_| default.into());
    let connector = Connector::new(&setting("AMQP_URL", "amqp://guest:guest@localhost/"))?;
    let connector = connector.recovery(Recovery::default());
    // A connection that publishes may be blocked by the broker, one that consumes is not.
    let publishing = connector.clone().name("payments-publishing").connect().await?;
    let consuming = connector.name("payments-consuming").connect().await?;

    let worker = work(&declare(&consuming).await?, charge).await?;
    let publisher = publishing.channel().await?.queue(payments::QUEUE).publisher::<Payment>();

    let shutdown = Shutdown::within(Duration::from_secs(25)).consumer(worker);
    let shutdown = shutdown.connection(publishing).connection(consuming);
    let routes = routes(publisher);
    let server = HttpServer::new(move || App::new().configure(routes.clone()));
    let report = serve(server.bind(setting("LISTEN", "127.0.0.1:8080"))?, shutdown).await?;
    log::info!("{report}");
    Ok(())
}
