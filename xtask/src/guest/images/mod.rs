//! Container images for the tests and benchmarks, made once and kept in the cache, without a registry and
//! without root: OCI layouts and archives that `umoci` and `skopeo` wrote.
//!
//! | where, tag | what |
//! |---|---|
//! | `layout`, `debian` | a Debian with Python in one large layer, and a small layer with a place to work in; it has a command, a user, an environment, labels |
//! | `layout`, `busybox` | busybox, one layer of a megabyte |
//! | `layout`, `configured` | the same, with the small layer and all that the Debian says |
//! | `layout`, `everything` | nine layers over that, with all that layers can do to one another |
//! | `layout`, `everything-zstd` | the same, compressed by zstd |
//! | `layout`, `others` | nine other layers over the same busybox |
//! | `layout`, `app-0` to `app-9` | each a small layer over the Debian |
//! | `platforms`, `amd64`, `arm64` | a file that says which it is |
//! | `platforms`, `index`, `nested` | an index of the two, and an index of that index |
//! | `busybox.docker.tar`, `busybox.oci.tar` | busybox as archives |

mod busybox;
mod many;
mod oci;
mod tar;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use self::oci::{Entry, Layout};
use self::tar::{Layer, mode};
use super::debian::tree;
use crate::cache;
use crate::progress::Progress;

/// Tells tests where they are.
pub(crate) const VARIABLE: &str = "MSB_TEST_IMAGES";

/// Debian packages with the tools that make the images and those that tests compare with.
pub(crate) const PACKAGES: [&str; 5] =
    ["docker-registry", "erofs-utils", "skopeo", "umoci", "zstd"];

/// What is written here, in all detail: each change of it makes new images.
const RECIPE: [&str; 5] = [
    include_str!("mod.rs"),
    include_str!("busybox.rs"),
    include_str!("many.rs"),
    include_str!("oci.rs"),
    include_str!("tar.rs"),
];

/// How many images share the Debian.
pub(crate) const APPS: usize = 10;
/// A file that many sandboxes read, and its size in bytes.
pub(crate) const LARGE_FILE: (&str, usize) = ("large", 100 << 20);
const STEPS: u64 = 9;

/// What two of the images say of how they are run.
const CONFIGURED: [&str; 8] = [
    "--config.env=LANG=C.UTF-8",
    "--config.env=GREETING=hello from the image",
    "--config.entrypoint=/usr/bin/env",
    "--config.workingdir=/srv/work",
    "--config.user=www-data",
    "--config.label=org.example.title=An image for tests",
    "--config.label=org.example.stage=image",
    "--config.stopsignal=SIGINT",
];

/// The directory of images in the cache, made first when it is not there.
pub(crate) fn build() -> Result<PathBuf> {
    let debian = tree::Recipe::of_this_host()?;
    let busybox = busybox::program()?;
    let mut parts: Vec<&[u8]> = RECIPE.map(str::as_bytes).to_vec();
    parts.extend([debian.key().as_bytes(), &busybox]);
    let kind = cache::Kind::open("images")?;
    kind.get_or_make(&cache::key(&parts), |made| make(&debian, &busybox, made))
}

/// A layout with one more image, `large`: busybox and [`LARGE_FILE`].
pub(crate) fn large() -> Result<PathBuf> {
    let busybox = busybox::program()?;
    let mut parts: Vec<&[u8]> = RECIPE.map(str::as_bytes).to_vec();
    parts.extend([&b"large"[..], &busybox]);
    let kind = cache::Kind::open("images")?;
    kind.get_or_make(&cache::key(&parts), |made| {
        let scratch = made.parent();
        let scratch = scratch.context("the build has no scratch directory")?;
        let progress = Progress::new("making an image with a large file", 1);
        let (base, path) = (scratch.join("busybox"), scratch.join("large"));
        busybox::layer(&base, &busybox)?;
        let mut layer = Layer::create(&path)?;
        let (name, bytes) = LARGE_FILE;
        layer.file(name, mode(0o644), many::noise(1, bytes))?;
        layer.finish()?;
        let layout = Layout::create(made.join("layout"))?;
        layout.image("large", &[&base, &path], &[])?;
        progress.finish();
        Ok(())
    })
}

