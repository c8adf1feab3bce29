//! `cargo xtask bench image`: what images cost, beside the tools that others use.
//!
//! On the host ([`unpack`], no virtual machine): from a layout of a Debian to its disk, beside `umoci unpack` and
//! `mkfs.erofs`; and the disk that ten images take which share that Debian, beside ten trees.
//!
//! Where KVM is real ([`machines`]): the first sandbox of an image, with its pull, and the second; and
//! the memory that many sandboxes take which read the same large file.
//!
//! *Memory* is counted as follows. Where an image is attached as a disk, each guest reads it into memory of its own, which
//! the host cannot share; where it is mapped, guests use the pages of the host's page cache. What the
//! host can share, or fail to, is those pages of the image's files, and the private
//! memory of the VMMs outside their guests'. `shared_memory_ratio` is the sum of these two over the size of the file
//! times the number of sandboxes: 1.0 means that nothing is shared. Both are whole amounts, not differences, so what
//! the VMMs need anyhow is in it. `guest_mib` is what the guests' own memory has grown by in the meantime, without what is
//! mapped, and `all_memory_ratio` is the same ratio with that added: it tells whether guests have copies of what they
//! have read.

pub(crate) mod machines;
mod unpack;

use std::fs;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::figures::{Figure, Measured, tell};
use crate::{cargo, paths, setup};

/// The program of the library that measures.
const PROGRAM: &str = "msb-test-image-bench";
/// `fincore` is in it.
const NEEDED: [&str; 1] = ["util-linux-extra"];

/// What is told, in this order.
const FIGURES: [Figure; 16] = [
    Figure::Ratio("unpack_ratio", "load_ms", "umoci_ms"),
    Figure::Ratio("disk_ratio", "images_mib", "trees_mib"),
    Figure::Ratio("second_ratio", "second_ms", "first_ms"),
    Figure::Measured("shared_memory_ratio"),
    Figure::Measured("all_memory_ratio"),
    Figure::Measured("load_ms"),
    Figure::Measured("umoci_ms"),
    Figure::Measured("mkfs_ms"),
    Figure::Measured("load_mib_s"),
    Figure::Measured("images_mib"),
    Figure::Measured("trees_mib"),
    Figure::Measured("first_ms"),
    Figure::Measured("second_ms"),
    Figure::Measured("page_cache_mib"),
    Figure::Measured("vmms_mib"),
    Figure::Measured("guest_mib"),
];

/// Options of `bench image`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often the Debian is unpacked in each way
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many sandboxes read the same file
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(2..=100))]
    sandboxes: u32,
    /// Only what needs no virtual machine
    #[arg(long)]
    host_only: bool,
}

/// Measures on the host, then where KVM is real.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::run_with(&NEEDED)?;
    let program = cargo::test_program(PROGRAM)?;
    let dir = paths::target().join("bench");
    fs::create_dir_all(&dir)?;
    let mut measured = unpack::measure(&program, options.rounds)?;
    if !options.host_only {
        measured.extend(machines::measure(&program, options.sandboxes)?);
    }
    let report = json!({
        "rounds": options.rounds,
        "sandboxes": options.sandboxes,
        "all": measured,
    });
    tell(
        "image",
        figures(&measured),
        3,
        report,
        &dir.join("image.json"),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The numbers of the result that what was measured gives, with their names.
fn figures(measured: &Measured) -> Vec<(&'static str, f64)> {
    let figures = FIGURES.iter().map(|figure| figure.of(measured));
    figures.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_and_what_was_not_measured_is_left_out() {
        let measured = Measured::from([
            ("load_ms".to_owned(), vec![1.0, 3.0, 2.0]),
            ("umoci_ms".to_owned(), vec![8.0]),
        ]);
        assert_eq!(
            figures(&measured),
            [("unpack_ratio", 0.25), ("load_ms", 2.0), ("umoci_ms", 8.0)]
        );
    }
}
