//! What can run here.

use std::fmt;

use super::descriptor::DescriptorPlatform;

/// A platform that images are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    pub(super) os: &'static str,
    pub(super) architecture: &'static str,
    /// The level of x86-64 that the processor has: 1 to 4.
    pub(super) level: u8,
}

impl Platform {
    /// Linux on x86-64 of the first level: what every such image's base runs on.
    pub const LINUX_AMD64: Self = Self {
        os: "linux",
        architecture: "amd64",
        level: 1,
    };

    /// What sandboxes on this host can run: Linux on this processor.
    pub fn host() -> Self {
        Self {
            level: level(),
            ..Self::LINUX_AMD64
        }
    }

    /// How well an image for `offered` fits: `None` if it cannot run, else the smaller the better. An
    /// image for the plain architecture is preferred, since it runs on whatever host comes next.
    pub(super) fn fit(&self, offered: &DescriptorPlatform) -> Option<u8> {
        if offered.os != self.os || offered.architecture != self.architecture {
            return None;
        }
        let level = match offered.variant.as_deref() {
            None | Some("" | "v1") => 1,
            Some("v2") => 2,
            Some("v3") => 3,
            Some("v4") => 4,
            Some(_) => return None,
        };
        Some(level).filter(|level| *level <= self.level)
    }

    /// Whether a configuration that says this may run. One that says nothing may.
    pub(super) fn allows(&self, os: &str, architecture: &str) -> bool {
        [(os, self.os), (architecture, self.architecture)]
            .iter()
            .all(|(says, wanted)| says.is_empty() || says == wanted)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// The level of x86-64 (its psABI, "Micro-Architecture Levels") that this processor has.
#[cfg(target_arch = "x86_64")]
fn level() -> u8 {
    use std::arch::is_x86_feature_detected as has;
    let second = has!("cmpxchg16b") && has!("popcnt") && has!("sse4.2") && has!("ssse3");
    let third = has!("avx2") && has!("bmi1") && has!("bmi2") && has!("fma");
    let third = third && has!("f16c") && has!("lzcnt") && has!("movbe");
    let fourth = has!("avx512f") && has!("avx512bw") && has!("avx512cd");
    let fourth = fourth && has!("avx512dq") && has!("avx512vl");
    match (second, third, fourth) {
        (true, true, true) => 4,
        (true, true, false) => 3,
        (true, false, _) => 2,
        (false, ..) => 1,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn level() -> u8 {
    1
}
