//! Expectations: what a helper waits for on the active is known to the standby, and put into its
//! kernel by a commit.

use crate::harness::ftp::{self, File, FtpClient, FtpServer};
use crate::harness::topology::{Lab, SERVER};
use crate::harness::{Result, turn};

#[test]
fn ftp_works_through_one_firewall() -> Result<()> {
    let Some(_turn) = turn("ftp_works_through_one_firewall") else {
        return Ok(());
    };
    let lab = Lab::new(1)?;
    ftp::add_helper(lab.node(1))?;
    lab.give_addresses(lab.node(1))?;
    lab.await_path()?;
    for address in SERVER {
        let _server = FtpServer::start(lab.server(), address.parse()?)?;
        let mut client = FtpClient::connect(lab.client(), address.parse()?)?;
        client.login()?;
        let file = File::paced(400_000, 2_000_000);
        let transfer = client.passive_get(lab.client(), file)?;
        client.finish(transfer)?;
        let transfer = client.passive_put(lab.client(), file)?;
        client.finish(transfer)?;
        client.noop()?;
        let transfer = client.active_get(lab.client(), file)?;
        client.finish(transfer)?;
        let transfer = client.active_put(lab.client(), File::fast(1_000_000))?;
        client.finish(transfer)?;
        client.noop()?;
    }
    Ok(())
}
