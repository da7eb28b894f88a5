//! Dumps and batches.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper};
use ctsyncd::ctnetlink::request::{Answer, KernelRequest, Outcome, RequestDone};
use ctsyncd::flow::proto::{TCP_ESTABLISHED, TcpInfo};
use ctsyncd::flow::tuple::TCP;
use ctsyncd::flow::{EventKind, Flow, FlowKey, ProtoInfo, Rare, Status, Tuple};
use ctsyncd::kernel::Requests;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use crate::namespace::{Namespace, as_root, block_on};

/// Longest wait for anything: the machine may be busy.
pub(crate) const WAIT: Duration = Duration::from_secs(20);

const EEXIST: i32 = 17;
const ENOENT: i32 = 2;

#[test]
fn answers_of_a_batch_are_told_by_sequence_number() {
    as_root("answers_of_a_batch_are_told_by_sequence_number", || {
        let namespace = Namespace::new();
        namespace.enter();
        let (mut writes, flow) = (Writes::new(100), flow_v4(1));
        writes.create(&flow); // 100: succeeds without a word
        writes.create(&flow); // 101
        writes.get(&flow); // 102
        writes.delete(&flow_v4(2)); // 103
        writes.create(&flow_v4(3)); // 104: acknowledged

        let (complete, answers) = block_on(async {
            let mut kernel = Kernel::new();
            kernel.carry_out(writes).await
        });

        assert!(complete);
        let seqs: Vec<u32> = answers.iter().map(|answer| answer.seq).collect();
        assert_eq!(seqs, [101, 102, 103]);
        assert_eq!(answers[0].outcome, Outcome::Refused(EEXIST));
        assert_eq!(answers[2].outcome, Outcome::Refused(ENOENT));
        let Outcome::Found(found) = &answers[1].outcome else {
            panic!("{answers:?}");
        };
        assert_eq!(
            (found.kind, found.flow.key()),
            (EventKind::Listed, flow.key())
        );
    });
}

#[test]
fn refusal_of_the_last_message_ends_the_batch() {
    as_root("refusal_of_the_last_message_ends_the_batch", || {
        let namespace = Namespace::new();
        namespace.enter();
        let mut writes = Writes::new(u32::MAX); // wraps
        writes.create(&flow_v4(1));
        writes.create(&flow_v4(1));

        let (complete, answers) = block_on(async {
            let mut kernel = Kernel::new();
            kernel.carry_out(writes).await
        });

        assert!(complete);
        assert_eq!(answers, [refused(0, EEXIST)]);
    });
}

#[test]
fn all_answers_to_a_large_batch_are_kept() {
    as_root("all_answers_to_a_large_batch_are_kept", || {
        let namespace = Namespace::new();
        namespace.enter();
        let (mut creates, mut gets) = (Writes::new(1), Writes::new(1_000));
        for number in 0..512 {
            creates.create(&flow_v4(number));
            gets.get(&flow_v4(number));
        }

        let (complete, answers) = block_on(async {
            let mut kernel = Kernel::new();
            kernel.carry_out(creates).await;
            kernel.carry_out(gets).await
        });

        assert!(complete);
        let found = |answer: &&Answer| matches!(answer.outcome, Outcome::Found(_));
        assert_eq!(answers.iter().filter(found).count(), 512);
    });
}

#[test]
fn batch_that_the_kernel_breaks_off_is_not_complete_and_the_next_one_is() {
    as_root("batch_that_the_kernel_breaks_off", || {
        let namespace = Namespace::new();
        namespace.enter();
        let mut broken = Writes::new(1);
        broken.create(&flow_v4(1));
        broken.create(&flow_v4(1));
        let start = broken.messages.len();
        broken.create(&flow_v4(2));
        broken.messages[start] = 3; // nlmsg_len, shorter than a header
        let mut next = Writes::new(10);
        next.create(&flow_v4(3));

        let (first, second) = block_on(async {
            let mut kernel = Kernel::new();
            (kernel.carry_out(broken).await, kernel.carry_out(next).await)
        });

        assert_eq!(first, (false, vec![refused(2, EEXIST)]));
        assert_eq!(second, (true, vec![]));
    });
}

#[test]
fn dump_lists_every_flow_of_both_families() {
    as_root("dump_lists_every_flow_of_both_families", || {
        let namespace = Namespace::new();
        namespace.enter();
        let flows: Vec<Flow> = (0..700).flat_map(|n| [flow_v4(n), flow_v6(n)]).collect();

        let (listed, again) = block_on(async {
            let mut kernel = Kernel::new();
            for (number, flows) in (0..).zip(flows.chunks(100)) {
                let mut writes = Writes::new(1_000 * number);
                for flow in flows {
                    writes.create(flow);
                }
                assert_eq!(kernel.carry_out(writes).await, (true, vec![]));
            }
            (kernel.dump().await, kernel.dump().await)
        });

        let expected: HashSet<FlowKey> = flows.iter().map(Flow::key).collect();
        for listed in [listed, again] {
            assert_eq!(listed.len(), flows.len());
            assert_eq!(listed.into_iter().collect::<HashSet<_>>(), expected);
        }
    });
}

