//! Netlink attributes: reading them in place, and writing them into a caller's buffer.
//!
//! ```text
//!  0       2       4
//! +-------+-------+---------------+- - -
//! | len   | kind  | payload       | padding to a multiple of four
//! +-------+-------+---------------+- - -
//! ```
//!
//! `len` counts the header and not the padding, both in host order. The top bits of `kind` are
//! NLA_F_NESTED and NLA_F_NET_BYTEORDER. Payloads of ctnetlink are in network order.

use super::cta::{
    NFNETLINK_V0, NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_CTNETLINK_EXP, NLA_F_NESTED, NLA_TYPE_MASK,
};
use super::message::{DecodeError, HEADER_LEN};

const ATTR_HEADER_LEN: usize = 4;

/// One attribute, in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr<'a> {
    /// The kind without its flags.
    pub kind: u16,
    /// NLA_F_NESTED is set. The kernel does not set it everywhere, so this is no condition.
    pub nested: bool,
    /// The payload without padding.
    pub payload: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The attributes inside.
    #[must_use]
    pub fn nest(&self) -> Attrs<'a> {
        Attrs::new(self.payload)
    }

    /// The payload as an array of exactly its size.
    ///
    /// # Errors
    ///
    /// `ValueLength` if it has another size.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        self.payload
            .try_into()
            .map_err(|_| DecodeError::ValueLength)
    }

    /// The payload as a string, without the closing zero.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.payload.strip_suffix(&[0]).unwrap_or(self.payload)
    }

    /// The payload as a byte.
    ///
    /// # Errors
    ///
    /// `ValueLength` if it has another size.
    pub fn u8(&self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    /// The payload as a 16-bit number in network order.
    ///
    /// # Errors
    ///
    /// `ValueLength` if it has another size.
    pub fn be16(&self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// The payload as a 32-bit number in network order.
    ///
    /// # Errors
    ///
    /// `ValueLength` if it has another size.
    pub fn be32(&self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }
}

/// Walks attributes that stand side by side; ends after the first error.
#[derive(Clone, Debug)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// The attributes in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    fn split(&mut self) -> Result<Attr<'a>, DecodeError> {
        let Some(&[l0, l1, k0, k1]) = self.rest.first_chunk() else {
            return Err(DecodeError::Truncated);
        };
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([k0, k1]);
        if len < ATTR_HEADER_LEN || len > self.rest.len() {
            return Err(DecodeError::AttributeLength);
        }
        let payload = &self.rest[ATTR_HEADER_LEN..len];
        // The last attribute may come without its padding.
        self.rest = &self.rest[len.next_multiple_of(4).min(self.rest.len())..];
        Ok(Attr {
            kind: kind & NLA_TYPE_MASK,
            nested: kind & NLA_F_NESTED != 0,
            payload,
        })
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, DecodeError>;

    // Some thirty calls an event; not inlined, the result goes through memory each time (measured:
    // a quarter of the decoder).
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let attr = self.split();
        if attr.is_err() {
            self.rest = &[];
        }
        Some(attr)
    }
}

