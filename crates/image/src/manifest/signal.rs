//! The signal that an image wants its programs to be ended with: by name, with or without `SIG`, or by number, as
//! `STOPSIGNAL` of a Dockerfile takes it.
//!
//! Numbers are those of Linux on x86-64. The crates that know them name those of the standard; none knows `RTMIN+4`,
//! which is what images with a systemd say.

/// From 1 on, in the order of their numbers (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Other names of theirs.
const ALIASES: [(&str, u8); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];

/// `SIGRTMIN` and `SIGRTMAX` of glibc and musl's programs.
const REAL_TIME: [(&str, u8); 2] = [("RTMIN", 34), ("RTMAX", 64)];
const LAST: u8 = 64;

/// The number of a signal.
pub(super) fn number(name: &str) -> Option<u8> {
    if let Ok(number) = name.parse() {
        return valid(number);
    }
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let plain = NAMES.iter().zip(1..).find(|(known, _)| **known == name);
    let plain = plain.map(|(_, number)| number);
    let alias = || ALIASES.iter().find(|(known, _)| *known == name);
    plain
        .or_else(|| alias().map(|(_, number)| *number))
        .or_else(|| real_time(name))
}

/// `RTMIN`, `RTMIN+4`, `RTMAX-1`.
fn real_time(name: &str) -> Option<u8> {
    let (rest, base) = REAL_TIME
        .iter()
        .find_map(|(known, base)| Some((name.strip_prefix(known)?, *base)))?;
    let number = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
        _ if rest.is_empty() => Some(base),
        (Some(more), _) => base.checked_add(more.parse().ok()?),
        (_, Some(less)) => base.checked_sub(less.parse().ok()?),
        _ => None,
    };
    number
        .filter(|number| *number >= REAL_TIME[0].1)
        .and_then(valid)
}

fn valid(number: u8) -> Option<u8> {
    (1..=LAST).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let known = [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigquit", 3),
            ("3", 3),
            ("SIGWINCH", 28),
            ("SIGSYS", 31),
            ("IOT", 6),
            ("SIGPOLL", 29),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("RTMAX-1", 63),
            ("64", 64),
        ];
        for (name, wanted) in known {
            assert_eq!(number(name), Some(wanted), "{name}");
        }
        for name in [
            "",
            "SIG",
            "0",
            "65",
            "-9",
            "256",
            "SIGNOTHING",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN4",
            "RTMAX-99",
            "SIGSIGINT",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
