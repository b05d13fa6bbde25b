//! What can happen in a schedule, and how often.

use proptest::prelude::*;

use crate::error::{CloseReason, Error};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Opened,
    Ended,
    /// An attempt fails: what each of the addresses answers, in their order.
    Refused(Vec<Answer>),
    /// The broker refuses one channel too many.
    ChannelLimit,
    /// The broker closes the connection because of a method of this class and id.
    Fatal {
        class_id: u16,
        method_id: u16,
        answered: usize,
    },
    /// A consumer costs the connection when its channel starts it.
    FatalConsumer(usize),
    /// The trial ends: it is made, refused, or not made.
    Trial(u8),
    OpenChannel,
    ChannelOpened(usize),
    ChannelClosed {
        at: usize,
        free: bool,
    },
    /// A channel has recovered, and may have skipped its first consumer.
    ChannelRecovered {
        at: usize,
        skips: u16,
    },
    /// The broker has closed a channel, which reopens after a pause.
    ChannelBacksOff(usize),
    ChannelDrained(usize),
    Declare {
        queue: usize,
        auto_delete: bool,
    },
    Forget(usize),
    Deleting {
        queue: usize,
        is_deleting: bool,
    },
    /// A 404 has named an exchange (3 and more) or a queue.
    Gone(usize),
    GiveUp(usize),
    /// A consumer is made, and cannot go on for this reason: 0 for the broker's cancel.
    Repair {
        at: usize,
        queue: usize,
        code: u16,
    },
    /// A running consumer cannot go on.
    RepairAgain {
        at: usize,
        code: u16,
    },
    /// A channel has started a consumer, or the broker has refused that.
    Started {
        at: usize,
        code: u16,
    },
    /// The application cancels a consumer.
    Cancel(usize),
    /// The actor of a consumer is gone, or there is another one.
    ByApplication {
        at: usize,
        missing: bool,
    },
    /// The utility channel reports: the code of each refusal, 0 for success; fewer results if it ended early.
    Results {
        codes: Vec<u16>,
        all: bool,
    },
    Blocked(bool),
    Wait(u64),
    Close,
    Release,
}

/// What an address answers to an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Login,
    MissingVhost,
    NoAccess,
    Limit,
    VhostDown,
    ShutsDown,
    Unreachable,
}

impl Answer {
    pub(super) fn is_for_good(self) -> bool {
        matches!(self, Self::Login | Self::MissingVhost | Self::NoAccess)
    }

    pub(super) fn error(self) -> Error {
        let (code, text) = match self {
            Self::Login => (403, "ACCESS_REFUSED - Login was refused"),
            Self::MissingVhost => (530, "NOT_ALLOWED - vhost v not found"),
            Self::NoAccess => (530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u'"),
            Self::Limit => (530, "NOT_ALLOWED - connection refused: node connection limit (1) is reached"),
            Self::VhostDown => {
                (541, "INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost 'v' is down")
            }
            Self::ShutsDown => (320, "CONNECTION_FORCED - broker forced connection closure"),
            Self::Unreachable => return Error::timeout("connecting"),
        };
        Error::connect_refused(CloseReason::new(code, text, 10, 40))
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::Login),
        2 => Just(Answer::MissingVhost),
        2 => Just(Answer::NoAccess),
        1 => Just(Answer::Limit),
        1 => Just(Answer::VhostDown),
        1 => Just(Answer::ShutsDown),
        1 => Just(Answer::Unreachable),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => connection(),
        20 => channels(),
        9 => entities(),
        14 => consumers(),
        10 => (prop::collection::vec(code(), 4), prop::bool::weighted(0.97))
            .prop_map(|(codes, all)| Step::Results { codes, all }),
    ]
}

/// The code of a refusal, or 0 for success.
fn code() -> impl Strategy<Value = u16> {
    prop_oneof![6 => Just(0), 1 => Just(403), 1 => Just(404), 2 => Just(405), 1 => Just(406)]
}

fn connection() -> impl Strategy<Value = Step> {
    let fatal = prop_oneof![Just((50, 10)), Just((50, 20)), Just((60, 20)), Just((60, 40)), Just((0, 0))];
    prop_oneof![
        16 => Just(Step::Opened),
        6 => Just(Step::Ended),
        8 => prop::collection::vec(answer(), 1..3).prop_map(Step::Refused),
        2 => Just(Step::ChannelLimit),
        2 => (fatal, 0..3usize)
            .prop_map(|((class_id, method_id), answered)| Step::Fatal { class_id, method_id, answered }),
        2 => (0..4usize).prop_map(Step::FatalConsumer),
        5 => (0..3u8).prop_map(Step::Trial),
        2 => any::<bool>().prop_map(Step::Blocked),
        16 => prop_oneof![Just(50), Just(1000), Just(5000), Just(70_000)].prop_map(Step::Wait),
        2 => prop_oneof![6 => Just(Step::Wait(10)), 1 => Just(Step::Close), 1 => Just(Step::Release)],
    ]
}

fn channels() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::OpenChannel),
        3 => (0..4usize).prop_map(Step::ChannelOpened),
        1 => (0..4usize, any::<bool>()).prop_map(|(at, free)| Step::ChannelClosed { at, free }),
        4 => (0..4usize, code()).prop_map(|(at, skips)| Step::ChannelRecovered { at, skips }),
        1 => (0..4usize).prop_map(Step::ChannelBacksOff),
        1 => (0..4usize).prop_map(Step::ChannelDrained),
    ]
}

fn entities() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3usize, any::<bool>()).prop_map(|(queue, auto_delete)| Step::Declare { queue, auto_delete }),
        1 => (0..3usize).prop_map(Step::Forget),
        1 => (0..3usize, any::<bool>())
            .prop_map(|(queue, is_deleting)| Step::Deleting { queue, is_deleting }),
        3 => (0..6usize).prop_map(Step::Gone),
        1 => (0..6usize).prop_map(Step::GiveUp),
    ]
}

fn consumers() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4usize, 0..4usize, code()).prop_map(|(at, queue, code)| Step::Repair { at, queue, code }),
        2 => (0..4usize, code()).prop_map(|(at, code)| Step::RepairAgain { at, code }),
        6 => (0..4usize, code()).prop_map(|(at, code)| Step::Started { at, code }),
        1 => (0..4usize).prop_map(Step::Cancel),
        1 => (0..4usize, any::<bool>()).prop_map(|(at, missing)| Step::ByApplication { at, missing }),
    ]
}
