//! `kernel` and `net` against the real kernel, each test in network namespaces of its own. Needs
//! root and `ip`; skips by name without.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

#[path = "kernel_io/event_filter.rs"]
mod event_filter;
#[path = "kernel_io/events.rs"]
mod events;
#[path = "kernel_io/links.rs"]
mod links;
#[path = "kernel_io/namespace.rs"]
mod namespace;
#[path = "kernel_io/node.rs"]
mod node;
#[path = "kernel_io/requests.rs"]
mod requests;
