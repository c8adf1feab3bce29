//! Is there a KVM here that can run a machine?
//!
//! A device node that opens proves nothing: some hosts offer a KVM with no hardware virtualization
//! behind it, which interprets whatever the guest does at privilege level 0. It shows in two ways:
//! the processor has neither the `vmx` nor the `svm` flag, and a loop of two instructions in a guest
//! kernel takes a microsecond instead of a nanosecond. Nested KVM in an emulator stays under ten.
#![expect(unsafe_code, reason = "guest memory is mapped and lent to KVM here")]

use std::ffi::CStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kvm_bindings::{kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::mm::{MapFlags, ProtFlags};

/// Where KVM is.
pub(crate) const DEVICE: &CStr = c"/dev/kvm";
/// Above this a guest kernel is interpreted, not run.
pub(crate) const SLOWEST_NS: f64 = 20.0;

/// What was found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// No device node.
    Absent,
    /// The node is there, and this user may not open it.
    Forbidden,
    /// It opens, but a machine cannot be made or run with it.
    Broken(anyhow::Error),
    /// It runs guests, without hardware behind it.
    NoHardware {
        /// Whether the processor has `vmx` or `svm`.
        flags: bool,
        /// What one turn of the guest kernel's loop takes.
        nanoseconds: f64,
    },
    /// It runs guests at the processor's speed, or near it.
    Good {
        /// What one turn of the guest kernel's loop takes.
        nanoseconds: f64,
    },
}

impl Finding {
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }
}

/// Looks at the host's KVM. Takes microseconds on a good one, half a second on an interpreting one.
pub(crate) fn probe() -> Finding {
    let kvm = match Kvm::new_with_path(DEVICE) {
        Ok(kvm) => kvm,
        Err(error) => {
            return match io::Error::from(error).kind() {
                ErrorKind::NotFound => Finding::Absent,
                ErrorKind::PermissionDenied => Finding::Forbidden,
                _ => Finding::Broken(anyhow::Error::new(error).context("cannot open /dev/kvm")),
            };
        }
    };
    let flags = processor_flags();
    match time_loop(&kvm) {
        Err(error) => Finding::Broken(error),
        Ok(nanoseconds) if flags && nanoseconds <= SLOWEST_NS => Finding::Good { nanoseconds },
        Ok(nanoseconds) => Finding::NoHardware { flags, nanoseconds },
    }
}

/// Whether /proc/cpuinfo names a virtualization extension.
fn processor_flags() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| has_virtualization(&text))
}

fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_ascii_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

/// Nanoseconds for one turn of a loop in a guest kernel: the difference of a long and a short run,
/// so that entering and leaving the guest cancels out, and the best of a few, for the host may be busy.
fn time_loop(kvm: &Kvm) -> Result<f64> {
    const SHORT: u32 = 1_000;
    const LONG: u32 = 101_000;
    const TRIES: u32 = 3;
    let machine = Tiny::new(kvm)?;
    // The first entry pays for what is set up once.
    machine.run(SHORT)?;
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        let short = machine.run(SHORT)?;
        let long = machine.run(LONG)?;
        let turn = long.saturating_sub(short).as_secs_f64() * 1e9 / f64::from(LONG - SHORT);
        best = best.min(turn);
        if best <= SLOWEST_NS {
            break;
        }
    }
    Ok(best)
}

const PAGE: usize = 4096;
/// Where the guest's only page is.
const CODE_AT: u64 = 0x1000;
/// `1: dec ecx; jnz 1b; hlt`, as 32-bit code.
const CODE: [u8; 4] = [0x49, 0x75, 0xfd, 0xf4];

/// A machine of one processor and one page. Fields drop in order: the page goes last.
struct Tiny {
    vcpu: std::cell::RefCell<VcpuFd>,
    _vm: VmFd,
    _page: Page,
}

impl Tiny {
    fn new(kvm: &Kvm) -> Result<Self> {
        let vm = retry(|| kvm.create_vm()).context("KVM cannot make a machine")?;
        let page = Page::with(&CODE)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: CODE_AT,
            memory_size: u64::try_from(PAGE)?,
            userspace_addr: page.address(),
        };
        // SAFETY: the region is our own mapping, page-aligned, and outlives the machine.
        unsafe { vm.set_user_memory_region(region) }.context("KVM takes no guest memory")?;
        let vcpu = vm.create_vcpu(0).context("KVM cannot make a processor")?;
        set_protected_mode(&vcpu)?;
        Ok(Self {
            vcpu: std::cell::RefCell::new(vcpu),
            _vm: vm,
            _page: page,
        })
    }

    /// Runs the loop `turns` times.
    fn run(&self, turns: u32) -> Result<Duration> {
        let mut vcpu = self.vcpu.borrow_mut();
        let mut regs = vcpu.get_regs().context("KVM gives no registers")?;
        regs.rip = CODE_AT;
        regs.rflags = 2;
        regs.rcx = u64::from(turns);
        vcpu.set_regs(&regs).context("KVM takes no registers")?;
        let start = Instant::now();
        loop {
            match vcpu.run() {
                Ok(VcpuExit::Hlt) => return Ok(start.elapsed()),
                Ok(other) => bail!("a guest of two instructions ended with {other:?}"),
                Err(error) if io::Error::from(error).kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("KVM cannot run a guest"),
            }
        }
    }
}

/// Flat 32-bit protected mode at privilege level 0: what every KVM with hardware runs natively.
fn set_protected_mode(vcpu: &VcpuFd) -> Result<()> {
    const CR0_PE: u64 = 1;
    const CODE_SEGMENT: u8 = 0xb;
    const DATA_SEGMENT: u8 = 0x3;
    let flat = |selector, type_| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let mut sregs = vcpu.get_sregs().context("KVM gives no special registers")?;
    sregs.cr0 |= CR0_PE;
    sregs.cs = flat(8, CODE_SEGMENT);
    let data = flat(16, DATA_SEGMENT);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    vcpu.set_sregs(&sregs)
        .context("KVM takes no special registers")
}

/// Making a machine takes milliseconds, and a signal in between is no failure.
fn retry<T>(
    mut make: impl FnMut() -> Result<T, kvm_ioctls::Error>,
) -> Result<T, kvm_ioctls::Error> {
    loop {
        match make() {
            Err(error) if io::Error::from(error).kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// One page of anonymous memory.
struct Page(ptr::NonNull<std::ffi::c_void>);

impl Page {
    fn with(code: &[u8; 4]) -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory.
        let address = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE)
        }
        .context("cannot map a page")?;
        let page = Self(ptr::NonNull::new(address).context("a page was mapped at 0")?);
        // SAFETY: the mapping is writable, a page long, and nobody else knows of it yet.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), page.0.as_ptr().cast(), code.len()) };
        Ok(page)
    }

    fn address(&self) -> u64 {
        u64::try_from(self.0.as_ptr().addr()).unwrap_or_default()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped in `with`, with this length; the machine that used it is gone.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr(), PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::has_virtualization;

    #[test]
    fn only_the_flags_line_counts_and_only_whole_words() {
        assert!(has_virtualization("processor: 0\nflags\t\t: fpu svm sse\n"));
        assert!(has_virtualization("flags : vmx"));
        assert!(!has_virtualization(
            "flags : svm_lock vmxnet\nmodel name: svm\n"
        ));
        assert!(!has_virtualization(""));
    }
}
