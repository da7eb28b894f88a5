//! A datagram of the kernel: its messages, each as what it may be, and what an engine makes of
//! those that tell of flows.

use std::time::Duration;

use ctsyncd::ctnetlink::request::RequestDone;
use ctsyncd::ctnetlink::{
    decode_error, decode_event, decode_expectation_event, decode_listed, messages,
};
use ctsyncd::engine::Command;
use ctsyncd::flow::{ExpectationEvent, FlowEvent};

use super::pair::{Node, start};
use super::wire::{can_be_expected, can_be_told};

/// Reads any bytes as a datagram of the kernel.
pub fn run(bytes: &[u8]) -> usize {
    let mut understood = 0;
    let (mut events, mut listed) = (Vec::new(), Vec::new());
    let mut expectations = Vec::new();
    let mut covered = 0;
    for message in messages(bytes) {
        let Ok(message) = message else { continue };
        covered += message.bytes.len();
        let mut event = FlowEvent::default();
        if decode_event(message.bytes, &mut event).is_ok() {
            can_be_told(&event.flow, &event.rare, event.flow.timeout_secs);
            events.push(event);
        }
        if decode_listed(message.bytes, &mut event).is_ok() {
            listed.push(event);
        }
        let mut expected = ExpectationEvent::default();
        if decode_expectation_event(message.bytes, &mut expected).is_ok() {
            can_be_expected(&expected.expectation);
            expectations.push(expected);
        }
        understood += usize::from(decode_error(&message).is_some());
    }
    assert!(covered <= bytes.len());
    understood += events.len() + listed.len() + expectations.len();
    if understood > 0 {
        feed(&events, listed, &expectations);
    }
    understood
}

fn feed(events: &[FlowEvent], listed: Vec<FlowEvent>, expectations: &[ExpectationEvent]) {
    let mut now = start();
    let mut node = Node::new(now, "us", None, listed.into_iter());
    node.engine.handle_events(now, events);
    for event in expectations {
        node.engine.handle_expectation(now, event);
    }
    node.settle(now);
    now += Duration::from_secs(61);
    node.engine.handle_events(now, events);
    let done = RequestDone::Listed(events.to_vec());
    node.engine.handle_done(now, done);
    node.settle(now);
    let status = node.engine.status(now);
    assert!(status.local.flows <= status.local.tracked);
    node.engine.handle_command(now, Command::FlushKernel);
    node.settle(now);
}
