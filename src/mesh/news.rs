//! What changed since one reader looked last, as far as it concerns it.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{ChangeSet, publish::Unread};

/// What a stream must look at again. It says where to look and never what is
/// there: that is read from the newest snapshot, so news that wait for long
/// become more, never older.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact"
)]
pub struct News {
    /// CDS, LDS and RDS may differ.
    pub config: bool,
    /// Name tables may differ.
    pub name_tables: bool,
    /// Every endpoint answer may differ.
    pub all_endpoints: bool,
    /// The workload behind the proxy differs.
    pub workload: bool,
    /// Watched names whose endpoint answers may differ, sorted.
    pub names: SmallVec<[Arc<str>; 2]>,
}

impl News {
    /// Everything may differ.
    pub fn everything() -> Self {
        Self {
            config: true,
            name_tables: true,
            all_endpoints: true,
            ..Self::default()
        }
    }

    /// What a change of the own workload means.
    pub(super) fn own() -> Self {
        Self {
            workload: true,
            ..Self::everything()
        }
    }

    /// What `changes` means to every reader, whatever it watches; `None` where
    /// it means nothing.
    pub(super) fn for_all(changes: &ChangeSet) -> Option<Self> {
        let news = Self {
            config: changes.config,
            name_tables: changes.config || changes.names,
            all_endpoints: changes.all_endpoints,
            ..Self::default()
        };
        (news.name_tables || news.all_endpoints).then_some(news)
    }

    fn merge(&mut self, more: &Self) {
        self.config |= more.config;
        self.name_tables |= more.name_tables;
        self.all_endpoints |= more.all_endpoints;
        self.workload |= more.workload;
        for name in &more.names {
            self.add(name);
        }
    }

    fn add(&mut self, name: &Arc<str>) {
        if let Err(at) = self.names.binary_search(name) {
            self.names.insert(at, Arc::clone(name));
        }
    }
}

/// Where the news of one reader wait until it takes them. They are sets, so a
/// reader that is slow holds what it watches once, however much changed.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    news: Option<(News, Arc<Unread>)>,
    waker: Option<Waker>,
}

impl Inbox {
    /// Adds to the news by `add` and wakes the reader. A reader that has not
    /// read what came before does not hold up the next publish a second time.
    fn put(&self, unread: &Arc<Unread>, add: impl FnOnce(&mut News)) {
        let mut waiting = self.0.lock();
        let start = || (News::default(), Arc::clone(unread));
        add(&mut waiting.news.get_or_insert_with(start).0);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn tell(&self, unread: &Arc<Unread>, news: &News) {
        self.put(unread, |waiting| waiting.merge(news));
    }

    pub(super) fn tell_name(&self, unread: &Arc<Unread>, name: &Arc<str>) {
        self.put(unread, |waiting| waiting.add(name));
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<News> {
        let mut waiting = self.0.lock();
        if let Some((news, _read)) = waiting.news.take() {
            return Poll::Ready(news);
        }
        match &mut waiting.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
