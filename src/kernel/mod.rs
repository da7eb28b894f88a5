//! Netlink sockets: the event reader, the dumper and the writer.
