use super::*;

const LEASE: Duration = Duration::from_secs(30);

fn election(identity: &str, key: &str) -> Election {
    Election::new(identity.to_owned(), Key::parse(key), LEASE)
}

/// A wall clock that has nothing to do with anybody else's.
fn at(start: Instant, seconds: u64) -> Now {
    Now {
        steady: start + Duration::from_secs(seconds),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + seconds),
    }
}

fn held_by(identity: &str, key: &str) -> String {
    format!(
        r#"{{"holderIdentity":"{identity}","holderKey":"{key}","leaseDurationSeconds":30,
        "acquireTime":"2030-01-01T00:00:00Z","renewTime":"2030-01-01T00:00:00Z",
        "leaderTransitions":4}}"#
    )
}

fn text(verdict: Verdict) -> String {
    match verdict {
        Verdict::Write(record) => serde_json::to_string(&record).unwrap(),
        Verdict::Held(record) => panic!("held by {record:?}"),
    }
}

fn is_held(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Held(_))
}

#[test]
fn a_new_lock_reads_as_istiod_writes_it() {
    let verdict = election("isthmus-0", "default").judge(None, None, at(Instant::now(), 0));
    assert_eq!(
        text(verdict),
        r#"{"holderIdentity":"isthmus-0","holderKey":"default","leaseDurationSeconds":30,"acquireTime":"1970-01-01T00:16:40Z","renewTime":"1970-01-01T00:16:40Z","leaderTransitions":0}"#
    );
}

#[test]
fn a_lock_is_taken_when_nobody_renewed_it_for_a_lease() {
    let start = Instant::now();
    let mut election = election("b", "default");
    let first = held_by("a", "default");
    assert!(is_held(&election.judge(Some(&first), None, at(start, 0))));
    assert!(is_held(&election.judge(Some(&first), None, at(start, 29))));
    // It was renewed: the wait begins again, whatever its times say.
    let second = first.replace("renewTime\":\"2030", "renewTime\":\"1999");
    assert!(is_held(&election.judge(Some(&second), None, at(start, 31))));
    assert!(is_held(&election.judge(Some(&second), None, at(start, 60))));
    let taken = election.judge(Some(&second), None, at(start, 61));
    assert!(text(taken).contains(r#""leaderTransitions":5"#));
}

#[test]
fn a_holder_renews_its_own_lock_and_keeps_its_history() {
    let start = Instant::now();
    let mut election = election("a", "default");
    let first = text(election.judge(Some(&held_by("a", "default")), None, at(start, 0)));
    assert!(first.contains(r#""acquireTime":"2030-01-01T00:00:00Z""#));
    assert!(first.contains(r#""renewTime":"1970-01-01T00:16:40Z""#));
    assert!(first.contains(r#""leaderTransitions":4"#));
}

#[test]
fn a_lock_that_was_given_back_is_taken_at_once() {
    let now = at(Instant::now(), 0);
    let released = Election::released(&held_by("a", "default"), now.wall);
    let released = serde_json::to_string(&released).unwrap();
    let taken = election("b", "default").judge(Some(&released), None, now);
    assert!(text(taken).contains(r#""holderIdentity":"b""#));
}

#[test]
fn the_default_revision_takes_the_lock_from_the_others() {
    let now = at(Instant::now(), 0);
    let canary = held_by("a", "canary");
    assert!(election("b", "default").asks_for_default(&canary));
    assert!(is_held(&election("b", "default").judge(
        Some(&canary),
        None,
        now
    )));
    let default = Some("default");
    let taken = election("b", "default").judge(Some(&canary), default, now);
    assert!(text(taken).contains(r#""holderKey":"default""#));
    let held = held_by("a", "default");
    assert!(is_held(&election("b", "canary").judge(
        Some(&held),
        default,
        now
    )));
    // A remote one that is the default revision too.
    let taken = election("b", "^default").judge(Some(&canary), default, now);
    assert!(text(taken).contains(r#""holderKey":"^default""#));
}

#[test]
fn a_local_control_plane_takes_the_lock_from_a_remote_one() {
    let now = at(Instant::now(), 0);
    let remote = held_by("a", "^default");
    assert!(!is_held(&election("b", "default").judge(
        Some(&remote),
        None,
        now
    )));
    assert!(is_held(&election("b", "^default").judge(
        Some(&remote),
        None,
        now
    )));
    assert!(is_held(&election("b", "canary").judge(
        Some(&remote),
        None,
        now
    )));
    let local = held_by("a", "default");
    assert!(is_held(&election("b", "^default").judge(
        Some(&local),
        None,
        now
    )));
}

#[test]
fn a_lock_that_cannot_be_read_is_waited_out() {
    let start = Instant::now();
    let mut election = election("b", "default");
    assert!(is_held(&election.judge(
        Some("{garbage"),
        None,
        at(start, 0)
    )));
    assert!(!is_held(&election.judge(
        Some("{garbage"),
        None,
        at(start, 30)
    )));
}

#[test]
fn a_config_map_without_a_record_is_free() {
    let now = at(Instant::now(), 0);
    assert!(!is_held(&election("b", "default").judge(
        Some(""),
        None,
        now
    )));
}

#[test]
fn times_of_go_that_are_not_set_are_read() {
    let record = r#"{"holderIdentity":"a","holderKey":"","acquireTime":null,"renewTime":null}"#;
    assert!(is_held(&election("b", "default").judge(
        Some(record),
        None,
        at(Instant::now(), 0)
    )));
}
