use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Namespace, ObjectMeta, OutlierDetection, PolicySettings, Subset, TlsSetting, TrafficPolicy,
};

/// A rule `name` of `namespace` for `host`, with one subset of its own name.
fn rule(namespace: &str, name: &str, host: &str) -> DestinationRule {
    DestinationRule {
        meta: ObjectMeta {
            created: Arc::from("2026-01-01T00:00:00Z"),
            name: Arc::from(name),
            namespace: Namespace::from(namespace),
        },
        host: Arc::from(host),
        export_to: None,
        workload_selector: Labels::default(),
        policy: TrafficPolicy::default(),
        subsets: vec![subset(name)],
    }
}

fn subset(name: &str) -> Subset {
    Subset {
        name: Arc::from(name),
        labels: Labels::default(),
        policy: TrafficPolicy::default(),
    }
}

fn tls(mode: TlsSetting) -> TrafficPolicy {
    let base = PolicySettings {
        tls: Some(Arc::new(mode.into())),
        ..PolicySettings::default()
    };
    TrafficPolicy {
        base,
        ports: Vec::new(),
    }
}

impl DestinationRule {
    fn exported(mut self, to: &str) -> Self {
        self.export_to = ExportTo::parse(to.split(','), &self.meta.namespace);
        self
    }

    fn for_app(mut self, app: &str) -> Self {
        self.workload_selector = [("app", app)].into_iter().collect();
        self
    }

    fn created(mut self, second: u8) -> Self {
        self.meta.created = Arc::from(format!("2026-01-01T00:00:{second:02}Z"));
        self
    }
}

fn rules(all: impl IntoIterator<Item = DestinationRule>) -> Rules {
    Rules::new(all.into_iter().map(Arc::new), &ExportTo::Everyone)
}

/// Subsets of the rule that a client with label `app` of `namespace` uses.
fn chosen_by(rules: &Rules, client: (&str, &str), host: &str, service: &str) -> Option<String> {
    let (namespace, app) = client;
    let labels: Labels = [("app", app)].into_iter().collect();
    let client = RuleClient {
        namespace,
        root_namespace: "istio-system",
        labels: &labels,
    };
    let candidates = rules.for_host(&Hostname::from(host));
    let at = select(&candidates, &client, service)?;
    let subsets = candidates[usize::from(at)].subsets.iter();
    Some(subsets.map(|s| &*s.name).collect::<Vec<_>>().join(","))
}

fn chosen(rules: &Rules, client: &str, host: &str, service: &str) -> Option<String> {
    chosen_by(rules, (client, "any"), host, service)
}

/// istiod: `TestSetDestinationRuleWithExportTo`.
fn with_exports() -> Rules {
    rules([
        rule("test1", "s1", "httpbin.org").exported(".,ns1"),
        rule("test2", "s2", "httpbin.org").exported("test2,ns1,test1,newNS"),
        rule("test3", "s3", "httpbin.org").exported("test1,test2,*"),
        rule("test4", "s4", "httpbin.org").exported("test4"),
        rule("istio-system", "root", "httpbin.org"),
        rule("istio-system", "rootlocal", "httpbin.org").exported("."),
        rule("istio-system", "org", "*.org").exported("."),
        rule("istio-system", "apporg", "*.app.org").exported("."),
        rule("test5", "s5", "api.test.com").exported("istio-system"),
        rule("test6", "s6", "api.test.com").exported("istio-system"),
    ])
}

#[test]
fn the_clients_namespace_comes_first_then_the_services_then_the_root() {
    let rules = with_exports();
    for (client, service, wanted) in [
        ("test1", "test1", "s1"),
        ("test1", "test2", "s1"),
        ("test2", "test1", "s2"),
        ("newNS", "test2", "s2"),
        ("test3", "test1", "s3"),
        ("test5", "test4", "root"),
        ("ns1", "test1", "s1"),
        ("ns1", "random", "root"),
        ("random", "random", "root"),
        ("test3", "random", "s3"),
        ("istio-system", "random", "rootlocal"),
        ("istio-system", "istio-system", "rootlocal"),
    ] {
        let got = chosen(&rules, client, "httpbin.org", service);
        assert_eq!(got.as_deref(), Some(wanted), "{client} calls {service}");
    }
}

#[test]
fn a_client_in_the_root_namespace_prefers_the_services_own_rule() {
    let rules = with_exports();
    let called = |service| chosen(&rules, "istio-system", "api.test.com", service);
    assert_eq!(called("test5").as_deref(), Some("s5"));
    assert_eq!(called("test6").as_deref(), Some("s6"));
    assert_eq!(called("test7"), None);
}

#[test]
fn the_longest_wildcard_of_a_namespace_wins() {
    let rules = with_exports();
    let got = chosen(&rules, "istio-system", "foo.app.org", "random");
    assert_eq!(got.as_deref(), Some("apporg"));
    let got = chosen(&rules, "istio-system", "foo.org", "random");
    assert_eq!(got.as_deref(), Some("org"));
}

