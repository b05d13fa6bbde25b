//! The broker refuses connections because a limit is reached: of the virtual host, or of the user.

use std::time::{Duration, Instant};

use actix_pika::Connector;

use super::closes::close_one;
use crate::{
    leaks::Leaks,
    plan::Plan,
    report::Row,
    support::broker::Vhost,
    traffic::{Traffic, TrafficConfig},
};

/// Longer than the broker may refuse a login before the connection gives up: a limit is waited out.
const LONG: Duration = Duration::from_secs(65);

pub async fn run(row: &mut Row, plan: &Plan) {
    let leaks = Leaks::snapshot();
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("secret").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    row.messages = plan.pick(100_000, 2_000);
    row.faults = plan.pick(40, 3);
    let mut random = plan.random(row.part);
    let config = TrafficConfig::new(row.messages, random.u64(..));
    let connector = || Connector::new(&vhost.url_as(&user, "secret")).expect("a URL");
    let mut traffic = Traffic::start(leaks, connector, config).await;
    for n in 0..row.faults {
        traffic.allow_share(2 * n + 1, 2 * row.faults);
        let of_vhost = random.bool();
        let limit = async |value| match of_vhost {
            true => vhost.limit_connections(value).await,
            false => vhost.limit_connections_of(&user, value).await,
        };
        // One of the two connections, or none, may be opened again.
        let value = random.u32(..2);
        limit(Some(value)).await;
        let losses = traffic.losses();
        let reason = format!("limit {n}");
        close_one(&vhost, &traffic.publishing, &reason).await;
        close_one(&vhost, &traffic.consuming, &reason).await;
        traffic.wait_for_loss(losses).await;
        let hold = if plan.full && n == 0 { LONG } else { Duration::from_millis(random.u64(..3_000)) };
        tokio::time::sleep(hold).await;
        limit(None).await;
        traffic.wait_for_flow(Instant::now(), 2 * n + 2, 2 * row.faults).await;
    }
    traffic.finish(row).await;
}
