//! The engine of `actix-pika`: wire, actors, messages.
