//! `[[link]]`: interfaces and addresses.

use std::net::{IpAddr, SocketAddr};

use toml::Spanned;

use super::file::Link;
use super::settings::{Addressing, LINKS_MAX, LinkSettings, PEERS_MAX};
use super::settle::{Check, SOCKET_BUFFER_BYTES};

/// Longest name of an interface: `IFNAMSIZ` is 16 with the closing zero, include/uapi/linux/if.h.
const INTERFACE_LEN_MAX: usize = 15;

/// Settles all links.
pub(super) fn settle(given: &[Spanned<Link>], check: &mut Check<'_>) -> Vec<LinkSettings> {
    if given.is_empty() && !check.broken.section("link") {
        check.report.error_help(
            check.end.clone(),
            "no [[link]] section: there is no way to the other nodes",
            "add [[link]] with interface = \"eth2\" and multicast = \"225.0.0.50:3780\"",
        );
    }
    if let Some(excess) = given.get(LINKS_MAX) {
        let message = format!("more than {LINKS_MAX} links");
        check.report.error(excess.span(), message);
    }
    let mut settled: Vec<LinkSettings> = Vec::with_capacity(given.len());
    for (index, link) in given.iter().enumerate() {
        let one = OneLink { index, link, check };
        if let Some((settings, place)) = one.settle() {
            if settled
                .iter()
                .any(|other| share_an_address(other, &settings))
            {
                check.report.error_help(
                    place,
                    "a link before this one has this address already",
                    "a second link is of use on another interface, or with another port",
                );
            }
            settled.push(settings);
        }
    }
    settled
}

