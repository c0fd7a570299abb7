//! Any text as the name of an Envoy cluster: a name that parses prints itself
//! again, and its SNI form is a name of the same service.
//!
//! `cargo +nightly fuzz run cluster_name`
#![no_main]

use isthmus::model::ClusterName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(name) = text.parse::<ClusterName>() else {
        return;
    };
    assert_eq!(name.to_string(), text);
    let sni = name.sni_dnat();
    if let Ok(again) = sni.to_string().parse::<ClusterName>() {
        assert_eq!(again.port, sni.port);
    }
});
