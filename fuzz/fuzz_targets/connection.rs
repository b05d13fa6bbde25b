//! Runs a connection against a server that sends anything: see `Hostile` of actix-pika-actors.
#![no_main]

use actix_pika_actors::testing::Hostile;
use libfuzzer_sys::fuzz_target;

thread_local!(static HOSTILE: Hostile = Hostile::new());

fuzz_target!(|data: &[u8]| HOSTILE.with(|hostile| hostile.connection(data)));
