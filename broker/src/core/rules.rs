//! What differs between the lines of RabbitMQ.

/// What comes of a publish of a transaction if a queue was deleted before the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoneAtCommit {
    /// The queue is looked up again by its name. A mandatory message that has none left is returned.
    LookedUp,
    /// A classic queue fails the commit, and a stream closes the connection, also if there is a queue of that name
    /// again. A quorum queue of that name gets the message; without one, it is dropped.
    ByKind,
    /// The connection is closed. If there is a queue of that name and kind again, it gets the message, but a classic queue
    /// fails the commit.
    Fatal,
}

/// Where the order of priorities in a quorum queue comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumPriorities {
    /// Priorities are ignored.
    None,
    /// 5 and above is high: two high messages, then one of the others.
    TwoClasses,
    /// 32 levels, and 4 where a message has none.
    Strict,
}

/// What a dead letter brings along of its former deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterCounts {
    /// Nothing.
    None,
    /// How often a quorum queue has rejected it, or lost its consumer: the next quorum queue counts that as deliveries, but
    /// not to its limit.
    RejectionsAndLosses,
    /// How often a delivery of it failed, in any queue. The next quorum queue goes on counting.
    Failures,
}

/// What a line does differently from another one. There is one table of all lines, [`Line::rules`](super::Line::rules).
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The version in the server properties.
    pub version: &'static str,
    /// An unknown exchange type closes the connection with 503, and not the channel with 406.
    pub unknown_type_closes_connection: bool,
    /// The headers exchange takes 1 and 1.0 for equal.
    pub integer_equals_float: bool,
    /// A timestamp in the headers of a message matches its number in a headers binding.
    pub timestamp_matches_number: bool,
    /// Returned messages of a quorum queue form a line in front of the others. Otherwise one that comes back
    /// from a consumer without others goes to the end.
    pub quorum_returns_in_front: bool,
    /// What `basic.get` takes from a quorum queue for the first time has `x-delivery-count: 0`.
    pub delivery_count_zero: bool,
    /// Deliveries from quorum queues have `x-acquired-count`, and only failures count as deliveries.
    pub acquired_count: bool,
    /// The limit of deliveries of a quorum queue without one.
    pub default_delivery_limit: Option<u32>,
    /// How quorum queues order by priority.
    pub quorum_priorities: QuorumPriorities,
    /// A waiting consumer of higher priority replaces the single active one of a quorum queue.
    pub single_active_by_priority: bool,
    /// A message may be published with an `x-death` that goes on.
    pub published_death_counts: bool,
    /// Each death merges the other entries of `x-death` by queue and reason, if there are two or more, and turns their
    /// order around.
    pub deaths_grouped: bool,
    /// Dead letters have `x-last-death-queue` and the two others.
    pub last_death: bool,
    /// A dead letter with a new key loses its `CC`.
    pub dead_letter_drops_cc: bool,
    /// A key of `BCC` hides the first equal one in `x-death`, even if that is the routing key or one of `CC`.
    pub bcc_hides_first_key: bool,
    /// What a quorum queue drops at once because of its limits is dead-lettered in the opposite order.
    pub quorum_drops_reversed: bool,
    /// The limit in bytes of a quorum queue counts the properties, too.
    pub quorum_counts_properties: bool,
    /// The largest body.
    pub message_max: u64,
    /// The smallest `frame_max` that a client may ask for.
    pub frame_min: u32,
    /// The largest `start-ok`.
    pub start_ok_max: u32,
    /// A body longer than announced is a 501 at once.
    pub long_body_checked: bool,
    /// The declaration of a forged reply address without a dot closes the connection with 541.
    pub forged_reply_to_closes_connection: bool,
    /// `basic.qos` may set a limit that the consumers of a channel share.
    pub shared_prefetch: bool,
    /// A mandatory reply to a direct reply-to address is returned as well as delivered.
    pub mandatory_reply_returned: bool,
    /// A reply to a direct reply-to address has the tag that the next delivery has, too.
    pub reply_shares_tag: bool,
    /// `x-queue-version` 1 is refused.
    pub classic_v1_refused: bool,
    /// A senseless stream offset closes the connection with 541.
    pub bad_offset_closes_connection: bool,
    /// A queue or a policy may have a delivery timeout of its own.
    pub timeout_by_queue: bool,
    /// A purge takes delayed and dead messages, too.
    pub purge_takes_all: bool,
    /// Classic queues and streams have no delivery timeout, and quorum queues take the messages back.
    pub timeout_returns: bool,
    /// A delivery mode other than 1 and 2 is refused.
    pub delivery_mode_checked: bool,
    /// Deliveries of a stream cannot be rejected: that closes the connection with 540.
    pub stream_refuses_nack: bool,
    /// A stream keeps arrays and tables in `CC` and in headers that begin with `x-`, and in no others.
    pub stream_keeps_annotations: bool,
    /// A stream gives messages the delivery mode 1 unless they have the mode 2.
    pub stream_sets_mode: bool,
    /// `x-credit` of a consumer has to be a table, and one without a credit; others end the connection with 541, and a
    /// classic queue begins anew. Streams do not look at it.
    pub credit_is_table: bool,
    /// Deliveries that a quorum queue takes back from a channel come in the order in which its consumers have subscribed,
    /// and those of `basic.get` last. Otherwise, they come in the order of the consumers' tags.
    pub quorum_returns_by_consumer: bool,
    /// `x-queue-mode` has no meaning.
    pub queue_mode_ignored: bool,
    /// The limit of queues of a virtual host is looked at before the arguments of a declaration.
    pub queue_limit_checked_first: bool,
    /// An empty `x-queue-type` counts as none.
    pub empty_type_is_none: bool,
    /// The text for `basic.get` with a single active consumer prints the type as a term.
    pub type_printed_as_term: bool,
    /// Some texts about streams read otherwise.
    pub stream_texts_are_old: bool,
    /// Headers are sorted by name, those of messages included that the broker has not changed.
    pub headers_sorted: bool,
    /// Queues that name no type have the argument `x-queue-type: classic`.
    pub queue_type_added: bool,
    /// A restart deletes exchanges that are not durable.
    pub restart_deletes_transient_exchanges: bool,
    /// A refusal says which of the three permissions is missing.
    pub refusal_names_access: bool,
    /// The topic permission of a publish is that of its routing key and of the keys of `CC` and `BCC`, in this order.
    pub topic_checked_for_copies: bool,
    /// A passive declaration needs one of the three permissions.
    pub passive_needs_permission: bool,
    /// `x-max-age` is compared, and stands in texts, as a number of milliseconds.
    pub max_age_in_millis: bool,
    /// `x-queue-master-locator` closes the connection with 541.
    pub master_locator_refused: bool,
    /// A negative `x-delivery-limit` allows no redelivery, and is not the absence of a limit.
    pub negative_limit_is_zero: bool,
    /// The least number of priorities, beside the lowest one, of a queue with `x-max-priority`.
    pub least_max_priority: u8,
    /// `user_id` is looked at before `CC` and `BCC`.
    pub user_checked_before_copies: bool,
    /// What a dead letter brings along of its former deliveries.
    pub dead_letter_counts: DeadLetterCounts,
    /// A stream keeps no header that is an array or a table, and gets no dead letters.
    pub stream_drops_nested: bool,
    /// An address of direct reply-to is a queue: a transaction holds its replies back, and there are refusals of its own.
    pub reply_address_is_queue: bool,
    /// There is the exchange type `x-local-random`.
    pub local_random: bool,
    /// There is the exchange type `x-modulus-hash`.
    pub modulus_hash: bool,
    /// Consumers of a stream may ask for a part of it with `x-stream-filter`.
    pub stream_filters: bool,
    /// What comes of a publish of a transaction if a queue was deleted before the commit.
    pub gone_at_commit: GoneAtCommit,
    /// The mechanisms of `connection.start`, in their order.
    pub mechanisms: &'static str,
}

