//! Limits of connections that a virtual host or a user has reached.

use crate::support::{broker::Vhost, eventually, within};
use actix_pika::{ErrorKind, connect};

/// Connects once, and then until a connect is refused.
async fn second_connect_is_refused(url: &str) {
    let holder = within("connect", 10, connect(url)).await.unwrap();
    // The broker counts connections with a delay.
    let error = eventually("a refusal", 10, async || connect(url).await.err()).await;
    assert_eq!(
        (error.kind(), error.code(), error.is_retryable()),
        (ErrorKind::Limit, Some(530), true),
        "{error}"
    );
    assert!(error.to_string().contains("limit"), "{error}");
    within("close", 10, holder.close()).await.unwrap();
    let again = eventually("room", 10, async || connect(url).await.ok()).await;
    within("close", 10, again.close()).await.unwrap();
}

/// CON-26
#[actix::test]
async fn the_connection_limit_of_a_virtual_host_is_retryable() {
    let vhost = Vhost::fresh().await;
    vhost.limit_connections(Some(1)).await;
    second_connect_is_refused(&vhost.url()).await;
}

/// CON-26
#[actix::test]
async fn the_connection_limit_of_a_user_is_retryable() {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("secret").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    vhost.limit_connections_of(&user, Some(1)).await;
    second_connect_is_refused(&vhost.url_as(&user, "secret")).await;
}
