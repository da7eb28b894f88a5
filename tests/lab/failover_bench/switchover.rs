//! A planned switchover: every request is counted, and so is its answer.

use std::time::{Duration, Instant};

use super::harness::wait::{await_until, pass};
use super::harness::{Context as _, Result, ensure, namespace};
use super::report::{Kinds, Row, Survival};
use super::site::{Site, millis};
use super::{Arguments, Mode};

/// Traffic before and after.
const AROUND: Duration = Duration::from_secs(2);
/// How long the last answers may take.
const LAST: Duration = Duration::from_secs(10);

/// Builds a pair and hands over from fw1 to fw2.
pub(crate) fn measure(arguments: &Arguments, mode: Mode, flows: u32) -> Result<Row> {
    ensure!(
        mode.config().is_some(),
        "{} knows no switchover",
        mode.name()
    );
    let site = Site::build(arguments, mode, flows)?;
    pass(AROUND)?;
    site.tcp.mark();
    site.udp.mark();
    let began = Instant::now();
    let mut command = site.lab.node(1).command("ctsyncd");
    command.args(["switchover", "-c", "/run/ctsyncd.toml"]);
    let said = namespace::run(&mut command).context("ctsyncd switchover")?;
    let took = began.elapsed();
    super::say(said.trim());
    site.await_addresses(2)?;
    pass(AROUND)?;
    let [tcp4, tcp6, udp] = site.settle()?;
    // Counted from the first line on: only then is it known which answer is whose.
    let (mut sent, mut lost) = (0, 0);
    for traffic in [&site.tcp, &site.udp] {
        traffic.pause();
        // What is not answered by then is lost; that is a result and no failure.
        let _ = await_until("the last answers", LAST, || {
            Ok(traffic.answers() >= traffic.sent())
        });
        sent += traffic.sent();
        lost += traffic.sent().saturating_sub(traffic.answers());
    }
    let kinds = Kinds {
        tcp4,
        tcp6,
        udp: Some(udp),
        ftp: None::<Survival>,
    };
    let row = Row::new("switchover", mode, flows, arguments.ruleset, kinds);
    Ok(row.with_requests(sent, lost, millis(took)))
}
