//! `distribute`: weights by locality.

use crate::model::{Distribute, Locality};
use crate::xds::split_horizon::LocalityGroup;

/// A locality of which parts may be left open.
struct Pattern<'a> {
    region: &'a str,
    zone: &'a str,
    subzone: &'a str,
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default();
        Self {
            region: next(),
            zone: next(),
            subzone: next(),
        }
    }

    /// istio: `LocalityMatch`: an empty zone or subzone is open, an empty
    /// region is not.
    fn matches(&self, locality: &Locality) -> bool {
        let is_open = |part: &str| part.is_empty() || part == "*";
        (self.region == "*" || self.region == locality.region())
            && (is_open(self.zone) || self.zone == locality.zone())
            && (is_open(self.subzone) || self.subzone == locality.subzone())
    }

    fn fixed_parts(&self) -> usize {
        let parts = [self.region, self.zone, self.subzone];
        parts.iter().filter(|p| !p.is_empty() && **p != "*").count()
    }
}

/// Gives the groups the weights of the first rule for `from`; groups that no
/// entry names keep their weight and lose their members, as in istiod.
///
/// Where several patterns match a group the one with the most fixed parts
/// takes it, then the first by text (istiod: any, by map order).
pub(super) fn apply(groups: &mut [LocalityGroup<'_>], rules: &[Distribute], from: &Locality) {
    let Some(rule) = rules.iter().find(|r| Pattern::parse(&r.from).matches(from)) else {
        return;
    };
    let mut entries: Vec<_> = rule
        .to
        .iter()
        .map(|(text, weight)| (Pattern::parse(text), text, *weight))
        .collect();
    entries.sort_by(|(a, a_text, _), (b, b_text, _)| {
        b.fixed_parts()
            .cmp(&a.fixed_parts())
            .then(a_text.cmp(b_text))
    });
    let mut open: Vec<_> = groups.iter_mut().collect();
    for (pattern, _, weight) in entries {
        let (mut taken, rest): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|g| pattern.matches(g.locality));
        set_weights(&mut taken, weight);
        open = rest;
    }
    for group in open {
        group.members.clear();
    }
}

/// Shares `weight` among groups in proportion to their own, rounded up. An
/// empty group counts as 1, as in istiod.
fn set_weights(groups: &mut [&mut LocalityGroup<'_>], weight: u32) {
    let own = |group: &LocalityGroup<'_>| u64::from(group.weight.unwrap_or(1));
    let total: u64 = groups.iter().map(|g| own(g)).sum();
    for group in groups {
        let share = (own(group) * u64::from(weight)).div_ceil(total.max(1));
        if share > 0 {
            group.weight = Some(u32::try_from(share).unwrap_or(u32::MAX));
        }
    }
}
