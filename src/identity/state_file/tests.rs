use std::time::Duration;

use super::*;
use crate::testing::identity::{TestCa, TestCaOptions, now};

fn wanted() -> SelfSigned {
    SelfSigned {
        organization: "td.example".to_owned(),
        lifetime: Duration::from_hours(24),
        rsa_bits: 2048,
    }
}

#[test]
fn a_root_is_made_once_and_kept_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("deep/state");
    let first = self_signed_in(&state, &wanted(), now()).expect("a root");
    assert_eq!(first.name(), "O=td.example");
    assert!(first.intermediates().is_empty());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.join(NAME)), 0o600);
    assert_eq!(mode(&state), 0o700);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing else");
    let second = self_signed_in(&state, &wanted(), now()).expect("a root");
    assert!(first.is_same(&second));
    assert!(!first.trust_bundle().pem().contains("PRIVATE"));
}

#[test]
fn of_two_that_make_a_root_at_a_time_both_end_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let make = || self_signed_in(folder.path(), &wanted(), now()).expect("a root");
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(make);
        (make(), other.join().expect("a root"))
    });
    assert!(one.is_same(&two));
}

#[test]
fn a_damaged_file_is_told_and_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    fs::write(&path, TestCa::root(TestCaOptions::new("x")).certificate()).unwrap();
    let told = self_signed_in(folder.path(), &wanted(), now()).expect_err("no key");
    assert!(told.to_string().contains("no private key"), "{told}");
    assert!(told.to_string().contains("restore it"), "{told}");
    let odd = SelfSigned {
        rsa_bits: 1024,
        ..wanted()
    };
    assert_eq!(odd.make(now()).unwrap_err(), SelfSignedError::KeySize(1024));
}
