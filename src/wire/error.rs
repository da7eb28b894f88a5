//! What can be wrong with bytes that a peer, or a stranger, sent.

/// Why a datagram, a record or a frame was refused. Counted by [`WireError::reason`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WireError {
    /// Shorter than its header.
    Short,
    /// Longer than [`super::DATAGRAM_BYTES_MAX`].
    Long,
    /// Not ours: the magic differs.
    Magic,
    /// Another version of the header.
    Version,
    /// A datagram kind that this version does not know.
    Kind,
    /// A session where none can be, or none where one must be.
    Session,
    /// A packet number that cannot be, or a floor above it.
    Number,
    /// An envelope that promises more bytes than there are.
    Envelope,
    /// A body that ends within a field.
    Truncated,
    /// A body with bytes after its last field, or records after a marker.
    Trailing,
    /// A body that is not in the form of its kind.
    Malformed,
    /// An address family that is neither IPv4 nor IPv6.
    Family,
    /// A protocol state, role or window scale that does not exist.
    ProtoInfo,
    /// A zone direction, helper name or presence bit that does not exist.
    Attribute,
    /// A node name that is empty, too long or of other characters.
    Name,
    /// A window of zero or above [`super::WINDOW_MAX`], a bitmap above it, or an empty range of
    /// versions.
    Range,
}

impl WireError {
    /// Every reason, for the registration of counters.
    pub const ALL: [Self; 16] = [
        Self::Short,
        Self::Long,
        Self::Magic,
        Self::Version,
        Self::Kind,
        Self::Session,
        Self::Number,
        Self::Envelope,
        Self::Truncated,
        Self::Trailing,
        Self::Malformed,
        Self::Family,
        Self::ProtoInfo,
        Self::Attribute,
        Self::Name,
        Self::Range,
    ];

    /// The value of the counter's `reason`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Magic => "magic",
            Self::Version => "version",
            Self::Kind => "kind",
            Self::Session => "session",
            Self::Number => "number",
            Self::Envelope => "envelope",
            Self::Truncated => "truncated",
            Self::Trailing => "trailing",
            Self::Malformed => "malformed",
            Self::Family => "family",
            Self::ProtoInfo => "protoinfo",
            Self::Attribute => "attribute",
            Self::Name => "name",
            Self::Range => "range",
        }
    }
}
