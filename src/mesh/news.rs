//! What changed since one reader looked last, as far as it concerns it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::{ChangeSet, publish::Unread};
use crate::model::Hostname;

/// What a stream must look at again. It says where to look and never what is
/// there: that is read from the newest snapshot, so news that wait for long
/// become more, never older.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// CDS, LDS and RDS may differ.
    pub config: bool,
    /// Name tables may differ.
    pub names: bool,
    /// Every endpoint answer may differ.
    pub all_endpoints: bool,
    /// Hosts that the reader watches and whose endpoint answers may differ.
    pub hosts: BTreeSet<Hostname>,
}

impl News {
    /// Everything may differ.
    pub fn everything() -> Self {
        Self {
            config: true,
            names: true,
            all_endpoints: true,
            hosts: BTreeSet::new(),
        }
    }

    /// What `changes` means to every reader, whatever it watches; `None` where
    /// it means nothing.
    pub(super) fn for_all(changes: &ChangeSet) -> Option<Self> {
        let news = Self {
            config: changes.config,
            names: changes.config || changes.names,
            all_endpoints: changes.all_endpoints,
            hosts: BTreeSet::new(),
        };
        (news.names || news.all_endpoints).then_some(news)
    }

    fn merge(&mut self, more: &Self) {
        self.config |= more.config;
        self.names |= more.names;
        self.all_endpoints |= more.all_endpoints;
        self.hosts.extend(more.hosts.iter().cloned());
        if self.all_endpoints {
            self.hosts.clear();
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

    pub(super) fn tell_host(&self, unread: &Arc<Unread>, host: &Hostname) {
        self.put(unread, |waiting| {
            if !waiting.all_endpoints {
                waiting.hosts.insert(host.clone());
            }
        });
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
