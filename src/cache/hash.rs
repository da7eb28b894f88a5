//! Keyed hashes of flows: of what tells them apart, and of what replicates.
//!
//! Both ends of a stream must compute the same values (docs/protocol.md section 9), so the bytes
//! that are hashed are laid out here and nowhere else. SipHash-1-3 keeps strangers, who choose the
//! tuples, from aiming at collisions.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::flow::{Expectation, ExpectationKey, Flow, FlowKey, ProtoInfo, Rare, Status, Tuple};

/// Key of the hashes of one sender, drawn at random for its epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HashKey(pub [u64; 2]);

impl HashKey {
    fn hasher(self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }

    /// Hash of what tells a flow apart.
    #[must_use]
    pub fn of_key(self, key: &FlowKey) -> u64 {
        let mut bytes = [0; TUPLE_BYTES + 2];
        bytes[..TUPLE_BYTES].copy_from_slice(&tuple_bytes(&key.orig));
        bytes[TUPLE_BYTES..].copy_from_slice(&key.zone.to_be_bytes());
        let mut hasher = self.hasher();
        hasher.write(&bytes);
        hasher.finish()
    }

    /// Hash of what tells an expectation apart. One byte more than for a flow: no expectation has
    /// the hash of a flow but by accident.
    #[must_use]
    pub fn of_expectation_key(self, key: &ExpectationKey) -> u64 {
        let mut bytes = [EXPECTATION; TUPLE_BYTES + 3];
        bytes[..TUPLE_BYTES].copy_from_slice(&tuple_bytes(&key.tuple));
        bytes[TUPLE_BYTES..TUPLE_BYTES + 2].copy_from_slice(&key.zone.to_be_bytes());
        let mut hasher = self.hasher();
        hasher.write(&bytes);
        hasher.finish()
    }

    /// Hash of an expectation's key and of every field that replicates; the timeout is left out.
    #[must_use]
    pub fn of_expectation(self, key_hash: u64, expectation: &Expectation) -> u64 {
        let mut hasher = self.hasher();
        hasher.write(&key_hash.to_be_bytes());
        hasher.write(&expectation.mask.address);
        hasher.write(&expectation.mask.id.to_be_bytes());
        hasher.write(&tuple_bytes(&expectation.master));
        hasher.write(&expectation.id.to_be_bytes());
        hasher.write(&expectation.class.to_be_bytes());
        hasher.write(&expectation.flags.to_be_bytes());
        if let Some(nat) = &expectation.nat {
            hasher.write(&[1]);
            hasher.write(&nat.direction.to_be_bytes());
            hasher.write(&nat.address);
            hasher.write(&nat.id.to_be_bytes());
        }
        if let Some(name) = &expectation.helper {
            hash_name(&mut hasher, 2, name.as_str());
        }
        if let Some(name) = &expectation.function {
            hash_name(&mut hasher, 3, name.as_str());
        }
        hasher.finish()
    }

    /// Hash of a flow's key and of every field that replicates; timeouts are left out.
    #[must_use]
    pub fn of_value(self, key_hash: u64, flow: &Flow, rare: Option<&Rare>) -> u64 {
        let mut bytes = [0; 80];
        let mut writer = Writer {
            bytes: &mut bytes,
            len: 0,
        };
        writer.put(&key_hash.to_be_bytes());
        writer.put(&tuple_bytes(&flow.reply));
        writer.put(&flow.zone.id.to_be_bytes());
        writer.put(&[flow.zone.dir as u8]);
        writer.put(&flow.id.to_be_bytes());
        writer.put(&(flow.status.0 & Status::REPLICATED).to_be_bytes());
        writer.put(&flow.mark.to_be_bytes());
        match flow.proto {
            ProtoInfo::None => writer.put(&[0]),
            ProtoInfo::Tcp(tcp) => writer.put(&[
                1,
                tcp.state,
                tcp.wscale_orig,
                tcp.wscale_reply,
                tcp.flags_orig,
                tcp.flags_reply,
            ]),
            ProtoInfo::Sctp(sctp) => {
                writer.put(&[2, sctp.state]);
                writer.put(&sctp.vtag_orig.to_be_bytes());
                writer.put(&sctp.vtag_reply.to_be_bytes());
            }
            ProtoInfo::Dccp(dccp) => {
                writer.put(&[3, dccp.state, dccp.role]);
                writer.put(&dccp.handshake_seq);
            }
        }
        let len = writer.len;
        let mut hasher = self.hasher();
        hasher.write(&bytes[..len]);
        if let Some(rare) = rare.filter(|rare| !rare.is_empty()) {
            hash_rare(&mut hasher, rare);
        }
        hasher.finish()
    }
}

