//! A user at a terminal: types, and reads what is on the screen.
//!
//! A shell has the terminal and runs the program on it. When the first process of a terminal's
//! session ends, the kernel resets the terminal's modes, so a program that is that process
//! could not be seen to have left them wrong.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Notify;

use crate::PATIENCE;

/// Runs the program, and keeps the terminal until it is closed.
const SHELL: &str = r#""$0" "$@"; echo "ended $?"; read -r line"#;

/// How a shell in a sandbox asks for a line.
pub const PROMPT: &str = "# ";

/// The most that a screen keeps of what was printed.
const MOST: usize = 16 << 20;

/// What has been printed.
#[derive(Debug, Default)]
struct Printed {
    bytes: Mutex<Vec<u8>>,
    more: Notify,
}

impl Printed {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A terminal and the program on it.
#[derive(Debug)]
pub struct Screen {
    user: File,
    before: String,
    printed: Arc<Printed>,
    /// How much of it was waited for.
    seen: usize,
    shell: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Screen {
    /// Starts a program on a terminal of 24 lines and 80 columns. Its standard output is a pipe.
    pub fn start(
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let user = openpt(flags)?;
        grantpt(&user)?;
        unlockpt(&user)?;
        let terminal = ioctl_tiocgptpeer(&user, flags)?;
        let user = File::from(user);
        resize(&user, 24, 80)?;
        let before = modes(&user)?;

        let mut shell = Command::new("setsid")
            .args(["--ctty", "--wait", "sh", "-c", SHELL])
            .arg(program)
            .args(args)
            .env("TERM", "xterm-256color")
            .envs(env.iter().copied())
            .stdin(Stdio::from(terminal))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start setsid")?;
        let said = shell.stdout.take().context("it is a pipe")?;
        let printed = Arc::new(Printed::default());
        let (mut reader, shown) = (user.try_clone()?, Arc::clone(&printed));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO, once nobody has the terminal any more.
            while let Ok(read) = reader.read(&mut buffer) {
                let mut bytes = shown.bytes();
                if bytes.len() < MOST {
                    bytes.extend_from_slice(&buffer[..read]);
                }
                drop(bytes);
                shown.more.notify_one();
            }
        });
        Ok(Self {
            user,
            before,
            printed,
            seen: 0,
            shell,
            said: BufReader::new(said).lines(),
        })
    }

    /// Types.
    pub fn type_in(&self, keys: &str) -> Result<()> {
        use std::io::Write;
        Ok((&self.user).write_all(keys.as_bytes())?)
    }

    /// Waits until `text` is printed, after what was waited for before.
    pub async fn shows(&mut self, text: &str) -> Result<()> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let place = {
                    let bytes = self.printed.bytes();
                    let rest = bytes.get(self.seen..).unwrap_or_default();
                    rest.windows(text.len())
                        .position(|window| window == text.as_bytes())
                };
                match place {
                    Some(place) => break self.seen + place + text.len(),
                    None => self.printed.more.notified().await,
                }
            }
        });
        match found.await {
            Ok(seen) => {
                self.seen = seen;
                Ok(())
            }
            Err(_) => bail!("{text:?} is not shown; the screen:\n{}", self.text()),
        }
    }

    /// Types a line at a shell's prompt that makes something print `text`, and waits for that.
    ///
    /// The shell echoes the line, so it must not itself contain the text.
    pub async fn starts(&mut self, line: &str, text: &str) -> Result<()> {
        ensure!(!line.contains(text), "the echo would be the answer");
        self.type_in(&format!("{line}\r"))?;
        self.shows(text).await
    }

    /// The same, and waits until the shell wants the next line.
    pub async fn answers(&mut self, line: &str, text: &str) -> Result<()> {
        self.starts(line, text).await?;
        self.shows(PROMPT).await
    }

    /// All that was printed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed.bytes()).into_owned()
    }

    /// Changes the window's size.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        resize(&self.user, rows, columns)
    }

    /// Whether keys reach the program as they are.
    pub fn is_raw(&self) -> Result<bool> {
        let modes = tcgetattr(&self.user)?.local_modes;
        Ok(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Waits for a line that the program says on its standard output, and returns what follows
    /// `beginning`.
    pub async fn says(&mut self, beginning: &str) -> Result<String> {
        let line = async {
            loop {
                let Some(line) = self.said.next_line().await? else {
                    bail!("it ended without saying {beginning:?}");
                };
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Ok(rest.trim().to_owned());
                }
            }
        };
        match tokio::time::timeout(PATIENCE, line).await {
            Ok(rest) => rest,
            Err(_) => bail!(
                "it does not say {beginning:?}; the screen:\n{}",
                self.text()
            ),
        }
    }

    /// Waits for the program's end and returns its exit code, as a shell tells it. The terminal
    /// has the modes then that it had before.
    pub async fn ended(&mut self) -> Result<i32> {
        let code = self.says("ended ").await?.parse()?;
        let after = modes(&self.user)?;
        ensure!(
            after == self.before,
            "the modes were\n{}\nand are\n{after}",
            self.before
        );
        // Lets the shell go.
        self.type_in("\n")?;
        tokio::time::timeout(PATIENCE, self.shell.wait()).await??;
        Ok(code)
    }
}

fn modes(terminal: &File) -> Result<String> {
    Ok(format!("{:?}", tcgetattr(terminal)?))
}

fn resize(terminal: &File, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}
