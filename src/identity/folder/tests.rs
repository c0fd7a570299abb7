//! Folders of plugged-in authorities, at start and while they change.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::identity::Lifetimes;
use crate::testing::identity::{TestCa, TestCaOptions, now};

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_secs(30);

fn intermediate() -> TestCa {
    let root = TestCa::root(TestCaOptions::new("root"));
    root.intermediate(TestCaOptions::new("intermediate"))
}

fn files(ca: &TestCa) -> [(&'static str, String); 4] {
    [
        ("ca-key.pem", ca.key().to_owned()),
        ("ca-cert.pem", ca.certificate()),
        ("cert-chain.pem", ca.chain().to_owned()),
        ("root-cert.pem", ca.root_pem().to_owned()),
    ]
}

fn tls_files(ca: &TestCa) -> [(&'static str, String); 3] {
    [
        ("tls.key", ca.key().to_owned()),
        ("tls.crt", ca.chain().to_owned()),
        ("ca.crt", ca.root_pem().to_owned()),
    ]
}

fn write<const N: usize>(folder: &Path, files: [(&str, String); N]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("a written file");
    }
}

fn at(folder: &Path) -> CaFolder {
    CaFolder {
        path: folder.to_owned(),
        ignore_generated: false,
    }
}

fn refused(folder: &Path) -> String {
    at(folder).read(now).expect_err("refused").to_string()
}

#[test]
fn both_layouts_are_read() {
    let ca = intermediate();
    let (istio, tls) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(istio.path(), files(&ca));
    write(tls.path(), tls_files(&ca));
    let read = |folder: &TempDir| {
        at(folder.path())
            .read(now)
            .expect("readable")
            .expect("parts")
    };
    let (istio, tls) = (read(&istio), read(&tls));
    assert_eq!(istio.name(), "O=Istio, CN=intermediate");
    assert!(istio.is_same(&tls));
    assert_eq!(
        istio.intermediates().len(),
        1,
        "the root goes last, as a bundle"
    );
}

#[test]
fn no_folder_and_no_parts_are_no_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(at(&folder.path().join("none")).read(now).unwrap().is_none());
    assert!(at(folder.path()).read(now).unwrap().is_none());
    fs::write(folder.path().join("ca-crl.pem"), "").unwrap();
    assert!(at(folder.path()).read(now).unwrap().is_none());
}

#[test]
fn a_missing_part_is_named() {
    let ca = intermediate();
    for missing in CaPems::NAMES {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), files(&ca));
        fs::remove_file(folder.path().join(missing)).unwrap();
        let told = refused(folder.path());
        let wanted = format!("but not {missing}:");
        assert!(told.contains(&wanted) && told.contains("folder"), "{told}");
    }
    for missing in ["tls.key", "tls.crt", "ca.crt"] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), tls_files(&ca));
        fs::remove_file(folder.path().join(missing)).unwrap();
        let told = refused(folder.path());
        assert!(told.contains(&format!("but not {missing}:")), "{told}");
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&ca));
    fs::write(folder.path().join("ca-key.pem"), "").unwrap();
    let told = refused(folder.path());
    assert!(told.contains("but not ca-key.pem"), "an empty file: {told}");
}

#[test]
fn a_root_may_sign_without_a_chain() {
    let ca = TestCa::root(TestCaOptions::new("root"));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&ca));
    fs::write(folder.path().join("cert-chain.pem"), "").unwrap();
    let read = at(folder.path()).read(now).unwrap().expect("parts");
    assert!(read.intermediates().is_empty());
}

/// A block that looks like a certificate and is none.
const HOLLOW: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

#[test]
fn parts_that_do_not_fit_are_refused_with_the_reason() {
    let (ca, other) = (intermediate(), intermediate());
    let roots_and_key = format!("{}{}", ca.root_pem(), ca.key());
    for (name, text, reason) in [
        ("ca-key.pem", other.key(), "not the key of ca-cert.pem"),
        ("ca-key.pem", "hush", "ca-key.pem holds no private key"),
        ("ca-cert.pem", "hush", "ca-cert.pem holds no certificate"),
        ("ca-cert.pem", HOLLOW, "ca-cert.pem holds no certificate"),
        (
            "root-cert.pem",
            other.root_pem(),
            "not lead to a root of root-cert.pem",
        ),
        (
            "root-cert.pem",
            "hush",
            "root-cert.pem: it holds no certificate",
        ),
        ("root-cert.pem", HOLLOW, "block 1"),
        ("root-cert.pem", &roots_and_key, "private key"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), files(&ca));
        fs::write(folder.path().join(name), text).unwrap();
        let told = refused(folder.path());
        assert!(told.contains(reason), "{name}: {told}");
        assert!(!told.contains("hush"), "{told}");
    }
}

#[test]
fn a_certificate_that_may_not_sign_is_refused() {
    let leaf = TestCa::root(TestCaOptions {
        is_ca: false,
        ..TestCaOptions::new("leaf")
    });
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&leaf));
    let told = refused(folder.path());
    assert!(told.contains("may not sign certificates"), "{told}");
}

#[test]
fn the_signing_certificate_is_sent_although_its_chain_lacks_it() {
    let ca = intermediate();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&ca));
    fs::write(folder.path().join("cert-chain.pem"), ca.root_pem()).unwrap();
    let read = at(folder.path()).read(now).unwrap().expect("parts");
    assert_eq!(read.intermediates(), [ca.certificate()]);
}

