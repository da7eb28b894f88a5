//! The program for the event socket that drops in the kernel what policy never asks for, so that it
//! takes no room in the buffer and costs no read. It is classic BPF with the two loads that walk
//! attributes (include/uapi/linux/filter.h, net/core/filter.c `bpf_skb_get_nlattr`).
//!
//! What it drops is told by [`program`]; everything else passes, what it cannot read included, and
//! is judged by the policy itself, which stays the truth.

use super::cta::{
    CTA_PROTO_NUM, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, IPCTNL_MSG_CT_NEW, NFNL_SUBSYS_CTNETLINK,
};
use super::message::{HEADER_LEN, NFGENMSG_LEN};

/// Most protocols of a program: a jump goes 255 instructions far at most, and the rest of the
/// program takes 20 of them. The kernel tracks eight protocols in detail.
pub const PROTOCOLS_MAX: usize = 64;

/// `struct sock_filter`: one instruction of classic BPF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

// include/uapi/linux/bpf_common.h; A is the accumulator, X the index register.
/// `BPF_LD | BPF_W | BPF_ABS`: A = the 4 bytes at k, in network order.
const LD_WORD: u16 = 0x20;
/// `BPF_LD | BPF_H | BPF_ABS`: A = the 2 bytes at k, in network order.
const LD_HALF: u16 = 0x28;
/// `BPF_LD | BPF_H | BPF_IND`: A = the 2 bytes at X + k, in network order.
const LD_HALF_AT: u16 = 0x48;
/// `BPF_LD | BPF_B | BPF_IND`: A = the byte at X + k.
const LD_BYTE_AT: u16 = 0x50;
/// `BPF_LD | BPF_W | BPF_LEN`: A = the length of the message.
const LD_LEN: u16 = 0x80;
/// `BPF_LD | BPF_IMM`: A = k.
const LD_IMM: u16 = 0x00;
/// `BPF_LDX | BPF_IMM`: X = k.
const LDX_IMM: u16 = 0x01;
/// `BPF_JMP | BPF_JEQ | BPF_K`: compares A with k.
const JEQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
const JGE: u16 = 0x35;
/// `BPF_RET | BPF_K`: keeps the first k bytes; with none, drops.
const RET: u16 = 0x06;
/// `BPF_MISC | BPF_TAX`: X = A.
const TAX: u16 = 0x07;

/// `SKF_AD_OFF`, include/uapi/linux/filter.h: loads from here on are not from the message.
const SKF_AD_OFF: i32 = -0x1000;
/// `SKF_AD_NLATTR`: A = where the attribute of kind X is, searched from A on; 0 if nowhere.
const FIND: u32 = (SKF_AD_OFF + 12).cast_unsigned();
/// `SKF_AD_NLATTR_NEST`: likewise, inside of the attribute at A.
const FIND_INSIDE: u32 = (SKF_AD_OFF + 16).cast_unsigned();

const DROP: u32 = 0;
const PASS: u32 = u32::MAX;

/// `nlmsg_type` of NEW and UPDATE.
const CHANGE: u16 = (NFNL_SUBSYS_CTNETLINK as u16) << 8 | IPCTNL_MSG_CT_NEW as u16;
/// Where `nlmsg_type` and `nlmsg_pid` stand in `struct nlmsghdr`.
const TYPE_OFFSET: u32 = 4;
const PORT_ID_OFFSET: u32 = 12;
const ATTRS_OFFSET: u32 = (HEADER_LEN + NFGENMSG_LEN) as u32;
const ATTR_HEADER_LEN: u32 = 4;

/// What a comparison that fails goes to is filled in when the length is known.
const TO_PASS: u8 = u8::MAX;

/// A program that drops a message if all of this holds:
///
/// - it tells that a flow began or changed (`IPCTNL_MSG_CT_NEW`): ends and expectations pass;
/// - a packet caused it, not a write (`nlmsg_pid` is 0): what a commit writes is heard of again;
/// - the protocol of its original tuple is there, is one byte, and is none of `protocols`.
///
/// `None` if there are more than [`PROTOCOLS_MAX`].
#[must_use]
pub fn program(protocols: &[u8]) -> Option<Vec<Instruction>> {
    if protocols.len() > PROTOCOLS_MAX {
        return None;
    }
    // A load beyond the end of a message would drop it.
    let mut program = vec![load(LD_LEN, 0), go_on_if(JGE, ATTRS_OFFSET)];
    program.extend([
        load(LD_HALF, TYPE_OFFSET),
        go_on_if(JEQ, as_loaded(CHANGE)),
        load(LD_WORD, PORT_ID_OFFSET),
        go_on_if(JEQ, 0),
        load(LD_IMM, ATTRS_OFFSET),
    ]);
    let path = [
        (CTA_TUPLE_ORIG, FIND),
        (CTA_TUPLE_PROTO, FIND_INSIDE),
        (CTA_PROTO_NUM, FIND_INSIDE),
    ];
    for (kind, find) in path {
        program.extend([
            load(LDX_IMM, u32::from(kind)),
            load(LD_WORD, find),
            // Found: anywhere but at 0.
            go_on_if(JGE, ATTRS_OFFSET),
        ]);
    }
    program.extend([
        load(TAX, 0),
        load(LD_HALF_AT, 0),
        go_on_if(JEQ, as_loaded(ATTR_HEADER_LEN as u16 + 1)),
        load(LD_BYTE_AT, ATTR_HEADER_LEN),
    ]);
    program.extend(protocols.iter().map(|&protocol| Instruction {
        jt: TO_PASS,
        jf: 0,
        ..load(JEQ, u32::from(protocol))
    }));
    program.extend([load(RET, DROP), load(RET, PASS)]);
    let pass = program.len() - 1;
    for (place, instruction) in program.iter_mut().enumerate() {
        for jump in [&mut instruction.jt, &mut instruction.jf] {
            if *jump == TO_PASS {
                *jump = u8::try_from(pass - place - 1).expect("the number of protocols is bounded");
            }
        }
    }
    Some(program)
}

fn load(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// The next instruction if A compares so with k; otherwise the message passes.
fn go_on_if(code: u16, k: u32) -> Instruction {
    Instruction {
        jf: TO_PASS,
        ..load(code, k)
    }
}

/// What a load yields for a number in host order: loads take network order.
fn as_loaded(number: u16) -> u32 {
    u32::from(u16::from_be_bytes(number.to_ne_bytes()))
}

#[cfg(test)]
mod tests;
