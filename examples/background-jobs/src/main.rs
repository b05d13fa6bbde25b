//! Background jobs. A request writes its job and a message about it in one transaction; a relay publishes the message; a
//! worker does the job once, tries failures again, and leaves what cannot be done as a dead letter.
//!
//! ```text
//! cargo run -p background-jobs
//! curl -d '{"id":"1","to":"ada@example.org"}' -H 'content-type: application/json' http://127.0.0.1:8080/jobs
//! ```
//!
//! `AMQP_URL`, `LISTEN` and `DATABASE` change where it connects, listens and writes.

use std::{env, error::Error, time::Duration};

use actix_pika::{
    Connector, DeclareQueue, Recovery,
    actix_web::{CountRequests, health, serve},
    inbox::{Inbox, RETENTION},
    outbox::{Outbox, To},
    retry::Retry,
    shutdown::Shutdown,
    tasks::{Done, Failure, Task},
};
use actix_web::{App, HttpResponse, HttpServer, Responder, error::ErrorInternalServerError, get, post, web};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, sqlite::SqliteConnectOptions, sqlite::SqliteJournalMode};

#[derive(Serialize, Deserialize)]
struct Mail {
    id: String,
    to: String,
}

/// Accepts a job. A client that gets no answer repeats its request: the id makes it one job.
#[post("/jobs")]
async fn accept(
    outbox: web::Data<Outbox<Sqlite>>,
    mail: web::Json<Mail>,
) -> actix_web::Result<impl Responder> {
    let mut tx = outbox.begin().await?;
    let insert = sqlx::query("insert into jobs (id, recipient) values ($1, $2) on conflict do nothing");
    let inserted = insert.bind(&mail.id).bind(&mail.to).execute(&mut *tx).await;
    if inserted.map_err(ErrorInternalServerError)?.rows_affected() == 1 {
        outbox.publish(&mut tx, To::queue("jobs").message_id(&mail.id), &*mail).await?;
    }
    tx.commit().await.map_err(ErrorInternalServerError)?; // the job and its message, or neither
    Ok(HttpResponse::Accepted())
}

/// Does a job. Its effect and its id are one transaction, so that the copy of a message has none.
async fn work(inbox: Inbox<Sqlite>, mail: Task<Mail>) -> Done {
    if !mail.to.contains('@') {
        return Err(Failure::reject("there is no such address")); // a dead letter: no try will succeed
    }
    let mut tx = inbox.begin().await?; // an error is tried again
    if inbox.first(&mut tx, &mail).await? {
        let sent = sqlx::query("update jobs set sent = sent + 1 where id = $1");
        sent.bind(&mail.id).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

#[get("/metrics")]
async fn metrics(prometheus: web::Data<PrometheusHandle>) -> impl Responder {
    actix_pika::metrics::sample();
    prometheus.render()
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init(); // RUST_LOG=info
    let prometheus = web::Data::new(PrometheusBuilder::new().install_recorder()?);
    let setting = |name, default: &str| env::var(name).unwrap_or_else(|_| default.into());

    let options =
        SqliteConnectOptions::new().filename(setting("DATABASE", "jobs.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Wal)).await?;
    let table = "create table if not exists jobs (id text primary key, recipient text, sent int default 0)";
    sqlx::query(table).execute(&pool).await?;
    let (outbox, inbox) = (Outbox::sqlite(pool.clone()), Inbox::sqlite(pool.clone(), "jobs"));
    outbox.migrate().await?;
    inbox.migrate().await?;

    // A connection that publishes may be blocked by the broker, one that consumes is not.
    let connector = Connector::new(&setting("AMQP_URL", "amqp://guest:guest@localhost/"))?.metrics();
    let connector = connector.recovery(Recovery::default());
    let publishing = connector.clone().name("jobs-publishing").connect().await?;
    let consuming = connector.name("jobs-consuming").connect().await?;

    // Three more tries, then the queue jobs.dead.
    let ladder = Retry::ladder(&[200, 1_000, 30_000].map(Duration::from_millis));
    let queue = DeclareQueue::new("jobs").quorum();
    let jobs = consuming.channel().await?.declare_jobs(queue, &ladder).await?;
    let tasks = jobs.tasks::<Mail>().at_once(8).timeout(Duration::from_secs(30)).retry(ladder);
    let pruner = inbox.prune_by_itself(RETENTION)?;
    let worker = tasks.for_each(move |mail| work(inbox.clone(), mail)).await?;
    let relay = outbox.relay(&publishing).start().await?;

    let shutdown = Shutdown::within(Duration::from_secs(25)).consumer(worker).relay(relay);
    let shutdown = shutdown.connection(publishing).connection(consuming);
    let (health, requests) = (health(&shutdown), CountRequests::of(&shutdown));
    let outbox = web::Data::new(outbox);
    let app = move || {
        let app = App::new().wrap(requests.clone()).app_data(outbox.clone()).app_data(prometheus.clone());
        app.service(health.clone()).service(accept).service(metrics)
    };
    let report = serve(HttpServer::new(app).bind(setting("LISTEN", "127.0.0.1:8080"))?, shutdown).await?;
    drop(pruner);
    pool.close().await;
    log::info!("{report}");
    if report.is_complete() { Ok(()) } else { Err(report.to_string().into()) }
}
