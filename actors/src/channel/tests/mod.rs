//! Tests of the channel: costs that are counted, with an actor, and the machine without a runtime.

mod counting;
