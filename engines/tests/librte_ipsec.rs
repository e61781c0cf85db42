//! ESP against librte_ipsec with OpenSSL as its cipher, which share no code with ours: what either seals the other
//! opens, and the bytes are the same. EAL starts once per process, so this is one test that walks through all cases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use dpdk::Eal;
use dpdk_ipsec_oracle::{Device, Direction, Errno, Sa};
use stopover_engines::{AnyEngine, AnyKey, KeyMemory};
use stopover_tunnel::cipher::{Algorithm, Engine, SaSecret};
use stopover_tunnel::esp::{self, Aad, Header, SequenceBits};
use stopover_tunnel::sa::{
    InboundSa, InboundSas, Limits, OpenFrame, OutboundSa, OutboundSas, SaDrop, SealFrame, open_burst,
    seal_burst,
};
use stopover_tunnel::window::WindowSize;
use stopover_tunnel::{Millis, SaIndex, Spi};

const SALT: [u8; 4] = [0xca, 0xfe, 0x20, 0x26];
const IPV4_LEN: usize = 20;
const UDP: u8 = 17;
const ESP: u8 = 50;
/// EBADMSG, of librte_ipsec: the tag is wrong.
const FORGED: Errno = Errno(74);
/// EINVAL, of librte_ipsec: the number is not new.
const REPLAYED: Errno = Errno(22);

#[derive(Clone, Copy)]
struct Case {
    algorithm: Algorithm,
    bits: SequenceBits,
}

impl Case {
    fn secret(self) -> SaSecret {
        let key: Vec<u8> = (0..self.algorithm.key_len()).map(|i| (i * 11 + 3) as u8).collect();
        SaSecret::new(self.algorithm, &key, SALT).unwrap()
    }

    fn oracle<'a>(self, device: &'a Device<'_>, direction: Direction) -> Sa<'a> {
        let esn = self.bits == SequenceBits::Extended;
        device.sa(self.secret().key(), SALT, spi().bits(), esn, direction).unwrap()
    }

    fn outbound(self, engine: &AnyEngine) -> OutboundSas<AnyKey> {
        let mut sas = OutboundSas::new(1);
        let sa =
            OutboundSa::new(engine, spi(), &self.secret(), self.bits, Limits::HANDSHAKE, Millis(0)).unwrap();
        assert!(sas.set(0, Some(Box::new(sa))).is_none());
        sas
    }

    fn inbound(self, engine: &AnyEngine) -> InboundSas<AnyKey> {
        let mut sas = InboundSas::new(6);
        let sa = InboundSa::new(engine, spi(), 0, &self.secret(), self.bits, WindowSize::LEAST).unwrap();
        sas.install(Box::new(sa)).unwrap();
        sas
    }
}

fn spi() -> Spi {
    Spi::new(SaIndex::new(5).unwrap(), 1)
}

/// An IPv4 packet; librte_ipsec reads its lengths and its protocol only.
fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (IPV4_LEN + payload.len()) as u16;
    let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    header[2..4].copy_from_slice(&len.to_be_bytes());
    [&header[..], payload].concat()
}

/// The payload of a packet, whose header must be right.
fn payload(packet: &[u8], protocol: u8) -> &[u8] {
    assert_eq!(packet[9], protocol);
    assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
    &packet[IPV4_LEN..]
}

/// Inner UDP datagrams of many lengths, in all four paddings.
fn texts() -> impl Iterator<Item = Vec<u8>> {
    let lens = (8..80).chain((80..1500).step_by(37)).chain([1458]);
    lens.map(|len| (0..len).map(|i| (i * 7 + len) as u8).collect())
}

fn with_room(text: &[u8]) -> Vec<u8> {
    [&[0; esp::HEAD_LEN], text, &[0; esp::TAIL_LEN]].concat()
}

fn seal(engine: &mut AnyEngine, sas: &mut OutboundSas<AnyKey>, text: &[u8]) -> Vec<u8> {
    let mut buffer = with_room(text);
    let mut frames = [SealFrame::new(0, &mut buffer, esp::HEAD_LEN..esp::HEAD_LEN + text.len())];
    seal_burst(engine, sas, &mut frames, Millis(0));
    let range = frames[0].result.clone().unwrap();
    buffer[range].to_vec()
}

fn open(
    engine: &mut AnyEngine,
    sas: &mut InboundSas<AnyKey>,
    datagram: &[u8],
) -> Result<(u64, Vec<u8>), SaDrop> {
    let mut datagram = datagram.to_vec();
    let mut frames = [OpenFrame::new(&mut datagram)];
    open_burst(engine, sas, &mut frames);
    let opened = frames[0].result.clone()?;
    Ok((opened.sequence, datagram[opened.text].to_vec()))
}