/// Appends one message to a buffer. Lengths are filled in when a nest or the message ends.
///
/// Messages stand back to back without gaps, as a batch needs it: everything is padded to four.
#[derive(Debug)]
pub struct Builder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Builder<'a> {
    /// Starts a message of conntrack: `action` is `IPCTNL_MSG_CT_*`, `family` goes into nfgenmsg.
    pub fn new(out: &'a mut Vec<u8>, action: u8, flags: u16, seq: u32, family: u8) -> Self {
        let kind = u16::from_be_bytes([NFNL_SUBSYS_CTNETLINK, action]);
        Self::of_kind(out, kind, flags, seq, family)
    }

    /// Starts a message about expectations: `action` is `IPCTNL_MSG_EXP_*`.
    pub fn expectation(out: &'a mut Vec<u8>, action: u8, flags: u16, seq: u32, family: u8) -> Self {
        let kind = u16::from_be_bytes([NFNL_SUBSYS_CTNETLINK_EXP, action]);
        Self::of_kind(out, kind, flags, seq, family)
    }

    fn of_kind(out: &'a mut Vec<u8>, kind: u16, flags: u16, seq: u32, family: u8) -> Self {
        let start = out.len();
        debug_assert_eq!(
            start % 4,
            0,
            "messages of a batch stand at multiples of four"
        );
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&seq.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
        debug_assert_eq!(out.len() - start, HEADER_LEN);
        out.extend_from_slice(&[family, NFNETLINK_V0, 0, 0]);
        Self { out, start }
    }

    /// Ends the message.
    pub fn finish(self) {
        let len = u32::try_from(self.out.len() - self.start).expect("a message of some 600 bytes");
        self.out[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Adds an attribute that holds what `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NLA_F_NESTED);
        fill(self);
        self.close(start);
    }

    /// Adds an attribute with this payload; no value of ctnetlink passes some dozen bytes.
    pub fn bytes(&mut self, kind: u16, payload: &[u8]) {
        let start = self.open(kind);
        self.out.extend_from_slice(payload);
        self.close(start);
    }

    /// Adds a string with the closing zero that the kernel wants.
    pub fn string(&mut self, kind: u16, text: &str) {
        let start = self.open(kind);
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(0);
        self.close(start);
    }

    /// Adds a byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.scalar(kind, 1, [value, 0, 0, 0]);
    }

    /// Adds a 16-bit number in network order.
    pub fn be16(&mut self, kind: u16, value: u16) {
        let [high, low] = value.to_be_bytes();
        self.scalar(kind, 2, [high, low, 0, 0]);
    }

    /// Adds a 32-bit number in network order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.scalar(kind, 4, value.to_be_bytes());
    }

    /// Adds a payload of `len` bytes, padded already: eight bytes in one go, as most attributes
    /// are of this kind.
    fn scalar(&mut self, kind: u16, len: u16, [a, b, c, d]: [u8; 4]) {
        let [l0, l1] = (4 + len).to_ne_bytes();
        let [k0, k1] = kind.to_ne_bytes();
        self.out.extend_from_slice(&[l0, l1, k0, k1, a, b, c, d]);
    }

    /// Fills in the length of the attribute at `start`, and pads.
    fn close(&mut self, start: usize) {
        let len = self.out.len() - start;
        let nla_len = u16::try_from(len).expect("attributes of at most some 100 bytes");
        self.out[start..start + 2].copy_from_slice(&nla_len.to_ne_bytes());
        self.out
            .extend_from_slice(&[0; 3][..len.next_multiple_of(4) - len]);
    }

    /// Starts an attribute; its length comes with [`Builder::close`].
    fn open(&mut self, kind: u16) -> usize {
        let start = self.out.len();
        let [k0, k1] = kind.to_ne_bytes();
        self.out.extend_from_slice(&[0, 0, k0, k1]);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built_is_walked_in_order_with_its_nests() {
        let mut out = Vec::new();
        let mut builder = Builder::new(&mut out, 0, 0, 9, 2);
        builder.nest(1, |inner| {
            inner.u8(5, 7);
            inner.be16(6, 0x0102);
        });
        builder.be32(3, 0x0102_0304);
        builder.bytes(9, b"ftp\0");
        builder.finish();
        assert_eq!(out.len() % 4, 0);
        let attrs: Vec<Attr<'_>> = Attrs::new(&out[20..])
            .collect::<Result<_, _>>()
            .expect("well formed");
        assert_eq!((attrs[0].kind, attrs[0].nested), (1, true));
        assert_eq!((attrs[1].kind, attrs[1].nested), (3, false));
        assert_eq!(attrs[1].be32(), Ok(0x0102_0304));
        assert_eq!(attrs[1].be16(), Err(DecodeError::ValueLength));
        assert_eq!(attrs[2].payload, b"ftp\0");
        let inner: Vec<Attr<'_>> = attrs[0]
            .nest()
            .collect::<Result<_, _>>()
            .expect("well formed");
        assert_eq!(inner[0].u8(), Ok(7));
        assert_eq!(inner[1].be16(), Ok(0x0102));
    }

    #[test]
    fn a_length_outside_of_its_surroundings_ends_the_walk() {
        let mut walk = Attrs::new(&[8, 0, 3, 0, 0, 0, 0]);
        assert_eq!(walk.next(), Some(Err(DecodeError::AttributeLength)));
        assert_eq!(walk.next(), None);
        assert_eq!(
            Attrs::new(&[3, 0, 3, 0]).next(),
            Some(Err(DecodeError::AttributeLength))
        );
        assert_eq!(
            Attrs::new(&[4, 0, 3]).next(),
            Some(Err(DecodeError::Truncated))
        );
    }

    #[test]
    fn the_last_attribute_may_lack_its_padding() {
        let mut walk = Attrs::new(&[5, 0, 3, 0x80, 42]);
        let attr = walk.next().expect("one attribute").expect("well formed");
        assert_eq!((attr.kind, attr.nested, attr.u8()), (3, true, Ok(42)));
        assert_eq!(walk.next(), None);
    }
}
