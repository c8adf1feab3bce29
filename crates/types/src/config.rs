//! The configuration of a sandbox, as it is asked for and as it is stored.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that says what a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// Its name, unique within one home.
    pub name: String,
    /// What its root file system is made from.
    pub image: RootfsSource,
    /// Processors and memory.
    #[serde(default)]
    pub resources: Resources,
    /// What commands in it run with, unless they say otherwise.
    #[serde(default)]
    pub runtime: RuntimeOptions,
    /// Environment of every command.
    #[serde(default)]
    pub env: Vec<EnvVar>,
}

/// What a root file system is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RootfsSource {
    /// A directory on the host.
    Bind(PathBuf),
    /// An image in an OCI registry.
    Oci {
        /// The reference, `python:3.12`.
        reference: String,
        /// Size of the writable layer.
        upper_size_mib: Option<u32>,
    },
    /// A disk image with a file system on it.
    DiskImage {
        /// The image file.
        path: PathBuf,
        /// Its format.
        format: DiskImageFormat,
        /// Its file system; found out when not given.
        fstype: Option<String>,
    },
}

/// Formats of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskImageFormat {
    /// QEMU copy-on-write.
    Qcow2,
    /// Byte for byte.
    Raw,
    /// VMware.
    Vmdk,
}

/// Processors and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Number of vCPUs.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory_mib: 512,
        }
    }
}

/// What commands run with unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeOptions {
    /// Working directory.
    pub workdir: Option<String>,
    /// The shell that runs scripts.
    pub shell: Option<String>,
    /// Host name; derived from the sandbox's name when not given.
    pub hostname: Option<String>,
    /// Who runs commands: `name`, `uid`, `user:group`.
    pub user: Option<String>,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// Its name: not empty, without `=`.
    pub key: String,
    /// Its value.
    pub value: String,
}
