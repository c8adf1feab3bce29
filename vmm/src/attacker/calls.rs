//! The kernel's calls, as an attacker makes them: by number, with whatever arguments.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

/// What came of a call.
pub(super) type Outcome = Result<u64, Errno>;

/// An argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arg(u64);

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self(value.cast_unsigned())
    }
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl<T> From<&[T]> for Arg {
    fn from(value: &[T]) -> Self {
        Self(value.as_ptr().addr() as u64)
    }
}

impl<T> From<&mut [T]> for Arg {
    fn from(value: &mut [T]) -> Self {
        Self(value.as_mut_ptr().expose_provenance() as u64)
    }
}

impl From<&CString> for Arg {
    fn from(value: &CString) -> Self {
        Self(value.as_ptr().expose_provenance() as u64)
    }
}

/// Makes a call.
pub(super) fn call(number: i64, args: &[Arg]) -> Outcome {
    let arg = |index: usize| args.get(index).map_or(0, |arg| arg.0);
    // SAFETY: none: it is an attack. What the kernel is given to write to is this function's callers' own.
    let result = unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    match u64::try_from(result) {
        Ok(result) => Ok(result),
        Err(_) => {
            let error = std::io::Error::last_os_error().raw_os_error();
            Err(Errno::from_raw_os_error(error.unwrap_or(libc::EINVAL)))
        }
    }
}

/// A path as the kernel takes it.
pub(super) fn path(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap_or_default()
}

/// Opens a path; the descriptor.
pub(super) fn open(name: &CString, flags: i32) -> Outcome {
    let at = Arg::from(i64::from(libc::AT_FDCWD));
    let flags = Arg::from(i64::from(flags | libc::O_CLOEXEC));
    call(libc::SYS_openat, &[at, name.into(), flags])
}

/// Splits a process off, which ends at once.
pub(super) fn fork(number: i64, args: &[Arg]) -> Outcome {
    let child = call(number, args)?;
    if child == 0 {
        // SAFETY: it ends the process that was split off.
        unsafe { libc::_exit(0) };
    }
    Ok(child)
}

/// The address of a socket in the file system, or one without a path that begins with a zero.
pub(super) fn unix_address(name: &[u8]) -> Vec<u8> {
    let mut address = 1u16.to_ne_bytes().to_vec();
    address.extend(name);
    address
}

/// The address of a port of 127.0.0.1.
pub(super) fn tcp_address(port: u16) -> Vec<u8> {
    let mut address = 2u16.to_ne_bytes().to_vec();
    address.extend(port.to_be_bytes());
    address.extend([127, 0, 0, 1]);
    address.extend([0; 8]);
    address
}

/// Connects a new socket.
pub(super) fn connect(family: i64, address: &[u8]) -> Outcome {
    let socket = call(libc::SYS_socket, &[family.into(), 1i64.into(), 0i64.into()])?;
    let length = address.len() as u64;
    let result = call(
        libc::SYS_connect,
        &[socket.into(), address.into(), length.into()],
    );
    let _ = call(libc::SYS_close, &[socket.into()]);
    result
}
