//! The preludes of actix, actix-web and this crate side by side: none of our names is hidden or ambiguous.

#[allow(unused_imports, reason = "all names are imported, to find those that collide")]
use actix::prelude::*;
use actix_pika::prelude::*;
#[allow(unused_imports, reason = "all names are imported, to find those that collide")]
use actix_web::*;

struct Named;

impl Actor for Named {
    type Context = Context<Self>;
}

/// Compiles only if each name means one thing.
fn each_name() -> [&'static str; 27] {
    use std::any::type_name;
    fn or_reject<O: OrReject<()>>() -> &'static str {
        type_name::<O>()
    }
    fn request<R: RpcRequest>() -> &'static str {
        type_name::<R>()
    }
    // They are not polled.
    drop((connect("amqp://localhost"), connect_robust("amqp://localhost")));
    [
        type_name::<Channel>(),
        type_name::<Connection>(),
        type_name::<Connector>(),
        type_name::<Consume>(),
        type_name::<Consumer>(),
        type_name::<DeclareExchange>(),
        type_name::<DeclareQueue>(),
        type_name::<Delivery>(),
        type_name::<Done>(),
        type_name::<Exchange>(),
        type_name::<Failure>(),
        type_name::<OpenChannel>(),
        or_reject::<std::result::Result<(), String>>(),
        type_name::<Publisher<()>>(),
        type_name::<Publishing>(),
        type_name::<Queue>(),
        type_name::<RemoteError>(),
        type_name::<RemoteRecipient<Ping>>(),
        type_name::<Requeue>(),
        type_name::<Retry>(),
        type_name::<Rpc>(),
        type_name::<SupervisedWorker<Named>>(),
        type_name::<Task<()>>(),
        type_name::<TaskConsumer>(),
        type_name::<Tasks<()>>(),
        type_name::<WorkerEvent>(),
        request::<Ping>(),
    ]
}

#[derive(serde::Serialize, serde::Deserialize, Message)]
#[rtype(result = "actix_pika::rpc::Answer<()>")]
struct Ping;

impl RpcRequest for Ping {
    type Reply = ();
    const NAME: &'static str = "ping";
}

/// PRE-01: beside `actix::prelude::*` and `actix_web::*`, each name of the prelude is ours.
#[::core::prelude::v1::test]
fn each_name_of_the_prelude_is_ours_beside_actix_and_actix_web() {
    let ours: Vec<_> = each_name().into_iter().filter(|name| name.contains("actix_pika")).collect();
    // `Done` is a `Result`, of which only the failure is ours.
    assert_eq!(ours.len(), 25, "{ours:?}");
}