#[test]
fn rules_of_one_host_and_audience_are_merged_oldest_first() {
    let mut old = rule("test", "a", "h").created(1);
    old.subsets = vec![subset("v1"), subset("v2")];
    let mut new = rule("test", "b", "h").created(2);
    new.subsets = vec![
        Subset {
            policy: tls(TlsSetting::Disable),
            ..subset("v2")
        },
        subset("v3"),
    ];
    new.policy = tls(TlsSetting::Simple);
    let mut newest = rule("test", "c", "h").created(3);
    newest.policy = tls(TlsSetting::Mutual);
    let merged = rules([newest, new, old]).for_host(&Hostname::from("h"));
    assert_eq!(merged.len(), 1);
    let merged = &merged[0];
    assert_eq!(&*merged.meta.name, "a");
    let names: Vec<_> = merged.subsets.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["v1", "v2", "v3", "c"]);
    assert_eq!(merged.tls_mode("", 80), Some(TlsSetting::Simple));
    assert_eq!(merged.tls_mode("v2", 80), Some(TlsSetting::Simple));
}

#[test]
fn rules_of_other_audiences_stay_apart() {
    // istiod: TestSetDestinationRuleMerging.
    let rules = rules([
        rule("test", "s1", "h").created(1),
        rule("test", "s2", "h").created(2),
        rule("test", "s3", "h").created(3).exported("istio-system"),
    ]);
    assert_eq!(
        chosen(&rules, "test", "h", "test").as_deref(),
        Some("s1,s2")
    );
    assert_eq!(
        chosen(&rules, "other", "h", "test").as_deref(),
        Some("s1,s2")
    );
    assert_eq!(
        chosen(&rules, "istio-system", "h", "test").as_deref(),
        Some("s3")
    );
}

#[test]
fn a_wider_rule_is_merged_into_a_narrower_one_and_stays_for_the_rest() {
    let rules = rules([
        rule("test", "s1", "h").created(1).exported("ns1"),
        rule("test", "s2", "h").created(2).exported("ns1,ns2"),
    ]);
    assert_eq!(chosen(&rules, "ns1", "h", "test").as_deref(), Some("s1,s2"));
    // istiod drops the second rule for ns2 here.
    assert_eq!(chosen(&rules, "ns2", "h", "test").as_deref(), Some("s2"));
    assert_eq!(chosen(&rules, "test", "h", "test"), None);
}

/// istiod: `TestSetDestinationRuleWithWorkloadSelector`.
fn with_selectors() -> Rules {
    rules([
        rule("test", "app1", "h")
            .created(2)
            .exported("test2,.")
            .for_app("app1"),
        rule("test", "app2", "h")
            .created(3)
            .exported("test2,.")
            .for_app("app2"),
        rule("test", "app2b", "h")
            .created(4)
            .exported("test2,.")
            .for_app("app2"),
        rule("test", "all", "h").created(1).exported(".,test2"),
    ])
}

#[test]
fn a_rule_for_chosen_workloads_wins_in_its_own_namespace() {
    let rules = with_selectors();
    let by = |namespace, app| chosen_by(&rules, (namespace, app), "h", "test");
    assert_eq!(by("test", "app1").as_deref(), Some("app1,all"));
    assert_eq!(by("test", "app2").as_deref(), Some("app2,app2b,all"));
    assert_eq!(by("test", "app3").as_deref(), Some("all"));
    assert_eq!(by("test2", "app1").as_deref(), Some("all"));
}

#[test]
fn a_private_rule_for_all_survives_one_for_chosen_workloads() {
    // istiod merges the second into the first and forgets it for the others.
    let rules = rules([
        rule("test", "app1", "h").for_app("app1"),
        rule("test", "all", "h").exported("."),
    ]);
    assert_eq!(
        chosen_by(&rules, ("test", "app1"), "h", "test").as_deref(),
        Some("app1,all")
    );
    assert_eq!(
        chosen_by(&rules, ("test", "app2"), "h", "test").as_deref(),
        Some("all")
    );
}

#[test]
fn a_public_rule_adds_nothing_to_one_for_chosen_workloads() {
    let rules = rules([
        rule("test", "app1", "h").for_app("app1"),
        rule("test", "all", "h"),
    ]);
    assert_eq!(
        chosen_by(&rules, ("test", "app1"), "h", "test").as_deref(),
        Some("app1")
    );
    assert_eq!(
        chosen_by(&rules, ("test", "app2"), "h", "test").as_deref(),
        Some("all")
    );
}

#[test]
fn rules_that_a_client_may_not_use_hide_nothing_from_it() {
    let rules = rules([
        rule("client", "app1", "h.org").for_app("app1"),
        rule("server", "private", "h.org").exported("elsewhere"),
        rule("server", "wide", "*.org"),
    ]);
    let got = chosen_by(&rules, ("client", "app2"), "h.org", "server");
    assert_eq!(got.as_deref(), Some("wide"));
}

