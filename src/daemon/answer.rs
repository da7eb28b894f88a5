//! Requests of control clients: asked of the engine, answered in JSON.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::fifo::FifoCounters;
use super::history::History;
use super::orders::{Answer, Asker};
use crate::control::lookup::{LocalEntry, Lookup, ReplicaEntry};
use crate::control::message::{DumpFormat, DumpTable, FlushWhat, Request, Response, ResyncWhat};
use crate::control::server::Call;
use crate::engine::lookup::{Entry, Found};
use crate::engine::{Command, FlowsFrom, InstanceState, JobResult, Reply, Via};
use crate::flow::text::{ExpectationJson, FlowJson, write_expectation, write_line};
use crate::flow::{Expectation, Flow, Rare};

/// Slots of a table that the engine looks at for one piece of a listing: well under a millisecond.
const SLOTS_PER_PIECE: u32 = 1_024;

/// What answers are made of.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) asker: Asker,
    pub(super) history: Arc<Mutex<History>>,
    /// There if a FIFO is read.
    pub(super) fifo: Option<Arc<FifoCounters>>,
    pub(super) has_track_file: bool,
}

impl Desk {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one call: any number of lines, then an ending.
pub(super) async fn answer(call: Call, desk: Desk) {
    let asker = &desk.asker;
    let Call { request, reply } = call;
    let outcome = match request {
        Request::Dump {
            table,
            format,
            expectations,
        } => dump(asker, table, format, expectations, &reply).await,
        request => carry_out(&desk, request).await,
    };
    let ending = match outcome {
        Ok(value) => Response::Done(value),
        Err(reason) => Response::Failed(reason),
    };
    // A client that is gone misses nothing.
    let _ = reply.send(ending).await;
}

async fn carry_out(desk: &Desk, request: Request) -> Result<Value, String> {
    let asker = &desk.asker;
    match request {
        Request::Status => match ask(asker, Command::Status).await? {
            Reply::Status(mut status) => {
                status.last_promotion = desk.history().last_promotion().cloned();
                to_value(&status)
            }
            _ => Err(UNEXPECTED.into()),
        },
        Request::Stats => match ask(asker, Command::Stats).await? {
            Reply::Stats(mut stats) => {
                stats.extend(desk.fifo.iter().flat_map(|fifo| fifo.list()));
                Ok(nest(stats))
            }
            _ => Err(UNEXPECTED.into()),
        },
        Request::Lookup { flow } => {
            let key = flow.key().map_err(|error| error.to_string())?;
            match ask(asker, Command::Lookup(key)).await? {
                Reply::Found(found) => to_value(&lookup(&found)),
                _ => Err(UNEXPECTED.into()),
            }
        }
        Request::Commit { from } => match run(asker, Command::Commit { from }).await? {
            JobResult::Committed(status) => to_value(&status),
            _ => Err(UNEXPECTED.into()),
        },
        Request::DryRun { from } => match run(asker, Command::DryRun { from }).await? {
            JobResult::Foreseen(foreseen) => to_value(&foreseen),
            _ => Err(UNEXPECTED.into()),
        },
        Request::Promote => change_role(asker, Command::Promote).await,
        Request::Demote => change_role(asker, Command::Demote).await,
        Request::Notify {
            kind, name, state, ..
        } => {
            let state = InstanceState::parse(&state).ok_or_else(|| {
                format!(
                    "keepalived's state {state:?} is not known: expected MASTER, BACKUP, FAULT, \
                     STOP or DELETED"
                )
            })?;
            let command = Command::Instance {
                via: Via::Notify,
                instance: (kind, name),
                state,
            };
            change_role(asker, command).await
        }
        Request::Switchover { timeout_ms } => switch_over(desk, timeout_ms).await,
        Request::History => {
            let history = desk.history();
            let entries: Vec<_> = history.entries().collect();
            Ok(json!({ "entries": entries, "skipped": history.skipped() }))
        }
        Request::Flush { what } => flush(asker, what).await,
        Request::Resync { what } => {
            let command = match what {
                ResyncWhat::Kernel => Command::ResyncKernel,
                ResyncWhat::Peers => Command::ResyncPeers,
            };
            run(asker, command).await?;
            flows(asker).await
        }
        Request::Dump { .. } => Err(UNEXPECTED.into()),
    }
}

const UNEXPECTED: &str = "the engine has answered something else; this is a bug";
const GONE: &str = "the daemon is stopping";

async fn ask(asker: &Asker, command: Command) -> Result<Reply, String> {
    asker.ask(command).await.ok_or_else(|| GONE.into())
}

/// Orders something and waits for its end.
async fn run(asker: &Asker, command: Command) -> Result<JobResult, String> {
    match asker.order(command).await.ok_or(GONE)? {
        Answer::Ended(JobResult::Failed(reason)) | Answer::Reply(Reply::Refused(reason)) => {
            Err(reason)
        }
        Answer::Ended(result) => Ok(result),
        Answer::Reply(_) => Ok(JobResult::Done),
    }
}

/// Promotes or demotes, and tells what this node is then.
async fn change_role(asker: &Asker, command: Command) -> Result<Value, String> {
    let commit = match run(asker, command).await? {
        JobResult::Committed(status) => to_value(&status)?,
        JobResult::Foreseen(_)
        | JobResult::Flushed { .. }
        | JobResult::SwitchedOver(_)
        | JobResult::Done
        | JobResult::Failed(_) => Value::Null,
    };
    let mut value = role(asker).await?;
    value["commit"] = commit;
    Ok(value)
}

/// Longest switchover: whoever waits for longer has forgotten it.
const SWITCHOVER_MAX: Duration = Duration::from_secs(3600);

/// Hands over to a peer and tells how long each step took.
async fn switch_over(desk: &Desk, timeout_ms: u64) -> Result<Value, String> {
    if !desk.has_track_file {
        return Err(
            "[keepalived] track_file is not set, so keepalived cannot be told to hand over: set it, \
             track it in keepalived.conf, and restart both; or stop keepalived here"
                .into(),
        );
    }
    let timeout = Duration::from_millis(timeout_ms).min(SWITCHOVER_MAX);
    match run(&desk.asker, Command::Switchover { timeout }).await? {
        JobResult::SwitchedOver(switchover) => to_value(&switchover),
        _ => Err(UNEXPECTED.into()),
    }
}

async fn flush(asker: &Asker, what: FlushWhat) -> Result<Value, String> {
    let command = match what {
        FlushWhat::Local => Command::FlushLocal,
        FlushWhat::Kernel => Command::FlushKernel,
        FlushWhat::Replica => {
            return match ask(asker, Command::FlushReplicas).await? {
                Reply::FlowsForgotten(flows) => Ok(json!({ "flows": flows })),
                _ => Err(UNEXPECTED.into()),
            };
        }
    };
    match run(asker, command).await? {
        JobResult::Flushed { deleted, failed: 0 } => Ok(json!({ "flows": deleted })),
        JobResult::Flushed { deleted, failed } => Err(format!(
            "{failed} flows could not be deleted from the kernel; {deleted} were"
        )),
        JobResult::Committed(_)
        | JobResult::Foreseen(_)
        | JobResult::SwitchedOver(_)
        | JobResult::Done
        | JobResult::Failed(_) => flows(asker).await,
    }
}

async fn role(asker: &Asker) -> Result<Value, String> {
    match ask(asker, Command::Status).await? {
        Reply::Status(status) => Ok(json!({ "role": status.role, "term": status.term })),
        _ => Err(UNEXPECTED.into()),
    }
}

async fn flows(asker: &Asker) -> Result<Value, String> {
    match ask(asker, Command::Status).await? {
        Reply::Status(status) => Ok(json!({ "flows": status.local.flows })),
        _ => Err(UNEXPECTED.into()),
    }
}

/// Lists a table in pieces; the client's reading paces it.
async fn dump(
    asker: &Asker,
    table: DumpTable,
    format: DumpFormat,
    wants_expectations: bool,
    reply: &mpsc::Sender<Response>,
) -> Result<Value, String> {
    let mut next = Some(match table {
        DumpTable::Local => FlowsFrom::Local(0),
        DumpTable::Replica => FlowsFrom::Replica(0, 0),
    });
    while let Some(from) = next {
        let command = Command::Flows {
            from,
            slots_max: SLOTS_PER_PIECE,
        };
        let Reply::Flows {
            flows,
            expectations,
            next: following,
        } = ask(asker, command).await?
        else {
            return Err(UNEXPECTED.into());
        };
        let lines: Vec<String> = if wants_expectations {
            let lines = expectations.iter();
            let lines = lines.map(|(expectation, left)| expected(format, expectation, *left));
            lines.collect::<Result<_, _>>()?
        } else {
            let lines = flows.iter();
            let lines = lines.map(|(flow, rare, left)| line(format, flow, rare, *left));
            lines.collect::<Result<_, _>>()?
        };
        for line in lines {
            if reply.send(Response::Line(line)).await.is_err() {
                return Ok(Value::Null);
            }
        }
        next = following;
    }
    Ok(Value::Null)
}

/// What was found, for the client.
fn lookup(found: &Found) -> Lookup {
    let json =
        |entry: &Entry| Box::new(FlowJson::new(&entry.flow, &entry.rare, entry.timeout_left));
    Lookup {
        local: found.local.as_ref().map(|local| LocalEntry {
            replicates: local.replicates,
            flow: json(&local.entry),
        }),
        replicas: (found.replicas.iter())
            .map(|replica| ReplicaEntry {
                peer: replica.peer.as_str().to_owned(),
                flow: replica.entry.as_ref().map(json),
            })
            .collect(),
    }
}

fn line(format: DumpFormat, flow: &Flow, rare: &Rare, left: u32) -> Result<String, String> {
    match format {
        DumpFormat::Text => {
            let mut line = String::new();
            write_line(&mut line, flow, rare, left);
            Ok(line)
        }
        DumpFormat::Json => serde_json::to_string(&FlowJson::new(flow, rare, left))
            .map_err(|error| error.to_string()),
    }
}

fn expected(format: DumpFormat, expectation: &Expectation, left: u32) -> Result<String, String> {
    match format {
        DumpFormat::Text => {
            let mut line = String::new();
            write_expectation(&mut line, expectation, left);
            Ok(line)
        }
        DumpFormat::Json => serde_json::to_string(&ExpectationJson::new(expectation, left))
            .map_err(|error| error.to_string()),
    }
}

fn to_value(value: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// "a.b.c" counters as nested objects.
fn nest(stats: Vec<(String, u64)>) -> Value {
    let mut root = Value::Object(Map::new());
    for (path, count) in stats {
        // Names come from the code; none is a prefix of another.
        let at = path.split('.').fold(&mut root, |at, part| &mut at[part]);
        *at = count.into();
    }
    root
}
