//! Many programs that want the same images at once: each part comes once, and all of them have theirs.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use microsandbox::Image;
use msb_tests::registry::{Registry, downloads};
use msb_tests::{PATIENCE, images, in_time};
use tokio::process::Command;

use super::at_home;

const PULLER: &str = env!("CARGO_BIN_EXE_msb-test-puller");

const PROGRAMS: usize = 8;

/// How many images each program wants, of the five.
const EACH: usize = 3;

const IMAGES: [&str; 5] = [
    "busybox",
    "configured",
    "everything",
    "everything-zstd",
    "others",
];

/// They all boot on one processor, which may be emulated.
const LONG: Duration = PATIENCE.saturating_mul(6);

#[tokio::test]
async fn eight_programs_pull_five_images_and_each_layer_comes_once() -> Result<()> {
    at_home(async |home| {
        let mut registry = Registry::start()?;
        let mut references = Vec::new();
        let mut layers = Vec::new();
        for tag in IMAGES {
            let image = images::image(tag)?;
            references.push(registry.push(&image, &format!("{tag}:1"))?);
            layers.extend(image.layers()?);
        }

        let mut programs = Vec::new();
        for number in 0..PROGRAMS {
            // Each image is wanted by several at the same time, and comes first to some.
            let wanted = (0..EACH).map(|step| &references[(number + 2 * step) % IMAGES.len()]);
            let program = Command::new(PULLER)
                .arg(format!("program-{number}"))
                .arg("go")
                .args(wanted)
                .env("MSB_HOME", &home.path)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            programs.push(program.wait_with_output());
        }
        let ends = in_time(LONG, futures::future::join_all(programs)).await;
        for (number, end) in ends.into_iter().enumerate() {
            let end = end?;
            let said = String::from_utf8_lossy(&end.stdout).into_owned();
            let errors = String::from_utf8_lossy(&end.stderr);
            ensure!(
                end.status.success() && said.lines().count() == EACH,
                "program {number}: {}\n{said}{errors}",
                end.status
            );
        }

        let downloads = downloads(&registry.end()?, &layers);
        ensure!(downloads.values().all(|times| *times == 1), "{downloads:?}");
        let listed = Image::list(&home.local).await?;
        assert_eq!(listed.len(), IMAGES.len(), "{listed:?}");
        home.ensure_sound().await?;
        // What both forms of the compressed image have in common is there once.
        assert_eq!(home.counts()?["layers"], 1 + 1 + 9 + 9);
        home.emptied().await
    })
    .await
}
