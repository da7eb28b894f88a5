//! The vocabulary: plain values that describe one conntrack entry.

pub mod event;
pub mod expectation;
pub mod filter;
pub mod proto;
pub mod rare;
pub mod status;
pub mod text;
pub mod tuple;

pub use event::{EventKind, FlowEvent, Present};
pub use expectation::{Expectation, ExpectationEvent, ExpectationKey};
pub use proto::ProtoInfo;
pub use rare::Rare;
pub use status::Status;
pub use tuple::{Family, Tuple};

/// What a zone applies to. The kernel has a zone per direction; most set-ups use one for both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum ZoneDir {
    /// `CTA_ZONE`: both directions (also used for zone 0, the default zone).
    #[default]
    Both = 0,
    /// `CTA_TUPLE_ZONE` in the original tuple.
    Orig = 1,
    /// `CTA_TUPLE_ZONE` in the reply tuple.
    Reply = 2,
}

/// A conntrack zone and the directions it covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Zone {
    /// The number; 0 is the default zone.
    pub id: u16,
    /// Directions.
    pub dir: ZoneDir,
}

impl Zone {
    /// The zone in which the original tuple is looked up.
    #[must_use]
    pub fn of_orig(self) -> u16 {
        match self.dir {
            ZoneDir::Both | ZoneDir::Orig => self.id,
            ZoneDir::Reply => 0,
        }
    }

    /// The zone in which the reply tuple is looked up.
    #[must_use]
    pub fn of_reply(self) -> u16 {
        match self.dir {
            ZoneDir::Both | ZoneDir::Reply => self.id,
            ZoneDir::Orig => 0,
        }
    }
}

/// What tells flows apart: the original tuple and its zone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowKey {
    /// Original tuple.
    pub orig: Tuple,
    /// Zone of the original direction.
    pub zone: u16,
}

/// One conntrack entry. Counters and time stamps are left out: no commit can restore them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Flow {
    /// Tuple of the original direction.
    pub orig: Tuple,
    /// Tuple of the reply direction, translated if the flow is.
    pub reply: Tuple,
    /// Zone.
    pub zone: Zone,
    /// `CTA_ID`: hint only, two lives of a tuple mostly have the same (and 0 if not known).
    pub id: u32,
    /// Status bits.
    pub status: Status,
    /// `CTA_MARK`.
    pub mark: u32,
    /// `CTA_TIMEOUT`: seconds left when the source said so.
    pub timeout_secs: u32,
    /// Protocol state.
    pub proto: ProtoInfo,
}

const _: () = assert!(size_of::<Flow>() == 112);

impl Flow {
    /// What tells this flow apart.
    #[must_use]
    pub fn key(&self) -> FlowKey {
        FlowKey {
            orig: self.orig,
            zone: self.zone.of_orig(),
        }
    }

    /// True if the source is translated: replies go somewhere else than where requests come from.
    #[must_use]
    pub fn is_snat(&self) -> bool {
        let inverse = self.orig.inverse();
        self.reply.dst != inverse.dst || self.reply_dst_id() != inverse_dst_id(&self.orig)
    }

    /// True if the destination is translated: replies come from somewhere else than where
    /// requests go.
    #[must_use]
    pub fn is_dnat(&self) -> bool {
        let inverse = self.orig.inverse();
        self.reply.src != inverse.src
            || (!self.orig.is_icmp() && self.reply.src_id != inverse.src_id)
    }

    /// True if either end is translated.
    #[must_use]
    pub fn is_nat(&self) -> bool {
        self.is_snat() || self.is_dnat()
    }

    fn reply_dst_id(&self) -> u16 {
        if self.orig.is_icmp() {
            self.reply.src_id
        } else {
            self.reply.dst_id
        }
    }
}

/// What the reply carries where a translated source shows: the port, or the ICMP id.
fn inverse_dst_id(orig: &Tuple) -> u16 {
    orig.src_id
}