fn make(debian: &tree::Recipe, program: &[u8], made: &Path) -> Result<()> {
    let debian = debian.build()?;
    let scratch = made
        .parent()
        .context("the build has no scratch directory")?
        .join("layers");
    fs::create_dir(&scratch)?;
    let layer = |name: &str| scratch.join(name);
    let mut progress = Progress::new("making images for tests", STEPS);

    let images = Layout::create(made.join("layout"))?;
    busybox::layer(&layer("busybox"), program)?;
    let shell = ["--config.cmd=/bin/sh"];
    images.image("busybox", &[&layer("busybox")], &shell)?;
    progress.step();

    for (tag, layers) in [
        ("everything", many::everything(&scratch)?),
        ("others", many::others(&scratch)?),
    ] {
        let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
        images.on("busybox", tag, &layers, &[])?;
        progress.step();
    }

    let (tree, workplace) = (debian.tar(), layer("workplace"));
    place_to_work(&workplace)?;
    for (tag, below, command) in [
        ("debian", &tree, "--config.cmd=python3"),
        ("configured", &layer("busybox"), "--config.cmd=id"),
    ] {
        let config = [&CONFIGURED[..], &[command]].concat();
        images.image(tag, &[below, &workplace], &config)?;
        progress.step();
    }

    for number in 0..APPS {
        let path = layer(&format!("app-{number}"));
        app(&path, number)?;
        images.on("debian", &format!("app-{number}"), &[&path], &[])?;
    }
    progress.step();

    images.tidy()?;
    images.zstd("everything", "everything-zstd")?;
    for kind in ["docker", "oci"] {
        let file = made.join(format!("busybox.{kind}.tar"));
        let name = "registry.example/busybox:1";
        images.pack("busybox", &format!("{kind}-archive"), &file, name)?;
    }
    progress.step();

    platforms(&Layout::create(made.join("platforms"))?, &scratch, program)?;
    progress.finish();
    Ok(())
}

/// A directory that the image's user may write in.
fn place_to_work(path: &Path) -> Result<()> {
    let mut layer = Layer::create(path)?;
    layer.dir("srv", mode(0o755))?;
    layer.dir("srv/work", mode(0o750).owner(33, 33))?;
    let source = "print(6 * 7)\n";
    layer.file("srv/work/answer.py", mode(0o640).owner(33, 33), source)?;
    layer.finish()
}

fn app(path: &Path, number: usize) -> Result<()> {
    let mut layer = Layer::create(path)?;
    layer.dir("opt/app", mode(0o755))?;
    let content = many::noise(1_000 + number as u64, 256 << 10);
    layer.file("opt/app/data", mode(0o644), content)?;
    layer.file("opt/app/number", mode(0o644), number.to_string())?;
    layer.finish()
}

/// Two platforms, and what build tools put in an index beside them.
fn platforms(layout: &Layout, scratch: &Path, program: &[u8]) -> Result<()> {
    let base = scratch.join("platform-base");
    busybox::layer(&base, program)?;
    for architecture in ["amd64", "arm64", "attested"] {
        let path = scratch.join(architecture);
        let mut layer = Layer::create(&path)?;
        layer.file("platform", mode(0o644), architecture)?;
        layer.finish()?;
        let layers: [&Path; 2] = [&base, &path];
        let said = format!("--architecture={architecture}");
        layout.image(architecture, &layers, &[&said, "--os=linux"])?;
    }
    layout.tidy()?;
    let attested = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let entry = |tag, platform, annotations| Entry {
        tag,
        platform,
        annotations,
    };
    let entries = [
        entry("arm64", Some(("linux", "arm64")), json!({})),
        entry("attested", Some(("unknown", "unknown")), attested),
        entry("amd64", Some(("linux", "amd64")), json!({})),
    ];
    layout.index("index", &entries)?;
    layout.index("nested", &[entry("index", None, json!({}))])
}
