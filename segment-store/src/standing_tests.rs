//! Starts are counted across crashes, a barred directory stays barred, and no flipped bit makes a node forget whom it met.

use super::*;
use crate::DataDir;
use crate::fs::SimFs;

const CLUSTER: [u8; 16] = [7; 16];

fn dir() -> &'static Path {
    Path::new("/node-1")
}

fn made(seed: u64) -> SimFs {
    let fs = SimFs::new(seed);
    DataDir::open(Arc::new(fs.clone()), dir(), CLUSTER, 1).unwrap();
    fs
}

fn memory(fs: &SimFs) -> Memory {
    Memory::new(Arc::new(fs.clone()), dir().to_owned())
}

fn pins() -> BTreeMap<u64, Pin> {
    let pin = |node: u64| Pin {
        replica: [node as u8; 16],
        boot: 10 * node,
        nonce: 0x0102_0304_0506_0708 * node,
    };
    (2..=3).map(|node| (node, pin(node))).collect()
}

#[test]
fn each_start_counts_up_and_remembers_the_nonces_and_the_founders() {
    let fs = made(1);
    let first = memory(&fs).begin_boot(&[1, 2, 3]).unwrap();
    assert_eq!((first.number, first.nonces.len()), (1, 1));
    let second = memory(&fs).begin_boot(&[1, 2]).unwrap();
    assert_eq!((second.number, second.nonces.len()), (2, 2));
    assert_eq!(second.nonces[1], first.nonces[0]);
    assert_eq!(second.founders, [1, 2, 3], "the first start settles them");
    let starts = NONCES_MAX as u64 + 5;
    let mut last = None;
    for _ in 2..starts {
        last = Some(memory(&fs).begin_boot(&[]).unwrap());
    }
    let last = last.unwrap();
    assert_eq!((last.number, last.nonces.len()), (starts, NONCES_MAX));
}

#[test]
fn a_start_is_not_forgotten_when_the_power_fails_right_after() {
    for seed in 0..50 {
        let fs = made(seed);
        let before = memory(&fs).begin_boot(&[1]).unwrap();
        fs.power_cycle();
        let after = memory(&fs).begin_boot(&[1]).unwrap();
        assert_eq!(after.number, before.number + 1, "seed {seed}");
        memory(&fs).save_pins(&pins()).unwrap();
        fs.power_cycle();
        assert_eq!(memory(&fs).pins().unwrap(), pins(), "seed {seed}");
    }
}

#[test]
fn a_node_starts_and_meets_others_on_a_full_disk() {
    let fs = made(4);
    memory(&fs).begin_boot(&[1]).unwrap();
    memory(&fs).save_pins(&BTreeMap::new()).unwrap();
    fs.set_capacity(Some(0));
    assert_eq!(memory(&fs).begin_boot(&[1]).unwrap().number, 2);
    memory(&fs).save_pins(&pins()).unwrap();
    fs.power_cycle();
    assert_eq!(memory(&fs).begin_boot(&[1]).unwrap().number, 3);
    assert_eq!(memory(&fs).pins().unwrap(), pins());
    let empty = SimFs::new(5);
    DataDir::open(Arc::new(empty.clone()), dir(), CLUSTER, 1).unwrap();
    empty.set_capacity(Some(0));
    let refused = memory(&empty).begin_boot(&[1]).unwrap_err();
    assert!(matches!(refused, DataDirError::NoSpace(_)), "{refused}");
}

#[test]
fn a_barred_directory_does_not_start_again() {
    for (bar, says) in [
        (Bar::Refused, "replace-node"),
        (Bar::Removed, "was removed"),
    ] {
        let fs = made(2);
        let boot = memory(&fs).begin_boot(&[1]).unwrap();
        memory(&fs).bar(&boot, bar).unwrap();
        for _ in 0..2 {
            let refused = memory(&fs).begin_boot(&[1]).unwrap_err();
            assert!(refused.to_string().contains(says), "{refused}");
        }
    }
}

#[test]
fn the_stored_bytes_never_change() {
    let boot = Boot {
        number: 3,
        nonces: vec![0xaa, 0xbb],
        founders: vec![1, 2],
    };
    let mut golden = [0; SECTOR_BYTES];
    golden[..10].copy_from_slice(b"PLIMBOOT\x01\0");
    golden[16] = 3;
    golden[24] = 1;
    golden[32] = 2;
    golden[40] = 1;
    golden[48] = 2;
    golden[296] = 2;
    golden[304] = 0xaa;
    golden[312] = 0xbb;
    let page = encode_standing(&boot, Some(Bar::Refused));
    assert_eq!(page[..4092], golden[..4092]);
    let mut golden = [0; SECTOR_BYTES];
    golden[..10].copy_from_slice(b"PLIMPEER\x01\0");
    golden[16] = 2;
    for (at, node) in [(24, 2), (64, 3)] {
        golden[at] = node;
        golden[at + 8..at + 24].fill(node);
        golden[at + 24] = 10 * node;
        let nonce = 0x0102_0304_0506_0708 * u64::from(node);
        golden[at + 32..at + 40].copy_from_slice(&nonce.to_le_bytes());
    }
    assert_eq!(encode_pins(&pins())[..4092], golden[..4092]);
}

#[test]
fn a_file_with_any_flipped_byte_or_another_length_is_refused_and_says_what_to_do() {
    for (name, page) in [
        (
            STANDING,
            encode_standing(
                &Boot {
                    number: 3,
                    nonces: vec![1],
                    founders: vec![1],
                },
                None,
            ),
        ),
        (PEERS, encode_pins(&pins())),
    ] {
        let fs = made(3);
        let path = dir().join(name);
        let write = |bytes: &[u8]| {
            if fs.exists(&path).unwrap() {
                fs.remove(&path).unwrap();
            }
            let file = fs.create(&path, bytes.len() as u64).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        };
        let refused = || {
            let error = match name {
                PEERS => memory(&fs).pins().map(drop),
                _ => memory(&fs).begin_boot(&[]).map(drop),
            };
            let said = error.unwrap_err().to_string();
            assert!(said.contains(name), "{said}");
        };
        for at in (0..200).chain(4080..SECTOR_BYTES) {
            let mut bytes = page;
            bytes[at] ^= 0x10;
            write(&bytes);
            refused();
        }
        write(&page[..100]);
        refused();
        write(&page);
        assert!(memory(&fs).pins().is_ok() && memory(&fs).begin_boot(&[]).is_ok());
    }
}
