//! What keeps floods away from the costly parts of a handshake, as WireGuard does it. The first MAC of a datagram
//! shows that its sender knows the receiver's public key. The second shows that it receives at the address it sends
//! from: its key is a cookie, which a receiver under load sends to that address. A receiver keeps no state for either.

use super::datagram::{self, MAC_LEN, SEALED_COOKIE_LEN};
use super::{PublicKey, Random};
use crate::Millis;
use crate::redacted;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, hmac};
use std::net::SocketAddr;
use std::time::Duration;
use zeroize::Zeroize;

const MAC_LABEL: &[u8] = b"stopover tunnel 1 mac";
const COOKIE_LABEL: &[u8] = b"stopover tunnel 1 cookie";
/// Bytes of a key.
const KEY_LEN: usize = 32;
/// How long a cookie is valid at least; at most twice that.
const COOKIE_LIFE: Duration = Duration::from_secs(120);

/// A cookie: the key of the second MAC.
pub(super) type Cookie = [u8; MAC_LEN];

fn short(tag: &hmac::Tag) -> [u8; MAC_LEN] {
    tag.as_ref().first_chunk().copied().unwrap_or_default()
}

fn labelled(label: &[u8], key: &PublicKey) -> [u8; KEY_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(label);
    context.update(key.as_bytes());
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// MACs of datagrams to one receiver, by its public key. Both keys are known to all that know it. They are kept short:
/// an expanded one takes a kilobyte, for each peer.
#[derive(Debug)]
pub(super) struct Macs {
    first: [u8; KEY_LEN],
    cookies: [u8; KEY_LEN],
}

impl Macs {
    pub(super) fn to(receiver: &PublicKey) -> Self {
        Self { first: labelled(MAC_LABEL, receiver), cookies: labelled(COOKIE_LABEL, receiver) }
    }

    fn first_mac(&self, covered: &[u8]) -> [u8; MAC_LEN] {
        short(&hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.first), covered))
    }

    fn cookies(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.cookies).ok().map(LessSafeKey::new)
    }

    /// Writes both MACs of a datagram; the second is zero without a cookie. Returns the first.
    pub(super) fn write(&self, datagram: &mut [u8], cookie: Option<&Cookie>) -> [u8; MAC_LEN] {
        let Some((covered, first, second)) = datagram::split_macs(datagram) else { return [0; MAC_LEN] };
        *first = self.first_mac(covered);
        let first = *first;
        *second = cookie.map_or([0; MAC_LEN], |cookie| second_mac(cookie, covered, &first));
        first
    }

    /// Whether the first MAC is right.
    pub(super) fn first_is_right(&self, datagram: &[u8]) -> bool {
        datagram::macs(datagram).is_some_and(|(covered, first, _)| {
            constant_time::verify_slices_are_equal(first, &self.first_mac(covered)).is_ok()
        })
    }

    /// The reply that has the cookie, for the sender of a datagram.
    pub(super) fn reply(
        &self,
        sender: u32,
        datagram: &[u8],
        cookie: Cookie,
        rng: &mut dyn Random,
    ) -> Option<Vec<u8>> {
        let (_, first, _) = datagram::macs(datagram)?;
        let mut nonce = [0; 12];
        rng.fill(&mut nonce);
        let mut text = cookie;
        let tag = self.cookies()?.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(first),
            &mut text,
        );
        let sealed: [u8; SEALED_COOKIE_LEN] = [&text[..], tag.ok()?.as_ref()].concat().try_into().ok()?;
        Some(datagram::build_cookie(sender, nonce, &sealed))
    }

    /// The cookie in a reply to the datagram that had this first MAC.
    pub(super) fn read_reply(
        &self,
        nonce: [u8; 12],
        sealed: &[u8; SEALED_COOKIE_LEN],
        first: &[u8; MAC_LEN],
    ) -> Option<Cookie> {
        let mut buffer = *sealed;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = self.cookies()?.open_in_place(nonce, Aad::from(first), &mut buffer).ok()?;
        (*text).try_into().ok()
    }
}

fn second_mac(cookie: &Cookie, covered: &[u8], first: &[u8; MAC_LEN]) -> [u8; MAC_LEN] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, cookie));
    context.update(covered);
    context.update(first);
    short(&context.sign())
}

/// The cookies that a host gives out: a MAC over the address, by a secret that changes.
pub(super) struct Cookies {
    secret: hmac::Key,
    before: Option<hmac::Key>,
    changed: Millis,
}

redacted!(Cookies);