const TUPLE_BYTES: usize = 38;
/// Ends what is hashed of an expectation's key.
const EXPECTATION: u8 = 1;

fn tuple_bytes(tuple: &Tuple) -> [u8; TUPLE_BYTES] {
    let mut bytes = [0; TUPLE_BYTES];
    bytes[..16].copy_from_slice(&tuple.src);
    bytes[16..32].copy_from_slice(&tuple.dst);
    bytes[32..34].copy_from_slice(&tuple.src_id.to_be_bytes());
    bytes[34..36].copy_from_slice(&tuple.dst_id.to_be_bytes());
    bytes[36] = tuple.family as u8;
    bytes[37] = tuple.protocol;
    bytes
}

/// Each attribute that is there is written as its number and its bytes, so that two different
/// sets of attributes never give the same input.
fn hash_rare(hasher: &mut SipHasher13, rare: &Rare) {
    if let Some(labels) = rare.labels {
        hasher.write(&[1]);
        hasher.write(&labels);
    }
    if let Some(helper) = &rare.helper {
        hash_name(hasher, 2, helper.as_str());
    }
    for (number, adjustment) in [(3, rare.seqadj_orig), (4, rare.seqadj_reply)] {
        if let Some(adjustment) = adjustment {
            hasher.write(&[number]);
            hasher.write(&adjustment.correction_pos.to_be_bytes());
            hasher.write(&adjustment.offset_before.to_be_bytes());
            hasher.write(&adjustment.offset_after.to_be_bytes());
        }
    }
    if let Some(synproxy) = rare.synproxy {
        hasher.write(&[5]);
        hasher.write(&synproxy.isn.to_be_bytes());
        hasher.write(&synproxy.its.to_be_bytes());
        hasher.write(&synproxy.tsoff.to_be_bytes());
    }
    if let Some(master) = &rare.master {
        hasher.write(&[6]);
        hasher.write(&tuple_bytes(master));
    }
}

fn hash_name(hasher: &mut SipHasher13, number: u8, name: &str) {
    hasher.write(&[number, u8::try_from(name.len()).expect("names are short")]);
    hasher.write(name.as_bytes());
}

