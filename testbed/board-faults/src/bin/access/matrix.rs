//! Every call for every kind of caller: for those whom the board knows over their own connection, for those whom it must not
//! admit over a new connection for each call, and at the endpoint for newcomers.

use super::{
    credentials::{Ca, Forged, Pair, client, identity, now_s, self_signed, signed_by, signed_by_host},
    ground::Ground,
    place::{Place, VICTIM},
    score::Score,
    table::{Expected, Rpc, Who},
    wire::{Outcome, Route, call},
};
use anyhow::{Context, anyhow};
use prost::Message;
use std::collections::BTreeMap;
use stopover_bbs::proto::v1;
use stopover_pki::{Newcomer, Role, Secret};
use tokio::task::JoinSet;

/// Handshakes at once.
const AT_ONCE: usize = 8;

fn unreached(what: &str) -> impl Fn(Outcome) -> anyhow::Error {
    move |outcome| anyhow!("{what}: {outcome}")
}

/// The victim: a host with a session, and an operator beside it.
pub async fn ground(place: &Place) -> anyhow::Result<Ground> {
    let operator = place.root().connect().await.map_err(unreached("the board's socket"))?;
    let owner = place.route(Who::Host)?.connect().await.map_err(unreached("the victim's connection"))?;
    Ground::new(VICTIM.0, VICTIM.1, owner, operator).await
}

/// Those whom the board knows.
pub async fn known(
    place: &Place,
    rpcs: &[Rpc],
    ground: &mut Ground,
    score: &mut Score,
) -> anyhow::Result<()> {
    for who in Who::ALL {
        let channel = place.route(who)?.connect().await.map_err(unreached("a connection"))?;
        let before = (score.attempts, score.allowed);
        for rpc in rpcs {
            let expected = rpc.expected(who)?;
            ground.prepare(&rpc.method).await?;
            let messages = ground.messages(rpc, who.calls_as_host());
            let messages =
                messages.with_context(|| format!("{rpc} has no messages: give it some in ground.rs"))?;
            let revision = ground.revision().await?;
            let outcome =
                call(&channel, rpc, messages).await.map_or_else(|outcome| outcome, |_| Outcome::Passed);
            let what = format!("{rpc} by {who:?}");
            score.judge(&what, expected, &outcome);
            if outcome == Outcome::Passed {
                ground.passed(&rpc.method);
            } else if ground.revision().await? != revision {
                score.changed(&what);
            }
        }
        println!(
            "{who:?}: {} calls, of which {} may be made",
            score.attempts - before.0,
            score.allowed - before.1
        );
    }
    Ok(())
}

/// Ways that must not lead to a connection, each with the reason that the board counts.
pub fn wrong_routes(place: &Place) -> anyhow::Result<Vec<(&'static str, &'static str, Route)>> {
    let (ca, folder) = (place.ca(), |name: &str| place.folder(name));
    let operator = |uris| Forged { uris, for_board: false };
    let alice = operator(&["stopover://operator/alice"]);
    ca.issue_expired(Role::Operator, "late", &folder("late"))?;
    ca.issue_young(Role::Operator, "young", &folder("young"))?;
    ca.issue(Role::Operator, "gone", &folder("gone"))?;
    ca.revoke(Role::Operator, "gone")?;
    ca.publish(&place.board())?;
    let foreign = Ca::create(place.dir.join("foreign-ca"))?;
    foreign.issue(Role::Operator, "alice", &folder("foreign"))?;
    let name = ca.open()?.authorities().first().context("no authority")?.name().to_owned();
    let of = |pair: Pair| place.with(Some(pair));
    let signer = format!("stopover://host/{}", VICTIM.0);
    Ok(vec![
        ("the board's own certificate", "identity", of(Pair::load(&place.board())?)?),
        ("no certificate", "no_certificate", place.with(None)?),
        ("an expired certificate", "expired", of(Pair::load(&folder("late"))?)?),
        ("a certificate of tomorrow", "not_yet_valid", of(Pair::load(&folder("young"))?)?),
        ("a revoked certificate", "revoked", of(Pair::load(&folder("gone"))?)?),
        ("a certificate of another CA", "authority", of(Pair::load(&folder("foreign"))?)?),
        (
            "a certificate of another CA with the name of ours",
            "authority",
            of(signed_by(&name, &rcgen::KeyPair::generate()?, &alice)?)?,
        ),
        ("a certificate that signed itself", "authority", of(self_signed(&alice)?)?),
        (
            "a certificate that a host has signed",
            "identity",
            of(signed_by_host(&folder(VICTIM.0), &signer, &alice)?)?,
        ),
        ("a certificate without a role", "identity", of(ca.forge(&operator(&[]))?)?),
        (
            "a certificate of two roles",
            "identity",
            of(ca.forge(&operator(&["stopover://operator/alice", "stopover://host/hv-a"]))?)?,
        ),
        (
            "a certificate of an unknown role",
            "identity",
            of(ca.forge(&operator(&["stopover://root/alice"]))?)?,
        ),
        ("plain TCP to the port with TLS", "not_tls", Route::Plain(place.tls)),
    ])
}