#[test]
fn ours_and_librte_ipsec_understand_each_other() {
    let args =
        ["--no-huge", "-m", "64", "--no-pci", "--no-shconf", "--no-telemetry", "--vdev=crypto_openssl"];
    let eal = Eal::init(&args.map(str::to_owned)).unwrap();
    let device = Device::start(&eal, "crypto_openssl").unwrap();
    for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
        for bits in [SequenceBits::Short, SequenceBits::Extended] {
            for portable in [false, true] {
                let mut engine = match portable {
                    true => AnyEngine::portable(),
                    false => AnyEngine::new(&KeyMemory::new()).0,
                };
                let case = Case { algorithm, bits };
                theirs_opens_ours(&device, &mut engine, case);
                ours_opens_theirs(&device, &mut engine, case);
                beyond_32_bits(&device, &mut engine, case);
            }
        }
    }
}

fn theirs_opens_ours(device: &Device<'_>, engine: &mut AnyEngine, case: Case) {
    let mut sas = case.outbound(engine);
    let mut theirs = case.oracle(device, Direction::Open { last: 0, window: 128 });
    for (text, sequence) in texts().zip(1..) {
        let datagram = seal(engine, &mut sas, &text);
        // Of the IV, the text and the tag. Another number may be behind the window; and the SPI is that of the SA which
        // the caller of librte_ipsec looks up.
        for at in [15, 16, datagram.len() - 17, datagram.len() - 16, datagram.len() - 1] {
            let mut forged = datagram.clone();
            forged[at] ^= 0x40;
            assert_eq!(theirs.run(&packet(ESP, &forged)), Err(FORGED), "byte {at} of {} bytes", text.len());
        }
        let opened = theirs.run(&packet(ESP, &datagram)).unwrap();
        assert_eq!(payload(&opened, UDP), text);
        // The window of librte_ipsec 22.11 keeps the lower half of each 64 numbers only.
        if sequence % 64 < 32 {
            assert_eq!(theirs.run(&packet(ESP, &datagram)), Err(REPLAYED), "number {sequence}");
        }
    }
    assert!(sas.get(0).unwrap().last() > 100);
}

fn ours_opens_theirs(device: &Device<'_>, engine: &mut AnyEngine, case: Case) {
    let (mut outbound, mut inbound) = (case.outbound(engine), case.inbound(engine));
    let mut theirs = case.oracle(device, Direction::Seal { first: 1 });
    for (text, sequence) in texts().zip(1..) {
        let sealed = theirs.run(&packet(UDP, &text)).unwrap();
        let datagram = payload(&sealed, ESP);
        assert_eq!(datagram, seal(engine, &mut outbound, &text), "the same bytes, number {sequence}");
        let mut forged = datagram.to_vec();
        forged[30] ^= 0x10;
        assert_eq!(open(engine, &mut inbound, &forged), Err(SaDrop::BadSeal));
        assert_eq!(open(engine, &mut inbound, datagram), Ok((sequence, text)));
        assert_eq!(open(engine, &mut inbound, datagram), Err(SaDrop::Replayed));
    }
}

/// Around 2^32, where only extended numbers go on.
fn beyond_32_bits(device: &Device<'_>, engine: &mut AnyEngine, case: Case) {
    if case.bits == SequenceBits::Short {
        return;
    }
    let first = (1_u64 << 32) - 20;
    let mut inbound = case.inbound(engine);
    let mut theirs = case.oracle(device, Direction::Seal { first });
    let mut opens = case.oracle(device, Direction::Open { last: first - 1, window: 128 });
    let secret = case.secret();
    let key = engine.expand(&secret).unwrap();
    for (text, sequence) in texts().zip(first..) {
        let header = Header::of(spi(), sequence);
        let mut buffer = with_room(&text);
        let range =
            esp::frame_text(&mut buffer, esp::HEAD_LEN..esp::HEAD_LEN + text.len(), header, esp::NEXT_UDP)
                .unwrap();
        let aad = Aad::new(spi(), sequence, case.bits);
        let ours = &mut buffer[range];
        engine.seal(&key, &header.nonce(secret.salt()), aad.as_slice(), &mut ours[esp::HEAD_LEN..]).unwrap();

        let sealed = theirs.run(&packet(UDP, &text)).unwrap();
        assert_eq!(payload(&sealed, ESP), ours, "the same bytes, number {sequence:#x}");
        let opened = opens.run(&packet(ESP, ours)).unwrap();
        assert_eq!(payload(&opened, UDP), text);
        assert_eq!(open(engine, &mut inbound, ours), Ok((sequence, text)));
    }
}
