//! Publishing: confirms, returns, bodies, properties, the publish window.

mod basics;
mod bodies;
mod body_limits;
mod confirms;
mod many;
mod many_tasks;
mod odd_properties;
mod outcomes;
mod properties;
mod scripted_confirms;
mod scripted_window;
mod window;
