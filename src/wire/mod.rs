//! Datagram bytes to frames and back; `docs/protocol.md` draws every byte.
//!
//! A datagram is a [`Header`] in the clear and a body. The body of a data datagram is a run of
//! [records](record), that of every other kind a run of [frames](control). Nothing here keeps
//! state: what a number means is for `replication` to judge, what is possible at all is checked
//! here, so that no value that comes out of this folder can make arithmetic overflow, index out of
//! range or allocate.
//!
//! The body is contiguous and follows the header, so that a cipher can work on it in place with the
//! header's bytes as associated data.

mod bitmap;
mod claims;
mod codec;
pub mod control;
mod envelope;
mod error;
mod expectation_v1;
mod flow_v1;
mod greeting;
pub mod header;
mod identity;
mod rare_v1;
pub mod reconcile;
pub mod record;
pub mod seal;
mod versions;

pub use bitmap::AckBitmap;
pub use claims::{CLAIMS_MAX, Claims, claim_of};
pub use control::{Ack, Frame, Frames, Outcome, Ping, Verdict};
pub use error::WireError;
pub use expectation_v1::EXPECTATION_RECORD_BYTES_MAX;
pub use flow_v1::FLOW_RECORD_BYTES_MAX;
pub use greeting::{Greeting, Hello};
pub use header::{Header, Kind};
pub use identity::{Epoch, Identity, Name};
pub use reconcile::{Level, List, ListQuestion, Sums, SumsQuestion};
pub use record::{
    MARKER_RECORD_BYTES_MAX, Marker, Record, Records, TOMBSTONE_RECORD_BYTES, emit_expectation,
    emit_flow, emit_marker, emit_tombstone,
};
pub use versions::Versions;

/// Version of the protocol that this build speaks; a pair uses the highest that both speak
/// ([`Versions::highest_common`]).
pub const PROTOCOL_VERSION: u8 = 1;

/// Most bytes of a datagram, header included. An Ethernet frame carries 1,452 bytes of UDP over
/// IPv6; the rest is left for a tunnel's header on the way. A longer datagram is refused: nobody
/// of this protocol sends one.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;

/// Most bytes of a node's name. Two of them have to fit in a greeting with much room to spare, and
/// a name is also a label in metrics.
pub const NAME_BYTES_MAX: usize = 64;

/// Most data packet numbers from floor to next, whatever a greeting offers. It bounds the bitmap
/// of an ack to 512 bytes, so that it always fits in one datagram in full.
pub const WINDOW_MAX: u32 = 4_096;

/// Highest packet number. At a million datagrams a second it lasts for nine years; being far from
/// the end of a u64 it lets receivers add numbers of many sessions without a check for overflow.
pub const NUMBER_MAX: u64 = (1 << 48) - 1;
