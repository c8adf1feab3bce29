//! A Python wheel, which is a ZIP file with a directory of metadata in it.
//!
//! Files are stored as they are, without compression; that much of the format is two headers for
//! each file, and not worth a dependency.

use anyhow::Result;

/// The first day that a ZIP file can have, 1980-01-01.
const DATE: u16 = 1 << 5 | 1;
/// 2.0 is what reads stored files.
const VERSION: u16 = 20;
/// Of Unix, so that the attributes are a file's mode.
const MADE_BY_UNIX: u16 = 3 << 8;
const MODE: u32 = 0o100_644;

/// The wheel `name`-1.0 with these files, of text, by their paths. Its file has to be called
/// `<name>-1.0-py3-none-any.whl`.
pub fn pack(name: &str, files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let about = format!("{name}-1.0.dist-info");
    let record = format!("{about}/RECORD");
    let mut all: Vec<(String, String)> = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    all.push((
        format!("{about}/METADATA"),
        format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"),
    ));
    all.push((
        format!("{about}/WHEEL"),
        "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            .to_owned(),
    ));
    let lines = all.iter().map(|(path, _)| format!("{path},,\n"));
    let lines: String = lines.chain([format!("{record},,\n")]).collect();
    all.push((record, lines));
    zip(&all)
}

fn zip(files: &[(String, String)]) -> Result<Vec<u8>> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (path, text) in files {
        let size = u32::try_from(text.len())?.to_le_bytes();
        // What both headers have in common: version, flags, method, time, date, sum, sizes, lengths.
        let mut common = Vec::new();
        for field in [VERSION, 0, 0, 0, DATE] {
            common.extend(field.to_le_bytes());
        }
        common.extend(crc32(text.as_bytes()).to_le_bytes());
        common.extend([size, size].concat());
        common.extend(u16::try_from(path.len())?.to_le_bytes());
        common.extend([0; 2]);

        directory.extend(b"PK\x01\x02");
        directory.extend((MADE_BY_UNIX | VERSION).to_le_bytes());
        directory.extend(&common);
        // No comment, the first disk, binary.
        directory.extend([0; 6]);
        directory.extend((MODE << 16).to_le_bytes());
        directory.extend(u32::try_from(archive.len())?.to_le_bytes());
        directory.extend(path.bytes());

        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(path.bytes());
        archive.extend(text.bytes());
    }
    let (count, start) = (u16::try_from(files.len())?, u32::try_from(archive.len())?);
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    archive.extend(u32::try_from(directory.len())?.to_le_bytes());
    archive.extend(start.to_le_bytes());
    archive.extend([0; 2]);
    Ok(archive)
}

/// The sum that ZIP files have, bit by bit: the files are small.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = sum & 1 == 1;
            sum >>= 1;
            if odd {
                sum ^= 0xEDB8_8320;
            }
        }
    }
    !sum
}
