//! Every task of the process has a name and one parent.

use std::future::Future;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;

/// What a task does.
pub(super) trait Task: Future<Output = Result<()>> + Send + 'static {}

impl<F: Future<Output = Result<()>> + Send + 'static> Task for F {}

/// All tasks; dropping it stops them.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    set: JoinSet<Ended>,
}

/// How a task ended.
#[derive(Debug)]
struct Ended {
    name: &'static str,
    /// It was to end some time.
    expected: bool,
    result: Result<()>,
}

impl Tasks {
    /// Starts a task that is to live as long as the process.
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Task) {
        self.start(name, false, task);
    }

    /// Starts a task that ends when its work is done.
    pub(super) fn spawn_once(&mut self, name: &'static str, task: impl Task) {
        self.start(name, true, task);
    }

    fn start(&mut self, name: &'static str, expected: bool, task: impl Task) {
        self.set.spawn(async move {
            let result = task.await;
            Ended {
                name,
                expected,
                result,
            }
        });
    }

    /// Waits until a task fails, panics, or ends that is to live on. The error
    /// says which.
    pub(super) async fn first_end(&mut self) -> anyhow::Error {
        while let Some(ended) = self.set.join_next().await {
            match ended {
                Ok(Ended {
                    expected: true,
                    result: Ok(()),
                    ..
                }) => {}
                Ok(Ended {
                    name,
                    result: Ok(()),
                    ..
                }) => {
                    return anyhow!("{name} ended unexpectedly");
                }
                Ok(Ended {
                    name,
                    result: Err(error),
                    ..
                }) => {
                    return error.context(format!("{name} failed"));
                }
                Err(error) => return anyhow!("a task did not finish: {error}"),
            }
        }
        anyhow!("no task is left")
    }

    /// Waits for all tasks after they were told to stop; the first error wins.
    pub(super) async fn finish(mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(ended) = self.set.join_next().await {
            let result = match ended {
                Ok(Ended { name, result, .. }) => {
                    result.map_err(|e| e.context(format!("{name} failed")))
                }
                Err(error) => Err(anyhow!("a task did not finish: {error}")),
            };
            first = first.and(result);
        }
        first
    }
}
