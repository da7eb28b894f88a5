//! A run of bytes as steps: a byte that says what to do, two for a length, and so many to do it with.

/// Most steps of a run; what follows is not looked at.
const STEPS_MAX: usize = 64;

/// The steps of a run of bytes.
pub(crate) struct Steps<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            left: STEPS_MAX,
        }
    }
}

impl<'a> Iterator for Steps<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, high, low], rest) = self.rest.split_first_chunk()?;
        self.left = self.left.checked_sub(1)?;
        let bytes = usize::from(u16::from_be_bytes([high, low]));
        let (argument, rest) = rest.split_at(bytes.min(rest.len()));
        self.rest = rest;
        Some((kind, argument))
    }
}

/// Appends a step.
pub(crate) fn push(out: &mut Vec<u8>, kind: u8, argument: &[u8]) {
    let bytes = u16::try_from(argument.len()).expect("a datagram is shorter");
    out.push(kind);
    out.extend_from_slice(&bytes.to_be_bytes());
    out.extend_from_slice(argument);
}

/// A number from the first two bytes.
pub(crate) fn number(argument: &[u8]) -> (usize, &[u8]) {
    match argument.split_first_chunk() {
        Some((&bytes, rest)) => (usize::from(u16::from_be_bytes(bytes)), rest),
        None => (0, &[]),
    }
}

/// Changes a datagram: three bytes for each change are a place and what is xored there, beyond the
/// end appended; one or two that remain cut bytes off.
pub(crate) fn patch(datagram: &mut Vec<u8>, patches: &[u8]) {
    let mut chunks = patches.chunks_exact(3);
    for chunk in &mut chunks {
        let (at, xor) = (usize::from(chunk[0]) << 8 | usize::from(chunk[1]), chunk[2]);
        match datagram.get_mut(at) {
            Some(byte) => *byte ^= xor,
            None => datagram.push(xor),
        }
    }
    if let Some(&cut) = chunks.remainder().first() {
        datagram.truncate(datagram.len().saturating_sub(usize::from(cut)));
    }
}
