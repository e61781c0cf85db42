//! The frames of a pcap file, which are sent repeatedly.

use anyhow::bail;
use std::path::Path;

use crate::stamp;

/// The lengths of the file header and of the header of each frame.
const FILE_HEADER: usize = 24;
const FRAME_HEADER: usize = 16;
/// Little-endian with microseconds, as the bench writes it.
const MAGIC: [u8; 4] = 0xA1B2_C3D4_u32.to_le_bytes();

/// All frames of a file, each long enough for a stamp.
pub fn read(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    parse(&std::fs::read(path)?)
}

fn parse(data: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let Some((header, mut rest)) = data.split_at_checked(FILE_HEADER) else { bail!("no pcap file") };
    if !header.starts_with(&MAGIC) {
        bail!("no little-endian pcap file with microseconds");
    }
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(FRAME_HEADER) {
        let len = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some((frame, after)) = after.split_at_checked(len) else { break };
        if len < stamp::LEN {
            bail!("frame {} has {len} bytes: too few for a stamp", frames.len());
        }
        frames.push(frame.to_vec());
        rest = after;
    }
    if !rest.is_empty() || frames.is_empty() {
        bail!("{} whole frames and {} bytes after them", frames.len(), rest.len());
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: &[usize]) -> Vec<u8> {
        let mut data = vec![0; FILE_HEADER];
        data[..4].copy_from_slice(&MAGIC);
        for &len in frames {
            let n = (len as u32).to_le_bytes();
            data.extend([[0; 4], [0; 4], n, n].concat());
            data.extend(vec![len as u8; len]);
        }
        data
    }

    #[test]
    fn reads_what_the_bench_writes() {
        let frames = parse(&file(&[60, 16, 200])).unwrap();
        assert_eq!(frames, [vec![60; 60], vec![16; 16], vec![200; 200]]);
    }

    #[test]
    fn refuses_what_it_cannot_send() {
        let whole = file(&[60, 60]);
        for bad in [&[][..], &[0; FILE_HEADER][..], &whole[..whole.len() - 1], &file(&[]), &file(&[15])] {
            assert!(parse(bad).is_err());
        }
    }
}
