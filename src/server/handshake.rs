//! TLS below HTTP/2.

use std::{io, time::Duration};

use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::turns::Turns;
use crate::auth::{Channel, PeerCertificate};
use crate::identity::serving::ServerTls;

/// Time for a handshake, the wait for a turn included.
const LIMIT: Duration = Duration::from_secs(15);
/// Handshakes at once: what each holds is memory. Those that came first are
/// served first; all at once would all be late.
const AT_ONCE: usize = 512;

/// Takes turns at handshakes.
#[derive(Debug)]
pub(super) struct Handshakes(Semaphore);

impl Default for Handshakes {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Handshakes {
    /// Does the handshake. The configuration is the one of the moment: a
    /// rotation touches later connections only.
    pub(super) async fn accept(
        &self,
        socket: TcpStream,
        tls: &ServerTls,
        turns: &Turns,
    ) -> io::Result<(TlsStream<TcpStream>, Channel)> {
        let accepted = timeout(LIMIT, async {
            // Whoever connects and says nothing takes no turn.
            socket.peek(&mut [0]).await?;
            let _turn = self.0.acquire().await;
            let handshake = TlsAcceptor::from(tls.config()).accept(socket);
            turns.during(handshake).await
        });
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
        let stream = accepted.await.map_err(late)??;
        let (_, connection) = stream.get_ref();
        let certificate = PeerCertificate::of_verified(connection.peer_certificates());
        Ok((stream, Channel::Tls(certificate)))
    }
}
