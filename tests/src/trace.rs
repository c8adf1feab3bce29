//! What strace saw of a VMM, beside what its filters allow.
//!
//! Only calls that a thread makes after its filter is in force count. Arguments are numbers (`-e raw`), so that
//! each call can be held against each rule, as the kernel does.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What strace is to be told, beside where to write.
pub const OPTIONS: [&str; 5] = ["-f", "-qq", "-e", "raw=!prctl", "--signal=none"];

/// A call that a thread made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    name: String,
    args: Vec<u64>,
}

/// The calls of each role's threads, under their filters.
#[derive(Debug, Default)]
pub struct Trace {
    calls: BTreeMap<String, Vec<Call>>,
    /// The VMM itself.
    pid: u64,
}

impl Trace {
    /// Reads what strace wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("strace left no {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut trace = Self::default();
        let mut roles: BTreeMap<u64, String> = BTreeMap::new();
        let mut filtered = std::collections::BTreeSet::new();
        for line in text.lines() {
            let Some((pid, rest)) = line.split_once(' ') else {
                continue;
            };
            let (Ok(pid), rest) = (pid.parse(), rest.trim_start()) else {
                continue;
            };
            if trace.pid == 0 {
                trace.pid = pid;
                roles.insert(pid, "main".to_owned());
            }
            if rest.contains("seccomp") && rest.trim_end().ends_with("= 0") {
                filtered.insert(pid);
                continue;
            }
            let Some(call) = Call::parse(rest) else {
                continue;
            };
            if !filtered.contains(&pid) {
                if call.name == "prctl"
                    && let Some(name) = rest.split('"').nth(1)
                {
                    let role = name.trim_end_matches(|c: char| c.is_ascii_digit());
                    roles.insert(pid, role.to_owned());
                }
                continue;
            }
            // The one that has no name and is not the first is the process beside.
            let role = roles.get(&pid).map_or("porter", String::as_str);
            trace.calls.entry(role.to_owned()).or_default().push(call);
        }
        trace
    }

    /// The roles that were seen.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.calls.keys().map(String::as_str)
    }
}

impl Call {
    /// A call as it begins; `None` for the end of one, a signal, an exit.
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('(')?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return None;
        }
        let end = rest.find([')', '<']).unwrap_or(rest.len());
        let args = rest.get(..end)?.split(", ").map_while(number).collect();
        Some(Self {
            name: name.to_owned(),
            args,
        })
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The rules of the filters, as the VMM lists them.
#[derive(Debug)]
pub struct Rules(Vec<Value>);

impl Rules {
    /// Those of this VMM.
    pub fn of(vmm: &Path) -> Result<Self> {
        let output = std::process::Command::new(vmm)
            .arg("--system-calls")
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let rules = text.lines().map(serde_json::from_str);
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    /// What does not fit: calls that no rule allows, and rules of these roles that no call needs although an
    /// ordinary life should.
    pub fn compare(&self, traces: &[Trace]) -> Vec<String> {
        let mut wrong = std::collections::BTreeSet::new();
        let mut used = vec![false; self.0.len()];
        let mut seen = std::collections::BTreeSet::new();
        for trace in traces {
            for (role, calls) in &trace.calls {
                seen.insert(role.as_str());
                for call in calls {
                    let mut allowed = false;
                    for (rule, used) in self.0.iter().zip(&mut used) {
                        if fits(rule, role, call, trace.pid) {
                            (allowed, *used) = (true, true);
                        }
                    }
                    if !allowed {
                        wrong.insert(format!("{role} called {call:x?}, and no rule allows it"));
                    }
                }
            }
        }
        for (rule, used) in self.0.iter().zip(used) {
            let role = rule["role"].as_str().unwrap_or_default();
            if !used && rule["rare"].is_null() && seen.contains(role) {
                wrong.insert(format!("nothing made use of the rule {rule}"));
            }
        }
        wrong.into_iter().collect()
    }
}

fn fits(rule: &Value, role: &str, call: &Call, pid: u64) -> bool {
    let args = rule["args"].as_array().map_or(&[][..], Vec::as_slice);
    rule["role"] == role
        && rule["call"] == call.name.as_str()
        && args.iter().all(|arg| {
            let index = arg["index"]
                .as_u64()
                .and_then(|at| usize::try_from(at).ok());
            let Some(value) = index.and_then(|at| call.args.get(at)) else {
                return false;
            };
            match (arg["mask"].as_u64(), arg["bits"].as_u64()) {
                (Some(mask), Some(bits)) => value & mask == bits,
                _ => *value == pid,
            }
        })
}

/// Checks the reading of lines; the package's library has no tests of its own.
pub fn self_test() {
    let trace = Trace::parse(
        "10 execve(0x1, 0x2, 0x3) = 0\n\
         10 openat(0x1, 0x2) = 3\n\
         11 prctl(PR_SET_NAME, \"vcpu0\") = 0\n\
         11 seccomp(0x1, 0, 0x7f) = 0\n\
         12 seccomp(0x1, 0, 0x7f <unfinished ...>\n\
         11 ioctl(0x4, 0xae80, 0 <unfinished ...>\n\
         12 <... seccomp resumed>)            = 0\n\
         11 <... ioctl resumed>)              = -1 EAGAIN (Resource temporarily unavailable)\n\
         12 unlink(0x55) = 0\n\
         10 seccomp(0x1, 0, 0x7f)             = 0\n\
         10 tgkill(0xa, 0xb, 0x22)            = 0\n\
         10 +++ exited with 0 +++\n",
    );
    let call = |name: &str, args: &[u64]| Call {
        name: name.to_owned(),
        args: args.to_vec(),
    };
    assert_eq!(trace.pid, 10);
    assert_eq!(trace.calls["vcpu"], [call("ioctl", &[4, 0xae80, 0])]);
    assert_eq!(trace.calls["porter"], [call("unlink", &[0x55])]);
    assert_eq!(trace.calls["main"], [call("tgkill", &[10, 11, 34])]);
    let rules = Rules(vec![
        serde_json::json!({"role": "vcpu", "call": "ioctl", "rare": null,
            "args": [{"index": 1, "mask": u32::MAX, "bits": 0xae80}]}),
        serde_json::json!({"role": "main", "call": "tgkill", "rare": null,
            "args": [{"index": 0, "own_pid": true}, {"index": 2, "mask": u32::MAX, "bits": 34}]}),
        serde_json::json!({"role": "main", "call": "tgkill", "rare": null,
            "args": [{"index": 2, "mask": u32::MAX, "bits": 6}]}),
        serde_json::json!({"role": "main", "call": "brk", "rare": "now and then", "args": []}),
    ]);
    let wrong = rules.compare(&[trace]);
    assert_eq!(wrong.len(), 2, "{wrong:#?}");
    assert!(wrong[0].starts_with("nothing made use of"), "{wrong:#?}");
    assert!(wrong[1].starts_with("porter called"), "{wrong:#?}");
}
