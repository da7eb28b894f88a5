//! The control socket: one JSON object per line.
//!
//! [`server`] is the daemon's end, [`client`] the command line's; [`message`] is what they say.

pub mod client;
pub mod lookup;
pub mod message;
pub mod server;

mod line;
mod session;
