//! The two messages of the handshake: Noise IK between the hosts' static keys (X25519), with ML-KEM-768 in the
//! payloads. Enters: keys, random bytes, what a side announces, the message of the other. Leaves: messages, and the
//! key schedule of a session. The library of ML-KEM draws its own random bytes.

use super::keys::{KeySchedule, Role};
use super::{Failed, PublicKey, Random, StaticKey};
use crate::cipher::Algorithm;
use crate::{Spi, redacted};
use aws_lc_rs::kem::{AlgorithmId, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random as SnowRandom};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"stopover tunnel 1";
/// Bytes of ML-KEM-768's key and ciphertext (FIPS 203 table 3).
const KEM_KEY_LEN: usize = 1184;
const KEM_TEXT_LEN: usize = 1088;
/// Sender queues of a host at most.
pub const MOST_QUEUES: u8 = 64;
/// Bytes that Noise adds to the payload of the longer message: an ephemeral key, a sealed static key and two tags.
const NOISE_LEN: usize = 32 + 48 + 16;

/// What an initiator announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    /// Its session.
    pub(super) session: u32,
    /// Greater in each of its initiations.
    pub(super) stamp: u64,
    /// How many sender queues it has.
    pub(super) queues: u8,
    /// The cipher it needs at least.
    pub(super) algorithm: Algorithm,
}

/// What a responder answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its session.
    pub(super) session: u32,
    /// How many sender queues it has.
    pub(super) queues: u8,
    /// The cipher of the session.
    pub(super) algorithm: Algorithm,
    /// Its SPIs, one for each sender queue of the initiator.
    pub(super) spis: Vec<Spi>,
}

/// Gives Noise the random bytes that the caller drew for it: one ephemeral key.
struct Drawn(Zeroizing<[u8; 32]>);

