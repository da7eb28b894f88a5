//! The numbers of ctnetlink, each group with the header of the kernel that defines it.

/// `NLM_F_REQUEST`, include/uapi/linux/netlink.h.
pub const NLM_F_REQUEST: u16 = 0x0001;
/// `NLM_F_MULTI`: one of several messages, ended by NLMSG_DONE.
pub const NLM_F_MULTI: u16 = 0x0002;
/// `NLM_F_ACK`: answer with NLMSG_ERROR also on success.
pub const NLM_F_ACK: u16 = 0x0004;
/// `NLM_F_DUMP_INTR`: the dump may be inconsistent.
pub const NLM_F_DUMP_INTR: u16 = 0x0010;
/// `NLM_F_DUMP_FILTERED`: the kernel understood the filter of the dump.
pub const NLM_F_DUMP_FILTERED: u16 = 0x0020;
/// `NLM_F_DUMP`: list the table.
pub const NLM_F_DUMP: u16 = 0x0300;
/// `NLM_F_EXCL`: refuse if it is there.
pub const NLM_F_EXCL: u16 = 0x0200;
/// `NLM_F_CREATE`: make it if it is not there; in an event: it was made.
pub const NLM_F_CREATE: u16 = 0x0400;

/// `NLMSG_NOOP`, include/uapi/linux/netlink.h.
pub const NLMSG_NOOP: u16 = 1;
/// `NLMSG_ERROR`: a refusal, or with error 0 an acknowledgement.
pub const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const NLMSG_DONE: u16 = 3;
/// `NLMSG_OVERRUN`: data was lost.
pub const NLMSG_OVERRUN: u16 = 4;

/// `NLA_F_NESTED`, include/uapi/linux/netlink.h.
pub const NLA_F_NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: the kind without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
pub const NLA_TYPE_MASK: u16 = 0x3fff;

/// `NFNL_SUBSYS_CTNETLINK`, include/uapi/linux/netfilter/nfnetlink.h.
pub const NFNL_SUBSYS_CTNETLINK: u8 = 1;
/// `NFNL_SUBSYS_CTNETLINK_EXP`.
pub const NFNL_SUBSYS_CTNETLINK_EXP: u8 = 2;
/// `NFNETLINK_V0`.
pub const NFNETLINK_V0: u8 = 0;

// enum cntl_msg_types, include/uapi/linux/netfilter/nfnetlink_conntrack.h.
/// `IPCTNL_MSG_CT_NEW`: create or update; also every entry that is listed.
pub const IPCTNL_MSG_CT_NEW: u8 = 0;
/// `IPCTNL_MSG_CT_GET`.
pub const IPCTNL_MSG_CT_GET: u8 = 1;
/// `IPCTNL_MSG_CT_DELETE`: without a tuple a **flush**.
pub const IPCTNL_MSG_CT_DELETE: u8 = 2;

// enum ctnl_exp_msg_types, nfnetlink_conntrack.h.
/// `IPCTNL_MSG_EXP_NEW`: create or update; also every expectation that is listed.
pub const IPCTNL_MSG_EXP_NEW: u8 = 0;
/// `IPCTNL_MSG_EXP_GET`.
pub const IPCTNL_MSG_EXP_GET: u8 = 1;
/// `IPCTNL_MSG_EXP_DELETE`: without a tuple a **flush**.
pub const IPCTNL_MSG_EXP_DELETE: u8 = 2;

