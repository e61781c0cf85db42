//! The frame that is given to `stopover trace`: hexadecimal digits, or a pcap or pcapng file.

use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader, traits::PcapNGPacketBlock};
use std::{fs::File, io::Read, path::Path};

/// Holds the longest frame that anything accepts, with its record; a wrong length in a file must not fill the memory.
const BUFFER_BYTES: usize = 128 << 10;
/// An Ethernet header.
const MIN_FRAME_BYTES: usize = 14;

/// Hexadecimal digits, with whatever people put between bytes (spaces, colons, dashes, line ends).
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut digits = Vec::new();
    for c in text.chars().filter(|c| !c.is_whitespace() && !":-_".contains(*c)) {
        let digit = c.to_digit(16).ok_or_else(|| {
            format!("found `{}` in --hex; expected hexadecimal digits; hint: remove it", c.escape_debug())
        })?;
        digits.push(digit as u8);
    }
    if digits.len() % 2 == 1 {
        return Err(format!(
            "found {} digits in --hex; expected two for each byte; hint: add the missing digit",
            digits.len()
        ));
    }
    checked(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
}

fn checked(frame: Vec<u8>) -> Result<Vec<u8>, String> {
    if frame.len() < MIN_FRAME_BYTES {
        return Err(format!(
            "found a frame of {} bytes; expected at least {MIN_FRAME_BYTES}, an Ethernet header; hint: give the frame from its destination MAC on",
            frame.len()
        ));
    }
    Ok(frame)
}

/// Digits without separators.
pub fn to_hex(frame: &[u8]) -> String {
    frame.iter().map(|b| format!("{b:02x}")).collect()
}

/// Frame of `FILE` or `FILE:N`, N counted from one.
pub fn from_pcap(spec: &str) -> Result<Vec<u8>, String> {
    let (path, number) = match spec.rsplit_once(':') {
        Some((path, n)) if !Path::new(spec).exists() => match n.parse::<u64>() {
            Ok(n) if n > 0 => (path, n),
            _ => {
                return Err(format!(
                    "found `{n}` after {path}; expected a frame number from 1; hint: correct it"
                ));
            }
        },
        _ => (spec, 1),
    };
    let file =
        File::open(path).map_err(|e| format!("{path}: {e}; expected a pcap file; hint: check the path"))?;
    nth_frame(file, number).map_err(|e| format!("{path}: {e}"))
}

/// Frame `number` of a pcap or pcapng file, counted from one over all its interfaces.
fn nth_frame(file: impl Read + Send, number: u64) -> Result<Vec<u8>, String> {
    let mut reader = create_reader(BUFFER_BYTES, file).map_err(|e| pcap_error(&e))?;
    // Of each interface of the section; a pcap file is one section with one interface.
    let mut links: Vec<Linktype> = Vec::new();
    let mut seen = 0;
    loop {
        let (length, block) = match reader.next() {
            Ok(next) => next,
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|e| pcap_error(&e))?;
                continue;
            }
            Err(PcapError::Eof) if seen == 0 => {
                return Err("found no frame; expected one at least; hint: capture again".into());
            }
            Err(PcapError::Eof) => {
                return Err(format!(
                    "found {seen} frames; expected frame {number}; hint: choose a smaller number"
                ));
            }
            Err(e) => return Err(pcap_error(&e)),
        };
        let packet = match &block {
            PcapBlockOwned::LegacyHeader(header) => {
                // The upper bits of the field carry the FCS length.
                let link = Linktype(header.network.0 & 0xffff);
                ethernet(Some(&link))?;
                links.push(link);
                None
            }
            PcapBlockOwned::Legacy(packet) => Some((0, packet.data)),
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                links.clear();
                None
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                links.push(interface.linktype);
                None
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => Some((packet.if_id, packet.packet_data())),
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => Some((0, packet.packet_data())),
            PcapBlockOwned::NG(_) => None,
        };
        if let Some((interface, bytes)) = packet {
            seen += 1;
            if seen == number {
                ethernet(links.get(interface as usize))?;
                return checked(bytes.to_vec());
            }
        }
        reader.consume(length);
    }
}

/// Refuses frames of another link type than Ethernet.
fn ethernet(link: Option<&Linktype>) -> Result<(), String> {
    let found = match link {
        Some(&Linktype::ETHERNET) => return Ok(()),
        Some(Linktype(number)) => format!("link type {number}"),
        None => "a frame of no interface".to_owned(),
    };
    Err(format!("found {found}; expected Ethernet (1); hint: capture on an Ethernet interface, not on `any`"))
}

