//! Payments: a request is accepted when its task is confirmed by the broker; a worker charges it, tries again after 1, 10 and
//! 60 seconds, and leaves what failed four times as a dead letter. `tests/ladder.rs` tests that in milliseconds.

use std::{future::Future, time::Duration};

use actix_pika::{
    Connection, DeclareQueue, Queue, Result,
    publisher::Publisher,
    retry::Retry,
    tasks::{Task, TaskConsumer},
};
use actix_web::{HttpResponse, Responder, post, web};
use serde::{Deserialize, Serialize};

/// The queue of payments. What failed for good is in `payments.dead`.
pub const QUEUE: &str = "payments";

/// How long a payment waits after each try that failed.
pub const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];

/// A payment to charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The id that the client has given.
    pub id: String,
    /// The amount.
    pub cents: u64,
}

/// The retries of a payment: both who declares the queues and who consumes know them.
fn ladder() -> Retry {
    Retry::ladder(&PAUSES)
}

/// Declares the queue of payments, those in which they wait, and that of dead letters.
///
/// # Errors
/// Those of [`Channel::declare_jobs`](actix_pika::Channel::declare_jobs).
pub async fn declare(connection: &Connection) -> Result<Queue> {
    let queue = DeclareQueue::new(QUEUE).quorum();
    connection.channel().await?.declare_jobs(queue, &ladder()).await
}

/// Starts the worker: `charge` is called for each try.
///
/// It may be called again for a payment that it has charged: if the connection is lost or the process killed before the
/// message is acknowledged, the broker delivers it again. And a client that got no answer posts its payment once more. So
/// `charge` gives the id of the payment to the provider, who charges an id once. Or an
/// `actix_pika::inbox::Inbox` remembers ids, where the effect is in a database.
///
/// # Errors
/// Those of [`Tasks::for_each`](actix_pika::tasks::Tasks::for_each).
pub async fn work<F, Fut, E>(payments: &Queue, charge: F) -> Result<TaskConsumer>
where
    F: Fn(Payment) -> Fut + 'static,
    Fut: Future<Output = std::result::Result<(), E>> + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let tasks = payments.tasks::<Payment>().at_once(8).retry(ladder());
    tasks
        .for_each(move |payment: Task<Payment>| {
            let charged = charge(payment.clone());
            async move { Ok(charged.await?) }
        })
        .await
}

#[post("/payments")]
async fn accept(
    payments: web::Data<Publisher<Payment>>,
    payment: web::Json<Payment>,
) -> actix_web::Result<impl Responder> {
    payments.publish(&payment).await?;
    Ok(HttpResponse::Accepted())
}

/// Adds the routes, and what they publish to.
pub fn routes(payments: Publisher<Payment>) -> impl Fn(&mut web::ServiceConfig) + Clone {
    let payments = web::Data::new(payments);
    move |config| {
        config.app_data(payments.clone()).service(accept);
    }
}
