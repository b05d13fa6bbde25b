//! A broker to test with: it answers AMQP 0-9-1 clients as RabbitMQ does, in the process of the test.
//!
//! **This is a test broker.** It is one process, keeps everything in memory, and listens on the loopback
//! interface unless told otherwise. For production there is [RabbitMQ](https://www.rabbitmq.com).
//!
//! # What it does, what it does not, what differs from RabbitMQ
//!
//! It answers as one [`Line`] of RabbitMQ: 3.10, 3.13, 4.0 or 4.3. What nodes of 3.10.8, 4.0.5 and 4.3.6 answered to
//! some 4,000 operations stands in `core/tests/asked`, and is checked against the broker with each test. Random sequences of
//! operations are held against the nodes; faults of RabbitMQ that they have found, as a queue that crashes or a consumer that
//! is left behind, are not imitated, and listed in `tests/differential/normal.rs`. What differs by line is one table,
//! `core/rules.rs`; that of 3.13 is read in its source, and was not asked.
//!
//! | Subject | Does | Does not | Differs |
//! |---|---|---|---|
//! | Exchanges | direct, fanout, topic, headers, `x-consistent-hash`, `x-delayed-message`, internal, alternate, bindings between exchanges, auto-delete, `CC` and `BCC` | other plug-ins' types | `x-delayed-message` and `x-consistent-hash` are there without a plug-in; `x-local-random` takes turns; `x-modulus-hash` may choose another queue; the name of an exchange type that is an atom of Erlang is unknown, not invalid |
//! | Queues | classic, quorum, stream; exclusive, auto-delete, server-named, `x-expires`; all arguments checked with RabbitMQ's texts | mirrored queues | a quorum queue has one member and answers at once; one with `x-expires` goes in time, and not some seconds later |
//! | Policies | [`InVhost::set_policy`], of operators too: all settings with RabbitMQ's texts and precedence, applied at once to queues and exchanges that are there | the settings of plug-ins | of equal priorities the first by name; a queue expires at its time, not at the next check |
//! | Length, time to live | `x-max-length`, `x-max-length-bytes`, the three kinds of overflow, expiration, `x-message-ttl` | | a quorum queue is never behind its limit |
//! | Dead letters | `x-death` by line, cycles, `x-delivery-limit`, delayed retries of 4.3, `x-dead-letter-strategy: at-least-once` | | what was not taken is tried again after exactly 3 minutes; where one message leads to more than 20,000 dead letters at once, as in a cycle that RabbitMQ does not see and goes on with for ever, further ones are dropped |
//! | Streams | offsets by first, last, next, number, time; `x-max-age`, `x-max-length-bytes`; filters | the stream protocol, super streams | a chunk is what arrives in one millisecond |
//! | Consumers | prefetch of consumer and channel, priorities, single active, exclusive, cancel by the broker, direct reply-to | `basic.credit` of 3.x: 503, as in 4.x | |
//! | Headers | all types, in RabbitMQ's order by line | | those that nest more than 256 deep close the connection with 541 |
//! | Confirms | merged as RabbitMQ merges them | | in the order of the publishes, since nothing is written to a disk |
//! | Transactions | commit, rollback, `partial tx completion` | | a commit is one step for all queues |
//! | Delivery timeout | closes the channel, or from 4.3 on cancels the consumer of a quorum queue and returns its late messages (without a consumer that can be told, it closes the channel); `x-consumer-timeout` and policies by line | | at the deadline, not at the next check within a minute |
//! | Users | PLAIN and AMQPLAIN, permissions, topic permissions, [impersonators](Broker::set_impersonator), limits of connections, channels and queues | tags, OAuth | patterns are those of the crate `regex-lite`, not PCRE |
//! | Memory | [`Builder::memory_limit`]: `low on memory` blocks who publishes, at once, until a fifth is free; [`Builder::entity_limits`] | | counts messages and outputs, not what the process takes; RabbitMQ looks at that every 2.5 s; at 100,000 queues, exchanges, bindings or consumers, or 256 MiB of their arguments, one more is a 506 |
//! | A client that does not read | gets no deliveries, and is not read either, until it reads | | bodies that are begun on all channels of a connection have 256 MiB together above one message, or 506 |
//! | Restart | keeps durable entities and persistent messages, or nothing; a node is stopped, killed, paused and started | upgrades, clusters, partitions | the messages of a clean end |
//!
//! # Suites of other clients
//!
//! The integration tests of clients that know nothing of this project, as many as pass on a node of RabbitMQ and on this
//! broker, by line (`make test-clients LINE=...` compares them test by test). Each test that passes on the node passes on
//! the broker. Where there is one number, as many pass on both; of two, the second is that of the broker, since the node
//! fails some by chance.
//!
//! | Client | 3.10.8 | 4.0.5 | 4.3.6 | Left out |
//! |---|---|---|---|---|
//! | pika 1.3.2 (Python) | 364 | 363 | 363 | the adapter of Twisted |
//! | py-amqp 5.3.1 (Python) | 10 | 10 | 10 | TLS |
//! | kombu 5.7.0 (Python) | 51 | 51 | 51 | |
//! | amqplib 1.0.3 (JavaScript) | 255 | 255 | 255 | |
//! | amqp091-go 1.5.0 (Go) | 116 | 116 | 116 | |
//! | Bunny 2.23.0 (Ruby) | 236 | | 234 | the management API, TLS, a proxy |
//! | php-amqplib 3.7.3 | 74 | | | the management API, TLS, a proxy |
//! | Java client 5.0.0 | 327, 329 | 323, 324 | 312, 314 | `rabbitmqctl`, restarts, a second node, TLS |
//!
//! An empty field was not measured.
//!
//! # Clock
//!
//! | broker | its time | what moves it |
//! |---|---|---|
//! | [`Builder::start`] | that of the system | time |
//! | [`Builder::start_here`] | that of tokio on the arbiter | time; the test, if it pauses the clock |
//! | [`Builder::manual_clock`] | it stands | nothing else |
//!
//! Beside that, [`Broker::advance`] and [`Broker::advance_connections`] move each of them. `advance` moves what queues and
//! messages know of time (expiration, delays, the delivery timeout): each thing happens at its own time, in order.
//! `advance_connections` moves what sockets know of it (heartbeats, deadlines, output that is late) in one leap: of several
//! heartbeats that were due one is sent, and who was silent for three intervals is cut.
//!
//! A clock of tokio that is paused moves the client and the broker together, as both are on it, and goes on by itself to
//! the next timer whenever all wait. A test only has to wait: a ladder of retries with delays of hours takes milliseconds.
//! To let time pass, `tokio::time::sleep` is right: it stops at each timer on the way, so that heartbeats are sent.
//! `tokio::time::advance` jumps, and both sides miss the heartbeats in between.
//!
//! A manual clock goes with a client whose clock runs. Its broker sends no heartbeats as time passes, so that a client that
//! stands in a debugger for two of its intervals, or whose clock is paused, gives the connection up: turn its heartbeats
//! off there.
//!
//! `tokio::time::pause` needs the feature `test-util` of tokio. With a paused clock, use `start_here`: a broker on a thread of
//! its own answers in real time, while the deadlines of a client that waits for it pass at once.
//!
//! # In memory
//!
//! [`Broker::dialer`] connects a client without a socket, as `Connector::memory` of actix-pika takes it. A client that
//! recovers its connection calls it again. A cut is the end of such a stream, not a reset.
//!
//! # Tests of actix-pika on it
//!
//! These tests run as they are shown, among those of actix-pika. `Connector::memory` needs its feature `testing`. A service
//! with actix-web, its worker and its ladder of retries are tested in `examples/payments`.
//!
//! In memory, on a paused clock:
//!
//! ```ignore
#![doc = include_str!("../recipes/memory.rs")]
//! ```
//!
//! A ladder of retries, step by step, on a manual clock:
//!
//! ```ignore
#![doc = include_str!("../recipes/manual_clock.rs")]
//! ```
//!
//! A cut, after which nothing is lost. Until the client has connected again, [`Broker::connections`] is empty: wait for
//! another one with [`Broker::until`]. What was delivered before the cut and not acked comes again.
//!
//! ```ignore
#![doc = include_str!("../recipes/cut.rs")]
//! ```
//!
//! A publish that returns None (`Exchange::try_publish`) was not sent: too many are unconfirmed, which a fault that holds
//! back confirms brings about. It is not one that the broker has lost.
//!
//! # Faults
//!
//! On order: a connection is [cut](Broker::cut) at once or at a byte, [closed](Broker::close_connection) with a code, not
//! [read](Broker::stop_reading), [late](Broker::delay); connects are [refused](Broker::refuse_connects), publishes
//! [nacked](Broker::nack_next) or [returned](Broker::return_next), consumers [cancelled](Broker::cancel_consumers),
//! publishers [blocked](Broker::block), the broker [restarted](Broker::restart) or [stopped](Broker::stop_node).
//!
//! At random: [`Broker::chaos`] chooses from these by a seed. A fault comes after a number of frames, so that the same
//! seed gives the same faults as long as the same frames come in the same order: with everything on one arbiter, a paused
//! clock and a seeded client, always. Failed assertions show the seed and the faults.
//!
//! # TLS
//!
//! With the feature `tls-ring` or `tls-aws-lc`, `Builder::tls` listens for TLS on a second port, with certificates that are
//! made on the spot: `Broker::tls_url` is the URL, `Broker::ca_pem` the authority to trust. `Builder::tls_client_certificates`
//! has clients show a certificate of that authority (`Broker::client_certificate`); they log in by name and password all
//! the same, as EXTERNAL is off. `Builder::tls_identity` and `Builder::tls_client_authority` take certificates from outside.
//! With the feature `tls` alone, `Builder::tls_config` takes a configuration of rustls. A cut at an octet counts those of
//! AMQP.
//!
//! # As a program
//!
//! `actix-pika-broker` (`cargo install actix-pika-broker --features tls-ring`) is the same broker for clients of other
//! languages and on other machines: `--help` tells its options, those of TLS among them. It prints its URL as the first line.

// For its own tests and measurements: it has no promise of stability.
#[doc(hidden)]
pub mod core;
mod server;

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
pub use self::server::ClientCertificate;
pub use self::{
    core::{
        ApplyTo, BindingView, ConnectionId, ConsumerView, DelayedRetry, EntityLimits, ExchangeView,
        InvalidPattern, InvalidPermissions, InvalidPolicy, Line, Message, MessageView, Name, Overflow,
        Permits, Policy, Published, QueueKind, QueueSettings, QueueView, StoredState, Time,
    },
    server::{
        Broker, BrokerState, Builder, Chaos, ChaosBuilder, ConnectionView, Fault, FaultKind, InVhost,
        StartError, VhostState,
    },
};
/// The rustls of [`Builder::tls_config`].
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