/// Why a file cannot be read further.
fn pcap_error<I>(e: &PcapError<I>) -> String {
    match e {
        PcapError::Eof | PcapError::Incomplete(_) | PcapError::UnexpectedEof => {
            "found the end inside a record; expected a complete pcap file; hint: capture it again".to_owned()
        }
        PcapError::HeaderNotRecognized => {
            "found another kind of file; expected pcap or pcapng; hint: capture with `tcpdump -w`".to_owned()
        }
        PcapError::BufferTooSmall => format!(
            "found a record of more than {BUFFER_BYTES} bytes; expected a frame; hint: the file is damaged"
        ),
        PcapError::ReadError => {
            "found an error while reading; expected a readable file; hint: check the disk".to_owned()
        }
        PcapError::NomError(..) | PcapError::OwnedNomError(..) => {
            "found an empty record; expected a pcap file; hint: the file is damaged".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcap(big: bool, link: u32, frames: &[&[u8]]) -> Vec<u8> {
        let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut file = word(0xa1b2_c3d4).to_vec();
        file.extend([[0; 4]; 4].concat());
        file.extend(word(link));
        for f in frames {
            file.extend([[0; 4]; 2].concat());
            file.extend(word(f.len() as u32));
            file.extend(word(f.len() as u32));
            file.extend_from_slice(f);
        }
        file
    }

    #[test]
    fn hex_with_and_without_separators() {
        let frame = from_hex("0x ff:ff:ff:ff:ff:ff 02-00-00-00-00-01\n0806 00").unwrap();
        assert_eq!(to_hex(&frame), "ffffffffffff020000000001080600");
        assert!(from_hex("fff").unwrap_err().contains("3 digits"));
        assert!(from_hex("zz").unwrap_err().contains("`z`"));
        assert!(from_hex("ffff").unwrap_err().contains("2 bytes"));
    }

    #[test]
    fn frames_of_a_pcap_by_number_in_either_byte_order() {
        for big in [false, true] {
            let file = pcap(big, 1, &[&[1; 20], &[2; 30]]);
            assert_eq!(nth_frame(&file[..], 1).unwrap(), vec![1; 20]);
            assert_eq!(nth_frame(&file[..], 2).unwrap(), vec![2; 30]);
            assert!(nth_frame(&file[..], 3).unwrap_err().contains("found 2 frames"));
            assert!(nth_frame(&file[..file.len() - 1], 2).unwrap_err().contains("end inside"));
        }
    }

    /// A pcapng block.
    fn block(big: bool, kind: u32, body: &[u8]) -> Vec<u8> {
        let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = word(body.len() as u32 + 12);
        [&word(kind)[..], &length, &body, &length].concat()
    }

    /// A pcapng section: interfaces of these link types, and frames each with its interface.
    fn section(big: bool, links: &[u16], frames: &[(u32, &[u8])]) -> Vec<u8> {
        let half = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut file =
            block(big, 0x0a0d_0d0a, &[&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat());
        for link in links {
            file.extend(block(big, 1, &[&half(*link)[..], &half(0), &word(0)].concat()));
        }
        for (interface, frame) in frames {
            let length = word(frame.len() as u32);
            let header = [word(*interface), word(0), word(0), length, length].concat();
            file.extend(block(big, 6, &[&header[..], frame].concat()));
        }
        file
    }

    #[test]
    fn frames_of_a_pcapng_by_number_over_sections_and_interfaces() {
        let mut file = section(false, &[113, 1], &[(1, &[1; 21]), (0, &[2; 30])]);
        file.extend(section(true, &[1], &[(0, &[3; 60]), (1, &[4; 60])]));
        assert_eq!(nth_frame(&file[..], 1).unwrap(), vec![1; 21]);
        assert!(nth_frame(&file[..], 2).unwrap_err().contains("link type 113"));
        assert_eq!(nth_frame(&file[..], 3).unwrap(), vec![3; 60]);
        assert!(nth_frame(&file[..], 4).unwrap_err().contains("no interface"));
        assert!(nth_frame(&file[..], 5).unwrap_err().contains("found 4 frames"));
        assert!(nth_frame(&file[..file.len() - 1], 4).unwrap_err().contains("end inside"));
        assert!(nth_frame(&section(false, &[1], &[])[..], 1).unwrap_err().contains("no frame"));
    }

    #[test]
    fn frames_behind_more_than_a_buffer() {
        let frames = vec![&[7; 1000][..]; 1000];
        assert_eq!(nth_frame(&pcap(false, 1, &frames)[..], 1000).unwrap(), vec![7; 1000]);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(nth_frame(&b""[..], 1).is_err());
        assert!(nth_frame(&b"short"[..], 1).is_err());
        assert!(nth_frame(&[0u8; 24][..], 1).unwrap_err().contains("another kind"));
        assert!(nth_frame(&pcap(false, 113, &[])[..], 1).unwrap_err().contains("link type 113"));
        assert!(nth_frame(&pcap(false, 1, &[])[..], 1).unwrap_err().contains("no frame"));
        let mut lying = pcap(false, 1, &[&[0; 20]]);
        lying[32..36].fill(0xff);
        assert!(nth_frame(&lying[..], 1).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_number_after_the_file_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcap");
        std::fs::write(&path, pcap(false, 1, &[&[1; 20], &[2; 30]])).unwrap();
        let path = path.display();
        assert_eq!(from_pcap(&path.to_string()).unwrap(), vec![1; 20]);
        assert_eq!(from_pcap(&format!("{path}:2")).unwrap(), vec![2; 30]);
        assert!(from_pcap(&format!("{path}:0")).unwrap_err().contains("from 1"));
        assert!(from_pcap("/absent.pcap").unwrap_err().contains("check the path"));
    }
}
