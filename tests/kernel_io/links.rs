//! Links between two namespaces that share a veth pair.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ctsyncd::config::settings::{Addressing, LinkSettings};
use ctsyncd::net::{Destination, Link, LinkError};
use tokio::time::timeout;

use crate::namespace::{Namespace, as_root, block_on};
use crate::requests::WAIT;

/// Between two tries to get a datagram through a link that comes up.
const RETRY: Duration = Duration::from_millis(50);

#[test]
fn multicast_carries_both_ways_and_nothing_comes_back() {
    as_root("multicast_carries_both_ways_and_nothing_comes_back", || {
        for group in ["225.0.0.50:3780", "[ff15::50]:3780", "[ff02::50]:3780"] {
            let pair = Pair::new();
            block_on(async {
                let (a, b) = (
                    pair.open_a(&multicast(group)),
                    pair.open_b(&multicast(group)),
                );
                for text in [&b"one"[..], b"two"] {
                    a.send(text, Destination::All).expect("sent");
                    assert_eq!(receive(&b).await.0, text, "{group}");
                }

                b.send(b"three", Destination::All).expect("sent");
                // Had its own come back, they would be first.
                let (text, from) = receive(&a).await;
                assert_eq!(text, b"three", "{group}");

                // To one peer of a group goes to the group.
                a.send(b"four", Destination::Peer(from)).expect("sent");
                assert_eq!(receive(&b).await.0, b"four", "{group}");
            });
        }
    });
}

#[test]
fn two_members_on_different_interfaces_do_not_hear_each_other() {
    as_root("two_members_on_different_interfaces", || {
        let pair = Pair::new();
        block_on(async {
            let group = multicast("225.0.0.50:3780");
            let (a, b) = (pair.open_a(&group), pair.open_b(&group));
            // A second link of the same node, in the same group.
            let peer = ["type", "veth", "peer", "name", "other1"];
            pair.a.ip(&[&["link", "add", "other0"], &peer[..]].concat());
            for interface in ["other0", "other1"] {
                pair.a.ip(&["link", "set", interface, "up"]);
            }
            pair.a
                .ip(&["addr", "add", "198.51.100.1/24", "dev", "other0"]);
            let other = Link::open(&LinkSettings {
                interface: "other0".into(),
                ..group.clone()
            })
            .expect("opened");

            b.send(b"one", Destination::All).expect("sent");
            assert_eq!(receive(&a).await.0, b"one");
            let mut buffer = [0; 16];
            let error = other.try_recv_from(&mut buffer).expect_err("nothing there");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        });
    });
}

#[test]
fn unicast_reaches_every_listed_peer() {
    as_root("unicast_reaches_every_listed_peer", || {
        for (own, peer, second) in [
            ("192.0.2.1:3780", "192.0.2.2:3780", "192.0.2.2:3781"),
            ("[fd00::1]:3780", "[fd00::2]:3780", "[fd00::2]:3781"),
            ("[fe80::1]:3780", "[fe80::2]:3780", "[fe80::2]:3781"),
        ] {
            let pair = Pair::new();
            block_on(async {
                let a = pair.open_a(&unicast(own, &[peer, second]));
                let b = pair.open_b(&unicast(peer, &[own]));
                let c = pair.open_b(&unicast(second, &[own]));

                a.send(b"all", Destination::All).expect("sent");
                let (text, from) = receive(&b).await;
                assert_eq!(text, b"all", "{own}");
                assert_eq!(receive(&c).await.0, b"all", "{own}");
                assert_eq!(from.port(), 3780);

                // An answer to where it came from.
                b.send(b"one", Destination::Peer(from)).expect("sent");
                let (text, from) = receive(&a).await;
                assert_eq!((&text[..], from.port()), (&b"one"[..], 3780), "{own}");
            });
        }
    });
}

#[test]
fn link_that_was_down_carries_again() {
    as_root("link_that_was_down_carries_again", || {
        for settings in [
            (multicast("225.0.0.50:3780"), multicast("225.0.0.50:3780")),
            (multicast("[ff15::50]:3780"), multicast("[ff15::50]:3780")),
            (
                unicast("192.0.2.1:3780", &["192.0.2.2:3780"]),
                unicast("192.0.2.2:3780", &["192.0.2.1:3780"]),
            ),
        ] {
            let pair = Pair::new();
            block_on(async {
                let (a, b) = (pair.open_a(&settings.0), pair.open_b(&settings.1));
                a.send(b"before", Destination::All).expect("sent");
                assert_eq!(receive(&b).await.0, b"before");

                for namespace in [&pair.a, &pair.b] {
                    namespace.ip(&["link", "set", "sync0", "down"]);
                }
                pair.a.enter();
                a.send(b"lost", Destination::All).expect_err("is down");
                assert!(!a.is_stale());
                for namespace in [&pair.a, &pair.b] {
                    namespace.ip(&["link", "set", "sync0", "up"]);
                }

                until_through(&a, &b).await;
                until_through(&b, &a).await;
            });
        }
    });
}

#[test]
fn link_whose_interface_was_replaced_is_stale_and_opens_anew() {
    as_root("link_whose_interface_was_replaced_is_stale", || {
        let pair = Pair::new();
        let group = multicast("225.0.0.50:3780");
        block_on(async {
            let old = pair.open_a(&group);
            assert!(!old.is_stale());

            pair.a.ip(&["link", "del", "sync0"]);
            assert!(old.is_stale());
            old.send(b"lost", Destination::All).expect_err("is gone");
            pair.connect();
            assert!(old.is_stale());
            old.send(b"lost", Destination::All).expect_err("is another");
            drop(old);

            let (a, b) = (pair.open_a(&group), pair.open_b(&group));
            until_through(&a, &b).await;
            until_through(&b, &a).await;
        });
    });
}

