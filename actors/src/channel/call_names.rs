//! The names of exchanges and queues in a call that the broker may cut when it refuses the call.

use crate::{
    message::EntityKind,
    outbox::WHOLE_IN_TEXTS,
    wire::{AMQPClass, basic, exchange, queue},
};

/// Returns the long names of a call.
pub(super) fn long_names(method: &AMQPClass) -> Vec<(EntityKind, String)> {
    use EntityKind::{Exchange, Queue};
    let names = match method {
        AMQPClass::Exchange(method) => match method {
            exchange::AMQPMethod::Declare(call) => [Some((Exchange, &call.exchange)), None],
            exchange::AMQPMethod::Bind(call) => {
                [Some((Exchange, &call.source)), Some((Exchange, &call.destination))]
            }
            _ => return Vec::new(),
        },
        AMQPClass::Queue(method) => match method {
            queue::AMQPMethod::Declare(call) => [Some((Queue, &call.queue)), None],
            queue::AMQPMethod::Bind(call) => [Some((Exchange, &call.exchange)), Some((Queue, &call.queue))],
            queue::AMQPMethod::Purge(call) => [Some((Queue, &call.queue)), None],
            _ => return Vec::new(),
        },
        AMQPClass::Basic(basic::AMQPMethod::Consume(call)) => [Some((Queue, &call.queue)), None],
        AMQPClass::Basic(basic::AMQPMethod::Get(call)) => [Some((Queue, &call.queue)), None],
        _ => return Vec::new(),
    };
    let long = names.into_iter().flatten().filter(|(_, name)| name.as_str().len() > WHOLE_IN_TEXTS);
    long.map(|(kind, name)| (kind, name.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{BindExchange, BindQueue, DeclareQueue, methods::Method};

    #[test]
    fn only_long_names_are_kept() {
        let long = "n".repeat(200);
        let of = |method: &dyn Fn() -> crate::error::Result<AMQPClass>| long_names(&method().unwrap());
        assert_eq!(of(&|| DeclareQueue::new("q").method()), []);
        assert_eq!(of(&|| DeclareQueue::new(&*long).method()), [(EntityKind::Queue, long.clone())]);
        let both = of(&|| BindQueue::new("q", &*long, "k").method());
        assert_eq!(both, [(EntityKind::Exchange, long.clone())]);
        let both = of(&|| BindExchange::new(&*long, &*long, "k").method());
        assert_eq!(both.len(), 2);
    }
}
