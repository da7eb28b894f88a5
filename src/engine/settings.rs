//! What the engine is told once.

use std::time::Duration;

use super::role::Instance;
use super::status::Role;
use crate::cache::HashKey;
use crate::flow::filter::Policy;
use crate::wire::seal::Keyring;
use crate::wire::{Epoch, Name, Versions};

/// What is fixed for a run.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Own name.
    pub name: Name,
    /// This run.
    pub epoch: Epoch,
    /// The versions of the protocol that it speaks: [`Versions::OURS`], unless a test stands for a
    /// release that is not written yet.
    pub versions: Versions,
    /// Key of the hashes of our flows; random.
    pub hash_key: HashKey,
    /// Key of challenges and session numbers; random, told to nobody.
    pub secret: HashKey,
    /// Which flows replicate.
    pub policy: Policy,
    /// Most flows in the local cache, and in each replica.
    pub flows_max: u32,
    /// Most tombstones.
    pub tombstones_max: u32,
    /// The links, by name.
    pub links: Vec<String>,
    /// Most data packet numbers that one peer may have under way to us.
    pub window: u32,
    /// Most bytes of a datagram.
    pub datagram_bytes_max: usize,
    /// How often the kernel's table is listed.
    pub scrub_interval: Duration,
    /// A committed flow gets at least this long for its first packet.
    pub grace: Duration,
    /// Committed TCP flows stay liberal; false: they are made strict again one by one.
    pub tcp_liberal: bool,
    /// Netlink port id of our writer: events with it are echoes.
    pub writer_port_id: u32,
    /// The cluster's keys; none: the links are insecure.
    pub keyring: Option<Keyring>,
    /// Role to start in: standby, or what an earlier run on this boot was.
    pub role: Role,
    /// Term to start with.
    pub term: u64,
    /// keepalived's instances that were MASTER in an earlier run on this boot.
    pub masters: Vec<Instance>,
}
