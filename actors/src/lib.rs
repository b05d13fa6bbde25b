//! The engine of `actix-pika`: wire, actors, messages.

pub mod secret;
pub mod uri;
pub mod wire;
