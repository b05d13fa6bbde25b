//! Publishing: confirms, returns, bodies, properties, the publish window.

mod arrival;
mod basics;
mod bodies;
mod body_limits;
mod confirms;
mod direct_reply;
mod malformed_properties;
mod many_tasks;
mod outcomes;
mod own_deadlines;
mod properties;
mod publish_all;
mod republish;
mod scripted_confirms;
mod scripted_window;
mod window;
