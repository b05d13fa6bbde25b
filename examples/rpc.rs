//! Calls over RabbitMQ: an actor serves a method, and a client calls it.
//!
//! ```text
//! cargo run --example rpc     # uses AMQP_URL, or the broker on localhost
//! ```

#![allow(clippy::print_stdout, missing_docs)]

use actix::prelude::*;
use actix_pika::rpc::{Answer, RemoteError, Rpc, RpcRequest};

#[derive(Message, serde::Serialize, serde::Deserialize)]
#[rtype(result = "Answer<String>")]
struct Shout {
    text: String,
}

impl RpcRequest for Shout {
    type Reply = String;
    const NAME: &'static str = "actix-pika.shout";
    const IDEMPOTENT: bool = true;
}

struct Speaker;

impl Actor for Speaker {
    type Context = Context<Self>;
}

impl Handler<Shout> for Speaker {
    type Result = Answer<String>;

    fn handle(&mut self, Shout { text }: Shout, _: &mut Self::Context) -> Self::Result {
        if text.is_empty() {
            return Err(RemoteError::new("silence", "there is nothing to say"));
        }
        Ok(text.to_uppercase())
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = actix_pika::connect_robust(url).await?;
    let channel = connection.channel().await?;
    let server = Rpc::serve::<Shout>(&channel, Speaker.start()).await?;

    let client = Rpc::client(&connection).await?; // here, or in another process
    println!("{}", client.send(Shout { text: "hello".into() }).await?);
    if let Err(error) = client.send(Shout { text: String::new() }).await {
        println!("{error}");
    }

    client.close().await;
    server.unregister().await?;
    Ok(connection.close().await?)
}
