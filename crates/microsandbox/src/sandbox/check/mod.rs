//! What makes a configuration a good one, and what this release can make of it.
//!
//! [`check`] tells what is wrong with a configuration for any release, without looking at host or
//! guest. [`supported`] tells what is right and cannot be had yet; nothing of that is left out
//! in silence.

mod storage;
mod supported;

#[cfg(test)]
mod tests;

pub(super) use storage::mount;
pub(crate) use supported::supported;

use std::path::Path;

use msb_image::Reference;
use msb_image::reference::MAX_REFERENCE;
use msb_types::{
    EnvVar, MAX_SCRIPTS, MAX_UPPER_MIB, MIN_UPPER_MIB, RootfsSource, RuntimeOptions, SandboxConfig,
};

use super::validate_sandbox_name;
use crate::error::{ImageError, MicrosandboxError, MicrosandboxResult};

/// Environment variables that begin so belong to this library.
const RESERVED_PREFIX: &str = "MSB_";

/// The most that is stored of a configuration, in bytes. It travels to the supervisor in one line,
/// which has a limit, and with some paths beside it.
const MAX_STORED_BYTES: usize = 768 * 1024;

/// Checks what can be told without the host or the guest.
pub(crate) fn check(config: &SandboxConfig) -> MicrosandboxResult<()> {
    validate_sandbox_name(&config.name)?;
    image(&config.image)?;
    if config.resources.cpus == 0 {
        return Err(invalid("a sandbox needs at least one CPU"));
    }
    if config.resources.memory_mib == 0 {
        return Err(invalid(
            "a sandbox needs memory; 64 MiB is little, 512 MiB the default",
        ));
    }
    runtime(&config.runtime)?;
    environment(&config.env)?;
    for (key, value) in &config.labels {
        msb_types::validate_label(key, value).map_err(|error| invalid(error.to_string()))?;
    }
    for limit in &config.rlimits {
        if limit.soft > limit.hard {
            return Err(invalid(format!(
                "the soft limit {} of {:?} is above its hard limit {}",
                limit.soft, limit.resource, limit.hard
            )));
        }
    }
    storage::beginning(config)?;
    storage::mounts(&config.mounts)?;
    storage::patches(config)?;
    config.network.validate()?;
    if let Some(init) = &config.init {
        if init.cmd != Path::new("auto") && !init.cmd.is_absolute() {
            return Err(invalid(format!(
                "init {:?} is neither \"auto\" nor an absolute path in the guest",
                init.cmd
            )));
        }
        words("init", &init.args)?;
        environment(&init.env)?;
    }
    command("the initial command", config.initial_command.as_deref())?;
    let lifecycle = &config.lifecycle;
    for (what, secs) in [
        ("max_duration", lifecycle.max_duration_secs),
        ("idle_timeout", lifecycle.idle_timeout_secs),
    ] {
        if secs == Some(0) {
            return Err(invalid(format!(
                "{what} is 0, which would end the sandbox at once; leave it out for no limit"
            )));
        }
    }
    let stored = serde_json::to_vec(config)?.len();
    if stored > MAX_STORED_BYTES {
        return Err(invalid(format!(
            "the configuration has {stored} bytes; at most {MAX_STORED_BYTES} can be stored"
        )));
    }
    Ok(())
}

fn image(image: &RootfsSource) -> MicrosandboxResult<()> {
    match image {
        RootfsSource::Oci {
            reference,
            upper_size_mib,
        } => {
            reference
                .parse::<Reference>()
                .map_err(|_| ImageError::InvalidReference {
                    reference: reference.chars().take(MAX_REFERENCE).collect(),
                })?;
            match upper_size_mib {
                Some(0) => Err(invalid("a writable layer of 0 MiB holds nothing")),
                Some(mib) if !(MIN_UPPER_MIB..=MAX_UPPER_MIB).contains(mib) => {
                    Err(invalid(format!(
                        "a writable layer of {mib} MiB is not possible; give {MIN_UPPER_MIB} to {MAX_UPPER_MIB}"
                    )))
                }
                _ => Ok(()),
            }
        }
        RootfsSource::Bind(path) | RootfsSource::DiskImage { path, .. } => {
            match path.as_os_str().is_empty() {
                true => Err(invalid("the image's path is empty")),
                false => Ok(()),
            }
        }
        // Whatever comes later says itself what it must be.
        _ => Ok(()),
    }
}

fn runtime(runtime: &RuntimeOptions) -> MicrosandboxResult<()> {
    if let Some(hostname) = &runtime.hostname {
        msb_types::validate_hostname(hostname)
            .map_err(|error| invalid(format!("host name: {error}")))?;
    }
    if let Some(entrypoint) = &runtime.entrypoint {
        words("the entrypoint", entrypoint)?;
    }
    command("the default command", runtime.cmd.as_deref())?;
    if runtime.scripts.len() > MAX_SCRIPTS {
        return Err(invalid(format!(
            "there are {} scripts; at most {MAX_SCRIPTS} are allowed",
            runtime.scripts.len()
        )));
    }
    for (name, content) in &runtime.scripts {
        msb_types::validate_script(name, content).map_err(|error| invalid(error.to_string()))?;
    }
    Ok(())
}

/// Checks a command that has to be one.
fn command(what: &str, command: Option<&[String]>) -> MicrosandboxResult<()> {
    match command {
        Some([]) => Err(invalid(format!("{what} is empty; name a program"))),
        Some(command) => words(what, command),
        None => Ok(()),
    }
}

fn words(what: &str, words: &[String]) -> MicrosandboxResult<()> {
    match words.iter().find(|word| word.contains('\0')) {
        Some(word) => Err(invalid(format!("{what} has a zero byte in {word:?}"))),
        None => Ok(()),
    }
}

fn environment(vars: &[EnvVar]) -> MicrosandboxResult<()> {
    vars.iter().try_for_each(variable)
}

/// Checks a variable of the environment.
pub(super) fn variable(EnvVar { key, value }: &EnvVar) -> MicrosandboxResult<()> {
    if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
        return Err(invalid(format!(
            "{key:?} is not a usable environment variable: it may not be empty, have '=' in its \
             name, or a zero byte anywhere"
        )));
    }
    match key.starts_with(RESERVED_PREFIX) {
        true => Err(invalid(format!(
            "{key:?} is reserved: names that begin with {RESERVED_PREFIX} are this library's"
        ))),
        false => Ok(()),
    }
}

fn invalid(message: impl Into<String>) -> MicrosandboxError {
    MicrosandboxError::InvalidConfig(message.into())
}
