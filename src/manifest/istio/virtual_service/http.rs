//! `http`: one route.

use std::sync::Arc;

use serde::Deserialize;

use super::actions::{
    Answer, Cors, FaultRule, Percentage, RedirectTo, RetryRule, RewriteTo, answer, cors, fault,
    redirect, rewrite, span,
};
use super::matches::Match;
use super::{Reader, Target, Unknown, each, weight};
use crate::manifest::{
    Problem,
    json::{Int, List, Map, Text},
};
use crate::model::{
    Delegate, HeaderChanges, HeaderOperations, HttpDestination, HttpRoute, Mirror, Namespace, Share,
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Rule<'a> {
    name: Text<'a>,
    r#match: List<Match<'a>>,
    route: List<Weighted<'a>>,
    redirect: Option<RedirectTo<'a>>,
    direct_response: Option<Answer<'a>>,
    delegate: Option<DelegateTo<'a>>,
    rewrite: Option<RewriteTo<'a>>,
    timeout: Text<'a>,
    retries: Option<RetryRule<'a>>,
    fault: Option<FaultRule<'a>>,
    mirror: Option<Target<'a>>,
    mirrors: List<MirrorTo<'a>>,
    #[serde(alias = "mirror_percent")]
    mirror_percent: Int,
    mirror_percentage: Option<Percentage>,
    cors_policy: Option<Cors<'a>>,
    headers: Option<Headers<'a>>,
    #[serde(flatten)]
    unknown: Unknown<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Weighted<'a> {
    destination: Target<'a>,
    weight: Int,
    headers: Option<Headers<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Headers<'a> {
    request: Option<Changes<'a>>,
    response: Option<Changes<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Changes<'a> {
    set: Map<'a, Text<'a>>,
    add: Map<'a, Text<'a>>,
    remove: List<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct DelegateTo<'a> {
    name: Text<'a>,
    namespace: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct MirrorTo<'a> {
    destination: Target<'a>,
    percentage: Option<Percentage>,
}

/// Envoy refuses shares that are all 0, or too large in sum.
fn shares(destinations: &[HttpDestination]) -> Result<(), Problem> {
    let mut weights = destinations.iter().map(|d| d.weight);
    let sum = weights.try_fold(0_u32, u32::checked_add);
    let reason = match sum {
        None => "has weights that are too large in sum",
        Some(0) if destinations.len() > 1 => {
            "has several destinations and no weight; give them one"
        }
        Some(_) => return Ok(()),
    };
    Err(Problem::new("route", reason))
}

impl Reader<'_> {
    pub(super) fn http_route(&mut self, route: &Rule<'_>) -> Result<HttpRoute, Problem> {
        self.look_over(&route.unknown);
        let destinations = each(&route.route, "route", |item| {
            Ok(HttpDestination {
                destination: self.destination(&item.destination)?,
                weight: weight(item.weight)?,
                headers: headers(item.headers.as_ref()),
            })
        })?;
        let retries = route.retries.as_ref().map(|rule| rule.read("retries"));
        let read = HttpRoute {
            name: route.name.arc(),
            matches: each(&route.r#match, "match", |found| self.http_match(found))?,
            redirect: route.redirect.as_ref().map(redirect).transpose()?,
            direct_response: route.direct_response.as_ref().map(answer).transpose()?,
            destinations,
            delegate: route
                .delegate
                .as_ref()
                .map(|d| self.delegate(d))
                .transpose()?,
            rewrite: route.rewrite.as_ref().map(rewrite).transpose()?,
            timeout: span(&route.timeout, "timeout")?,
            retries: retries.transpose()?,
            fault: route.fault.as_ref().map(fault).transpose()?,
            mirrors: self.mirrors(route)?,
            cors: route.cors_policy.as_ref().map(cors).transpose()?,
            headers: headers(route.headers.as_ref()),
        };
        let leads_nowhere = read.redirect.is_none()
            && read.direct_response.is_none()
            && read.delegate.is_none()
            && read.destinations.is_empty();
        shares(&read.destinations)?;
        if leads_nowhere {
            let reason = "is missing; give the route a destination, redirect or directResponse";
            return Err(Problem::new("route", reason));
        }
        Ok(read)
    }

    fn delegate(&self, delegate: &DelegateTo<'_>) -> Result<Delegate, Problem> {
        if delegate.name.is_empty() {
            let reason = "is missing; name the VirtualService that has the routes";
            return Err(Problem::new("delegate.name", reason));
        }
        let namespace = delegate.namespace.filled().map(Namespace::from);
        Ok(Delegate {
            namespace: namespace.unwrap_or_else(|| self.namespace.clone()),
            name: delegate.name.arc(),
        })
    }

    fn mirrors(&self, route: &Rule<'_>) -> Result<Vec<Mirror>, Problem> {
        let single = route.mirror.as_ref().map(|target| {
            let share = match (route.mirror_percentage, route.mirror_percent.set()) {
                (Some(percentage), _) => percentage.share(),
                (None, Some(percent)) => Share::Percent(percent),
                (None, None) => Share::Percent(100),
            };
            let destination = self.destination(target);
            let destination = destination.map_err(|e| e.below(format_args!("mirror")))?;
            Ok(Mirror { destination, share })
        });
        let mut all: Vec<_> = single.transpose()?.into_iter().collect();
        all.extend(each(&route.mirrors, "mirrors", |mirror| {
            let share = mirror.percentage.map(Percentage::share);
            Ok(Mirror {
                destination: self.destination(&mirror.destination)?,
                share: share.unwrap_or(Share::Percent(100)),
            })
        })?);
        all.retain(|m| !matches!(m.share, Share::Percent(0) | Share::PerMillion(0)));
        Ok(all)
    }
}

fn headers(headers: Option<&Headers<'_>>) -> HeaderOperations {
    let changes = |changes: Option<&Changes<'_>>| {
        let changes = changes?;
        Some(HeaderChanges {
            set: sorted(&changes.set),
            add: sorted(&changes.add),
            remove: texts(&changes.remove),
        })
    };
    let request = changes(headers.and_then(|h| h.request.as_ref()));
    let response = changes(headers.and_then(|h| h.response.as_ref()));
    HeaderOperations {
        request: request.unwrap_or_default(),
        response: response.unwrap_or_default(),
    }
}

fn sorted(map: &Map<'_, Text<'_>>) -> Vec<(Arc<str>, Arc<str>)> {
    let mut all: Vec<_> = map.iter().map(|(k, v)| (k.arc(), v.arc())).collect();
    all.sort();
    all
}

pub(super) fn texts(list: &[Text<'_>]) -> Vec<Arc<str>> {
    list.iter().map(Text::arc).collect()
}