// enum ctattr_type, nfnetlink_conntrack.h.
/// `CTA_TUPLE_ORIG`, nest.
pub const CTA_TUPLE_ORIG: u16 = 1;
/// `CTA_TUPLE_REPLY`, nest.
pub const CTA_TUPLE_REPLY: u16 = 2;
/// `CTA_STATUS`, be32.
pub const CTA_STATUS: u16 = 3;
/// `CTA_PROTOINFO`, nest.
pub const CTA_PROTOINFO: u16 = 4;
/// `CTA_HELP`, nest.
pub const CTA_HELP: u16 = 5;
/// `CTA_NAT_SRC`, nest; in requests only.
pub const CTA_NAT_SRC: u16 = 6;
/// `CTA_TIMEOUT`, be32, seconds.
pub const CTA_TIMEOUT: u16 = 7;
/// `CTA_MARK`, be32.
pub const CTA_MARK: u16 = 8;
/// `CTA_COUNTERS_ORIG`, nest; cannot be restored.
pub const CTA_COUNTERS_ORIG: u16 = 9;
/// `CTA_COUNTERS_REPLY`, nest; cannot be restored.
pub const CTA_COUNTERS_REPLY: u16 = 10;
/// `CTA_USE`, be32.
pub const CTA_USE: u16 = 11;
/// `CTA_ID`, be32.
pub const CTA_ID: u16 = 12;
/// `CTA_NAT_DST`, nest; in requests only.
pub const CTA_NAT_DST: u16 = 13;
/// `CTA_TUPLE_MASTER`, nest.
pub const CTA_TUPLE_MASTER: u16 = 14;
/// `CTA_SEQ_ADJ_ORIG`, nest.
pub const CTA_SEQ_ADJ_ORIG: u16 = 15;
/// `CTA_SEQ_ADJ_REPLY`, nest.
pub const CTA_SEQ_ADJ_REPLY: u16 = 16;
/// `CTA_SECMARK`, be32; obsolete, cannot be restored.
pub const CTA_SECMARK: u16 = 17;
/// `CTA_ZONE`, be16.
pub const CTA_ZONE: u16 = 18;
/// `CTA_SECCTX`, nest; cannot be restored.
pub const CTA_SECCTX: u16 = 19;
/// `CTA_TIMESTAMP`, nest; cannot be restored.
pub const CTA_TIMESTAMP: u16 = 20;
/// `CTA_MARK_MASK`, be32; in requests only.
pub const CTA_MARK_MASK: u16 = 21;
/// `CTA_LABELS`, up to 128 bits.
pub const CTA_LABELS: u16 = 22;
/// `CTA_LABELS_MASK`, up to 128 bits; in requests only.
pub const CTA_LABELS_MASK: u16 = 23;
/// `CTA_SYNPROXY`, nest.
pub const CTA_SYNPROXY: u16 = 24;
/// `CTA_FILTER`, nest; in requests only, and turns a delete into a flush: never sent.
pub const CTA_FILTER: u16 = 25;
/// `CTA_STATUS_MASK`, be32; in requests only.
pub const CTA_STATUS_MASK: u16 = 26;
/// `CTA_TIMESTAMP_EVENT`, be64, nanoseconds; in events of Linux 6.14 and later.
pub const CTA_TIMESTAMP_EVENT: u16 = 27;

// enum ctattr_tuple, nfnetlink_conntrack.h.
/// `CTA_TUPLE_IP`, nest.
pub const CTA_TUPLE_IP: u16 = 1;
/// `CTA_TUPLE_PROTO`, nest.
pub const CTA_TUPLE_PROTO: u16 = 2;
/// `CTA_TUPLE_ZONE`, be16: a zone of this direction only.
pub const CTA_TUPLE_ZONE: u16 = 3;

// enum ctattr_ip, nfnetlink_conntrack.h.
/// `CTA_IP_V4_SRC`, 4 bytes.
pub const CTA_IP_V4_SRC: u16 = 1;
/// `CTA_IP_V4_DST`, 4 bytes.
pub const CTA_IP_V4_DST: u16 = 2;
/// `CTA_IP_V6_SRC`, 16 bytes.
pub const CTA_IP_V6_SRC: u16 = 3;
/// `CTA_IP_V6_DST`, 16 bytes.
pub const CTA_IP_V6_DST: u16 = 4;

