use super::*;

fn plan(namespaces: &[&str]) -> Plan {
    let mut plan = Plan::default();
    let names = namespaces
        .iter()
        .map(|name| (Arc::from(*name), labelled(&[])));
    plan.list_namespaces(names.collect());
    plan.list_held(BTreeMap::new());
    plan
}

fn labelled(labels: &[(&str, &str)]) -> NamespaceState {
    NamespaceState {
        labels: labels.iter().copied().collect(),
        ending: false,
    }
}

fn names(due: &Due) -> Vec<&str> {
    due.now.iter().map(|name| &**name).collect()
}

#[test]
fn every_namespace_without_the_root_is_due() {
    let (root, other) = (Digest::of("root"), Digest::of("other"));
    let mut plan = plan(&[
        "a",
        "b",
        "c",
        "kube-system",
        "kube-public",
        "kube-node-lease",
    ]);
    plan.set_held(Arc::from("a"), root);
    plan.set_held(Arc::from("b"), other);
    let now = Instant::now();
    assert_eq!(names(&plan.due(root, &[], now)), ["b", "c", "kube-system"]);
    assert_eq!(names(&plan.due(other, &[], now)), ["a", "c", "kube-system"]);
}

#[test]
fn nothing_is_due_before_both_lists_are_known() {
    let root = Digest::of("root");
    let mut plan = Plan::default();
    plan.list_namespaces(BTreeMap::from([(Arc::from("a"), labelled(&[]))]));
    assert_eq!(plan.due(root, &[], Instant::now()).now, []);
    plan.list_held(BTreeMap::new());
    assert_eq!(plan.due(root, &[], Instant::now()).now.len(), 1);
}

#[test]
fn namespaces_that_end_or_are_not_selected_are_left_alone() {
    let root = Digest::of("root");
    let mut plan = plan(&["plain"]);
    plan.set_namespace(Arc::from("mesh"), labelled(&[("mesh", "yes")]));
    let mut ending = labelled(&[("mesh", "yes")]);
    ending.ending = true;
    plan.set_namespace(Arc::from("ending"), ending);
    let selector = LabelSelector {
        labels: [("mesh", "yes")].into_iter().collect(),
        ..LabelSelector::default()
    };
    assert_eq!(
        names(&plan.due(root, &[selector], Instant::now())),
        ["mesh"]
    );
}

#[test]
fn repairs_that_somebody_undoes_become_rare_and_are_told_once() {
    let (root, other) = (Digest::of("root"), Digest::of("other"));
    let mut plan = plan(&["a"]);
    let name: Name = Arc::from("a");
    let mut now = Instant::now();
    let (start, mut told) = (now, 0);
    for _ in 0..12 {
        let due = plan.due(root, &[], now);
        now = due.next.unwrap_or(now);
        assert_eq!(names(&plan.due(root, &[], now)), ["a"]);
        told += usize::from(plan.wrote(&name, root, now, Outcome::Written));
        assert_eq!(plan.due(root, &[], now).now, []);
        plan.set_held(Arc::clone(&name), other);
    }
    assert_eq!(told, 1);
    assert!(now - start > Duration::from_mins(5));
    // Another root is another matter.
    assert!(
        plan.due(Digest::of("new"), &[], now + FIRST_PAUSE)
            .now
            .len()
            == 1
    );
}

#[test]
fn a_first_repair_is_made_within_a_second() {
    let root = Digest::of("root");
    let mut plan = plan(&["a"]);
    let name: Name = Arc::from("a");
    let now = Instant::now();
    plan.wrote(&name, root, now, Outcome::Written);
    plan.remove_held("a");
    let next = plan.due(root, &[], now).next.unwrap();
    assert!(next - now <= Duration::from_secs(1));
    let later = now + Duration::from_hours(1);
    assert_eq!(names(&plan.due(root, &[], later)), ["a"]);
}

#[test]
fn failures_are_tried_again_later_and_later_for_ever() {
    let root = Digest::of("root");
    let mut plan = plan(&["a"]);
    let name: Name = Arc::from("a");
    let mut now = Instant::now();
    let mut pauses = Vec::new();
    for _ in 0..20 {
        assert!(!plan.wrote(&name, root, now, Outcome::Failed));
        let next = plan.due(root, &[], now).next.unwrap();
        pauses.push(next - now);
        now = next;
    }
    assert!(pauses.is_sorted());
    assert_eq!(pauses.last(), Some(&LAST_PAUSE));
}

#[test]
fn a_large_cluster_is_written_in_batches() {
    let names: Vec<_> = (0..200).map(|i| format!("n{i:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut plan = plan(&names);
    let (root, now) = (Digest::of("root"), Instant::now());
    let mut rounds = 0;
    loop {
        let due = plan.due(root, &[], now);
        if due.now.is_empty() {
            break;
        }
        rounds += 1;
        for name in &due.now {
            plan.wrote(name, root, now, Outcome::Written);
        }
    }
    assert_eq!(rounds, 4);
}

#[test]
fn a_namespace_that_comes_back_is_new() {
    let root = Digest::of("root");
    let mut plan = plan(&["a"]);
    let (name, now): (Name, _) = (Arc::from("a"), Instant::now());
    for _ in 0..5 {
        plan.wrote(&name, root, now, Outcome::Failed);
    }
    plan.remove_namespace("a");
    plan.set_namespace(Arc::clone(&name), labelled(&[]));
    assert_eq!(names_of(&plan, root, now), 1);
}

fn names_of(plan: &Plan, root: Digest, now: Instant) -> usize {
    plan.due(root, &[], now).now.len()
}