/// Waits until the board has read its credentials again.
pub async fn until_refused(route: &Route, probe: &Rpc) -> anyhow::Result<()> {
    let message = vec![v1::InfoRequest {}.encode_to_vec()];
    for _ in 0..300 {
        if matches!(attempt(route, probe, message.clone()).await, Outcome::NoConnection(_)) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Err(anyhow!("after 30 s a revoked certificate is still admitted"))
}

/// A call over a connection of its own.
async fn attempt(route: &Route, rpc: &Rpc, messages: Vec<Vec<u8>>) -> Outcome {
    match route.connect().await {
        Ok(channel) => {
            call(&channel, rpc, messages).await.map_or_else(|outcome| outcome, |_| Outcome::Passed)
        }
        Err(outcome) => outcome,
    }
}

/// Those whom the board must not admit. Returns how often each of its reasons must have been counted.
pub async fn unknown(
    place: &Place,
    rpcs: &[Rpc],
    ground: &Ground,
    score: &mut Score,
) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let routes = wrong_routes(place)?;
    let info = Rpc { service: "ObserverService".to_owned(), method: "Info".to_owned() };
    let revoked = routes.iter().find(|(_, reason, _)| *reason == "revoked").context("no revoked one")?;
    until_refused(&revoked.2, &info).await?;
    let mut reasons = BTreeMap::new();
    for (what, reason, route) in routes {
        let mut running = JoinSet::new();
        let mut waiting = rpcs.iter();
        loop {
            while running.len() < AT_ONCE
                && let Some(rpc) = waiting.next()
            {
                let (route, rpc) = (route.clone(), rpc.clone());
                let messages = ground.messages(&rpc, false).unwrap_or_default();
                running.spawn(async move { (attempt(&route, &rpc, messages).await, rpc) });
            }
            let Some(ended) = running.join_next().await else { break };
            let (outcome, rpc) = ended?;
            score.judge(&format!("{rpc} with {what}"), Expected::NoConnection, &outcome);
            *reasons.entry(reason).or_default() += 1;
        }
        println!("{what}: {} calls", rpcs.len());
    }
    Ok(reasons)
}

