//! Compares what a control plane answers the proxies of a scenario with what
//! istiod answered them.

use std::path::Path;

use isthmus::testing::record::{Answers, ControlPlane, Scenario, record};

use crate::support::plane::Plane;

pub(crate) fn read(name: &str) -> Scenario {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scenarios")
        .join(name);
    Scenario::read(&folder).expect("a scenario")
}

/// The control plane answers once it is ready, so one look must do.
pub(crate) async fn assert_answers_as_istiod(
    scenario: &Scenario,
    of: &ControlPlane,
    plane: &Plane,
) {
    let mut report = Vec::new();
    for proxy in scenario.proxies_of(of) {
        let recorded = scenario.recorded(proxy).expect("a recording");
        let live = record(plane.ads(), proxy).await;
        let live = live.unwrap_or_else(|error| panic!("{error}\n{}", plane.log()));
        let expected = recorded.outbound().with_each_address_once();
        let actual = Answers::from(&live).outbound();
        for difference in Answers::differences(&expected, &actual) {
            report.push(format!("{}: {difference}", proxy.name));
        }
    }
    let (name, report) = (scenario.folder.display(), report.join("\n"));
    assert!(
        report.is_empty(),
        "{name}, {}: istiod -, isthmus +\n{report}",
        of.cluster
    );
}
