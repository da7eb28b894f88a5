//! One line per flow, in the words of `conntrack -L`.
