//! Sysctls and addresses of the node.

use std::net::IpAddr;

use ctsyncd::kernel::AddressWatch;
use ctsyncd::kernel::sysctl::{self, EventsSysctl};
use tokio::time::timeout;

use crate::namespace::{Namespace, as_root, block_on};
use crate::requests::{Kernel, WAIT, Writes, flow_v4};

#[test]
fn events_are_switched_on_in_this_namespace_only_if_wanted() {
    as_root(
        "events_are_switched_on_in_this_namespace_only_if_wanted",
        || {
            let (namespace, other) = (Namespace::new(), Namespace::new());
            namespace.enter();

            let left = sysctl::ensure_events(false).expect("conntrack is there");
            assert!(matches!(left, EventsSysctl::Off { is: 2, .. }), "{left:?}");
            assert_eq!(
                sysctl::ensure_events(true).expect("conntrack is there"),
                EventsSysctl::SetToOn { was: 2 }
            );
            assert_eq!(
                sysctl::ensure_events(true).expect("conntrack is there"),
                EventsSysctl::On
            );

            other.enter();
            let left = sysctl::ensure_events(false).expect("conntrack is there");
            assert!(matches!(left, EventsSysctl::Off { is: 2, .. }), "{left:?}");
        },
    );
}

#[test]
fn count_is_that_of_the_table() {
    as_root("count_is_that_of_the_table", || {
        let namespace = Namespace::new();
        namespace.enter();
        block_on(async {
            let mut writes = Writes::new(1);
            for number in 0..7 {
                writes.create(&flow_v4(number));
            }
            Kernel::new().carry_out(writes).await;
        });

        assert_eq!(sysctl::conntrack_count().expect("it is there"), 7);
        assert!(sysctl::conntrack_max().expect("it is there") > 7);
    });
}

#[test]
fn addresses_that_come_and_go_are_seen() {
    as_root("addresses_that_come_and_go_are_seen", || {
        let namespace = Namespace::new();
        namespace.enter();
        let watch = AddressWatch::spawn().expect("rtnetlink works");
        let mut addresses = watch.addresses();
        let before = addresses.borrow_and_update().clone();
        assert!(
            before.contains(&ip("127.0.0.1")) && before.contains(&ip("::1")),
            "{before:?}"
        );
        for (address, family) in [("192.0.2.77", "-4"), ("fd00::77", "-6")] {
            namespace.ip(&[family, "addr", "add", address, "dev", "lo"]);
            let mut with = before.clone();
            with.push(ip(address));
            with.sort();
            let wait = addresses.wait_for(|now| *now == with);
            block_on(async {
                timeout(WAIT, wait)
                    .await
                    .expect("seen")
                    .expect("running")
                    .clone()
            });

            let prefix = if family == "-4" { "/32" } else { "/128" };
            let address = format!("{address}{prefix}");
            namespace.ip(&[family, "addr", "del", &address, "dev", "lo"]);
            let wait = addresses.wait_for(|now| *now == before);
            block_on(async {
                timeout(WAIT, wait)
                    .await
                    .expect("seen")
                    .expect("running")
                    .clone()
            });
        }
    });
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