#[test]
fn longest_datagram_follows_the_mtu() {
    as_root("longest_datagram_follows_the_mtu", || {
        let pair = Pair::new();
        block_on(async {
            let wide = pair.open_a(&multicast("225.0.0.50:3780"));
            assert_eq!(wide.datagram_bytes_max(), 1_400);
            pair.a.ip(&["link", "set", "sync0", "mtu", "1280"]);
            let narrow = pair.open_a(&multicast("[ff15::50]:3780"));
            assert_eq!(narrow.datagram_bytes_max(), 1_232);
            pair.a.ip(&["link", "set", "sync0", "mtu", "500"]);
            let error = pair
                .try_open_a(&multicast("225.0.0.50:3780"))
                .expect_err("too small");
            assert!(
                matches!(error, LinkError::Mtu { mtu: 500, .. }),
                "{error:?}"
            );
        });
    });
}

#[test]
fn buffers_are_as_wished_beyond_what_everybody_may_have() {
    as_root(
        "buffers_are_as_wished_beyond_what_everybody_may_have",
        || {
            let pair = Pair::new();
            block_on(async {
                let link = pair.open_a(&multicast("225.0.0.50:3780"));

                assert_eq!(link.receive_buffer_bytes(), 16 << 20);
                assert_eq!(link.send_buffer_bytes(), 8 << 20);
                assert_eq!(link.name(), "sync0 225.0.0.50:3780");
            });
        },
    );
}

#[test]
fn refusals_name_the_object_and_the_mend() {
    as_root("refusals_name_the_object_and_the_mend", || {
        let pair = Pair::new();
        block_on(async {
            let nowhere = LinkSettings {
                interface: "eth77".into(),
                ..multicast("225.0.0.50:3780")
            };
            let text = pair.try_open_a(&nowhere).expect_err("refused").to_string();
            assert!(text.contains("there is no interface eth77"), "{text}");

            let no_group = multicast("192.0.2.9:3780");
            let text = pair.try_open_a(&no_group).expect_err("refused").to_string();
            assert!(text.contains("192.0.2.9 is no multicast address"), "{text}");

            let strange = unicast("192.0.2.99:3780", &["192.0.2.2:3780"]);
            let text = pair.try_open_a(&strange).expect_err("refused").to_string();
            assert!(
                text.contains("does not have the address 192.0.2.99"),
                "{text}"
            );

            let own = unicast("192.0.2.1:3780", &["192.0.2.2:3780"]);
            let _first = pair.open_a(&own);
            let text = pair.try_open_a(&own).expect_err("refused").to_string();
            assert!(text.contains("192.0.2.1:3780 is in use"), "{text}");
        });
    });
}

/// Two nodes, each with `sync0`.
struct Pair {
    a: Namespace,
    b: Namespace,
}

impl Pair {
    fn new() -> Self {
        let pair = Self {
            a: Namespace::new(),
            b: Namespace::new(),
        };
        pair.connect();
        pair
    }

    fn connect(&self) {
        let peer = [
            "type",
            "veth",
            "peer",
            "name",
            "sync0",
            "netns",
            self.b.name(),
        ];
        self.a.ip(&[&["link", "add", "sync0"], &peer[..]].concat());
        for (namespace, number) in [(&self.a, 1), (&self.b, 2)] {
            namespace.ip(&["link", "set", "sync0", "up"]);
            let v4 = format!("192.0.2.{number}/24");
            namespace.ip(&["addr", "add", &v4, "dev", "sync0"]);
            for prefix in ["fd00", "fe80"] {
                let v6 = format!("{prefix}::{number}/64");
                namespace.ip(&["addr", "add", &v6, "dev", "sync0", "nodad"]);
            }
        }
        // Before that the kernel silently drops what is sent.
        self.a.await_link_up("sync0");
        self.b.await_link_up("sync0");
    }

    fn try_open_a(&self, settings: &LinkSettings) -> Result<Link, LinkError> {
        self.a.enter();
        Link::open(settings)
    }

    fn open_a(&self, settings: &LinkSettings) -> Link {
        self.try_open_a(settings).expect("opened")
    }

    fn open_b(&self, settings: &LinkSettings) -> Link {
        self.b.enter();
        let link = Link::open(settings).expect("opened");
        self.a.enter();
        link
    }
}

async fn receive(link: &Link) -> (Vec<u8>, SocketAddr) {
    timeout(WAIT, receive_unlimited(link))
        .await
        .expect("it arrives")
}

async fn receive_unlimited(link: &Link) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_048];
    loop {
        link.readable().await.expect("the runtime lives");
        match link.try_recv_from(&mut buffer) {
            Ok((len, from)) => return (buffer[..len].to_vec(), from),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
    }
}

/// Sends until something arrives: after it came up an interface takes a while.
async fn until_through(from: &Link, to: &Link) {
    let tries = async {
        loop {
            // Refused while the interface is not ready, which is what this waits for.
            let _refused = from.send(b"after", Destination::All);
            if let Ok((text, _)) = timeout(RETRY, receive_unlimited(to)).await {
                assert_eq!(text, b"after");
                return;
            }
        }
    };
    timeout(WAIT, tries).await.expect("the link carries again");
}

fn multicast(group: &str) -> LinkSettings {
    link(Addressing::Multicast {
        group: address(group),
    })
}

fn unicast(bind: &str, peers: &[&str]) -> LinkSettings {
    link(Addressing::Unicast {
        bind: address(bind),
        peers: peers.iter().map(|peer| address(peer)).collect(),
    })
}

fn link(addressing: Addressing) -> LinkSettings {
    LinkSettings {
        interface: "sync0".into(),
        addressing,
        receive_buffer_bytes: 16 << 20,
        send_buffer_bytes: 8 << 20,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
