//! A container image, pulled and booted, with a bar for each layer.
//!
//! ```text
//! cargo run --example pull -- alpine
//! cargo run --example pull -- python:3.12 -- python3 -c 'print(6 * 7)'
//! cargo run --example pull -- --insecure localhost:5000/app
//! ```
//!
//! The library's parts have to be where it finds them, which `cargo xtask install` sees to. Bars are drawn on a
//! terminal only.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use microsandbox::Sandbox;
use microsandbox::sandbox::{PullPolicy, PullProgress, PullProgressHandle};

/// Pulls an image, starts a sandbox from it, and runs a command in it.
#[derive(Debug, Parser)]
struct Options {
    /// The image: `alpine`, `ghcr.io/team/app:1.0`
    image: String,
    /// Talk to its registry without TLS
    #[arg(long)]
    insecure: bool,
    /// Ask the registry even if the image is here
    #[arg(long)]
    always: bool,
    /// Memory in MiB
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// The command
    #[arg(last = true, default_values = ["cat", "/etc/os-release"])]
    command: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let policy = match options.always {
        true => PullPolicy::Always,
        false => PullPolicy::IfMissing,
    };
    let (progress, creating) = Sandbox::builder(format!("pull-{}", std::process::id()))
        .image(options.image)
        .registry(|registry| match options.insecure {
            true => registry.insecure(),
            false => registry,
        })
        .pull_policy(policy)
        .memory(options.memory)
        .ephemeral(true)
        .create_with_pull_progress()?;
    draw(progress).await?;
    let sandbox = creating.await??;
    let Some((program, args)) = options.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = sandbox.exec(program, args.to_vec()).await?;
    std::io::stdout().write_all(output.stdout_bytes())?;
    std::io::stderr().write_all(output.stderr_bytes())?;
    sandbox.stop().await?;
    Ok(ExitCode::from(
        u8::try_from(output.status().code).unwrap_or(u8::MAX),
    ))
}

/// Draws what happens until the pull is over. On what is no terminal nothing is drawn.
async fn draw(mut progress: PullProgressHandle) -> Result<()> {
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{prefix:12} {bar:30} {bytes:>10}/{total_bytes:10} {msg}")?;
    let line = bars.add(ProgressBar::no_length());
    line.set_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let mut layers: BTreeMap<usize, ProgressBar> = BTreeMap::new();
    let mut layer = |index: usize, digest: &str| {
        let bar = layers.entry(index).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(0).with_style(style.clone()));
            bar.set_prefix(
                digest
                    .trim_start_matches("sha256:")
                    .chars()
                    .take(12)
                    .collect::<String>(),
            );
            bar
        });
        bar.clone()
    };
    while let Some(event) = progress.recv().await {
        match event {
            PullProgress::Resolving { reference } => {
                line.set_message(format!("asking for {reference}"))
            }
            PullProgress::Resolved {
                layer_count,
                manifest_digest,
                ..
            } => {
                line.set_message(format!("{manifest_digest}, {layer_count} layers"));
            }
            PullProgress::LayerDownloadProgress {
                layer_index,
                digest,
                downloaded_bytes,
                total_bytes,
            } => {
                let bar = layer(layer_index, &digest);
                bar.set_length(total_bytes.unwrap_or(downloaded_bytes));
                bar.set_position(downloaded_bytes);
            }
            PullProgress::LayerDownloadComplete {
                layer_index,
                digest,
                downloaded_bytes,
            } => {
                let bar = layer(layer_index, &digest);
                bar.set_length(downloaded_bytes);
                bar.set_position(downloaded_bytes);
                bar.set_message("unpacking");
            }
            PullProgress::LayerMaterializeComplete { layer_index, .. } => {
                layer(layer_index, "").finish_with_message("done");
            }
            PullProgress::Complete { reference, .. } => {
                line.finish_with_message(format!("{reference} is here"))
            }
            _ => {}
        }
    }
    Ok(())
}
