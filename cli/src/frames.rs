//! Where the frame of `stopover trace` comes from when it is given: hexadecimal digits, or a pcap file.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

/// The longest frame anything accepts; a lying length in a file must not fill the memory.
const MAX_FRAME_BYTES: u32 = 65_536;
/// An Ethernet header.
const MIN_FRAME_BYTES: usize = 14;

/// Hexadecimal digits, with whatever people put between bytes (spaces, colons, dashes, line ends).
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut digits = Vec::new();
    for c in text.chars().filter(|c| !c.is_whitespace() && !":-_".contains(*c)) {
        let digit = c.to_digit(16).ok_or_else(|| {
            format!("found `{}` in --hex; expected hexadecimal digits; mend: remove it", c.escape_debug())
        })?;
        digits.push(digit as u8);
    }
    if digits.len() % 2 == 1 {
        return Err(format!(
            "found {} digits in --hex; expected two for each byte; mend: add the missing digit",
            digits.len()
        ));
    }
    checked(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
}

fn checked(frame: Vec<u8>) -> Result<Vec<u8>, String> {
    if frame.len() < MIN_FRAME_BYTES {
        return Err(format!(
            "found a frame of {} bytes; expected at least {MIN_FRAME_BYTES}, an Ethernet header; mend: give the frame from its destination MAC on",
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
                    "found `{n}` after {path}; expected a frame number from 1; mend: correct it"
                ));
            }
        },
        _ => (spec, 1),
    };
    let file =
        File::open(path).map_err(|e| format!("{path}: {e}; expected a pcap file; mend: check the path"))?;
    nth_frame(BufReader::new(file), number).map_err(|e| format!("{path}: {e}"))
}

/// The classic pcap format (draft-ietf-opsawg-pcap): a file header of 24 bytes, then records of 16 bytes and data.
fn nth_frame(mut file: impl Read, number: u64) -> Result<Vec<u8>, String> {
    const SHORT: &str =
        "found the end inside a header; expected a complete pcap file; mend: capture it again";
    const LINKTYPE_ETHERNET: u32 = 1;
    let mut header = [0; 24];
    file.read_exact(&mut header).map_err(|_| SHORT.to_owned())?;
    let word = |bytes: &[u8], at: usize, big: bool| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    // Microsecond and nanosecond magic; which one does not matter here.
    let big = match word(&header, 0, false) {
        0xa1b2_c3d4 | 0xa1b2_3c4d => false,
        0xd4c3_b2a1 | 0x4d3c_b2a1 => true,
        0x0a0d_0d0a => {
            return Err(
                "found a pcapng file; expected pcap; mend: convert it with `editcap -F pcap IN OUT`".into()
            );
        }
        _ => return Err("found another kind of file; expected pcap; mend: capture with `tcpdump -w`".into()),
    };
    // The upper bits of the field carry the FCS length.
    let link = word(&header, 20, big) & 0xffff;
    if link != LINKTYPE_ETHERNET {
        return Err(format!(
            "found link type {link}; expected Ethernet (1); mend: capture on an Ethernet interface, not on `any`"
        ));
    }
    for n in 1.. {
        let mut record = [0; 16];
        match file.read_exact(&mut record) {
            Err(_) if n == 1 => {
                return Err("found no frame; expected one at least; mend: capture again".into());
            }
            Err(_) => {
                return Err(format!(
                    "found {} frames; expected frame {number}; mend: choose a smaller number",
                    n - 1
                ));
            }
            Ok(()) => {}
        }
        let len = word(&record, 8, big);
        if len > MAX_FRAME_BYTES {
            return Err(format!(
                "found a frame of {len} bytes; expected at most {MAX_FRAME_BYTES}; mend: the file is damaged"
            ));
        }
        let mut frame = vec![0; len as usize];
        file.read_exact(&mut frame).map_err(|_| SHORT.to_owned())?;
        if n == number {
            return checked(frame);
        }
    }
    Err(SHORT.to_owned())
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

    #[test]
    fn other_files_are_refused() {
        assert!(nth_frame(&b"short"[..], 1).is_err());
        assert!(nth_frame(&[0u8; 24][..], 1).unwrap_err().contains("another kind"));
        assert!(
            nth_frame(&[&0x0a0d_0d0a_u32.to_le_bytes()[..], &[0; 20]].concat()[..], 1)
                .unwrap_err()
                .contains("editcap")
        );
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