#[test]
fn a_chain_with_a_gap_leads_nowhere() {
    let root = TestCa::root(TestCaOptions::new("root"));
    let upper = root.intermediate(TestCaOptions::new("upper"));
    let lower = upper.intermediate(TestCaOptions::new("lower"));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&lower));
    fs::write(folder.path().join("cert-chain.pem"), lower.certificate()).unwrap();
    let told = refused(folder.path());
    assert!(
        told.contains("CN=lower") && told.contains("does not lead"),
        "{told}"
    );
}

/// rcgen can neither make nor write such a subject.
#[test]
fn a_subject_that_cannot_be_written_is_refused() {
    let ca = intermediate();
    let der = crate::identity::certificate::certificates(ca.certificate().as_bytes());
    let mut der = der.expect("a certificate").remove(0).to_vec();
    // The organisation becomes a second common name.
    let organization = [0x06, 0x03, 0x55, 0x04, 0x0a];
    for place in 0..der.len() - organization.len() {
        if der[place..].starts_with(&organization) {
            der[place + 4] = 0x03;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&ca));
    let changed = crate::identity::certificate::pem(&der.into());
    fs::write(folder.path().join("ca-cert.pem"), changed).unwrap();
    let told = refused(folder.path());
    assert!(told.contains("CN=Istio, CN=intermediate"), "{told}");
    assert!(
        told.contains("cannot be written into certificates"),
        "{told}"
    );
}

#[test]
fn a_key_in_the_older_forms_is_read() {
    // openssl ecparam writes the curve before the key.
    let ca = intermediate();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&ca));
    let params = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    fs::write(
        folder.path().join("ca-key.pem"),
        format!("{params}{}", ca.key()),
    )
    .unwrap();
    assert!(at(folder.path()).read(now).is_ok());
}

#[test]
fn what_a_control_plane_made_is_left_to_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&intermediate()));
    fs::write(folder.path().join("istio-generated"), "").unwrap();
    let mut folder = at(folder.path());
    assert!(folder.read(now).unwrap().is_some());
    folder.ignore_generated = true;
    assert!(folder.read(now).unwrap().is_none());
}

/// A folder that is followed.
struct Followed {
    folder: TempDir,
    authority: CertificateAuthority,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    #[allow(clippy::disallowed_methods, reason = "the test is the parent")]
    fn start(folder: TempDir, below: &str) -> Self {
        let authority = CertificateAuthority::new(Lifetimes::default());
        let source = at(&folder.path().join(below));
        let followed = authority.clone();
        let task = tokio::spawn(async move { match source.follow(&followed, now).await {} });
        Self {
            folder,
            authority,
            task,
        }
    }

    async fn until_named(&self, name: &str) {
        let mut changes = self.authority.subscribe();
        let wait = async {
            while self
                .authority
                .current()
                .is_none_or(|ca| !ca.name().contains(name))
            {
                changes.changed().await.expect("changes");
            }
        };
        timeout(LIMIT, wait).await.expect(name);
    }
}

fn named(name: &str) -> TestCa {
    TestCa::root(TestCaOptions::new("root")).intermediate(TestCaOptions::new(name))
}

#[tokio::test]
async fn a_changed_folder_signs_with_what_it_holds_then() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files(&named("first")));
    let followed = Followed::start(folder, "");
    followed.until_named("first").await;
    write(followed.folder.path(), files(&named("second")));
    followed.until_named("second").await;
}

#[tokio::test]
async fn a_mounted_secret_is_swapped_as_kubernetes_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("cacerts");
    let publish = |version: &str, ca: &TestCa| {
        let data = mount.join(version);
        fs::create_dir_all(&data).unwrap();
        write(&data, files(ca));
        // kubelet: a new link beside, renamed over the old one.
        let new = mount.join("..data_tmp");
        std::os::unix::fs::symlink(version, &new).unwrap();
        fs::rename(new, mount.join("..data")).unwrap();
    };
    publish("..v1", &named("first"));
    for name in CaPems::NAMES {
        let link = Path::new("..data").join(name);
        std::os::unix::fs::symlink(link, mount.join(name)).unwrap();
    }
    let mount_path = mount.clone();
    let followed = Followed::start(folder, "cacerts");
    followed.until_named("first").await;
    publish("..v2", &named("second"));
    fs::remove_dir_all(mount_path.join("..v1")).unwrap();
    followed.until_named("second").await;
}

#[test]
fn a_broken_or_partial_folder_keeps_the_last_good_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (path, source) = (folder.path(), at(folder.path()));
    let authority = CertificateAuthority::new(Lifetimes::default());
    write(path, files(&named("first")));
    source.look(&authority, now).expect("parts");
    let before = authority.current().expect("an authority");

    fs::remove_file(path.join("ca-key.pem")).unwrap();
    let told = source.look(&authority, now).expect_err("partial");
    assert!(told.contains("but not ca-key.pem"), "{told}");
    fs::write(path.join("ca-key.pem"), named("other").key()).unwrap();
    let told = source.look(&authority, now).expect_err("half of two");
    assert!(told.contains("not the key of"), "{told}");
    for name in CaPems::NAMES {
        fs::remove_file(path.join(name)).unwrap();
    }
    let told = source.look(&authority, now).expect_err("empty");
    assert!(told.contains("no parts any more"), "{told}");
    assert!(Arc::ptr_eq(
        &before,
        &authority.current().expect("an authority")
    ));

    write(path, files(&named("second")));
    source.look(&authority, now).expect("parts");
    assert!(
        authority
            .current()
            .expect("an authority")
            .name()
            .contains("second")
    );
}
