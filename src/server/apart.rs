//! Work that other tasks must not wait for.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Does work, and what is `long` where no other task waits for it: the other
/// tasks of this thread move to another, and the operating system shares the
/// cores among both. A move costs some tens of microseconds.
pub(crate) fn apart<T>(long: bool, work: impl FnOnce() -> T) -> T {
    let flavor = || Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if long && matches!(flavor(), Ok(RuntimeFlavor::MultiThread)) {
        block_in_place(work)
    } else {
        work()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_worker_goes_on_while_long_work_lasts() {
        let (done, ended) = mpsc::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let others = JoinSet::from_iter([async move { done.send(7) }]);
            // It ends only if another task runs meanwhile.
            let seen = apart(true, || ended.recv());
            (seen, others.join_all().await)
        });
        let ended = tasks.join_next().await.expect("a task").expect("no panic");
        assert_eq!(ended, (Ok(7), vec![Ok(())]));
    }

    #[test]
    fn work_is_done_where_there_is_no_runtime() {
        assert_eq!(apart(true, || 7), 7);
    }
}
