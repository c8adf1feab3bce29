//! The machine as it is asked for: what `--config` holds and the supervisor sends.
//!
//! Names are those of the command line. Nothing here is checked beyond its shape;
//! the VMM's `Blueprint` is the one place that validates.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::disk::DiskConfig;
use crate::isolation::Requirement;
use crate::pmem::PmemConfig;
use crate::size::MemorySize;

/// Where a file or a socket comes from.
///
/// In JSON a path is a string, and a descriptor is `{"fd": N}`: the N-th
/// (from 0) of the descriptors sent beside the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// Opened by the VMM, relative to its working directory.
    Path(PathBuf),
    /// Already open, sent with the configuration.
    Fd {
        /// Index into the descriptors that came with the message.
        fd: u32,
    },
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

/// The vsock device: the guest's sockets, reached through one Unix socket.
///
/// A host program connects and writes `CONNECT <port>\n`; the answer is
/// `OK <host port>\n`. A guest that connects to the host (CID 2) at port P
/// reaches the Unix socket `<socket>_P`, or, when the machine was configured
/// over a control socket, an [`Event::GuestConnected`](crate::Event).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// The listening Unix socket: a path to create, or one already listening.
    pub socket: Source,
    /// The guest's context id, 3 or above.
    #[serde(default = "default_cid")]
    pub cid: u32,
}

fn default_cid() -> u32 {
    3
}

/// Where the guest's console goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleTarget {
    /// Nowhere: output is dropped, there is no input.
    #[default]
    None,
    /// Standard input and output of the VMM.
    Stdio,
    /// Appended to a file (or whatever the descriptor is); no input.
    File(Source),
}

/// A machine, as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// An uncompressed x86-64 ELF kernel with a PVH entry.
    pub kernel: Source,
    /// An initramfs (cpio, compressed or not: the kernel decides).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<Source>,
    /// Kernel command line, instead of the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// Number of vCPUs.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// Guest memory.
    #[serde(default = "default_memory")]
    pub memory: MemorySize,
    /// Disks in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk: Vec<DiskConfig>,
    /// Disks that are mapped into the guest's memory, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pmem: Vec<PmemConfig>,
    /// The vsock device, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<VsockConfig>,
    /// The virtio console (`hvc0` in the guest).
    #[serde(default)]
    pub console: ConsoleTarget,
    /// The 16550 serial port (`ttyS0`), for kernels that have no virtio console.
    #[serde(default)]
    pub serial: ConsoleTarget,
    /// A control socket to listen on, when the machine was not configured over one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<PathBuf>,
    /// Layers of the jail without which no guest is run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
}

fn default_cpus() -> u32 {
    1
}

const fn default_memory() -> MemorySize {
    MemorySize::from_mib(512)
}

impl VmConfig {
    /// A machine with this kernel and the defaults for all else.
    pub fn new(kernel: impl Into<Source>) -> Self {
        Self {
            kernel: kernel.into(),
            initrd: None,
            cmdline: None,
            cpus: default_cpus(),
            memory: default_memory(),
            disk: Vec::new(),
            pmem: Vec::new(),
            vsock: None,
            console: ConsoleTarget::None,
            serial: ConsoleTarget::None,
            control: None,
            require: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_in_json() {
        let config: VmConfig = serde_json::from_str(
            r#"{"kernel":"vmlinux","cpus":2,"memory":"512M","disk":[{"path":{"fd":1},"read_only":true}],
                "vsock":{"socket":"vm.sock"},"console":"stdio","serial":{"file":"out.log"}}"#,
        )
        .unwrap();
        assert_eq!(config.kernel, Source::Path("vmlinux".into()));
        let disk = DiskConfig::whole(Source::Fd { fd: 1 }, true);
        assert_eq!(config.disk, [disk]);
        assert_eq!(config.vsock.as_ref().unwrap().cid, 3);
        assert_eq!(
            config.serial,
            ConsoleTarget::File(Source::Path("out.log".into()))
        );
        let again: VmConfig =
            serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(config, again);
    }

    #[test]
    fn unknown_keys_are_refused() {
        for json in [
            r#"{"kernel":"k","cpu":2}"#,
            r#"{"kernel":"k","disk":[{"path":"d","readonly":true}]}"#,
            r#"{"kernel":"k","vsock":{"socket":"s","port":1}}"#,
        ] {
            let error = serde_json::from_str::<VmConfig>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}
