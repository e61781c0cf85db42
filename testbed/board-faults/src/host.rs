//! A host, as a board sees it: registrations, heartbeats, claims. Every answer is compared with the one that is expected.
//! Enters: a connection, a name, a network. Leaves: calls, and why one did not have its answer.

use std::time::Duration;
use stopover_bbs::{client::Connection, proto::v1};

/// A call that is not answered within this time is lost.
const LIMIT: Duration = Duration::from_secs(10);

/// A registered host.
#[derive(Debug)]
pub struct Host {
    /// Its number, which its addresses and its nodes have, too.
    number: u32,
    /// Its name.
    pub name: String,
    /// The network of its nodes.
    vni: u32,
    /// The session that the board gave it.
    pub session: u64,
    /// Its connection.
    pub connection: Connection,
}

/// A number that was not used before.
#[must_use]
pub fn key() -> Vec<u8> {
    fastrand::u128(..).to_be_bytes().to_vec()
}

impl Host {
    /// Registers host `number` on a connection.
    pub async fn register(
        connection: Connection,
        number: u32,
        name: String,
        vni: u32,
        instance: Vec<u8>,
    ) -> anyhow::Result<Self> {
        let [_, b, c, d] = number.to_be_bytes();
        let request = v1::RegisterRequest {
            host: name.clone(),
            vteps: vec![vec![10, 1 + b, c, d]],
            udp_port: 4789,
            key: key(),
            instance,
            ..v1::RegisterRequest::default()
        };
        let session = connection.host().register(request).await?.into_inner().session;
        Ok(Self { number, name, vni, session, connection })
    }

    fn session_ref(&self) -> Option<v1::SessionRef> {
        Some(v1::SessionRef { host: self.name.clone(), session: self.session, key: key() })
    }

    /// The MAC of one of its nodes.
    #[must_use]
    pub fn mac(&self, node: u32) -> [u8; 6] {
        let ([_, a, b, c], [.., d, e]) = (self.number.to_be_bytes(), node.to_be_bytes());
        [0x02 | a << 4, 0xd0, b, c, d, e]
    }

    /// Tells the board that it lives. Returns why that failed.
    pub async fn heartbeat(&self) -> Option<String> {
        let request = v1::HeartbeatRequest { session_ref: self.session_ref() };
        let answer = tokio::time::timeout(LIMIT, self.connection.host().heartbeat(request)).await;
        self.failure("heartbeat", answer.map(|answer| answer.map(drop)))
    }

    /// Claims nodes, each with its addresses. Returns why that failed.
    pub async fn claim(&self, nodes: &[([u8; 6], Vec<Vec<u8>>)]) -> Option<String> {
        let claim = |(mac, ips): &([u8; 6], Vec<Vec<u8>>)| v1::NodeClaim {
            vni: self.vni,
            mac: mac.to_vec(),
            ips: ips.clone(),
            ..v1::NodeClaim::default()
        };
        let request =
            v1::ClaimRequest { session_ref: self.session_ref(), claims: nodes.iter().map(claim).collect() };
        match tokio::time::timeout(LIMIT, self.connection.host().claim(request)).await {
            Ok(Ok(answer)) => {
                let results = &answer.get_ref().results;
                let is_good =
                    |one: &v1::ClaimResult| one.refused.is_empty() && one.deferred == 0 && one.retry_ms == 0;
                let wrong = results.iter().find(|one| !is_good(one));
                (results.len() != nodes.len() || wrong.is_some())
                    .then(|| format!("claim of {}: {} answers, {wrong:?}", self.name, results.len()))
            }
            other => self.failure("claim", other.map(|answer| answer.map(drop))),
        }
    }

    /// Gives a node back. Returns why that failed.
    pub async fn withdraw(&self, mac: [u8; 6]) -> Option<String> {
        let nodes = vec![v1::NodeKey { vni: self.vni, mac: mac.to_vec() }];
        let request = v1::WithdrawRequest { session_ref: self.session_ref(), nodes };
        let answer = tokio::time::timeout(LIMIT, self.connection.host().withdraw(request)).await;
        self.failure("withdrawal", answer.map(|answer| answer.map(drop)))
    }

    fn failure(
        &self,
        what: &str,
        answer: Result<Result<(), tonic::Status>, tokio::time::error::Elapsed>,
    ) -> Option<String> {
        match answer {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(format!("{what} of {}: {status}", self.name)),
            Err(_) => Some(format!("{what} of {}: no answer", self.name)),
        }
    }
}
