//! Expectations: what the kernel takes, refuses and shows.

use ctsyncd::ctnetlink::encode::{self, Ack};
use ctsyncd::ctnetlink::expectation::{create, delete, update_timeout};
use ctsyncd::flow::expectation::{ExpectationNat, FunctionName, SourceMask};
use ctsyncd::flow::rare::HelperName;
use ctsyncd::flow::text::write_expectation;
use ctsyncd::flow::{Expectation, Flow, Rare, Tuple, ZoneDir};

use crate::flows::{ip, tcp_flow, zone};
use crate::kernel::Kernel;
use crate::{EEXIST, ENOENT, EOPNOTSUPP, HOW};

fn of_ftp(master: &Flow) -> Expectation {
    Expectation {
        tuple: Tuple::new(6, ip("10.10.2.2"), ip("10.10.2.1"), 0, 40_545),
        mask: SourceMask {
            address: std::array::from_fn(|at| if at < 4 { 0xff } else { 0 }),
            id: 0,
        },
        master: master.orig,
        zone: master.zone.of_orig(),
        nat: Some(ExpectationNat {
            direction: 1,
            address: [0; 16],
            id: 40_545,
        }),
        helper: HelperName::new(b"ftp"),
        function: FunctionName::new(b"nat-follow-master"),
        timeout_secs: 300,
        ..Expectation::default()
    }
}

fn create_master(kernel: &mut Kernel, flow: &Flow, helper: Option<HelperName>) {
    let rare = Rare {
        helper,
        ..Rare::default()
    };
    let errno = kernel.ask(|out, seq| encode::create(out, seq, Ack::Wanted, flow, &rare, HOW));
    assert_eq!(errno, 0, "creating {flow:?}");
}

#[test]
fn an_expectation_comes_back_as_it_was_created_and_lives_as_long_as_it_is_told() {
    let test = "an_expectation_comes_back_as_it_was_created_and_lives_as_long_as_it_is_told";
    let Some(mut kernel) = Kernel::start(test) else {
        return;
    };
    let mut zoned = tcp_flow(1);
    zoned.zone = zone(5, ZoneDir::Both);
    for master in [tcp_flow(1), zoned] {
        create_master(&mut kernel, &master, HelperName::new(b"ftp"));
        let wanted = of_ftp(&master);
        let mut ask = |build: &dyn Fn(&mut Vec<u8>, u32)| kernel.ask(build);
        assert_eq!(ask(&|out, seq| create(out, seq, Ack::Wanted, &wanted)), 0);
        let again = ask(&|out, seq| create(out, seq, Ack::Wanted, &wanted));
        assert_eq!(again, EEXIST, "what is there is left alone");
        let elsewhere = Expectation { zone: 99, ..wanted };
        let late = |out: &mut Vec<u8>, seq| update_timeout(out, seq, Ack::Wanted, &elsewhere, 60);
        assert_eq!(ask(&late), ENOENT, "the zone is part of the key");
        let late = |out: &mut Vec<u8>, seq| update_timeout(out, seq, Ack::Wanted, &wanted, 60);
        assert_eq!(ask(&late), 0);

        let listed = kernel.dump_expectations();
        assert_eq!(listed.len(), 1);
        let found = listed[0].expectation;
        assert!((58..=60).contains(&found.timeout_secs), "{found:?}");
        let expected = Expectation {
            zone: 0,
            id: found.id,
            timeout_secs: found.timeout_secs,
            ..wanted
        };
        assert_eq!(found, expected);

        // The text is what conntrack prints, and more.
        let mut line = String::new();
        write_expectation(&mut line, &found, found.timeout_secs);
        let printed = kernel.run("conntrack", &["-L", "expect"], "");
        let (_, printed) = printed.trim_end().split_once(' ').expect("a timeout first");
        let (_, ours) = line.split_once(' ').expect("a timeout first");
        assert!(ours.starts_with(printed), "{ours} begins with {printed}");

        let end = |out: &mut Vec<u8>, seq| delete(out, seq, Ack::Wanted, &wanted);
        assert_eq!(kernel.ask(end), 0);
        assert_eq!(kernel.ask(end), ENOENT);
        assert!(kernel.dump_expectations().is_empty());
    }
}

#[test]
fn an_expectation_needs_a_master_with_a_helper() {
    let Some(mut kernel) = Kernel::start("an_expectation_needs_a_master_with_a_helper") else {
        return;
    };
    let master = tcp_flow(1);
    let wanted = of_ftp(&master);
    let build = |out: &mut Vec<u8>, seq| create(out, seq, Ack::Wanted, &wanted);
    assert_eq!(kernel.ask(build), ENOENT);
    create_master(&mut kernel, &master, None);
    assert_eq!(kernel.ask(build), EOPNOTSUPP);
}

#[test]
fn a_class_of_the_helper_comes_back() {
    let Some(mut kernel) = Kernel::start("a_class_of_the_helper_comes_back") else {
        return;
    };
    let master = tcp_flow(1);
    create_master(&mut kernel, &master, HelperName::new(b"sip"));
    let wanted = Expectation {
        class: 1,
        flags: 1,
        helper: HelperName::new(b"sip"),
        function: None,
        ..of_ftp(&master)
    };
    let build = |out: &mut Vec<u8>, seq| create(out, seq, Ack::Wanted, &wanted);
    assert_eq!(kernel.ask(build), 0);
    let listed = kernel.dump_expectations();
    let found = listed.first().expect("one is there").expectation;
    let shown = (found.class, found.flags, found.helper);
    assert_eq!(shown, (1, 1, wanted.helper));
}
