//! The CPU of the core, without sockets, for a publish that is confirmed, and one that is also consumed and acked.

use std::time::Duration;

use actix_pika_actors::wire::method::{AMQPClass, basic, channel, confirm, queue};
use actix_pika_broker::core::{ConnectionInfo, Core, CoreConfig, Output, Publish, Time};
use bytes::Bytes;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

const MESSAGES: u64 = 400_000;
/// How many publishes are read at once.
const BATCH: u64 = 50;

pub(super) fn measure() {
    let (published, _) = run(false);
    let (consumed, delivered) = run(true);
    report("confirmed publish", published);
    report("confirmed publish, consumed and acked", consumed);
    assert_eq!(delivered, MESSAGES);
}

fn report(what: &str, cpu: Duration) {
    println!("core, {what}: {} ns of CPU", cpu.as_nanos() / u128::from(MESSAGES));
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

fn run(consumes: bool) -> (Duration, u64) {
    let mut core = Core::new(CoreConfig { publish_log: 0, ..CoreConfig::default() });
    let info = ConnectionInfo {
        user: "guest".into(),
        vhost: "/".into(),
        cancel_notify: true,
        channel_max: 0,
        name: "speed".into(),
    };
    let connection = core.open_connection(Time::ZERO, info).unwrap();
    let declare = queue::Declare { queue: "q".into(), ..Default::default() };
    for method in [
        AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
        AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: true })),
        AMQPClass::Queue(queue::AMQPMethod::Declare(declare)),
    ] {
        core.method(Time::ZERO, connection, 1, method);
    }
    if consumes {
        let consume = basic::Consume { queue: "q".into(), consumer_tag: "c".into(), ..Default::default() };
        core.method(Time::ZERO, connection, 1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume)));
    }
    // Delivery mode 2 and a content type.
    let properties = Bytes::from_static(b"\x90\x00\x18application/octet-stream\x02");
    let body = Bytes::from_static(&[7; 100]);
    let (mut delivered, mut confirmed) = (0, 0);
    let start = cpu();
    for number in 0..MESSAGES {
        let publish = Publish { exchange: "", routing_key: "q", mandatory: false, immediate: false };
        core.publish(Time::ZERO, connection, 1, publish, properties.clone(), body.clone());
        if number % BATCH == BATCH - 1 {
            core.flush(Time::ZERO);
        }
        while let Some(outgoing) = core.next_output() {
            match outgoing.output {
                Output::Ack { tag, .. } => confirmed = tag,
                Output::Deliver { delivery_tag, .. } => {
                    delivered += 1;
                    let ack = basic::Ack { delivery_tag, multiple: false };
                    core.method(Time::ZERO, connection, 1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
                }
                _ => {}
            }
        }
    }
    let spent = cpu() - start;
    assert_eq!(confirmed, MESSAGES);
    (spent, delivered)
}
