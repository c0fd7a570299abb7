//! `trafficDistribution`: which endpoints a service prefers by distance.

/// `spec.trafficDistribution` or its annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TrafficDistribution {
    /// No preference.
    #[default]
    Any,
    /// Network, region, zone (`PreferSameZone`, `PreferClose`).
    PreferSameZone,
    /// Network, region, zone, subzone, node (`PreferSameNode`).
    PreferSameNode,
}

impl TrafficDistribution {
    /// What holds for a service, from its field and the annotation
    /// `networking.istio.io/traffic-distribution` of itself and its namespace.
    ///
    /// split-horizon §1.6: the field counts under its exact names; the
    /// annotations ignore case, and the first non-empty one decides, `Any`
    /// where it is not understood.
    ///
    /// ```
    /// use isthmus::model::TrafficDistribution as Td;
    /// assert_eq!(Td::choose(Some("PreferClose"), Some("any"), None), Td::PreferSameZone);
    /// assert_eq!(Td::choose(None, Some("any"), Some("PreferClose")), Td::Any);
    /// ```
    pub fn choose(field: Option<&str>, service: Option<&str>, namespace: Option<&str>) -> Self {
        match field {
            Some("PreferSameZone" | "PreferClose") => return Self::PreferSameZone,
            Some("PreferSameNode") => return Self::PreferSameNode,
            _ => {}
        }
        let given = |text: &&str| !text.is_empty();
        let annotation = service
            .filter(given)
            .or(namespace.filter(given))
            .map(str::to_ascii_lowercase);
        match annotation.as_deref() {
            Some("prefersamezone" | "preferclose") => Self::PreferSameZone,
            Some("prefersamenode") => Self::PreferSameNode,
            _ => Self::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TrafficDistribution::{Any, PreferSameNode, PreferSameZone};
    use super::*;

    #[test]
    fn field_then_service_then_namespace_decides() {
        let choose = TrafficDistribution::choose;
        assert_eq!(choose(None, None, None), Any);
        assert_eq!(
            choose(Some("PreferSameNode"), Some("PreferClose"), None),
            PreferSameNode
        );
        assert_eq!(
            choose(None, Some("prefersamezone"), Some("PreferSameNode")),
            PreferSameZone
        );
        assert_eq!(choose(None, None, Some("PREFERCLOSE")), PreferSameZone);
    }

    #[test]
    fn a_field_of_another_spelling_leaves_it_to_the_annotations() {
        let choose = TrafficDistribution::choose;
        assert_eq!(choose(Some("preferclose"), None, None), Any);
        assert_eq!(
            choose(Some("preferclose"), Some("PreferClose"), None),
            PreferSameZone
        );
    }

    #[test]
    fn an_unknown_service_annotation_stops_the_search() {
        let choose = TrafficDistribution::choose;
        assert_eq!(choose(None, Some("nearby"), Some("PreferClose")), Any);
        assert_eq!(choose(None, Some(""), Some("PreferClose")), PreferSameZone);
    }
}