/// The name of an interface, there or not.
pub(super) fn interface_name(given: &Spanned<String>, check: &mut Check<'_>) -> Option<String> {
    let name = given.get_ref();
    let fits = (1..=INTERFACE_LEN_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && !name
            .chars()
            .any(|char| char == '/' || char == ':' || char.is_whitespace() || char == '\0');
    if !fits {
        let message = format!("{name:?} cannot be the name of an interface");
        let help = "`ip link` lists them; a name has at most 15 bytes";
        check.report.error_help(given.span(), message, help);
        return None;
    }
    Some(name.clone())
}

/// True if two links would hear the same datagrams. One group on two interfaces is two links: the
/// sockets are bound to their interfaces.
fn share_an_address(one: &LinkSettings, other: &LinkSettings) -> bool {
    match (&one.addressing, &other.addressing) {
        (Addressing::Multicast { group: a }, Addressing::Multicast { group: b }) => {
            a == b && one.interface == other.interface
        }
        (Addressing::Unicast { bind: a, .. }, Addressing::Unicast { bind: b, .. }) => a == b,
        (Addressing::Multicast { .. }, Addressing::Unicast { .. })
        | (Addressing::Unicast { .. }, Addressing::Multicast { .. }) => false,
    }
}

type Place = std::ops::Range<usize>;

struct OneLink<'l, 'c> {
    index: usize,
    link: &'l Spanned<Link>,
    check: &'l mut Check<'c>,
}

impl OneLink<'_, '_> {
    fn settle(mut self) -> Option<(LinkSettings, Place)> {
        let link = self.link.get_ref();
        let receive = &link.receive_buffer;
        let receive = self
            .check
            .size("receive_buffer", receive, &SOCKET_BUFFER_BYTES);
        let send = &link.send_buffer;
        let send = self.check.size("send_buffer", send, &SOCKET_BUFFER_BYTES);
        let interface = self.interface();
        let (addressing, place) = self.addressing()?;
        let settings = LinkSettings {
            interface: interface?,
            addressing,
            receive_buffer_bytes: receive.unwrap_or(LinkSettings::RECEIVE_BUFFER_BYTES),
            send_buffer_bytes: send.unwrap_or(LinkSettings::SEND_BUFFER_BYTES),
        };
        Some((settings, place))
    }

    fn interface(&mut self) -> Option<String> {
        let Some(given) = &self.link.get_ref().interface else {
            self.missing(
                &["interface"],
                "[[link]] has no interface",
                "add the one that leads to the other nodes: interface = \"eth2\"",
            );
            return None;
        };
        interface_name(given, self.check)
    }

    fn addressing(&mut self) -> Option<(Addressing, Place)> {
        let link = self.link.get_ref();
        match (&link.multicast, &link.bind, &link.peers) {
            (Some(multicast), None, None) => {
                let group = self.group(multicast)?;
                Some((Addressing::Multicast { group }, multicast.span()))
            }
            (None, Some(bind), Some(peers)) => {
                // Both are looked at, so that both can be reported.
                let own = self.bind(bind);
                let peers = self.peers(peers, own);
                let addressing = Addressing::Unicast {
                    bind: own?,
                    peers: peers?,
                };
                Some((addressing, bind.span()))
            }
            (Some(_), bind, peers) => {
                let bind = bind.as_ref().map(Spanned::span);
                let place = bind.or(peers.as_ref().map(Spanned::span));
                self.check.report.error_help(
                    place.unwrap_or_else(|| self.link.span()),
                    "a [[link]] has either multicast, or peers with bind",
                    "take one out, or write a second [[link]]",
                );
                None
            }
            (None, Some(bind), None) => {
                self.missing_at(
                    bind.span(),
                    &["peers"],
                    "bind without peers",
                    "list the other nodes: peers = [\"192.0.2.2:3780\"]",
                );
                None
            }
            (None, None, Some(peers)) => {
                self.missing_at(
                    peers.span(),
                    &["bind"],
                    "peers without bind",
                    "say which address is this node's: bind = \"192.0.2.1:3780\"",
                );
                None
            }
            (None, None, None) => {
                self.missing(
                    &["multicast", "bind", "peers"],
                    "[[link]] does not say where the other nodes are",
                    "add multicast = \"225.0.0.50:3780\", or peers and bind",
                );
                None
            }
        }
    }

    fn group(&mut self, given: &Spanned<String>) -> Option<SocketAddr> {
        let group = self.address("multicast", given, "225.0.0.50:3780")?;
        if !group.ip().is_multicast() {
            self.check.report.error_help(
                given.span(),
                format!("multicast: {} is not a multicast group", group.ip()),
                "groups are 224.0.0.0/4 and ff00::/8, for example 225.0.0.50 or ff02::3780; \
                 for listed nodes use peers and bind",
            );
            return None;
        }
        Some(group)
    }

    fn bind(&mut self, given: &Spanned<String>) -> Option<SocketAddr> {
        let bind = self.address("bind", given, "192.0.2.1:3780")?;
        self.host("bind", given.span(), bind)
    }

    fn peers(
        &mut self,
        given: &Spanned<Vec<Spanned<String>>>,
        bind: Option<SocketAddr>,
    ) -> Option<Vec<SocketAddr>> {
        let list = given.get_ref();
        if list.is_empty() {
            let help = "list the other nodes: peers = [\"192.0.2.2:3780\"]";
            let message = "peers: the list is empty";
            self.check.report.error_help(given.span(), message, help);
        }
        if let Some(excess) = list.get(PEERS_MAX) {
            let message = format!("peers: more than {PEERS_MAX}");
            self.check.report.error(excess.span(), message);
        }
        let mut peers: Vec<SocketAddr> = Vec::with_capacity(list.len());
        for one in list {
            let Some(peer) = self
                .address("peers", one, "192.0.2.2:3780")
                .and_then(|peer| self.host("peers", one.span(), peer))
            else {
                continue;
            };
            let report = &mut self.check.report;
            if peers.contains(&peer) {
                report.error(one.span(), format!("peers: {peer} is in the list twice"));
            } else if bind == Some(peer) {
                let message = format!("peers: {peer} is this node itself, see bind");
                report.error_help(one.span(), message, "list the other nodes only");
            } else if let Some(bind) = bind
                && bind.is_ipv4() != peer.is_ipv4()
            {
                let family = |address: SocketAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
                report.error_help(
                    one.span(),
                    format!(
                        "peers: {peer} is {}, but bind is {}",
                        family(peer),
                        family(bind)
                    ),
                    "a link has one family; write a [[link]] for each",
                );
            } else {
                peers.push(peer);
            }
        }
        (peers.len() == list.len()).then_some(peers)
    }

    /// The address of one host, not of a group or of any.
    fn host(&mut self, option: &str, place: Place, address: SocketAddr) -> Option<SocketAddr> {
        let ip = address.ip();
        let what = if ip.is_unspecified() {
            "stands for any address"
        } else if ip.is_multicast() {
            "is a multicast group"
        } else if ip == IpAddr::from([255; 4]) {
            "is everybody"
        } else {
            return Some(address);
        };
        let message = format!("{option}: {ip} {what}, not the address of one node");
        self.check.report.error(place, message);
        None
    }

    /// An address with its port.
    fn address(
        &mut self,
        option: &str,
        given: &Spanned<String>,
        example: &str,
    ) -> Option<SocketAddr> {
        let text = given.get_ref().as_str();
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let (message, help) = match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
            (Ok(address), _) if address.port() == 0 => {
                let message = format!("{option}: port 0 is not a port");
                (message, format!("write for example {example:?}"))
            }
            (Ok(address), _) => return Some(address),
            (Err(_), Ok(ip)) => {
                let message = format!("{option}: the port of {text:?} is missing");
                let whole = SocketAddr::new(ip, 3780);
                (message, format!("write for example \"{whole}\""))
            }
            (Err(_), Err(_)) => {
                let message = format!("{option}: {text:?} is not an address with a port");
                let help = format!(
                    "write for example {example:?} or \"[2001:db8::1]:3780\"; names are not looked up"
                );
                (message, help)
            }
        };
        self.check.report.error_help(given.span(), message, help);
        None
    }

    /// Something is missing in this link, unless it was there and not understood.
    fn missing(&mut self, options: &[&str], message: &str, help: &str) {
        self.missing_at(self.link.span(), options, message, help);
    }

    fn missing_at(&mut self, place: Place, options: &[&str], message: &str, help: &str) {
        let there = options
            .iter()
            .any(|option| self.check.broken.option("link", self.index, option));
        if !there {
            self.check.report.error_help(place, message, help);
        }
    }
}
