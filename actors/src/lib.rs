//! The engine of `actix-pika`: wire, actors, messages.

#[cfg(feature = "testing")]
pub mod testing;
