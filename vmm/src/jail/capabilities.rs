//! Capabilities: none in any set, and none to be had.

use msb_vmapi::Layer;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
};

use super::report::Report;

/// Sets are 64 bits wide; the kernel says which of them it knows.
const MOST: u32 = 64;

/// Gives all of them up.
pub(super) fn drop_all(report: &mut Report) {
    // This needs a capability, which an ordinary user has only in a user namespace of its own.
    let for_good = lock();
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    let dropped = set_capabilities(None, none).and_then(|()| clear_ambient_capability_set());
    match (dropped, for_good) {
        (Ok(()), Ok(())) => report.full(Layer::Capabilities),
        (Ok(()), Err(errno)) => {
            let kept = format_args!("it has none, but its bounding set stays: {errno}");
            report.partial(Layer::Capabilities, kept);
        }
        (Err(errno), _) => report.missing(Layer::Capabilities, errno),
    }
}

/// From now on nothing that is executed gets any, whoever owns it; and a change of user neither gives nor
/// takes any.
pub(super) fn lock() -> Result<(), Errno> {
    for number in 0..MOST {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(capability) {
            // The kernel does not know it.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )
}