// enum ctattr_l4proto, nfnetlink_conntrack.h.
/// `CTA_PROTO_NUM`, u8.
pub const CTA_PROTO_NUM: u16 = 1;
/// `CTA_PROTO_SRC_PORT`, be16; GRE keys travel here too.
pub const CTA_PROTO_SRC_PORT: u16 = 2;
/// `CTA_PROTO_DST_PORT`, be16; GRE keys travel here too.
pub const CTA_PROTO_DST_PORT: u16 = 3;
/// `CTA_PROTO_ICMP_ID`, be16.
pub const CTA_PROTO_ICMP_ID: u16 = 4;
/// `CTA_PROTO_ICMP_TYPE`, u8.
pub const CTA_PROTO_ICMP_TYPE: u16 = 5;
/// `CTA_PROTO_ICMP_CODE`, u8.
pub const CTA_PROTO_ICMP_CODE: u16 = 6;
/// `CTA_PROTO_ICMPV6_ID`, be16.
pub const CTA_PROTO_ICMPV6_ID: u16 = 7;
/// `CTA_PROTO_ICMPV6_TYPE`, u8.
pub const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
/// `CTA_PROTO_ICMPV6_CODE`, u8.
pub const CTA_PROTO_ICMPV6_CODE: u16 = 9;

// enum ctattr_protoinfo, nfnetlink_conntrack.h.
/// `CTA_PROTOINFO_TCP`, nest.
pub const CTA_PROTOINFO_TCP: u16 = 1;
/// `CTA_PROTOINFO_DCCP`, nest.
pub const CTA_PROTOINFO_DCCP: u16 = 2;
/// `CTA_PROTOINFO_SCTP`, nest.
pub const CTA_PROTOINFO_SCTP: u16 = 3;

// enum ctattr_protoinfo_tcp, nfnetlink_conntrack.h.
/// `CTA_PROTOINFO_TCP_STATE`, u8.
pub const CTA_PROTOINFO_TCP_STATE: u16 = 1;
/// `CTA_PROTOINFO_TCP_WSCALE_ORIGINAL`, u8.
pub const CTA_PROTOINFO_TCP_WSCALE_ORIGINAL: u16 = 2;
/// `CTA_PROTOINFO_TCP_WSCALE_REPLY`, u8.
pub const CTA_PROTOINFO_TCP_WSCALE_REPLY: u16 = 3;
/// `CTA_PROTOINFO_TCP_FLAGS_ORIGINAL`, value and mask, u8 each.
pub const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
/// `CTA_PROTOINFO_TCP_FLAGS_REPLY`, value and mask, u8 each.
pub const CTA_PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;

// enum ctattr_protoinfo_dccp, nfnetlink_conntrack.h.
/// `CTA_PROTOINFO_DCCP_STATE`, u8.
pub const CTA_PROTOINFO_DCCP_STATE: u16 = 1;
/// `CTA_PROTOINFO_DCCP_ROLE`, u8.
pub const CTA_PROTOINFO_DCCP_ROLE: u16 = 2;
/// `CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ`, be64.
pub const CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ: u16 = 3;

// enum ctattr_protoinfo_sctp, nfnetlink_conntrack.h.
/// `CTA_PROTOINFO_SCTP_STATE`, u8.
pub const CTA_PROTOINFO_SCTP_STATE: u16 = 1;
/// `CTA_PROTOINFO_SCTP_VTAG_ORIGINAL`, be32.
pub const CTA_PROTOINFO_SCTP_VTAG_ORIGINAL: u16 = 2;
/// `CTA_PROTOINFO_SCTP_VTAG_REPLY`, be32.
pub const CTA_PROTOINFO_SCTP_VTAG_REPLY: u16 = 3;

// enum ctattr_help, nfnetlink_conntrack.h.
/// `CTA_HELP_NAME`, zero-terminated string.
pub const CTA_HELP_NAME: u16 = 1;

// enum ctattr_nat, nfnetlink_conntrack.h.
/// `CTA_NAT_V4_MINIP`, 4 bytes; alone it means exactly this address.
pub const CTA_NAT_V4_MINIP: u16 = 1;
/// `CTA_NAT_PROTO`, nest.
pub const CTA_NAT_PROTO: u16 = 3;
/// `CTA_NAT_V6_MINIP`, 16 bytes.
pub const CTA_NAT_V6_MINIP: u16 = 4;

// enum ctattr_protonat, nfnetlink_conntrack.h.
/// `CTA_PROTONAT_PORT_MIN`, be16.
pub const CTA_PROTONAT_PORT_MIN: u16 = 1;
/// `CTA_PROTONAT_PORT_MAX`, be16.
pub const CTA_PROTONAT_PORT_MAX: u16 = 2;

