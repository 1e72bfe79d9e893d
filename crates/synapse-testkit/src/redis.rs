//! A real Redis, in a folder of its own. Where none is installed, the Debian package is unpacked below `target/`.

use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::wait::poll;

/// A running Redis that keeps nothing on disk; dropped, it is killed.
pub struct Redis {
    folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl Redis {
    /// Starts one, and waits until it answers.
    ///
    /// # Panics
    /// When there is none to be had.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Redis cannot tell which port it has been given, so one that is free is looked for.
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut redis = Self { folder, address, child: None };
        redis.start_again().await;
        redis
    }

    /// Comes up again in the same place, empty, and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_again(&mut self) {
        let (binary, libraries) = binary();
        let mut command = Command::new(binary);
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let port = self.address.port().to_string();
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().expect("Redis starts"));
        poll("Redis to answer", async || self.tell("PING").await.filter(|answer| answer == "+PONG\r\n"))
            .await;
    }

    /// Dies at once, as with its machine.
    pub fn die(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }

    /// Stops answering, but for what the system does in its name.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stand_still(&self) {
        self.signal("-STOP");
    }

    /// Goes on after [`Self::stand_still`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success(), "the signal was not sent");
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The first of an answer to a command on one line, as it stands on the wire.
    pub async fn tell(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.ok()?;
        answer.truncate(length);
        String::from_utf8(answer).ok()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.die();
    }
}

/// The program, and where libraries are that it needs besides the system's.
fn binary() -> (&'static Path, Option<PathBuf>) {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let binary = FOUND.get_or_init(|| {
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = env::split_paths(&path).map(|folder| folder.join("redis-server"));
        installed.into_iter().find(|path| path.is_file()).unwrap_or_else(unpacked)
    });
    let prefix = binary.ancestors().nth(2).expect("a folder");
    let libraries = prefix.join("lib").join(format!("{}-linux-gnu", env::consts::ARCH));
    (binary, (prefix != Path::new("/usr") && libraries.is_dir()).then_some(libraries))
}

/// Unpacks it, with the script that does so for benchmarks.
fn unpacked() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(root.join("bench/debian.sh"))
        .arg("redis-server")
        .arg(root.join("target/redis"))
        .stderr(Stdio::inherit())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "Redis is needed: please install it");
    String::from_utf8(output.stdout).expect("a path").trim().into()
}
