//! Renews the certificate before it ends, for as long as the agent runs.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::sleep};
use tracing::{error, info, warn};

use super::request::{RequestError, request};
use super::{WorkloadCertificate, output};
use crate::agent::{Clock, random};
use crate::config::Authority;
use crate::model::SpiffeId;

/// Quick tries before the slow ones.
const QUICK_TRIES: u32 = 5;
const QUICK_BACKOFF: Duration = Duration::from_millis(100);
const SLOW_BACKOFF: Duration = Duration::from_secs(1);
/// A control plane that restarts is soon back; one that refuses has to be told
/// something else first.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF_REFUSED: Duration = Duration::from_secs(30);
/// Certificates that end at once, by a wrong clock or a dying authority, must
/// not make a storm of requests.
const SHORTEST_DELAY: Duration = Duration::from_millis(500);

/// What a renewal is done with.
#[derive(Debug)]
pub(in crate::agent) struct Renewal {
    pub(in crate::agent) authority: Authority,
    pub(in crate::agent) identity: SpiffeId,
    pub(in crate::agent) clock: Clock,
    /// Where each certificate is published.
    pub(in crate::agent) current: watch::Sender<Option<Arc<WorkloadCertificate>>>,
}

/// Gets a certificate, and the next one in time, for ever. While none can be
/// had the last one stays in use.
pub(in crate::agent) async fn renew(renewal: Renewal) {
    loop {
        let certificate = persistent(&renewal).await;
        let now = (renewal.clock)();
        if let Some(folder) = &renewal.authority.output
            && let Err(error) = output::write(folder, &certificate).await
        {
            error!(folder = %folder.display(), %error, "cannot write the certificate");
        }
        let delay = delay(&renewal.authority, certificate.remaining(now), random());
        info!(
            identity = %renewal.identity,
            life_seconds = certificate.remaining(now).as_secs(),
            renewed_in_seconds = delay.as_secs(),
            "certificate issued"
        );
        if certificate.remaining(now).is_zero() {
            warn!("the certificate has already ended: is the clock of this machine right?");
        }
        renewal.current.send_replace(Some(Arc::new(certificate)));
        sleep(delay).await;
    }
}

/// When to renew: the grace period before the end, which varies a little so
/// that a mesh that started at once does not renew at once.
fn delay(authority: &Authority, life: Duration, random: f64) -> Duration {
    let varied = authority.grace_ratio + authority.grace_jitter * (2.0 * random - 1.0);
    life.mul_f64((1.0 - varied).clamp(0.0, 1.0))
        .max(SHORTEST_DELAY)
}

async fn persistent(renewal: &Renewal) -> WorkloadCertificate {
    let mut tries = 0_u32;
    loop {
        let now: SystemTime = (renewal.clock)();
        match request(&renewal.authority, &renewal.identity, now).await {
            Ok(certificate) => return certificate,
            Err(problem) => {
                tries += 1;
                let wait = backoff(tries, &problem, random());
                warn!(%problem, tries, retry_in_ms = wait.as_millis(), "no certificate yet");
                sleep(wait).await;
            }
        }
    }
}

/// pilot-agent: five quick tries 100 ms apart and doubling, for errors that
/// pass; then ever slower ones, whatever the error.
fn backoff(tries: u32, problem: &RequestError, random: f64) -> Duration {
    let transient = problem.is_transient();
    let quick = tries < QUICK_TRIES && transient;
    let (first, step) = if quick {
        (QUICK_BACKOFF, tries - 1)
    } else {
        (SLOW_BACKOFF, tries.saturating_sub(QUICK_TRIES))
    };
    let doubled = first.saturating_mul(2_u32.saturating_pow(step));
    let longest = if transient {
        LONGEST_BACKOFF
    } else {
        LONGEST_BACKOFF_REFUSED
    };
    doubled.min(longest).mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::super::tests::authority;
    use super::*;

    #[test]
    fn renewal_is_at_the_grace_ratio_with_jitter() {
        let authority = authority("localhost:1");
        let life = Duration::from_secs(1000);
        assert_eq!(delay(&authority, life, 0.5), Duration::from_secs(500));
        assert_eq!(delay(&authority, life, 0.0), Duration::from_secs(510));
        assert_eq!(delay(&authority, life, 1.0), Duration::from_secs(490));
    }

    #[test]
    fn certificates_that_end_at_once_make_no_storm() {
        let authority = authority("localhost:1");
        assert_eq!(delay(&authority, Duration::ZERO, 0.5), SHORTEST_DELAY);
    }

    #[test]
    fn transient_errors_are_retried_quickly_and_refusals_slowly() {
        let refused = |status| RequestError::Refused(Box::new(status));
        let transient = refused(tonic::Status::unavailable(""));
        let lasting = refused(tonic::Status::unauthenticated(""));
        let millis = |tries, problem| backoff(tries, problem, 0.5).as_millis();
        assert_eq!(millis(1, &transient), 100);
        assert_eq!(millis(4, &transient), 800);
        assert_eq!(millis(5, &transient), 1000);
        assert_eq!(millis(1, &lasting), 1000);
        assert_eq!(millis(99, &transient), 10_000);
        assert_eq!(millis(99, &lasting), 30_000);
    }
}
