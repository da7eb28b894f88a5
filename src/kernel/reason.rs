//! The kernel's own words on a refusal, which NETLINK_EXT_ACK appends to an error message.
//! include/uapi/linux/netlink.h, `enum nlmsgerr_attrs`.

use crate::ctnetlink::Message;
use crate::ctnetlink::message::HEADER_LEN;

/// The request is not echoed beyond its header.
const NLM_F_CAPPED: u16 = 0x100;
/// Attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// A zero-ended text.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// `struct nlmsgerr` begins with the error code.
const CODE_LEN: usize = 4;

/// The text of an NLMSG_ERROR, if it has one.
pub(super) fn reason<'a>(error: &Message<'a>) -> Option<&'a [u8]> {
    if error.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let payload = error.payload();
    let echoed = if error.flags & NLM_F_CAPPED != 0 {
        HEADER_LEN
    } else {
        let (length, _) = payload.get(CODE_LEN..)?.split_first_chunk()?;
        (u32::from_ne_bytes(*length) as usize).max(HEADER_LEN)
    };
    let start = CODE_LEN.checked_add(echoed)?.checked_next_multiple_of(4)?;
    let mut attributes = payload.get(start..)?;
    loop {
        let &[l0, l1, k0, k1] = attributes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == NLMSGERR_ATTR_MSG {
            return Some(value.strip_suffix(&[0]).unwrap_or(value));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctnetlink::cta;

    /// An NLMSG_ERROR with flags, followed in its payload by `rest`.
    fn error(flags: u16, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_LEN + CODE_LEN + HEADER_LEN + rest.len());
        let mut bytes = length.expect("short").to_ne_bytes().to_vec();
        bytes.extend_from_slice(&cta::NLMSG_ERROR.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&(-22_i32).to_ne_bytes());
        bytes.extend_from_slice(&24_u32.to_ne_bytes());
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(rest);
        bytes
    }

    fn text(bytes: &[u8]) -> Option<&[u8]> {
        reason(&Message::parse(bytes).expect("a whole message"))
    }

    /// NLMSGERR_ATTR_OFFS (2) of four bytes, then NLMSGERR_ATTR_MSG "no".
    const ATTRIBUTES: [u8; 15] = [8, 0, 2, 0, 1, 2, 3, 4, 7, 0, 1, 0, b'n', b'o', 0];

    #[test]
    fn text_is_found_behind_a_capped_request() {
        let bytes = error(NLM_F_CAPPED | NLM_F_ACK_TLVS, &ATTRIBUTES);

        assert_eq!(text(&bytes), Some(&b"no"[..]));
    }

    #[test]
    fn text_is_found_behind_an_echoed_request() {
        let bytes = error(NLM_F_ACK_TLVS, &[&[0; 8], &ATTRIBUTES[..]].concat());

        assert_eq!(text(&bytes), Some(&b"no"[..]));
    }

    #[test]
    fn cut_or_absent_attributes_are_no_text() {
        let flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
        for end in 0..ATTRIBUTES.len() {
            assert_eq!(text(&error(flags, &ATTRIBUTES[..end])), None, "{end} bytes");
        }
        assert_eq!(text(&error(NLM_F_CAPPED, &ATTRIBUTES)), None);
        // A length of zero must not loop.
        assert_eq!(text(&error(flags, &[0; 8])), None);
    }
}