impl CryptoResolver for Drawn {
    fn resolve_rng(&self) -> Option<Box<dyn SnowRandom>> {
        Some(Box::new(Once(Some(self.0.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Once(Option<Zeroizing<[u8; 32]>>);

impl SnowRandom for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let drawn = self.0.take().ok_or(snow::Error::Rng)?;
        dest.copy_from_slice(drawn.get(..dest.len()).ok_or(snow::Error::Rng)?);
        Ok(())
    }
}

fn state(
    key: &StaticKey,
    peer: Option<&PublicKey>,
    rng: &mut dyn Random,
) -> Result<HandshakeState, snow::Error> {
    let mut drawn = Zeroizing::new([0; 32]);
    rng.fill(&mut *drawn);
    let builder = Builder::with_resolver(PATTERN.parse()?, Box::new(Drawn(drawn)))
        .local_private_key(key.secret())?
        .prologue(PROLOGUE)?;
    match peer {
        Some(peer) => builder.remote_public_key(peer.as_bytes())?.build_initiator(),
        None => builder.build_responder(),
    }
}

fn write(state: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut message = vec![0; NOISE_LEN + payload.len()];
    let len = state.write_message(payload, &mut message).map_err(|_| Failed)?;
    message.truncate(len);
    Ok(message)
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut payload = vec![0; message.len()];
    let len = state.read_message(message, &mut payload).map_err(|_| Failed)?;
    payload.truncate(len);
    Ok(payload)
}

fn schedule(state: &mut HandshakeState, kem: &[u8]) -> KeySchedule {
    let split = Zeroizing::new(state.dangerously_get_raw_split());
    KeySchedule::new(&split, kem, state.get_handshake_hash())
}

fn algorithm_of(byte: u8) -> Result<Algorithm, Failed> {
    match byte {
        0 => Ok(Algorithm::Aes128Gcm),
        1 => Ok(Algorithm::Aes256Gcm),
        _ => Err(Failed),
    }
}

fn queues_of(byte: u8) -> Result<u8, Failed> {
    if (1..=MOST_QUEUES).contains(&byte) { Ok(byte) } else { Err(Failed) }
}

/// A session that both sides can derive.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) role: Role,
    pub(super) schedule: KeySchedule,
    pub(super) algorithm: Algorithm,
    /// The peer's session.
    pub(super) peer_session: u32,
    /// The peer's sender queues.
    pub(super) peer_queues: u8,
}

/// An initiation that awaits its response.
pub(super) struct Initiation {
    state: HandshakeState,
    kem: DecapsulationKey<AlgorithmId>,
    hello: Hello,
}

redacted!(Initiation);

impl Initiation {
    /// Starts a handshake. Returns the first message too.
    pub(super) fn new(
        key: &StaticKey,
        peer: &PublicKey,
        hello: Hello,
        rng: &mut dyn Random,
    ) -> Result<(Self, Vec<u8>), Failed> {
        let mut state = state(key, Some(peer), rng).map_err(|_| Failed)?;
        let kem = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| Failed)?;
        let kem_key = kem.encapsulation_key().and_then(|key| key.key_bytes()).map_err(|_| Failed)?;
        let mut payload = hello.session.to_be_bytes().to_vec();
        payload.extend(hello.stamp.to_be_bytes());
        payload.extend([hello.queues, hello.algorithm as u8]);
        payload.extend(kem_key.as_ref());
        let message = write(&mut state, &payload)?;
        Ok((Self { state, kem, hello }, message))
    }

    /// Reads the second message. After a wrong one the right one can still come.
    pub(super) fn read_response(&mut self, message: &[u8]) -> Result<(Agreed, Vec<Spi>), Failed> {
        let payload = read(&mut self.state, message)?;
        let (session, rest) = payload.split_first_chunk().ok_or(Failed)?;
        let ([queues, algorithm, count], rest) = rest.split_first_chunk().ok_or(Failed)?;
        let (spis, text) = rest.split_at_checked(usize::from(*count) * 4).ok_or(Failed)?;
        let (spis, _) = spis.as_chunks();
        let spis: Option<Vec<Spi>> =
            spis.iter().map(|spi| Spi::from_bits(u32::from_be_bytes(*spi))).collect();
        let spis = spis.filter(|spis| spis.len() == usize::from(self.hello.queues)).ok_or(Failed)?;
        let algorithm = algorithm_of(*algorithm)?;
        // A responder may ask for a stronger cipher, and never for a weaker one.
        if text.len() != KEM_TEXT_LEN || algorithm < self.hello.algorithm {
            return Err(Failed);
        }
        let kem = self.kem.decapsulate(text.into()).map_err(|_| Failed)?;
        let agreed = Agreed {
            role: Role::Initiator,
            schedule: schedule(&mut self.state, kem.as_ref()),
            algorithm,
            peer_session: u32::from_be_bytes(*session),
            peer_queues: queues_of(*queues)?,
        };
        Ok((agreed, spis))
    }
}

/// An initiation that was received, with its sender's authentic static key.
pub(super) struct Received {
    state: HandshakeState,
    kem_key: EncapsulationKey<AlgorithmId>,
    /// Who sent it.
    pub(super) peer: PublicKey,
    /// What it announces.
    pub(super) hello: Hello,
}

redacted!(Received);

impl Received {
    /// Reads the first message.
    pub(super) fn new(key: &StaticKey, message: &[u8], rng: &mut dyn Random) -> Result<Self, Failed> {
        let mut state = state(key, None, rng).map_err(|_| Failed)?;
        let payload = read(&mut state, message)?;
        let (session, rest) = payload.split_first_chunk().ok_or(Failed)?;
        let (stamp, rest) = rest.split_first_chunk().ok_or(Failed)?;
        let ([queues, algorithm], kem_key) = rest.split_first_chunk().ok_or(Failed)?;
        if kem_key.len() != KEM_KEY_LEN {
            return Err(Failed);
        }
        let peer = state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Failed)?;
        let hello = Hello {
            session: u32::from_be_bytes(*session),
            stamp: u64::from_be_bytes(*stamp),
            queues: queues_of(*queues)?,
            algorithm: algorithm_of(*algorithm)?,
        };
        let kem_key = EncapsulationKey::new(&ML_KEM_768, kem_key).map_err(|_| Failed)?;
        Ok(Self { state, kem_key, peer: PublicKey::new(peer), hello })
    }

    /// Writes the second message. The session is agreed with it.
    pub(super) fn respond(mut self, answer: &Answer) -> Result<(Agreed, Vec<u8>), Failed> {
        let (text, kem) = self.kem_key.encapsulate().map_err(|_| Failed)?;
        let mut payload = answer.session.to_be_bytes().to_vec();
        payload.extend([answer.queues, answer.algorithm as u8, answer.spis.len() as u8]);
        payload.extend(answer.spis.iter().flat_map(|spi| spi.bits().to_be_bytes()));
        payload.extend(text.as_ref());
        let message = write(&mut self.state, &payload)?;
        let agreed = Agreed {
            role: Role::Responder,
            schedule: schedule(&mut self.state, kem.as_ref()),
            algorithm: answer.algorithm,
            peer_session: self.hello.session,
            peer_queues: self.hello.queues,
        };
        Ok((agreed, message))
    }
}

#[cfg(test)]
mod tests {
    use super::super::datagram::MOST_MESSAGE;
    use super::super::tests::Counter;
    use super::*;
    use crate::SaIndex;