pub(super) const V3_10: Rules = Rules {
    gone_at_commit: GoneAtCommit::LookedUp,
    version: "3.10.8",
    unknown_type_closes_connection: true,
    integer_equals_float: true,
    timestamp_matches_number: true,
    quorum_returns_in_front: false,
    delivery_count_zero: true,
    acquired_count: false,
    default_delivery_limit: None,
    quorum_priorities: QuorumPriorities::None,
    single_active_by_priority: false,
    published_death_counts: true,
    deaths_grouped: true,
    last_death: false,
    dead_letter_drops_cc: true,
    bcc_hides_first_key: false,
    quorum_drops_reversed: true,
    quorum_counts_properties: false,
    message_max: 128 << 20,
    frame_min: 4096,
    start_ok_max: 4096,
    long_body_checked: false,
    forged_reply_to_closes_connection: false,
    shared_prefetch: true,
    mandatory_reply_returned: true,
    reply_shares_tag: true,
    classic_v1_refused: false,
    bad_offset_closes_connection: true,
    timeout_by_queue: false,
    purge_takes_all: false,
    timeout_returns: false,
    delivery_mode_checked: true,
    stream_refuses_nack: true,
    stream_keeps_annotations: false,
    stream_sets_mode: false,
    credit_is_table: true,
    quorum_returns_by_consumer: false,
    queue_mode_ignored: false,
    queue_limit_checked_first: true,
    empty_type_is_none: false,
    type_printed_as_term: false,
    stream_texts_are_old: true,
    headers_sorted: false,
    queue_type_added: false,
    restart_deletes_transient_exchanges: true,
    refusal_names_access: false,
    topic_checked_for_copies: false,
    passive_needs_permission: false,
    max_age_in_millis: false,
    master_locator_refused: false,
    negative_limit_is_zero: true,
    least_max_priority: 0,
    user_checked_before_copies: true,
    mechanisms: "PLAIN AMQPLAIN",
    dead_letter_counts: DeadLetterCounts::None,
    stream_drops_nested: true,
    reply_address_is_queue: false,
    local_random: false,
    modulus_hash: false,
    stream_filters: false,
};

