//! Every buffer, table and queue of this library, and how large it can become.
//!
//! What a server sends, what an application asks for and what waits between them is bounded by what is below.
//! "Fixed" cannot be changed. What is not listed has one entry for each thing that the application made: a
//! call that waits, a declared queue, a consumer, a delivery that a handler holds.
//!
//! # Publishing
//!
//! | what | default | at the limit | change it | tested by |
//! |---|---|---|---|---|
//! | unconfirmed and queued publishes of a channel | 1,024 publishes | `publish` waits within its deadline, `try_publish` returns `None` | [`OpenChannel::window`] | `a_window_of_zero_lets_one_publish_through` |
//! | their bodies and headers | 16 MiB | the same; a larger one is sent alone | [`OpenChannel::window_bytes`] | `waiting_publishes_are_sent_in_order` |
//! | bytes handed to the socket at once | 256 KiB | the rest stays in its channel | fixed | `partial_writes_lose_nothing` |
//! | names of exchanges that are missing, or places that are forbidden | 64 of each, 1,024 topics | the oldest is forgotten: the next publish asks the broker | fixed | `a_bounded_number_is_remembered`, `a_bounded_number_of_places_is_remembered_for_a_while` |
//! | names of other exchanges that are looked for, because publishes ask for them | 256 | publishes to others go to the broker | fixed | `the_names_that_are_looked_for_are_bounded` |
//! | queues to which publishes come back, between two looks | 16 | the others are seen at the next look | fixed | `a_bounded_number_of_queues_is_reported` |
//! | delays of a publisher and its clones | 64, each has a queue at the broker | `publish_in` fails with `Limit` | fixed | `a_publisher_has_a_bounded_number_of_delays` |
//! | failures of a redrive, whose messages it holds | 16 | it ends | fixed | `dead_letters_that_cannot_be_moved_stay` |
//! | steps of a ladder, each has a queue at the broker | 32 | `Limit` | fixed | `names_and_numbers_have_limits` |
//! | rows that the relay of an outbox holds | 200, 16 MiB; a larger one alone | the rest waits in the table | `RelayBuilder::batch` | `a_batch_is_bounded` |
//! | a body in an outbox | 16 MiB | `publish` fails with `Limit` | `Outbox::body_max` | `what_is_written_is_bounded` |
//! | refusals of a message in an outbox | 10 | it is parked | fixed | `the_tenth_refusal_parks` |
//!
//! # Consuming
//!
//! | what | default | at the limit | change it | tested by |
//! |---|---|---|---|---|
//! | unsettled deliveries of a consumer | 250 | the broker sends no more | [`Consume::prefetch`] | `an_actor_never_has_more_than_the_prefetch` |
//! | messages that a consumer of tasks holds | twice the tasks at once and at least 16; with lanes 16 times and at least 64 | the broker sends no more | [`Tasks::prefetch`](crate::tasks::Tasks::prefetch) | `lanes_give_back_in_order` |
//! | outcomes of tasks that came too late | twice that | the oldest is forgotten: the copy of its message runs | the same | `the_oldest_of_too_many_outcomes_is_forgotten` |
//! | a message id in an inbox, whose ids are kept until they are pruned | 255 bytes | `Refused` | `Inbox::prune` | `ids_have_a_limit` |
//! | bytes that wait for consumers without a prefetch | 8 MiB for a connection | reading pauses | [`Connector::read_ahead`] | `an_unread_stream_stays_within_the_budget` |
//! | bytes of unsettled deliveries of consumers with a prefetch | 64 MiB for a connection | the largest consumer starts again with a smaller prefetch; what is not begun returns to its queue. Streams, `auto_delete` queues and transactions keep theirs | [`Connector::prefetch_bytes`] | `prefetched_deliveries_are_bounded_in_bytes` |
//! | deliveries beyond the prefetch, which a broker does not send | those bytes | reading pauses, as for a consumer without a prefetch | [`Connector::prefetch_bytes`], [`Connector::read_ahead`] | `deliveries_beyond_the_prefetch_are_bounded_in_bytes` |
//! | a body of `codec::GzipJson` without its compression | 64 MiB | it cannot be decoded | `GzipJson::max` | `decompressed_bodies_are_bounded` |
//! | blocks that small deliveries keep | 4 MiB and four times their bytes | small deliveries are copied | fixed | `small_deliveries_do_not_keep_the_blocks_of_large_ones` |
//! | how long reading pauses | 20 seconds | the consumer with the most bytes is cancelled | [`Connector::stall_limit`] | `the_slowest_consumer_is_cancelled_after_a_long_pause` |
//! | a body | 128 MiB | it is skipped, its delivery settled as [`Consume::oversized`] has it | [`Connector::body_max`] | `a_delivery_over_the_limit_is_settled_and_the_next_is_delivered` |
//! | incomplete bodies of a connection | 256 MiB | the largest is skipped, its delivery requeued | [`Connector::partial_body_max`] | `the_largest_incomplete_body_makes_room_for_the_others` |
//! | failed deliveries that are requeued later | 32,768 of a channel | they are requeued at once | fixed | `no_more_than_the_maximum_wait` |
//! | consumers that only the application can start again | 1,024 of a channel, and of channels that have ended | the oldest is given up | fixed | `the_oldest_of_too_many_is_given_up`, `the_oldest_of_too_many_are_given_up` |
//!
//! # Pools
//!
//! | what | default | at the limit | change it | tested by |
//! |---|---|---|---|---|
//! | items of a pool | as [`Pool::new`] has it | users wait in line | [`Pool::new`] | `the_factory_runs_as_often_as_items_may_exist` |
//!
//! # Calls
//!
//! | what | default | at the limit | change it | tested by |
//! |---|---|---|---|---|
//! | requests that are sent and not confirmed | the publish window of the client's channel: 1,024, 16 MiB | the call waits within its deadline | fixed | `thousands_of_calls_are_in_flight` |
//! | requests that run at a server | 16; twice as many are prefetched | they wait in the queue | [`RpcServerBuilder::at_once`](crate::rpc::RpcServerBuilder::at_once) | `a_server_can_be_stopped_while_its_handlers_hang` |
//! | replies that a server remembers | 1,024, 4 MiB | the oldest is forgotten: a request that comes twice runs twice | fixed | `the_replies_that_are_remembered_are_bounded` |
//! | messages that wait in a remote recipient | 16, behind a full publish window | `try_send` is refused; actix does not limit `do_send` | fixed | `a_full_window_fills_the_mailbox` |
//!
//! # Bridges
//!
//! | what | default | at the limit | change it | tested by |
//! |---|---|---|---|---|
//! | messages that wait for a subscriber | as it has it | the oldest is lost, unless [`Lagging`](crate::bridge::Lagging) is set; the subscriber is told | [`Subscribe`](crate::bridge::Subscribe) | `slow_streams_lose_by_their_policy` |
//! | messages in the mailbox of an actor, in addition | 16 | the others wait | fixed | `a_stuck_subscriber_costs_the_others_nothing` |
//!
//! # What a server can cause
//!
//! | what | limit | at the limit | change it | tested by |
//! |---|---|---|---|---|
//! | a frame | 128 KiB, 4 KiB at least | 501, before it is buffered | [`Connector::frame_max`] | `a_frame_over_frame_max_is_a_frame_error_before_its_payload` |
//! | a frame with a header | 1 MiB | 501 | fixed | `a_header_over_its_limit_is_a_frame_error_before_its_payload` |
//! | a frame of the handshake | 64 KiB | the connect fails | fixed | `a_frame_one_octet_over_the_negotiated_size_is_refused` |
//! | bytes that are read below TLS before they are needed | 64 KiB of a connection | the socket is not read | fixed | `a_bounded_number_of_bytes_is_read_below_tls` |
//! | tables within tables | 32 levels | the header is not decoded | fixed | `nesting_is_limited` |
//! | empty body frames of a message | 64 | 505 | fixed | `the_number_of_empty_frames_is_limited` |
//! | answers that it causes and does not read: `channel.flow-ok`, `channel.close-ok`, nacks of deliveries to nobody | 4 MiB of a connection | 506 | fixed | `a_storm_of_flow_ends_the_connection` |
//! | acks, nacks and rejects that it does not read | 64 MiB of a connection, about 3 million | 506 | fixed | `too_many_answers_are_a_resource_error` |
//! | deliveries that return behind the reply to `basic.cancel` | 32,768 of a consumer | they are requeued before it | fixed | `a_peer_that_never_replies_to_a_cancel_has_a_bounded_number_held_back` |
//! | reports of `connection.blocked` | 8, and the last one, of 64 KiB that are read | only the last one counts | fixed | `a_storm_is_a_few_reports_and_the_last_one` |
//! | lines of the log about what it repeats | the first, then one at intervals that double from a second to an hour | counted, and told in the next line | fixed | `a_storm_is_a_few_lines_of_the_log` |
//! | `connection.update-secret` without a reply | 32 | `Limit` | fixed | `at_most_32_updates_are_unanswered` |
//! | names that queues with a name of the broker had | 8 of each | older names are not found any more | fixed | `the_last_earlier_names_of_each_queue_are_kept` |
//! | channels | the broker's number, 2,047 with RabbitMQ | `Limit` | [`Connector::channel_max`] | `the_lower_limits_are_negotiated` |
//!
//! # Events
//!
//! | what | limit | at the limit | change it | tested by |
//! |---|---|---|---|---|
//! | events that wait for a watcher, an actor or a stream | 256, the last 64 of them not for `Retrying` and `Health` | dropped, and told as [`EventsDropped`](ChannelEvent::EventsDropped); the last event always has room | fixed | `a_slow_watcher_misses_events_and_is_told_how_many` |
//! | bodies of returned publishes in them | 16 MiB | the same; a larger one waits alone | fixed | `bodies_are_bounded` |
//!
//! # Time
//!
//! | what | default | change it | tested by |
//! |---|---|---|---|
//! | a call over the broker ([`rpc`](crate::rpc)) | 30 seconds | [`RpcClient::deadline`](crate::rpc::RpcClient::deadline) | `a_late_reply_is_dropped_and_counted` |
//! | a publish or a call | 30 seconds | [`OpenChannel::deadline`], [`Publishing::deadline`] | `a_timeout_distinguishes_sent_from_waiting_publishes` |
//! | a connect, each address | 30 seconds | [`Connector::connect_timeout`] | `a_silent_handshake_times_out_and_names_the_step` |
//! | a close | 30 seconds | [`Connector::close_timeout`] | `closing_a_connection_waits_for_close_ok_until_close_timeout` |
//! | what is sent last, after the connection has failed | 2 seconds | fixed | `a_storm_of_channel_close_ends_the_connection` |
//!
//! # Examples
//! A small program that gets small messages:
//!
//! ```
//! use actix_pika::{Connector, OpenChannel};
//!
//! # fn run() -> actix_pika::Result<(Connector, OpenChannel)> {
//! let connector = Connector::new("amqp://localhost")?.body_max(64 << 10).read_ahead(1 << 20);
//! let channel = OpenChannel::new().window(64).window_bytes(1 << 20);
//! # Ok((connector, channel)) }
//! ```

#[allow(unused_imports, reason = "for the links")]
use crate::{ChannelEvent, Connector, Consume, OpenChannel, Publishing, pool::Pool};
