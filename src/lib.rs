//! ctsyncd keeps a copy of the kernel's connection-tracking table alive on the other nodes of a
//! firewall cluster and puts it into the kernel at failover.

pub mod flow;
