//! Kernels that say what they can do, others that do not, and files that are none.

use std::io::Write;

use proptest::prelude::*;

use super::sample::{elf, embedded, kernel};
use super::*;

const CONFIG: &str = "#\n# Linux/x86 6.12\n#\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_DAX=y\n\
                      CONFIG_NAME=\"y\"\n";

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn what_is_built_in_is_told_from_what_is_not() {
    let kernel = file(&kernel(CONFIG));
    assert!(has(&kernel, &[]));
    assert!(has(&kernel, &["CONFIG_A"]));
    assert!(has(&kernel, &["CONFIG_DAX", "CONFIG_A"]));
    for missing in [
        "CONFIG_B",
        "CONFIG_C",
        "CONFIG_D",
        "CONFIG_NAME",
        "CONFIG_TEXT",
        "A",
        "",
    ] {
        assert!(!has(&kernel, &["CONFIG_A", missing]), "{missing}");
    }
}

#[test]
fn the_mark_is_found_wherever_it_lies() {
    for before in [
        0,
        1,
        PIECE - 9,
        PIECE - 8,
        PIECE - 7,
        PIECE - 1,
        PIECE,
        2 * PIECE - 12,
    ] {
        let data = [vec![b'I'; before], embedded(CONFIG)].concat();
        let kernel = file(&elf(&[(".rodata", &data)]));
        assert!(has(&kernel, &["CONFIG_A"]), "{before}");
    }
}

#[test]
fn of_a_kernel_that_says_nothing_nothing_is_known() {
    let zeros = vec![0; 100_000];
    for bytes in [
        elf(&[(".rodata", &zeros)]),
        elf(&[(".rodata", b"")]),
        elf(&[(".text", &zeros)]),
        elf(&[(".rodata", MARK)]),
        elf(&[(".rodata", b"IKCFG_ST and no configuration")]),
        elf(&[(".rodata", &embedded(CONFIG)[..60])]),
        elf(&[]),
        b"\x7fELF".to_vec(),
        b"no kernel".repeat(20),
        Vec::new(),
    ] {
        assert!(!has(&file(&bytes), &[]));
    }
}

#[test]
fn a_configuration_is_not_read_beyond_its_limit() {
    let long = "# padding\n".repeat(usize::try_from(MAX_CONFIG / 10).unwrap() + 1) + CONFIG;
    let kernel = file(&elf(&[(".rodata", &embedded(&long))]));
    assert!(!has(&kernel, &["CONFIG_A"]));
}

proptest! {
    #[test]
    fn any_file_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        has(&file(&bytes), &["CONFIG_A"]);
        let after_header = [b"\x7fELF\x02\x01", &bytes[..]].concat();
        has(&file(&after_header), &["CONFIG_A"]);
    }

    #[test]
    fn a_kernel_with_any_bytes_changed_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = elf(&[(".text", b"code"), (".rodata", &embedded(CONFIG))]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        has(&file(&bytes), &["CONFIG_A"]);
        bytes.truncate(cut.index(bytes.len()));
        has(&file(&bytes), &["CONFIG_A"]);
    }
}
