//! The handler of `SIGSYS` on x86-64. See the module above for what it must not do.

use std::arch::naked_asm;
use std::mem::{offset_of, size_of};

use msb_vmapi::ExitCode;

use super::names::{NAMES, Name, UNKNOWN};
use super::{TO, Text, WORDS, Words};

/// Room for the message on the handler's stack: at most 60 bytes, a name of at most 31, and 26 more.
const ROOM: usize = 128;
/// Room below that for the arguments of `ppoll`.
const ARGUMENTS: usize = 64;

/// Where the kernel puts `si_errno`, here the role, and `si_syscall`.
const SI_ERRNO: usize = 4;
const SI_SYSCALL: usize = 24;

/// `MSG_DONTWAIT | MSG_NOSIGNAL`
const AT_ONCE: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

// A name is found by shifting its number, and its length is before its bytes; the same for texts.
const _: () = assert!(size_of::<Name>() == 32 && UNKNOWN == 511);
const _: () = assert!(size_of::<Text>() == 16 && offset_of!(Words, before) == 0);

/// The handler, for `sigaction`.
pub(super) fn handler() -> libc::sighandler_t {
    on_violation as *const () as libc::sighandler_t
}

/// `handler(signal, siginfo, context)`, in rdi, rsi and rdx; it does not return.
///
/// System calls change rax, rcx and r11 only, so rbx keeps where the message is, r12 its length, and r13 the
/// descriptor.
#[unsafe(naked)]
extern "C" fn on_violation(_: libc::c_int, _: *const libc::siginfo_t, _: *const libc::c_void) {
    naked_asm!(
        "cld",
        "sub rsp, {room} + {arguments}",
        "lea rbx, [rsp + {arguments}]",
        // Which call, and which role; no more than there are.
        "mov r8d, dword ptr [rsi + {si_syscall}]",
        "mov r9d, dword ptr [rsi + {si_errno}]",
        "mov eax, {unknown}",
        "cmp r8d, eax",
        "cmova r8d, eax",
        "and r9d, 3",
        // What stands before the name,
        "mov r10, qword ptr [rip + {words}]",
        "shl r9, 4",
        "mov rdi, rbx",
        "mov rsi, qword ptr [r10 + r9]",
        "mov rcx, qword ptr [r10 + r9 + 8]",
        "rep movsb",
        // the name,
        "shl r8, 5",
        "lea rsi, [rip + {names}]",
        "add rsi, r8",
        "movzx ecx, byte ptr [rsi]",
        "inc rsi",
        "rep movsb",
        // and what stands after it.
        "mov rsi, qword ptr [r10 + {after}]",
        "mov rcx, qword ptr [r10 + {after} + 8]",
        "rep movsb",
        "mov r12, rdi",
        "sub r12, rbx",
        "mov r13d, dword ptr [rip + {to}]",
        // sendto(to, message, length, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0)
        "mov edi, r13d",
        "mov rsi, rbx",
        "mov rdx, r12",
        "mov r10d, {at_once}",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "mov eax, {sendto}",
        "syscall",
        "cmp rax, -{enotsock}",
        "jne 2f",
        // It is no socket. ppoll({to, POLLOUT}, 1, {0, 0}, NULL, 0)
        "mov dword ptr [rsp], r13d",
        "mov dword ptr [rsp + 4], {pollout}",
        "mov qword ptr [rsp + 16], 0",
        "mov qword ptr [rsp + 24], 0",
        "mov rdi, rsp",
        "mov esi, 1",
        "lea rdx, [rsp + 16]",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "mov eax, {ppoll}",
        "syscall",
        "cmp rax, 1",
        "jne 2f",
        // There is room: write(to, message, length)
        "mov edi, r13d",
        "mov rsi, rbx",
        "mov rdx, r12",
        "mov eax, {write}",
        "syscall",
        "2:",
        "mov edi, {code}",
        "mov eax, {exit_group}",
        "syscall",
        "ud2",
        room = const ROOM,
        arguments = const ARGUMENTS,
        si_syscall = const SI_SYSCALL,
        si_errno = const SI_ERRNO,
        unknown = const UNKNOWN,
        words = sym WORDS,
        names = sym NAMES,
        to = sym TO,
        after = const offset_of!(Words, after),
        at_once = const AT_ONCE,
        sendto = const libc::SYS_sendto,
        enotsock = const libc::ENOTSOCK,
        pollout = const libc::POLLOUT,
        ppoll = const libc::SYS_ppoll,
        write = const libc::SYS_write,
        code = const ExitCode::Violation.code(),
        exit_group = const libc::SYS_exit_group,
    )
}
