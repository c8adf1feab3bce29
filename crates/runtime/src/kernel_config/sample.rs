//! Files that are kernels as far as their configuration goes, for tests.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A configuration as a kernel has it.
pub(crate) fn embedded(config: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(config.as_bytes()).unwrap();
    [b"IKCFG_ST", &encoder.finish().unwrap()[..], b"IKCFG_ED"].concat()
}

/// An ELF file with sections of these names, one after the other, and one of all names.
pub(crate) fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0];
    let mut data = Vec::new();
    let mut table = vec![0; 64];
    let mut add = |name: usize, content: &[u8]| {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&u32::try_from(name).unwrap().to_le_bytes());
        header[0x18..0x20].copy_from_slice(&((64 + data.len()) as u64).to_le_bytes());
        header[0x20..0x28].copy_from_slice(&(content.len() as u64).to_le_bytes());
        table.extend(header);
        data.extend(content);
    };
    for (name, content) in sections {
        add(names.len(), content);
        names.extend(name.as_bytes());
        names.push(0);
    }
    add(0, &names);
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[0x28..0x30].copy_from_slice(&((64 + data.len()) as u64).to_le_bytes());
    file[0x3a..0x3c].copy_from_slice(&64u16.to_le_bytes());
    let count = u16::try_from(table.len() / 64).unwrap();
    file[0x3c..0x3e].copy_from_slice(&count.to_le_bytes());
    file[0x3e..0x40].copy_from_slice(&(count - 1).to_le_bytes());
    [file, data, table].concat()
}

/// A kernel with this configuration in it, among other things.
pub(crate) fn kernel(config: &str) -> Vec<u8> {
    let data = [vec![7; 200_000], embedded(config), vec![7; 5000]].concat();
    elf(&[
        (".text", &embedded("CONFIG_TEXT=y")),
        (".rodata", &data),
        (".data", b"x"),
    ])
}