struct Writer<'a> {
    bytes: &'a mut [u8; 80],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::expectation::{ExpectationNat, FunctionName};
    use crate::flow::rare::{HelperName, SeqAdj, SynProxy};

    const KEY: HashKey = HashKey([1, 2]);

    /// The values are part of the protocol: they must not change within a version.
    #[test]
    fn the_hashes_are_frozen() {
        let flow = Flow {
            mark: 7,
            ..Flow::default()
        };
        let key_hash = KEY.of_key(&flow.key());
        assert_eq!(key_hash, FROZEN_KEY);
        assert_eq!(KEY.of_value(key_hash, &flow, None), FROZEN_VALUE);
    }
    const FROZEN_KEY: u64 = 17_303_677_723_922_667_143;
    const FROZEN_VALUE: u64 = 12983148368081262701;

    #[test]
    fn the_hashes_of_expectations_are_frozen_and_no_flows() {
        let expectation = Expectation {
            class: 7,
            ..Expectation::default()
        };
        let key_hash = KEY.of_expectation_key(&expectation.key());
        assert_eq!(key_hash, FROZEN_EXPECTATION_KEY);
        let value = KEY.of_expectation(key_hash, &expectation);
        assert_eq!(value, FROZEN_EXPECTATION_VALUE);
        assert_ne!(key_hash, KEY.of_key(&Flow::default().key()));
    }
    const FROZEN_EXPECTATION_KEY: u64 = 16_618_757_549_844_415_641;
    const FROZEN_EXPECTATION_VALUE: u64 = 3_573_452_787_575_654_471;

    #[test]
    fn every_replicated_field_of_an_expectation_counts_and_the_timeout_does_not() {
        let plain = Expectation::default();
        let hash = |expectation: &Expectation| KEY.of_expectation(5, expectation);
        let later = Expectation {
            timeout_secs: 9,
            ..plain
        };
        assert_eq!(hash(&plain), hash(&later));
        let (mut address, mut port, mut master) = (plain.mask, plain.mask, plain.master);
        address.address[3] = 1;
        port.id = 1;
        master.dst_id = 1;
        let nat = ExpectationNat::default();
        let expectations = [
            plain,
            Expectation {
                mask: address,
                ..plain
            },
            Expectation {
                mask: port,
                ..plain
            },
            Expectation { master, ..plain },
            Expectation { id: 1, ..plain },
            Expectation { class: 1, ..plain },
            Expectation { flags: 1, ..plain },
            Expectation {
                nat: Some(nat),
                ..plain
            },
            Expectation {
                nat: Some(ExpectationNat {
                    direction: 1,
                    ..nat
                }),
                ..plain
            },
            Expectation {
                nat: Some(ExpectationNat { id: 1, ..nat }),
                ..plain
            },
            Expectation {
                nat: Some(ExpectationNat {
                    address: [1; 16],
                    ..nat
                }),
                ..plain
            },
            Expectation {
                helper: HelperName::new(b"ftp"),
                ..plain
            },
            Expectation {
                function: FunctionName::new(b"ftp"),
                ..plain
            },
        ];
        let hashes: std::collections::BTreeSet<u64> = expectations.iter().map(hash).collect();
        assert_eq!(hashes.len(), expectations.len());
        let key = |zone, dst_id| {
            let mut key = plain.key();
            (key.zone, key.tuple.dst_id) = (zone, dst_id);
            KEY.of_expectation_key(&key)
        };
        assert_ne!(key(0, 0), key(1, 0));
        assert_ne!(key(0, 0), key(0, 1));
    }

    #[test]
    fn every_replicated_field_counts_and_the_timeout_does_not() {
        let plain = Flow::default();
        let hash = |flow: &Flow, rare: &Rare| KEY.of_value(5, flow, Some(rare));
        let base = hash(&plain, &Rare::default());
        assert_eq!(base, KEY.of_value(5, &plain, None));
        assert_eq!(
            base,
            hash(
                &Flow {
                    timeout_secs: 9,
                    ..plain
                },
                &Rare::default()
            )
        );
        let dying = Flow {
            status: Status(Status::DYING),
            ..plain
        };
        assert_eq!(base, hash(&dying, &Rare::default()));
        let mut reply = plain.reply;
        reply.dst_id = 1;
        for flow in [
            Flow { mark: 1, ..plain },
            Flow { id: 1, ..plain },
            Flow {
                status: Status(Status::ASSURED),
                ..plain
            },
            Flow { reply, ..plain },
            Flow {
                proto: ProtoInfo::Tcp(Default::default()),
                ..plain
            },
            Flow {
                proto: ProtoInfo::Sctp(Default::default()),
                ..plain
            },
            Flow {
                proto: ProtoInfo::Dccp(Default::default()),
                ..plain
            },
        ] {
            assert_ne!(base, hash(&flow, &Rare::default()), "{flow:?}");
        }
        for rare in [
            Rare {
                labels: Some([0; 16]),
                ..Rare::default()
            },
            Rare {
                helper: HelperName::new(b"ftp"),
                ..Rare::default()
            },
            Rare {
                seqadj_orig: Some(SeqAdj::default()),
                ..Rare::default()
            },
            Rare {
                seqadj_reply: Some(SeqAdj::default()),
                ..Rare::default()
            },
            Rare {
                synproxy: Some(SynProxy::default()),
                ..Rare::default()
            },
            Rare {
                master: Some(Tuple::default()),
                ..Rare::default()
            },
        ] {
            assert_ne!(base, hash(&plain, &rare), "{rare:?}");
        }
    }
}
