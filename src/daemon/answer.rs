//! Requests of control clients: asked of the engine, answered in JSON.

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::driver::{Answer, Asker};
use crate::control::message::{DumpFormat, DumpTable, FlushWhat, Request, Response, ResyncWhat};
use crate::control::server::Call;
use crate::engine::{Command, FlowsFrom, JobResult, Reply};
use crate::flow::text::{ExpectationJson, FlowJson, write_expectation, write_line};
use crate::flow::{Expectation, Flow, Rare};

/// Slots of a table that the engine looks at for one piece of a listing: well under a millisecond.
const SLOTS_PER_PIECE: u32 = 1_024;

/// Answers one call: any number of lines, then an ending.
pub(super) async fn answer(call: Call, asker: Asker) {
    let Call { request, reply } = call;
    let outcome = match request {
        Request::Dump {
            table,
            format,
            expectations,
        } => dump(&asker, table, format, expectations, &reply).await,
        request => carry_out(&asker, request).await,
    };
    let ending = match outcome {
        Ok(value) => Response::Done(value),
        Err(reason) => Response::Failed(reason),
    };
    // A client that is gone misses nothing.
    let _ = reply.send(ending).await;
}

async fn carry_out(asker: &Asker, request: Request) -> Result<Value, String> {
    match request {
        Request::Status => match ask(asker, Command::Status).await? {
            Reply::Status(status) => to_value(&status),
            _ => Err(UNEXPECTED.into()),
        },
        Request::Stats => match ask(asker, Command::Stats).await? {
            Reply::Stats(stats) => Ok(nest(stats)),
            _ => Err(UNEXPECTED.into()),
        },
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
            let is_master = match state.as_str() {
                "MASTER" => true,
                "BACKUP" | "FAULT" | "STOP" | "DELETED" => false,
                other => {
                    return Err(format!(
                        "keepalived's state {other:?} is not known: expected MASTER, BACKUP, \
                         FAULT, STOP or DELETED"
                    ));
                }
            };
            change_role(
                asker,
                Command::Instance {
                    kind,
                    name,
                    is_master,
                },
            )
            .await
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
        | JobResult::Done
        | JobResult::Failed(_) => Value::Null,
    };
    let mut value = role(asker).await?;
    value["commit"] = commit;
    Ok(value)
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
