//! What can happen in a schedule, and how often.

use proptest::{prelude::*, sample::Index};

#[derive(Clone, Debug)]
pub(super) enum ScheduleStep {
    Publish { size: usize, resend: bool, exchange: &'static str },
    Take(usize),
    Answer { which: Index, multiple: bool, nack: bool },
    Return(Index),
    Expire,
    OwnDeadline(Index),
    Detach { hard_error: bool },
    Attach(Index),
    FinishRecovery { defers_nacks: bool },
    Reopen { fault: Fault, fail: bool },
    RetryNacks,
    EndNackRetry,
}

/// What makes the broker close the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Elsewhere,
    Unknown,
    /// A publish to a missing exchange.
    Exchange,
    /// A publish that is too large.
    Size,
}

pub(super) const GONE: &str = "gone";
/// More than the broker takes, after some time.
pub(super) const TOO_LARGE: usize = 15_000;

pub(super) fn steps() -> impl Strategy<Value = Vec<ScheduleStep>> {
    let sizes = prop_oneof![6 => 0..300usize, 2 => 4000..9000usize, 1 => 20_000..60_000usize];
    let index = any::<Index>;
    let step = prop_oneof![
        10 => (sizes, prop::bool::weighted(0.85), prop_oneof![4 => Just("ex"), 1 => Just(GONE)])
            .prop_map(|(size, resend, exchange)| ScheduleStep::Publish { size, resend, exchange }),
        8 => prop_oneof![Just(1), 1000..100_000usize].prop_map(ScheduleStep::Take),
        4 => (index(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(which, multiple, nack)| ScheduleStep::Answer { which, multiple, nack }),
        1 => index().prop_map(ScheduleStep::Return),
        1 => Just(ScheduleStep::Expire),
        2 => index().prop_map(ScheduleStep::OwnDeadline),
        3 => prop::bool::weighted(0.3).prop_map(|hard_error| ScheduleStep::Detach { hard_error }),
        4 => index().prop_map(ScheduleStep::Attach),
        6 => prop::bool::weighted(0.6).prop_map(|defers_nacks| ScheduleStep::FinishRecovery { defers_nacks }),
        4 => (
            prop_oneof![Just(Fault::Elsewhere), Just(Fault::Unknown), Just(Fault::Exchange), Just(Fault::Size)],
            prop::bool::weighted(0.1),
        ).prop_map(|(fault, fail)| ScheduleStep::Reopen { fault, fail }),
        3 => Just(ScheduleStep::RetryNacks),
        1 => Just(ScheduleStep::EndNackRetry),
    ];
    prop::collection::vec(step, 1..120)
}
