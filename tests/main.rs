//! The tests against a real RabbitMQ, in one binary: what an id in a test's comment means is in `README.md`.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
mod support;

mod access;
mod batches;
mod body_limits;
mod builder;
mod channel_messages;
mod channel_registry;
mod channels;
mod closing;
mod conn_addresses;
mod conn_blocked;
mod conn_facts;
mod conn_login;
mod conn_uri;
mod connections;
mod consume;
mod consumer_ends;
mod consumer_handlers;
mod consumer_targets;
mod delivery_stream;
mod dropping;
mod events;
mod get;
mod handles;
mod heartbeat;
mod many_tasks;
mod messages;
mod messages_peer;
mod process;
mod publish;
mod publish_bodies;
mod publish_confirms;
mod publish_many;
mod publish_outcomes;
mod publish_peer;
mod publish_peer_window;
mod publish_window;
mod qos;
mod read_ahead;
mod recover;
mod recovery;
mod recovery_publish;
mod refused_connects;
mod refused_consumes;
mod robust_closing;
mod robust_consumers;
mod robust_locks;
mod robust_streams;
mod robust_topology;
mod runtimes;
mod settle_frames;
mod smoke;
mod streams;
mod support_selfcheck;
mod time_limits;
mod topology_bindings;
mod topology_declare;
mod topology_queues;
mod topology_routing;
mod tx;
