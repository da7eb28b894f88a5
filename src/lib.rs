//! ctsyncd keeps a copy of the kernel's connection-tracking table alive on the other nodes of a
//! firewall cluster and puts it into the kernel at failover.
//!
//! The folders, in the order in which a change travels:
//!
//! ```text
//! kernel ──events──▶ ctnetlink ──▶ local cache ──▶ replication ──▶ wire ──▶ net ─ ─ ─ ▶ peer
//! kernel ◀──commit── ctnetlink ◀── replica     ◀── replication ◀── wire ◀── net ◀ ─ ─ ─ peer
//! ```
//!
//! `flow`, `ctnetlink`, `cache`, `wire`, `replication` and `engine` are pure: no clock, no socket,
//! no file, no task, no randomness of their own. `kernel`, `net`, `control`, `observe` and
//! `config` touch the system; `daemon` drives the engine with what they bring, and `cli` is what
//! people type. `tests/tidy.rs` holds these walls; `docs/architecture.md` tells the whole story.

pub mod flow;
pub mod histogram;
pub mod rules;

pub mod cache;
pub mod ctnetlink;
pub mod wire;

pub mod replication;

pub mod engine;

pub mod config;
pub mod control;
pub mod kernel;
pub mod net;
pub mod observe;

pub mod cli;
pub mod daemon;