    fn hello(session: u32) -> Hello {
        Hello { session, stamp: 77, queues: 2, algorithm: Algorithm::Aes128Gcm }
    }

    fn answer(queues: usize) -> Answer {
        let spis = (0..queues).map(|n| Spi::new(SaIndex::new(n as u32).unwrap(), 3)).collect();
        Answer { session: 6, queues: 3, algorithm: Algorithm::Aes256Gcm, spis }
    }

    fn keys() -> (StaticKey, StaticKey) {
        (StaticKey::new([1; 32]), StaticKey::new([2; 32]))
    }

    #[test]
    fn both_sides_agree() {
        let rng = &mut Counter(1);
        let (a, b) = keys();
        let (mut initiation, first) = Initiation::new(&a, &b.public(), hello(5), rng).unwrap();
        let received = Received::new(&b, &first, rng).unwrap();
        assert_eq!((received.peer, received.hello), (a.public(), hello(5)));
        let (theirs, second) = received.respond(&answer(2)).unwrap();
        assert!(first.len().max(second.len() + 4 * 62) <= MOST_MESSAGE);

        let mut forged = second.clone();
        forged[40] ^= 1;
        assert!(initiation.read_response(&forged).is_err());
        let (ours, spis) = initiation.read_response(&second).unwrap();
        assert_eq!(spis, answer(2).spis);
        assert_eq!((ours.peer_session, ours.peer_queues, ours.algorithm), (6, 3, Algorithm::Aes256Gcm));
        assert_eq!((theirs.peer_session, theirs.peer_queues, theirs.algorithm), (5, 2, Algorithm::Aes256Gcm));
        for role in [Role::Initiator, Role::Responder] {
            let sas = |agreed: &Agreed| agreed.schedule.sas(role, 3, agreed.algorithm).unwrap();
            assert_eq!(sas(&ours), sas(&theirs));
            assert_eq!(ours.schedule.control(role), theirs.schedule.control(role));
        }
    }

    #[test]
    fn wrong_messages_are_refused() {
        let rng = &mut Counter(1);
        let (a, b) = keys();
        let (mut initiation, first) = Initiation::new(&a, &b.public(), hello(5), rng).unwrap();
        assert!(Received::new(&a, &first, rng).is_err(), "for another host");
        for at in [0, 40, 100, first.len() - 1] {
            let mut forged = first.clone();
            forged[at] ^= 1;
            assert!(Received::new(&b, &forged, rng).is_err(), "{at}");
        }
        for len in [0, 31, 95, first.len() - 1] {
            assert!(Received::new(&b, &first[..len], rng).is_err(), "{len}");
        }
        let respond =
            |answer: &Answer| Received::new(&b, &first, &mut Counter(9)).unwrap().respond(answer).unwrap().1;
        assert!(initiation.read_response(&respond(&answer(3))).is_err(), "more SPIs than queues");
        let weak = Hello { algorithm: Algorithm::Aes256Gcm, ..hello(5) };
        let (mut strict, first) = Initiation::new(&a, &b.public(), weak, rng).unwrap();
        let received = Received::new(&b, &first, rng).unwrap();
        let (_, second) = received.respond(&Answer { algorithm: Algorithm::Aes128Gcm, ..answer(2) }).unwrap();
        assert!(strict.read_response(&second).is_err(), "a weaker cipher");
    }
}
