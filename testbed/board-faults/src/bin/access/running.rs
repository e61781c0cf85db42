//! Connections that are open when their certificates are revoked: they must end, and others must not.

use super::{
    ground::Ground,
    place::Place,
    score::Score,
    table::{Expected, Rpc},
    wire::{Outcome, Route, call, cause},
};
use anyhow::{Context, anyhow};
use prost::Message;
use std::time::{Duration, Instant};
use stopover_bbs::proto::v1::{
    self, host_service_client::HostServiceClient, observer_service_client::ObserverServiceClient,
};
use stopover_pki::Role;
use tokio::{task::JoinHandle, time::timeout};
use tokio_stream::StreamExt;
use tonic::{Status, transport::Channel};

/// Longer than a busy machine takes; five seconds are promised.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that is open, and ends with the time of its end and the reason.
type Open = JoinHandle<(Instant, String)>;

/// Follows the events.
async fn events(channel: Channel) -> Result<Open, Status> {
    let request = v1::EventsRequest { after: 0, follow: true };
    let mut events = ObserverServiceClient::new(channel).events(request).await?.into_inner();
    Ok(tokio::spawn(async move {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return (Instant::now(), "the stream ended".to_owned()),
                Err(status) => return (Instant::now(), cause(&status)),
            }
        }
    }))
}

/// Watches, with a session as that host or without one.
async fn watch(channel: Channel, name: &str, session: u64) -> Result<Open, Status> {
    let start =
        v1::WatchStart { name: name.to_owned(), everything: true, session, ..v1::WatchStart::default() };
    let start = v1::WatchRequest { request: Some(v1::watch_request::Request::Start(start)) };
    let requests = tokio_stream::once(start).chain(tokio_stream::pending());
    let answer = if session == 0 {
        ObserverServiceClient::new(channel).watch(requests).await?
    } else {
        HostServiceClient::new(channel).watch(requests).await?
    };
    let mut changes = answer.into_inner();
    Ok(tokio::spawn(async move {
        loop {
            match changes.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return (Instant::now(), "the stream ended".to_owned()),
                Err(status) => return (Instant::now(), cause(&status)),
            }
        }
    }))
}

/// Calls again and again.
fn calls(channel: Channel) -> Open {
    tokio::spawn(async move {
        loop {
            if let Err(status) = ObserverServiceClient::new(channel.clone()).info(v1::InfoRequest {}).await {
                return (Instant::now(), cause(&status));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

const REVOKED: [(Role, &str); 5] = [
    (Role::Host, "hv-revoked"),
    (Role::Operator, "carol"),
    (Role::Observer, "dave"),
    (Role::Program, "nova"),
    (Role::Member, "laptop-2"),
];

async fn open(place: &Place, role: Role, name: &str) -> anyhow::Result<(Route, Vec<(&'static str, Open)>)> {
    let route = place.certified(role, name)?;
    let channel = route.connect().await.map_err(|outcome| anyhow!("{name}: {outcome}"))?;
    let mut open = vec![("calls", calls(channel.clone()))];
    match role {
        Role::Host => {
            let operator = place.root().connect().await.map_err(|outcome| anyhow!("root: {outcome}"))?;
            let ground = Ground::new(name, 50, channel.clone(), operator).await?;
            open.push(("watch", watch(channel, name, ground.session()).await?));
        }
        Role::Member | Role::Board => {}
        Role::Operator | Role::Observer | Role::Program => {
            open.push(("events", events(channel.clone()).await?));
            open.push(("watch", watch(channel, name, 0).await?));
        }
    }
    Ok((route, open))
}

/// Revokes the certificates of all whose connections are open. Returns the longest time until one has ended.
pub async fn revoked(place: &Place, rpcs: &[Rpc], score: &mut Score) -> anyhow::Result<Duration> {
    let (_, bystanders) = open(place, Role::Operator, "erin").await?;
    let mut all = Vec::new();
    for (role, name) in REVOKED {
        all.push((name, open(place, role, name).await?));
    }
    for (role, name) in REVOKED {
        place.ca().revoke(role, name)?;
    }
    let began = Instant::now();
    place.ca().publish(&place.board())?;
    let info = rpcs.iter().find(|rpc| rpc.method == "Info").context("no Info")?;
    let mut longest = Duration::ZERO;
    for (name, (route, open)) in all {
        for (what, task) in open {
            let outcome = match timeout(PATIENCE, task).await {
                Ok(ended) => {
                    let (at, why) = ended?;
                    longest = longest.max(at.saturating_duration_since(began));
                    Outcome::NoConnection(why)
                }
                Err(_) => Outcome::Passed,
            };
            score.judge(&format!("{what} of {name}, who was revoked"), Expected::NoConnection, &outcome);
        }
        let message = vec![v1::InfoRequest {}.encode_to_vec()];
        let outcome = match route.connect().await {
            Ok(channel) => {
                call(&channel, info, message).await.map_or_else(|outcome| outcome, |_| Outcome::Passed)
            }
            Err(outcome) => outcome,
        };
        score.judge(
            &format!("a new connection of {name}, who was revoked"),
            Expected::NoConnection,
            &outcome,
        );
    }
    for (what, task) in bystanders {
        let outcome = if task.is_finished() {
            Outcome::NoConnection("it has ended with those that were revoked".to_owned())
        } else {
            Outcome::Passed
        };
        task.abort();
        score.judge(&format!("{what} of erin, who was not revoked"), Expected::Pass, &outcome);
    }
    println!("revoked: the last connection ended after {:.2} s", longest.as_secs_f64());
    Ok(longest)
}
