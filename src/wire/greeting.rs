//! The frames by which nodes find each other and agree on a session. `docs/protocol.md` sections 2
//! and 13.

use super::codec::{Body, Decode, Encode, put};
use super::control::{GREETING_V1, HELLO_V1};
use super::envelope::wrap;
use super::{Identity, WINDOW_MAX, WireError};

/// "I am here": sent every second on every link, believed by nobody, answered with a greeting.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hello {
    /// Lowest protocol version the sender speaks.
    pub version_min: u8,
    /// Highest protocol version it speaks; not below `version_min`.
    pub version_max: u8,
    /// Optional abilities, one bit each; none is defined yet.
    pub features: u32,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct HelloV1 {
    version_min: u8,
    version_max: u8,
    features: u32,
}

impl Hello {
    /// Appends a HELLO_V1 frame.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wrap(out, HELLO_V1, |out| {
            let rest = HelloV1 {
                version_min: self.version_min,
                version_max: self.version_max,
                features: self.features,
            };
            put(out, &rest);
        });
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::new(bytes);
        let rest: HelloV1 = body.take()?;
        body.finish()?;
        check_versions(rest.version_min, rest.version_max)?;
        Ok(Self {
            version_min: rest.version_min,
            version_max: rest.version_max,
            features: rest.features,
        })
    }
}

/// Asks for a session, and with an `echo` agrees to one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Greeting {
    /// Whom it is for.
    pub to: Identity,
    /// To be echoed by whoever wants to be believed.
    pub challenge: u64,
    /// The challenge that was just received from the addressee, if one was.
    pub echo: Option<u64>,
    /// The session number by which the sender of this greeting wants to be addressed; not 0.
    pub session: u64,
    /// Flows of the addressee that the sender holds in its replica.
    pub have: u64,
    /// Most data packet numbers that the sender of this greeting wants under way towards it; 1 to
    /// [`WINDOW_MAX`].
    pub window: u32,
    /// Flows in the sender's own table.
    pub flows: u64,
    /// Key of the sender's key and value hashes, fixed for its epoch.
    pub hash_key: [u64; 2],
    /// Lowest protocol version the sender speaks.
    pub version_min: u8,
    /// Highest protocol version the sender speaks; not below `version_min`.
    pub version_max: u8,
    /// Optional abilities, one bit each; none is defined yet.
    pub features: u32,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct GreetingV1 {
    challenge: [u8; 8],
    echo: Option<[u8; 8]>,
    session: [u8; 8],
    have: u64,
    window: u32,
    flows: u64,
    hash_key_0: [u8; 8],
    hash_key_1: [u8; 8],
    version_min: u8,
    version_max: u8,
    features: u32,
}

impl Greeting {
    /// Appends a GREETING_V1 frame.
    pub fn emit(&self, out: &mut Vec<u8>) {
        debug_assert!(self.session != 0 && (1..=WINDOW_MAX).contains(&self.window));
        wrap(out, GREETING_V1, |out| {
            self.to.emit(out);
            let rest = GreetingV1 {
                challenge: self.challenge.to_be_bytes(),
                echo: self.echo.map(u64::to_be_bytes),
                session: self.session.to_be_bytes(),
                have: self.have,
                window: self.window,
                flows: self.flows,
                hash_key_0: self.hash_key[0].to_be_bytes(),
                hash_key_1: self.hash_key[1].to_be_bytes(),
                version_min: self.version_min,
                version_max: self.version_max,
                features: self.features,
            };
            put(out, &rest);
        });
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::new(bytes);
        let to = Identity::take(&mut body)?;
        let rest: GreetingV1 = body.take()?;
        body.finish()?;
        check_versions(rest.version_min, rest.version_max)?;
        let session = u64::from_be_bytes(rest.session);
        if session == 0 {
            return Err(WireError::Session);
        }
        if !(1..=WINDOW_MAX).contains(&rest.window) {
            return Err(WireError::Range);
        }
        Ok(Self {
            to,
            challenge: u64::from_be_bytes(rest.challenge),
            echo: rest.echo.map(u64::from_be_bytes),
            session,
            have: rest.have,
            window: rest.window,
            flows: rest.flows,
            hash_key: [
                u64::from_be_bytes(rest.hash_key_0),
                u64::from_be_bytes(rest.hash_key_1),
            ],
            version_min: rest.version_min,
            version_max: rest.version_max,
            features: rest.features,
        })
    }
}

fn check_versions(min: u8, max: u8) -> Result<(), WireError> {
    if min <= max {
        Ok(())
    } else {
        Err(WireError::Range)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::codec::assert_same_as_wincode;

    proptest! {
        #[test]
        fn wincode_gives_the_same_bytes(
            a: u64, b: u64, shift in 0..64, c: u32, e: u8, bytes: [u8; 8], there: bool,
        ) {
            assert_same_as_wincode!(HelloV1, HelloV1 {
                version_min: e,
                version_max: e,
                features: c,
            });
            assert_same_as_wincode!(GreetingV1, GreetingV1 {
                challenge: bytes,
                echo: there.then_some(bytes),
                session: bytes,
                have: a >> shift,
                window: c,
                flows: b >> shift,
                hash_key_0: bytes,
                hash_key_1: bytes,
                version_min: e,
                version_max: e,
                features: c >> (shift / 2),
            });
        }
    }
}