#[test]
fn a_private_mesh_default_keeps_unmarked_rules_at_home() {
    let default = ExportTo::parse(["."], &Namespace::from(".")).unwrap_or_default();
    let rules = Rules::new([Arc::new(rule("test", "s1", "h"))], &default);
    assert_eq!(chosen(&rules, "test", "h", "test").as_deref(), Some("s1"));
    assert_eq!(chosen(&rules, "other", "h", "test"), None);
}

#[test]
fn a_wildcard_host_is_matched_by_itself_and_by_wider_wildcards() {
    let rules = rules([
        rule("ns", "own", "*.foo.com"),
        rule("ns", "wide", "*.com"),
        rule("ns", "narrow", "*.a.foo.com"),
        rule("ns", "exact", "x.foo.com"),
    ]);
    let found = rules.for_host(&Hostname::from("*.foo.com"));
    let found: Vec<_> = found.iter().map(|r| &*r.meta.name).collect();
    assert_eq!(found, ["own", "wide"]);
}

#[test]
fn one_pattern_can_be_replaced_or_removed() {
    let mut all = rules([rule("ns", "a", "h"), rule("ns", "b", "*")]);
    let h = Hostname::from("h");
    all.set(
        "h",
        vec![Arc::new(rule("ns", "c", "h"))],
        &ExportTo::Everyone,
    );
    let names: Vec<_> = all
        .for_host(&h)
        .iter()
        .map(|r| r.meta.name.to_string())
        .collect();
    assert_eq!(names, ["c", "b"]);
    all.set("*", Vec::new(), &ExportTo::Everyone);
    all.set("h", Vec::new(), &ExportTo::Everyone);
    assert!(all.for_host(&h).is_empty());
}

#[test]
fn a_policy_of_any_field_counts_as_a_policy() {
    let mut with = rule("ns", "a", "h").created(1);
    with.policy.base.outlier_detection = Some(OutlierDetection::default());
    let mut other = rule("ns", "b", "h").created(2);
    other.policy = tls(TlsSetting::Disable);
    let merged = rules([with, other]).for_host(&Hostname::from("h"));
    assert_eq!(merged[0].tls_mode("", 80), None);
}

fn host() -> impl Strategy<Value = String> {
    "(\\*|[ab](\\.[ab]){0,2}|\\*(\\.[ab]){1,2}|\\*[ab])"
}

fn any_rule() -> impl Strategy<Value = DestinationRule> {
    let export = prop::option::of(prop::sample::subsequence(
        vec![".", "*", "n1", "n2", "r"],
        1..3,
    ));
    (
        "n[123]|r",
        "[a-d]",
        host(),
        export,
        prop::option::of("[xy]"),
        0u8..4,
    )
        .prop_map(|(namespace, name, host, export, app, created)| {
            let mut rule = rule(&namespace, &name, &host).created(created);
            let export = export.map(|list| ExportTo::parse(list, &rule.meta.namespace));
            rule.export_to = export.flatten();
            app.map_or(rule.clone(), |app| rule.for_app(&app))
        })
}

/// Rules of distinct names, in two orders.
fn two_orders() -> impl Strategy<Value = (Vec<DestinationRule>, Vec<DestinationRule>)> {
    let all = prop::collection::vec(any_rule(), 0..8).prop_map(|mut all| {
        let name = |rule: &DestinationRule| rule.meta.namespace.to_string() + &rule.meta.name;
        all.sort_by_key(name);
        all.dedup_by_key(|rule| name(rule));
        all
    });
    all.prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
}

proptest! {
    #[test]
    fn the_choice_depends_on_no_order(
        orders in two_orders(),
        host in host(),
        namespace in "n[123]|r",
        app in "[xy]",
        service in "n[123]|r",
    ) {
        let host = Hostname::from(host);
        let first = rules(orders.0).for_host(&host);
        let second = rules(orders.1).for_host(&host);
        prop_assert_eq!(&first, &second);
        prop_assert!(first.iter().all(|rule| applies_to(&rule.host, &host)));
        let labels: Labels = [("app", app)].into_iter().collect();
        let client = RuleClient { namespace: &namespace, root_namespace: "r", labels: &labels };
        if let Some(at) = select(&first, &client, &service) {
            let chosen = &first[usize::from(at)];
            prop_assert!(usable_by(chosen, &client));
        }
    }

    #[test]
    fn a_rule_is_found_exactly_where_its_pattern_applies(pattern in host(), host in host()) {
        let all = rules([rule("ns", "a", &pattern)]);
        let found = !all.for_host(&Hostname::from(host.as_str())).is_empty();
        prop_assert_eq!(found, applies_to(&pattern, &host));
    }
}
