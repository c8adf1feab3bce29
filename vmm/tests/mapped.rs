//! Machines of a few instructions, with a disk mapped into their memory. Any KVM will do, an interpreting one too.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs::{self, File};

use msb_vmapi::{ConsoleTarget, ErrorKind, Outcome, PmemConfig, Source, VmConfig};
use msb_vmm::machine::Surroundings;
use msb_vmm::probe;
use support::{Place, machine, out, store, system};

/// Where the first mapped disk of a machine of little memory is.
const DISK: u64 = 5 << 30;
/// Where the code here sees it: a guest that begins in 32 bits has to map what is above 4 GiB first.
const SEEN: u32 = 0x20_0000;

/// Page tables of four levels, with the first 2 MiB as they are and the disk's first 2 MiB behind them. The code goes on
/// in 32 bits, as a part of long mode.
fn paging() -> Vec<u8> {
    let tables = [0x11_0000, 0x11_1000, 0x11_2000];
    let [low, high] = [DISK, DISK >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap());
    let (present, large) = (0x03, 0x83);
    [
        store(tables[0], tables[1] | present),
        store(tables[1], tables[2] | present),
        store(tables[2], large),
        store(tables[2] + 8, low | large),
        store(tables[2] + 12, high),
        // mov eax, cr4; or eax, PAE; mov cr4, eax
        vec![0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0],
        // mov eax, tables; mov cr3, eax
        [&[0xb8][..], &tables[0].to_le_bytes(), &[0x0f, 0x22, 0xd8]].concat(),
        // mov ecx, EFER; rdmsr; or eax, LME; wrmsr
        vec![0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32],
        vec![0x0d, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x30],
        // mov eax, cr0; or eax, PG; mov cr0, eax
        vec![
            0x0f, 0x20, 0xc0, 0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0,
        ],
    ]
    .concat()
}

/// Says the byte at an address on the serial port.
fn say(address: u32) -> Vec<u8> {
    // mov al, [address]; mov dx, 0x3f8; out dx, al
    let load = [&[0xa0][..], &address.to_le_bytes()].concat();
    [&load[..], &[0x66, 0xba, 0xf8, 0x03, 0xee]].concat()
}

/// A place with a guest of this code, a mapped disk of a page of `m` and one of `n`, and a serial port to a file.
fn place(code: &[Vec<u8>]) -> (Place, VmConfig) {
    let place = Place::new(&code.concat());
    let path = place.path().join("mapped");
    fs::write(&path, [[b'm'; 4096], [b'n'; 4096]].concat()).unwrap();
    let mut config = place.config();
    config.pmem = vec![PmemConfig::whole(path)];
    config.serial = ConsoleTarget::File(Source::Path(place.path().join("serial")));
    (place, config)
}

fn said(place: &Place) -> Vec<u8> {
    fs::read(place.path().join("serial")).unwrap()
}

#[test]
fn a_guest_reads_it_and_changes_nothing() {
    let Some(system) = system() else { return };
    let (place, config) = place(&[
        paging(),
        say(SEEN),
        say(SEEN + 4096),
        // Behind the file.
        say(SEEN + 8192),
        store(SEEN, 0x4141_4141),
        store(SEEN + 4096, 0x4141_4141),
        store(SEEN + 8192, 0x4141_4141),
        say(SEEN),
        say(SEEN + 4096),
        say(SEEN + 8192),
        out(0x600, 0x34),
    ]);
    let outcome = machine(&system, config, Surroundings::default()).run();
    assert_eq!(outcome, Outcome::PowerOff);
    assert_eq!(said(&place), b"mn\0mn\0");
    let now = fs::read(place.path().join("mapped")).unwrap();
    assert!(now == [[b'm'; 4096], [b'n'; 4096]].concat());
}

#[test]
fn what_the_host_has_lost_ends_the_machine_with_an_error() {
    let Some(system) = system() else { return };
    let (place, config) = place(&[paging(), say(SEEN), say(SEEN + 4096), out(0x600, 0x34)]);
    let machine = machine(&system, config, Surroundings::default());
    let file = File::options()
        .write(true)
        .open(place.path().join("mapped"));
    file.unwrap().set_len(4096).unwrap();
    match machine.run() {
        Outcome::Error(error) => {
            assert_eq!(error.kind, ErrorKind::Host);
            assert!(error.message.contains("cut short"), "{error}");
            assert_eq!(said(&place), b"m");
        }
        // To an interpreter that is an address without memory.
        Outcome::PowerOff if !probe::processor_has_virtualization() => {
            assert_eq!(said(&place), b"m\xff");
        }
        other => panic!("{other:?}"),
    }
}
