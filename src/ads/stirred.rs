//! Where a session has to look.

use crate::model::TypeUrl;

/// Types of which something may be due. At ten changes a second the memory of
/// ten thousand streams is cold: who hears of endpoints asks no other type.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stirred {
    types: u8,
    /// Clusters are to be removed when nothing refers to them any more.
    pub(super) leaving: bool,
}

impl Stirred {
    pub(super) fn set(&mut self, kind: TypeUrl, stirred: bool) {
        let bit = 1 << kind as u8;
        self.types = self.types & !bit | if stirred { bit } else { 0 };
    }

    /// In push order.
    pub(super) fn types(self) -> impl Iterator<Item = TypeUrl> {
        let all = TypeUrl::ALL.into_iter();
        all.filter(move |kind| self.types & 1 << *kind as u8 != 0)
    }
}
