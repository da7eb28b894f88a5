//! Netlink bytes to flows and back, and the numbers of the kernel's headers.

pub mod request;
