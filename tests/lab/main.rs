//! The laboratory: ctsyncd on the real kernel, with real keepalived and real traffic, in network
//! namespaces. Needs root and the packages that `harness::TOOLS` names; a test that cannot run is
//! skipped by name.

#![expect(
    clippy::disallowed_methods,
    reason = "the laboratory lives in real time: it measures and awaits by the clock"
)]

mod cluster;
mod harness;

mod attributes;
mod commands;
mod commit;
mod commit_options;
mod departed;
mod expectations;
mod failover;
mod gate;
mod hot;
mod links;
mod mirror;
mod mix;
mod moves;
mod nat;
mod overrun;
mod pptp;
mod replicate;
mod restart;
mod roles;
mod seal;
mod setups;
mod tcp;
mod timers;
