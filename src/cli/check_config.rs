//! `check-config`: what the daemon would make of a configuration.

use std::io::Write;

use super::{CliError, Exit, Place};
use crate::config::settings::{Addressing, LinkSettings, Security, Settings};
use crate::daemon::key;

pub(super) fn execute(place: &Place, out: &mut impl Write) -> Result<Exit, CliError> {
    let settings = place.settings()?;
    writeln!(out, "{}: OK", place.config_file().display())?;
    write!(out, "{}", summary(&settings))?;
    Ok(Exit::Done)
}

fn summary(settings: &Settings) -> String {
    let mut text = format!("node    {}\n", settings.node.name);
    text += &format!("socket  {}\n", settings.control.socket.display());
    for link in &settings.links {
        text += &format!("link    {}\n", link_line(link));
    }
    text += &match &settings.security {
        Security::Sealed { key_file, other_key_file } => {
            // The configuration is right whether or not the key is there yet.
            match key::load_ring(key_file, other_key_file.as_deref()) {
                Ok(_) => format!("key     {}\n", key_file.display()),
                Err(error) => format!("key     not usable yet: {error}\n"),
            }
        }
        Security::Insecure => {
            "INSECURE: whoever reaches a link can read and write flows; keep it off shared networks\n"
                .into()
        }
    };
    text
}

fn link_line(link: &LinkSettings) -> String {
    match &link.addressing {
        Addressing::Multicast { group } => format!("{} multicast {group}", link.interface),
        Addressing::Unicast { bind, peers } => {
            let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
            format!("{} {bind} to {}", link.interface, peers.join(", "))
        }
    }
}
