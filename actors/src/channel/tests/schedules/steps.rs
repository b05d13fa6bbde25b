//! What can happen in a schedule, and how often.

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Consume {
        tag: usize,
        robust: bool,
    },
    Cancel(usize),
    TargetLost(usize),
    Purge,
    Publish {
        exchange: usize,
        resend: bool,
    },
    /// Somebody deletes an exchange, or makes it again.
    DeleteExchange(usize),
    MakeExchange(usize),
    /// Whether the user may publish to an exchange.
    Permit {
        exchange: usize,
        permitted: bool,
    },
    /// The supervisor finds the exchanges that channels asked for and that exist.
    FindExchanges,
    /// Whether the broker nacks publishes from now on.
    Nack(bool),
    /// One reply of the broker arrives, from the channel or from a queue.
    Reply {
        from_queue: bool,
    },
    Replies,
    DeleteQueue(usize),
    DeclareQueue(usize),
    /// The broker closes the channel because of a publish.
    CloseByBroker,
    Repair {
        repaired: bool,
    },
    LoseConnection {
        hard: bool,
    },
    Attach,
    Wait(u64),
    Close,
    /// The last handle is dropped.
    Release,
    /// The connection is being closed.
    Drain,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize, prop::bool::weighted(0.8)).prop_map(|(tag, robust)| Step::Consume { tag, robust }),
        3 => (0..3usize).prop_map(Step::Cancel),
        1 => (0..3usize).prop_map(Step::TargetLost),
        2 => Just(Step::Purge),
        6 => (0..3usize, prop::bool::weighted(0.8))
            .prop_map(|(exchange, resend)| Step::Publish { exchange, resend }),
        2 => (1..3usize).prop_map(Step::DeleteExchange),
        2 => (1..3usize).prop_map(Step::MakeExchange),
        1 => (1..3usize, any::<bool>())
            .prop_map(|(exchange, permitted)| Step::Permit { exchange, permitted }),
        2 => Just(Step::FindExchanges),
        1 => any::<bool>().prop_map(Step::Nack),
        10 => any::<bool>().prop_map(|from_queue| Step::Reply { from_queue }),
        4 => Just(Step::Replies),
        4 => (0..3usize).prop_map(Step::DeleteQueue),
        2 => (0..3usize).prop_map(Step::DeclareQueue),
        2 => Just(Step::CloseByBroker),
        3 => prop::bool::weighted(0.8).prop_map(|repaired| Step::Repair { repaired }),
        3 => prop::bool::weighted(0.3).prop_map(|hard| Step::LoseConnection { hard }),
        5 => Just(Step::Attach),
        6 => prop_oneof![2 => Just(1), 3 => Just(3), 2 => Just(12), 3 => Just(31)].prop_map(Step::Wait),
        1 => prop_oneof![17 => Just(Step::Wait(3)), 1 => Just(Step::Close), 1 => Just(Step::Release), 1 => Just(Step::Drain)],
    ]
}
