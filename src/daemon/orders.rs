//! Orders to the engine, from whoever answers the control socket, and their way back.

use tokio::sync::{mpsc, oneshot};

use crate::engine::{Command, JobResult, Reply};

/// An order, and where its answer goes.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The answer to an order.
#[derive(Debug)]
pub(super) enum Answer {
    /// It was answered at once.
    Reply(Reply),
    /// It took a while.
    Ended(JobResult),
}

/// Gives orders to the engine.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    orders: mpsc::Sender<Order>,
}

impl Asker {
    pub(super) fn new(orders: mpsc::Sender<Order>) -> Self {
        Self { orders }
    }

    /// Asks for something that is answered at once; `None` if the engine is gone.
    pub(super) async fn ask(&self, command: Command) -> Option<Reply> {
        match self.order(command).await? {
            Answer::Reply(reply) => Some(reply),
            Answer::Ended(_) => None,
        }
    }

    /// Orders something; whoever wants to know can wait for the answer. `None` if the engine is
    /// gone.
    pub(super) async fn order_only(&self, command: Command) -> Option<oneshot::Receiver<Answer>> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order { command, answer }).await.ok()?;
        Some(answered)
    }

    /// Orders something and waits until it is done; `None` if the engine is gone.
    pub(super) async fn order(&self, command: Command) -> Option<Answer> {
        self.order_only(command).await?.await.ok()
    }
}