#[test]
fn dump_of_an_empty_table_ends() {
    as_root("dump_of_an_empty_table_ends", || {
        let namespace = Namespace::new();
        namespace.enter();

        assert_eq!(block_on(async { Kernel::new().dump().await }), []);
    });
}

/// The threads, and the engine's end of the channel.
pub(crate) struct Kernel {
    pub(crate) requests: Requests,
    done: Receiver<RequestDone>,
}

impl Kernel {
    pub(crate) fn new() -> Self {
        let (to_engine, done) = channel(4);
        Self {
            requests: Requests::spawn(to_engine).expect("root may open netlink sockets"),
            done,
        }
    }

    async fn next(&mut self) -> RequestDone {
        timeout(WAIT, self.done.recv())
            .await
            .expect("the kernel answers")
            .expect("the threads run")
    }

    pub(crate) async fn carry_out(&mut self, writes: Writes) -> (bool, Vec<Answer>) {
        let (request, messages) = writes.finish();
        self.requests
            .submit(request, messages)
            .expect("there is room");
        match self.next().await {
            RequestDone::Batch {
                complete, answers, ..
            } => (complete, answers),
            other => panic!("{other:?}"),
        }
    }

    /// Keys of a complete dump.
    async fn dump(&mut self) -> Vec<FlowKey> {
        self.requests
            .submit(KernelRequest::Dump, Vec::new())
            .expect("there is room");
        let mut keys = Vec::new();
        loop {
            match self.next().await {
                RequestDone::Listed(events) => {
                    assert!(events.iter().all(|event| event.kind == EventKind::Listed));
                    keys.extend(events.iter().map(|event| event.flow.key()));
                }
                RequestDone::ListedExpectations(listed) => panic!("nothing expects: {listed:?}"),
                RequestDone::DumpEnded { complete } => {
                    assert!(complete);
                    return keys;
                }
                other @ RequestDone::Batch { .. } => panic!("{other:?}"),
            }
        }
    }
}

/// A batch in the making.
pub(crate) struct Writes {
    first_seq: u32,
    next_seq: u32,
    last_at: usize,
    pub(crate) messages: Vec<u8>,
}

impl Writes {
    pub(crate) fn new(first_seq: u32) -> Self {
        Self {
            first_seq,
            next_seq: first_seq,
            last_at: 0,
            messages: Vec::new(),
        }
    }

    fn begin(&mut self) -> u32 {
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        self.last_at = self.messages.len();
        seq
    }

    pub(crate) fn create(&mut self, flow: &Flow) {
        let how = Create {
            timeout_secs: 600,
            helper: Helper::Leave,
        };
        let seq = self.begin();
        let out = &mut self.messages;
        encode::create(out, seq, Ack::None, flow, &Rare::default(), how);
    }

    pub(crate) fn delete(&mut self, flow: &Flow) {
        let seq = self.begin();
        encode::delete(&mut self.messages, seq, Ack::None, flow, None);
    }

    fn get(&mut self, flow: &Flow) {
        let seq = self.begin();
        encode::get(&mut self.messages, seq, Ack::None, flow);
    }

    pub(crate) fn finish(mut self) -> (KernelRequest, Vec<u8>) {
        self.messages[self.last_at + 6] |= 4; // NLM_F_ACK
        let request = KernelRequest::Batch {
            first_seq: self.first_seq,
            last_seq: self.next_seq.wrapping_sub(1),
        };
        (request, self.messages)
    }
}

fn refused(seq: u32, errno: i32) -> Answer {
    Answer {
        seq,
        outcome: Outcome::Refused(errno),
    }
}

pub(crate) fn flow_v4(number: u32) -> Flow {
    let source = Ipv4Addr::from_bits(0x0a00_0000 + number);
    flow(source.into(), Ipv4Addr::new(192, 0, 2, 1).into())
}

fn flow_v6(number: u32) -> Flow {
    let source = Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(number));
    flow(source.into(), Ipv6Addr::from_bits(0xfd01 << 112).into())
}

fn flow(source: IpAddr, destination: IpAddr) -> Flow {
    let orig = Tuple::new(TCP, source, destination, 40_000, 80);
    Flow {
        orig,
        reply: orig.inverse(),
        status: Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED),
        proto: ProtoInfo::Tcp(TcpInfo {
            state: TCP_ESTABLISHED,
            ..TcpInfo::default()
        }),
        ..Flow::default()
    }
}