// enum ctattr_seqadj, nfnetlink_conntrack.h.
/// `CTA_SEQADJ_CORRECTION_POS`, be32.
pub const CTA_SEQADJ_CORRECTION_POS: u16 = 1;
/// `CTA_SEQADJ_OFFSET_BEFORE`, be32.
pub const CTA_SEQADJ_OFFSET_BEFORE: u16 = 2;
/// `CTA_SEQADJ_OFFSET_AFTER`, be32.
pub const CTA_SEQADJ_OFFSET_AFTER: u16 = 3;

// enum ctattr_synproxy, nfnetlink_conntrack.h.
/// `CTA_SYNPROXY_ISN`, be32.
pub const CTA_SYNPROXY_ISN: u16 = 1;
/// `CTA_SYNPROXY_ITS`, be32.
pub const CTA_SYNPROXY_ITS: u16 = 2;
/// `CTA_SYNPROXY_TSOFF`, be32.
pub const CTA_SYNPROXY_TSOFF: u16 = 3;

// enum ctattr_expect, nfnetlink_conntrack.h.
/// `CTA_EXPECT_MASTER`, nest.
pub const CTA_EXPECT_MASTER: u16 = 1;
/// `CTA_EXPECT_TUPLE`, nest.
pub const CTA_EXPECT_TUPLE: u16 = 2;
/// `CTA_EXPECT_MASK`, nest; the kernel keeps the source only.
pub const CTA_EXPECT_MASK: u16 = 3;
/// `CTA_EXPECT_TIMEOUT`, be32, seconds; ignored at create.
pub const CTA_EXPECT_TIMEOUT: u16 = 4;
/// `CTA_EXPECT_ID`, be32.
pub const CTA_EXPECT_ID: u16 = 5;
/// `CTA_EXPECT_HELP_NAME`, zero-terminated string.
pub const CTA_EXPECT_HELP_NAME: u16 = 6;
/// `CTA_EXPECT_ZONE`, be16; in requests only.
pub const CTA_EXPECT_ZONE: u16 = 7;
/// `CTA_EXPECT_FLAGS`, be32.
pub const CTA_EXPECT_FLAGS: u16 = 8;
/// `CTA_EXPECT_CLASS`, be32.
pub const CTA_EXPECT_CLASS: u16 = 9;
/// `CTA_EXPECT_NAT`, nest.
pub const CTA_EXPECT_NAT: u16 = 10;
/// `CTA_EXPECT_FN`, zero-terminated string.
pub const CTA_EXPECT_FN: u16 = 11;

// enum ctattr_expect_nat, nfnetlink_conntrack.h.
/// `CTA_EXPECT_NAT_DIR`, be32.
pub const CTA_EXPECT_NAT_DIR: u16 = 1;
/// `CTA_EXPECT_NAT_TUPLE`, nest; its source is what counts.
pub const CTA_EXPECT_NAT_TUPLE: u16 = 2;

// Bits of CTA_PROTOINFO_TCP_FLAGS_*, include/uapi/linux/netfilter/nf_conntrack_tcp.h.
/// `IP_CT_TCP_FLAG_WINDOW_SCALE`: the direction offered window scaling.
pub const IP_CT_TCP_FLAG_WINDOW_SCALE: u8 = 0x01;
/// `IP_CT_TCP_FLAG_SACK_PERM`: the direction offered selective acknowledgements.
pub const IP_CT_TCP_FLAG_SACK_PERM: u8 = 0x02;
/// `IP_CT_TCP_FLAG_CLOSE_INIT`: the direction sent the first FIN.
pub const IP_CT_TCP_FLAG_CLOSE_INIT: u8 = 0x04;
/// `IP_CT_TCP_FLAG_BE_LIBERAL`: packets outside of the window pass.
pub const IP_CT_TCP_FLAG_BE_LIBERAL: u8 = 0x08;
/// `IP_CT_TCP_FLAG_MAXACK_SET`: a packet of the direction was judged to be in the window.
pub const IP_CT_TCP_FLAG_MAXACK_SET: u8 = 0x20;
