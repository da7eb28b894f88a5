//! The story: build, talk, agree, cut, count.

use std::time::{Duration, Instant};

use super::harness::process::Process;
use super::harness::replication::{Counts, Replication, What};
use super::harness::services::keepalived;
use super::harness::topology::{INSIDE_VIP, Lab, OUTSIDE_VIP};
use super::harness::traffic::{Kind, Spec, Traffic};
use super::harness::wait::{await_until, pass};
use super::harness::watch::Watch;
use super::harness::{Result, bail, bulk};
use super::verdict::{Moment, pronounce, takeover};
use super::view::{CELL, Light, Scene, View};
use super::{Arguments, Peer};

/// From line to line on each connection.
const EVERY: Duration = Duration::from_millis(50);
/// How long the pair is shown in peace.
const PEACE: Duration = Duration::from_secs(6);
/// How long the connections get to come back: longer than the client's own timer waits.
const RETURN: Duration = Duration::from_secs(8);
/// How long is shown how it goes on.
const AFTER: Duration = Duration::from_secs(4);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Tells it; true if what should happen happened.
pub(crate) fn tell(arguments: &Arguments) -> Result<bool> {
    let peer = arguments.peer;
    let what = match peer {
        Peer::Ctsyncd => "ctsyncd",
        Peer::Conntrackd => "conntrackd",
        Peer::None => "no replication",
    };
    let connections = usize::from(arguments.connections);
    let mut view = View::new(format!(
        "Two firewalls, one address, {connections} connections through NAT: {what}"
    ));

    view.step("building the network");
    let lab = Lab::new(2)?;
    let addresses = Process::start(
        "ip monitor",
        lab.node(2)
            .namespace()
            .command("ip")
            .args(["-o", "monitor", "address"]),
    )?;
    let what = match peer {
        Peer::Ctsyncd => What::Ctsyncd {
            binary: &arguments.binary,
            more: "",
        },
        Peer::Conntrackd => What::Conntrackd,
        Peer::None => What::Nothing,
    };
    let replication = Replication::start(&lab, what)?;
    view.step("starting keepalived on fw1, then on fw2");
    let _first = keepalived(lab.node(1), replication.notify())?;
    await_until("fw1 takes the addresses", LIMIT, || {
        lab.node(1).has_address()
    })?;
    let second = keepalived(lab.node(2), replication.notify())?;
    await_until("fw2 becomes standby", LIMIT, || {
        Ok(second.has_said("Entering BACKUP STATE"))
    })?;
    lab.await_path()?;

    let more = u64::from(arguments.flows);
    if more > 0 {
        view.step(&format!(
            "putting {more} further flows into the table of fw1"
        ));
        bulk::create(lab.node(1).namespace(), 1, arguments.flows)?;
    }
    view.step(&format!("opening {connections} connections"));
    let traffic = Traffic::start(
        &lab,
        Spec {
            kind: Kind::Tcp,
            connections,
            every: EVERY,
        },
    )?;
    let mut stage = Stage {
        lab: &lab,
        replication: &replication,
        traffic: &traffic,
        peer,
        answers: traffic.answers(),
        counts: Counts::default(),
        lights: [Light::Active, Light::Standby],
    };

    view.step("every connection says a line every 50 ms, and the server answers");
    if peer != Peer::None {
        stage.await_agreement(&mut view, u64::try_from(connections)? + more)?;
        let Counts { told, held, .. } = stage.counts;
        view.step(&format!("fw1 tracks {told} flows, and fw2 holds {held}"));
    }
    stage.show(&mut view, PEACE, || Ok(false))?;

    view.step("cutting all cables of fw1");
    let filled = Watch::start(lab.node(2).namespace(), u64::try_from(connections)? + more)?;
    lab.cut(lab.node(1))?;
    // Zero is when the last cable is out: what was sent before may still be answered.
    traffic.mark();
    let cut = Instant::now();
    view.freeze();
    stage.lights[0] = Light::Dead;
    stage.show(&mut view, RETURN, || {
        Ok(traffic.back() + traffic.ended() >= connections)
    })?;
    view.step(match peer {
        Peer::None => "fw1 is dead, fw2 has its addresses and knows nothing of its flows",
        Peer::Ctsyncd | Peer::Conntrackd => "fw1 is dead, fw2 carries on",
    });
    stage.show(&mut view, AFTER, || Ok(false))?;
    let outcome = traffic.outcome();

    let mut moments = vec![Moment {
        after: Some(Duration::ZERO),
        what: "all cables of fw1 are cut".to_owned(),
    }];
    let seen = |process: &Process, text: &str| process.find(text, cut).map(|line| line.at - cut);
    moments.push(Moment {
        after: seen(&second, "Entering MASTER STATE"),
        what: "keepalived on fw2: MASTER".to_owned(),
    });
    let inside = seen(&addresses, INSIDE_VIP);
    let outside = seen(&addresses, OUTSIDE_VIP);
    moments.push(Moment {
        after: inside.max(outside),
        what: "fw2 has the addresses".to_owned(),
    });
    moments.push(Moment {
        after: filled.reached().map(|reached| reached - cut),
        what: takeover(&replication)?,
    });
    if outcome.alive > 0 {
        moments.push(Moment {
            after: outcome.first_back,
            what: "first connection is answered again".to_owned(),
        });
        moments.push(Moment {
            after: outcome.last_back,
            what: format!("last of {} connections is answered again", outcome.alive),
        });
    }
    Ok(pronounce(peer, &outcome, EVERY, moments))
}

/// What is on the stage while the view shows it.
#[derive(Debug)]
struct Stage<'a> {
    lab: &'a Lab,
    replication: &'a Replication,
    traffic: &'a Traffic,
    peer: Peer,
    answers: u64,
    counts: Counts,
    lights: [Light; 2],
}

impl Stage<'_> {
    /// Draws for at most `span`, or until `enough`.
    fn show(
        &mut self,
        view: &mut View,
        span: Duration,
        mut enough: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut cells = 0;
        while start.elapsed() < span && !enough()? {
            // The firewalls are asked now and then only: asking must not cost what is measured.
            if cells % 4 == 0 {
                self.look()?;
            }
            let answers = self.traffic.answers();
            view.push(answers - self.answers);
            self.answers = answers;
            view.draw(&self.scene());
            cells += 1;
            let next = start + CELL * cells;
            pass(next.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }

    fn await_agreement(&mut self, view: &mut View, flows: u64) -> Result<()> {
        let start = Instant::now();
        loop {
            self.show(view, CELL * 5, || Ok(false))?;
            let enough = self.counts.held >= flows;
            if enough && self.counts.held == self.counts.told {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                bail!("the firewalls do not agree: {:?}", self.counts);
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        self.counts = self.replication.counts(self.lab, 1)?;
        if self.lights[1] == Light::Standby && self.lab.node(2).has_address()? {
            self.lights[1] = Light::Active;
        }
        Ok(())
    }

    fn scene(&self) -> Scene {
        let Counts { kernel, told, held } = self.counts;
        let flows = if self.lights[0] == Light::Dead {
            format!("{} in the kernel of fw2", kernel[1])
        } else if self.peer == Peer::None {
            format!("fw1 tracks {told}, fw2 knows nothing of them")
        } else if told == held {
            format!("fw1 tracks {told}  =  fw2 holds {held}")
        } else {
            format!("fw1 tracks {told}  ≠  fw2 holds {held}")
        };
        Scene {
            lights: self.lights,
            talking: self.traffic.answered_within(Duration::from_millis(250)),
            connections: self.traffic.outcome().connections,
            flows,
            agree: told == held && self.peer != Peer::None,
        }
    }
}
