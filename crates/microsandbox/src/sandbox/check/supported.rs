//! What this release cannot do for a configuration that asks for it.

use msb_types::network::{NetworkPolicy, NetworkSpec};
use msb_types::{DiskImageFormat, MountSource, RootfsSource, SandboxConfig, VolumeMount};

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// Refuses what would have to be left out.
pub(crate) fn supported(config: &SandboxConfig) -> MicrosandboxResult<()> {
    image(&config.image)?;
    let others = |mount: &&VolumeMount| !matches!(mount.source, MountSource::Tmpfs { .. });
    if let Some(mount) = config.mounts.iter().find(others) {
        return Err(unsupported(
            format!("the mount at {:?}", mount.guest),
            "mount memory there with tmpfs(); put files there with patch() or copy them in once the sandbox runs",
        ));
    }
    network(&config.network)?;
    if config.startup_command_requested || config.initial_command.is_some() {
        return Err(unsupported(
            "a command that runs by itself",
            "run it with exec() once the sandbox runs",
        ));
    }
    Ok(())
}

fn image(image: &RootfsSource) -> MicrosandboxResult<()> {
    match image {
        RootfsSource::Oci { .. }
        | RootfsSource::DiskImage {
            format: DiskImageFormat::Raw,
            ..
        } => Ok(()),
        RootfsSource::DiskImage { format, .. } => Err(unsupported(
            format!("a disk image in {format:?} format"),
            "convert it with `qemu-img convert -O raw`",
        )),
        _ => Err(unsupported(
            "a directory as root file system",
            "make a disk image of it with `mke2fs -d`",
        )),
    }
}

/// There is no network yet. That is what a disabled one is, and what a policy that lets nothing pass
/// amounts to. Who leaves the default alone has asked for nothing.
fn network(network: &NetworkSpec) -> MicrosandboxResult<()> {
    const NONE: &str = "leave it out: a sandbox has no network, as with disable_network()";
    let default = NetworkSpec::default();
    let told =
        |policy: &NetworkPolicy| *policy != default.policy && *policy != NetworkPolicy::none();
    // Without a network nothing is looked up, opened or counted.
    let on = network.enabled;
    let asked = [
        ("publishing a port", !network.ports.is_empty()),
        ("a secret", !network.secrets.secrets.is_empty()),
        (
            "secrets' handling",
            on && network.secrets.on_violation != default.secrets.on_violation,
        ),
        ("a network policy", on && told(&network.policy)),
        ("looking up names", on && network.dns != default.dns),
        (
            "opening encrypted traffic",
            on && network.tls != default.tls,
        ),
        (
            "an interface of one's own",
            on && network.interface != default.interface,
        ),
        (
            "a limit of connections",
            on && network.max_connections.is_some(),
        ),
        // This one is about files in the guest, whatever the network.
        ("the host's trusted authorities", network.trust_host_cas),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((feature, _)) => Err(unsupported(*feature, NONE)),
        None => Ok(()),
    }
}

fn unsupported(feature: impl Into<String>, available_when: impl Into<String>) -> MicrosandboxError {
    MicrosandboxError::Unsupported {
        feature: feature.into(),
        available_when: available_when.into(),
    }
}
