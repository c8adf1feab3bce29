//! A registry of images: Debian's `docker-registry` on the loopback interface, with what tests put into it by
//! `skopeo`. It is there from [`Registry::start`] until it is dropped, and can end and come back at the same
//! address in between.

mod gate;
mod log;
mod tls;

pub use gate::Gate;
pub use log::{Request, downloads};

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::images::{Image, skopeo};

/// The name that is let in where not everybody is.
pub const USER: &str = "ali";
/// And the password.
pub const PASSWORD: &str = "open sesame";
/// The password by bcrypt, which is all that the registry takes, at its cheapest.
const PASSWORDS: &str = "ali:$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n";

/// What the registry says when it can be asked, before its address.
const LISTENING: &str = "listening on ";
/// How long it may take to answer what it was asked before it ends.
const DRAIN: &str = "30s";
/// From one look at a process that ends to the next.
const LOOK: Duration = Duration::from_millis(20);

/// What a registry asks of those who come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// They give a name and a password.
    pub password: bool,
    /// They speak TLS, and trust an authority that nobody knows.
    pub tls: bool,
}

/// A registry with a storage of its own.
#[derive(Debug)]
pub struct Registry {
    dir: TempDir,
    rules: Rules,
    port: u16,
    running: Option<Child>,
}

impl Registry {
    /// An open one.
    pub fn start() -> Result<Self> {
        Self::with(Rules::default())
    }

    /// One with rules.
    pub fn with(rules: Rules) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        if rules.password {
            fs::write(dir.path().join("passwords"), PASSWORDS)?;
        }
        if rules.tls {
            tls::write(dir.path())?;
        }
        let mut registry = Self {
            dir,
            rules,
            port: 0,
            running: None,
        };
        registry.run()?;
        Ok(registry)
    }

    /// Starts it again, where it was and with what it had.
    pub fn run(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "the registry runs already");
        let config = self.dir.path().join("config.yml");
        fs::write(&config, self.config())?;
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log_path())?;
        let program = std::env::var_os("MSB_TEST_REGISTRY");
        let program = program.context("MSB_TEST_REGISTRY is not set; use cargo xtask test")?;
        // Nothing of it is to be left when a test is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the registry")?;
        let errors = child.stderr.take().context("it has no standard error")?;
        self.running = Some(child);
        self.port = listening(errors)?;
        Ok(())
    }

    fn config(&self) -> String {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\n\
             log: {{ level: info, formatter: json }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http:\n  addr: 127.0.0.1:{}\n  draintimeout: {DRAIN}\n",
            path("storage"),
            self.port
        );
        if self.rules.tls {
            config.push_str(&format!(
                "  tls: {{ certificate: {}, key: {} }}\n",
                path(tls::CERTIFICATE),
                path(tls::KEY)
            ));
        }
        if self.rules.password {
            config.push_str(&format!(
                "auth: {{ htpasswd: {{ realm: tests, path: {} }} }}\n",
                path("passwords")
            ));
        }
        config
    }

    /// The authority that vouches for it, PEM.
    pub fn authority(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.dir.path().join(tls::AUTHORITY))?)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What its image `name`, with or without a tag, is called by others.
    pub fn reference(&self, name: &str) -> String {
        reference(self.port, name)
    }

    /// Puts an image in, as `name`, and returns what it is then called.
    pub fn push(&self, image: &Image, name: &str) -> Result<String> {
        self.copy(&[], image, name)
    }

    /// The same for all platforms of an index.
    pub fn push_all(&self, image: &Image, name: &str) -> Result<String> {
        self.copy(&["--all"], image, name)
    }

    fn copy(&self, options: &[&str], image: &Image, name: &str) -> Result<String> {
        let reference = self.reference(name);
        let mut args = vec!["copy", "--quiet", "--preserve-digests"];
        args.push("--dest-tls-verify=false");
        args.extend(options);
        let credentials = format!("--dest-creds={USER}:{PASSWORD}");
        if self.rules.password {
            args.push(&credentials);
        }
        let (from, to) = (
            format!("oci:{}", image.in_layout()),
            format!("docker://{reference}"),
        );
        args.extend([from.as_str(), to.as_str()]);
        skopeo(args)?;
        Ok(reference)
    }

    /// Puts a manifest or an index in as it is. All that it names must be there.
    pub fn put(&self, name: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = bytes.len();
        write!(
            stream,
            "PUT /v2/{name}/manifests/{tag} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\
             Content-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
            self.port
        )?;
        stream.write_all(bytes)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "it answered {answer}");
        Ok(())
    }

    /// Ends it at once, whoever is being answered.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What kills it, for who does that from elsewhere. To be [killed](Self::kill) all the same afterwards.
    pub fn killer(&self) -> Result<impl FnOnce() + Send + use<>> {
        let child = self.running.as_ref().context("the registry does not run")?;
        let pid = i32::try_from(child.id())?;
        Ok(move || crate::host::kill(pid))
    }

    /// Ends it in good order, and says what it was asked since it was first started.
    pub fn end(&mut self) -> Result<Vec<Request>> {
        if let Some(mut child) = self.running.take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            let status = ended(&mut child)?;
            // It may have had no time yet to care about the signal, and then has nothing to answer.
            let asked = status.signal() == Some(rustix::process::Signal::TERM.as_raw());
            ensure!(
                status.success() || asked,
                "the registry ended with {status}"
            );
        }
        log::read(&self.log_path())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What an image is called at a registry that listens here.
pub fn reference(port: u16, name: &str) -> String {
    format!("127.0.0.1:{port}/{name}")
}

/// The port on which the registry says that it listens.
fn listening(errors: impl Read + Send + 'static) -> Result<u16> {
    let (sender, port) = mpsc::channel();
    // Read to the end, or it would wait for that one day.
    thread::spawn(move || {
        let mut said = String::new();
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once(LISTENING) {
                let address = rest.split('"').next().unwrap_or_default();
                let _ = sender.send(Ok(address.to_owned()));
            }
            if said.len() < 4096 {
                said.push_str(&line);
                said.push('\n');
            }
        }
        let _ = sender.send(Err(said));
    });
    match port.recv_timeout(PATIENCE) {
        Ok(Ok(address)) => {
            let port = address.rsplit(':').next().unwrap_or_default();
            let port = port.trim_end_matches(", tls").parse();
            Ok(port.with_context(|| format!("the registry listens on {address}"))?)
        }
        Ok(Err(said)) => bail!("the registry did not start: {said}"),
        Err(_) => bail!("the registry did not start within {PATIENCE:?}"),
    }
}

fn ended(child: &mut Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            bail!("the registry did not end within {PATIENCE:?}");
        }
        thread::sleep(LOOK);
    }
}