/// The endpoint for newcomers: it has one call, which needs a token.
pub async fn newcomers(
    place: &Place,
    rpcs: &[Rpc],
    ground: &Ground,
    score: &mut Score,
) -> anyhow::Result<()> {
    let alice = Pair::load(&place.folder("alice"))?;
    for (who, pair) in [("a stranger", None), ("an operator", Some(alice))] {
        let route = Route::Tls(place.enrol, client(&place.ca(), pair)?);
        let channel = route.connect().await.map_err(unreached("the endpoint for newcomers"))?;
        for rpc in rpcs.iter().filter(|rpc| !rpc.is_enrol()) {
            let messages = ground.messages(rpc, false).unwrap_or_default();
            let outcome =
                call(&channel, rpc, messages).await.map_or_else(|outcome| outcome, |_| Outcome::Passed);
            let what = format!("{rpc} by {who}, at the endpoint for newcomers");
            score.judge(&what, Expected::NotServed, &outcome);
        }
    }
    let rpc = rpcs.iter().find(|rpc| rpc.is_enrol()).context("no EnrolService")?;
    let plain = Route::Plain(place.enrol);
    score.judge(&"plain TCP to newcomers", Expected::NoConnection, &attempt(&plain, rpc, Vec::new()).await);
    tokens(place, rpc, score).await
}

/// Right and wrong tokens.
async fn tokens(place: &Place, rpc: &Rpc, score: &mut Score) -> anyhow::Result<()> {
    let route = Route::Tls(place.enrol, client(&place.ca(), None)?);
    let channel = route.connect().await.map_err(unreached("the endpoint for newcomers"))?;
    let (ca, now) = (place.ca(), now_s());
    let token = |name: &str, until: u64| -> anyhow::Result<_> {
        Ok(ca.open()?.issue_token(&identity(Role::Host, name)?, Secret::draw()?, now, until)?)
    };
    let right = token("new-1", now + 600)?;
    let expired = token("new-2", now.saturating_sub(1))?;
    let revoked = token("new-3", now + 600)?;
    ca.open()?.revoke_tokens(&identity(Role::Host, "new-3")?, now)?;
    let other = token("new-4", now + 600)?;
    let stranger = Secret::draw()?;
    for (what, name, secret, expected) in [
        ("another secret", "new-1", &stranger, Expected::NoToken),
        ("the secret of another token", "new-1", &other.secret, Expected::NoToken),
        ("another name", "new-9", &right.secret, Expected::NoToken),
        ("an expired token", "new-2", &expired.secret, Expected::NoToken),
        ("a revoked token", "new-3", &revoked.secret, Expected::NoToken),
        ("a token", "new-1", &right.secret, Expected::Pass),
        ("a used token", "new-1", &right.secret, Expected::NoToken),
    ] {
        let request = v1::EnrolRequest {
            name: name.to_owned(),
            secret: secret.bytes().to_vec(),
            certificate_request: Newcomer::new(right.clone())?.request()?,
        };
        let outcome = call(&channel, rpc, vec![request.encode_to_vec()]).await;
        let outcome = outcome.map_or_else(|outcome| outcome, |_| Outcome::Passed);
        score.judge(&format!("{rpc} with {what}"), expected, &outcome);
    }
    Ok(())
}

/// Another process with the certificate of a host that is alive, at other addresses and at the same.
pub async fn second_instance(place: &Place, ground: &mut Ground, score: &mut Score) -> anyhow::Result<()> {
    let register = Rpc { service: "HostService".to_owned(), method: "Register".to_owned() };
    let deregister = Rpc { service: "HostService".to_owned(), method: "Deregister".to_owned() };
    let folder = place.folder(VICTIM.0);
    let channel =
        place.with(Some(Pair::load(&folder)?))?.connect().await.map_err(unreached("a second one"))?;
    ground.prepare("Heartbeat").await?;
    let elsewhere = ground.second(99);
    for (what, expected) in [
        ("a second instance, while the first one's lease lives", Expected::Held),
        ("a second instance, when the first one has left", Expected::Pass),
    ] {
        if expected == Expected::Pass {
            let messages = ground.messages(&deregister, true).context("no Deregister")?;
            call(&channel, &deregister, messages).await.map_err(unreached("Deregister"))?;
        }
        let outcome = call(&channel, &register, elsewhere.register()).await;
        let outcome = outcome.map_or_else(|outcome| outcome, |_| Outcome::Passed);
        score.judge(&what, expected, &outcome);
    }
    Ok(())
}
