//! Every saved fuzz input, and every input that once crashed a target, through that target's function again.

use crate::exercise;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) -> usize {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"));
    let mut count = 0;
    for folder in ["corpus", "crashes"] {
        for entry in std::fs::read_dir(root.join(folder).join(target)).into_iter().flatten() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            count += 1;
        }
    }
    count
}

#[test]
fn datagram() {
    assert!(replay("datagram", exercise::datagram) >= 10);
}

#[test]
fn handshake() {
    assert!(replay("handshake", exercise::handshake) >= 10);
}

#[test]
fn tunnel_control() {
    assert!(replay("tunnel_control", exercise::control) >= 10);
}