fn fresh(rng: &mut dyn Random) -> hmac::Key {
    let mut secret = [0; 32];
    rng.fill(&mut secret);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    secret.zeroize();
    key
}

fn cookie(secret: &hmac::Key, from: SocketAddr) -> Cookie {
    let mut context = hmac::Context::with_key(secret);
    match from.ip() {
        std::net::IpAddr::V4(ip) => context.update(&ip.octets()),
        std::net::IpAddr::V6(ip) => context.update(&ip.octets()),
    }
    context.update(&from.port().to_be_bytes());
    short(&context.sign())
}

impl Cookies {
    pub(super) fn new(now: Millis, rng: &mut dyn Random) -> Self {
        Self { secret: fresh(rng), before: None, changed: now }
    }

    fn refresh(&mut self, now: Millis, rng: &mut dyn Random) {
        if now.has_passed(self.changed, COOKIE_LIFE) {
            // After a longer pause the secret before is too old as well.
            let recent = !now.has_passed(self.changed, 2 * COOKIE_LIFE);
            let old = std::mem::replace(&mut self.secret, fresh(rng));
            self.before = recent.then_some(old);
            self.changed = now;
        }
    }

    /// The cookie of an address.
    pub(super) fn of(&mut self, from: SocketAddr, now: Millis, rng: &mut dyn Random) -> Cookie {
        self.refresh(now, rng);
        cookie(&self.secret, from)
    }

    /// Whether the second MAC of a datagram is by a cookie of this address.
    pub(super) fn second_is_right(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Millis,
        rng: &mut dyn Random,
    ) -> bool {
        self.refresh(now, rng);
        let Some((covered, first, second)) = datagram::macs(datagram) else { return false };
        let right = |secret: &hmac::Key| {
            let expected = second_mac(&cookie(secret, from), covered, first);
            constant_time::verify_slices_are_equal(second, &expected).is_ok()
        };
        right(&self.secret) || self.before.as_ref().is_some_and(right)
    }
}

/// How long a sender uses a cookie it was sent.
pub(super) const COOKIE_USE: Duration = COOKIE_LIFE;

#[cfg(test)]
mod tests {
    use super::super::tests::Counter;
    use super::*;

    fn piece() -> Vec<u8> {
        datagram::build_pieces(datagram::Message::Initiation, 9, 0, &[1; 50]).remove(0)
    }

    #[test]
    fn the_first_mac_needs_the_receivers_key() {
        let macs = Macs::to(&PublicKey::new([5; 32]));
        let mut datagram = piece();
        macs.write(&mut datagram, None);
        assert!(macs.first_is_right(&datagram));
        assert!(!Macs::to(&PublicKey::new([6; 32])).first_is_right(&datagram));
        for at in [0, 20, datagram.len() - 33, datagram.len() - 17] {
            let mut forged = datagram.clone();
            forged[at] ^= 1;
            assert!(!macs.first_is_right(&forged), "{at}");
        }
    }

    #[test]
    fn a_cookie_is_of_an_address_and_of_a_time() {
        let rng = &mut Counter(1);
        let macs = Macs::to(&PublicKey::new([5; 32]));
        let (here, there) = ("192.0.2.1:4789".parse().unwrap(), "192.0.2.1:4790".parse().unwrap());
        let mut cookies = Cookies::new(Millis(0), rng);
        let mut datagram = piece();
        let first = macs.write(&mut datagram, None);
        assert!(!cookies.second_is_right(&datagram, here, Millis(0), rng));

        let given = cookies.of(here, Millis(0), rng);
        let reply = macs.reply(9, &datagram, given, rng).unwrap();
        let Ok(datagram::Parsed::Cookie { receiver: 9, nonce, sealed }) = datagram::parse(&reply) else {
            panic!()
        };
        assert_eq!(macs.read_reply(nonce, sealed, &[0; 16]), None, "of another datagram");
        let cookie = macs.read_reply(nonce, sealed, &first).unwrap();
        assert_eq!(cookie, given);

        macs.write(&mut datagram, Some(&cookie));
        for (from, seconds, right) in
            [(here, 0, true), (there, 1, false), (here, 119, true), (here, 121, true)]
        {
            assert_eq!(
                cookies.second_is_right(&datagram, from, Millis(seconds * 1000), rng),
                right,
                "{seconds}"
            );
        }
        assert!(!cookies.second_is_right(&datagram, here, Millis(242_000), rng));
        let given = cookies.of(here, Millis(242_000), rng);
        macs.write(&mut datagram, Some(&given));
        assert!(!cookies.second_is_right(&datagram, here, Millis(900_000), rng), "after a long pause");
    }
}