// Read in the source, not asked. It may differ in more.
pub(super) const V3_13: Rules = Rules {
    gone_at_commit: GoneAtCommit::ByKind,
    version: "3.13.7",
    unknown_type_closes_connection: false,
    integer_equals_float: false,
    delivery_count_zero: false,
    timeout_by_queue: true,
    last_death: true,
    dead_letter_drops_cc: false,
    bcc_hides_first_key: true,
    stream_refuses_nack: false,
    stream_keeps_annotations: true,
    stream_sets_mode: true,
    stream_texts_are_old: false,
    refusal_names_access: true,
    user_checked_before_copies: false,
    stream_drops_nested: false,
    stream_filters: true,
    ..V3_10
};

pub(super) const V4_0: Rules = Rules {
    version: "4.0.5",
    topic_checked_for_copies: true,
    timestamp_matches_number: false,
    quorum_returns_in_front: true,
    default_delivery_limit: Some(20),
    quorum_priorities: QuorumPriorities::TwoClasses,
    single_active_by_priority: true,
    published_death_counts: false,
    deaths_grouped: false,
    headers_sorted: true,
    queue_type_added: true,
    queue_limit_checked_first: false,
    message_max: 16 << 20,
    delivery_mode_checked: false,
    credit_is_table: false,
    quorum_returns_by_consumer: true,
    negative_limit_is_zero: false,
    least_max_priority: 1,
    mechanisms: "AMQPLAIN PLAIN",
    dead_letter_counts: DeadLetterCounts::RejectionsAndLosses,
    local_random: true,
    ..V3_13
};

pub(super) const V4_3: Rules = Rules {
    gone_at_commit: GoneAtCommit::Fatal,
    version: "4.3.6",
    acquired_count: true,
    quorum_priorities: QuorumPriorities::Strict,
    quorum_drops_reversed: false,
    quorum_counts_properties: true,
    frame_min: 8192,
    start_ok_max: 8192,
    long_body_checked: true,
    forged_reply_to_closes_connection: true,
    shared_prefetch: false,
    mandatory_reply_returned: false,
    reply_shares_tag: false,
    classic_v1_refused: true,
    bad_offset_closes_connection: false,
    timeout_returns: true,
    purge_takes_all: true,
    passive_needs_permission: true,
    restart_deletes_transient_exchanges: false,
    queue_mode_ignored: true,
    empty_type_is_none: true,
    type_printed_as_term: true,
    max_age_in_millis: true,
    master_locator_refused: true,
    dead_letter_counts: DeadLetterCounts::Failures,
    reply_address_is_queue: true,
    modulus_hash: true,
    ..V4_0
};
