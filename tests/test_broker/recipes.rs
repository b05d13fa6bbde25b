//! The recipes in the documentation of the test broker, which has no client to compile them with.

#[path = "../../broker/recipes/cut.rs"]
mod cut;
#[path = "../../broker/recipes/manual_clock.rs"]
mod manual_clock;
#[path = "../../broker/recipes/memory.rs"]
mod memory;
