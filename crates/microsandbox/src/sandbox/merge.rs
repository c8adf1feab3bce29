//! What an image says of how it is run, under what its sandbox says.
//!
//! Environment and labels of the image are the base. Its entrypoint, command, working directory and user
//! hold where the sandbox has none of its own. An image was made by somebody else: what of it cannot be used, or is
//! not its to say, is left out.

use std::collections::HashMap;
use std::path::Path;

use msb_image::manifest::ImageConfig;
use msb_types::{EnvVar, MountOptions, MountSource, SandboxConfig, VolumeMount};

use super::check;

/// The most that `/tmp` holds in memory, in MiB, when nobody says.
const MAX_TMP_MIB: u32 = 512;

/// The configuration of a sandbox that is made from this image.
pub(crate) fn with_image(mut config: SandboxConfig, image: ImageConfig) -> SandboxConfig {
    config.env = environment(&image.env, config.env);
    for (key, value) in image.labels {
        if msb_types::validate_label(&key, &value).is_ok() {
            config.labels.entry(key).or_insert(value);
        }
    }
    let runtime = &mut config.runtime;
    let words = |words: Option<Vec<String>>| {
        words.filter(|words| !words.is_empty() && !words.iter().any(|word| word.contains('\0')))
    };
    let text = |text: Option<String>| text.filter(|text| !text.is_empty() && !text.contains('\0'));
    runtime.entrypoint = runtime.entrypoint.take().or(words(image.entrypoint));
    runtime.cmd = runtime.cmd.take().or(words(image.cmd));
    let dir = text(image.working_dir).filter(|dir| dir.starts_with('/'));
    runtime.workdir = runtime.workdir.take().or(dir);
    runtime.user = runtime.user.take().or(text(image.user));
    tmp(&mut config);
    config
}

/// The image's variables, and over them the sandbox's.
fn environment(image: &[String], own: Vec<EnvVar>) -> Vec<EnvVar> {
    let usable = image.iter().filter_map(|entry| {
        let (key, value) = entry.split_once('=')?;
        let var = EnvVar {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        check::variable(&var).is_ok().then_some(var)
    });
    let mut merged: Vec<EnvVar> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for var in usable.chain(own) {
        match places
            .get(&var.key)
            .and_then(|place| merged.get_mut(*place))
        {
            Some(known) => known.value = var.value,
            None => {
                places.insert(var.key.clone(), merged.len());
                merged.push(var);
            }
        }
    }
    merged
}

/// `/tmp` is memory, unless something else is mounted there.
fn tmp(config: &mut SandboxConfig) {
    let size = (config.resources.memory_mib / 4).min(MAX_TMP_MIB);
    let taken = |mount: &VolumeMount| Path::new(&mount.guest) == Path::new("/tmp");
    if size == 0 || config.mounts.iter().any(taken) {
        return;
    }
    config.mounts.push(VolumeMount {
        guest: "/tmp".to_owned(),
        source: MountSource::Tmpfs {
            size_mib: Some(size),
        },
        options: MountOptions::default(),
    });
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
