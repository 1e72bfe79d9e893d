//! A real PostgreSQL, in a folder of its own. Where none is installed, the Debian package is unpacked below `target/`.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{certificate::Authority, wait::poll};

/// The user that may do everything on it.
const SUPERUSER: &str = "synapse";
/// Its password; the server asks for it on TCP.
const PASSWORD: &str = "open-sesame";
/// Starts the server and waits for a line; where the input ends without one, the tests have ended, however they did,
/// and the folder is of no more use.
const KEEPER: &str = r#""$@" </dev/null >log 2>&1 &
read -r line
kill -KILL $!
wait
[ "$line" ] || rm -r "$PWD""#;

/// A running PostgreSQL; dropped, it is killed.
pub struct Postgres {
    folder: TempDir,
    address: SocketAddr,
    keeper: Option<Child>,
}

impl Postgres {
    /// Starts one, and waits until it answers.
    ///
    /// # Panics
    /// When there is none to be had.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let password_file = folder.path().join("password");
        fs::write(&password_file, PASSWORD).expect("a file");
        Authority::new().write_to(folder.path());
        run(Command::new("chmod").arg("600").arg(folder.path().join("tls.key")));
        if let Some(user) = unprivileged() {
            run(Command::new("chown").args(["-R", user]).arg(folder.path()));
        }
        let mut make = program("initdb");
        make.arg("-D").arg(folder.path().join("data")).args(["-U", SUPERUSER, "--auth=scram-sha-256", "-N"]);
        make.args(["-E", "UTF8", "--locale=C.UTF-8", "--pwfile"]).arg(password_file);
        run(make.current_dir(folder.path()));
        // Which port it was given it tells only in files, so one that is free is looked for.
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut postgres = Self { folder, address, keeper: None };
        postgres.start_again().await;
        postgres
    }

    /// The one that all tests of this process share. It is killed when they end.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Comes up again in the same place, with what it had, and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_again(&mut self) {
        let server = program("postgres");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(server.get_program()).args(server.get_args());
        keeper.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        keeper.arg("-D").arg(self.folder.path().join("data"));
        keeper.args(["-p", &self.address.port().to_string(), "-k", ""]);
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=400", "jit=off", "ssl=on"]
        {
            keeper.args(["-c", setting]);
        }
        for (setting, file) in [("ssl_cert_file", "tls.crt"), ("ssl_key_file", "tls.key")] {
            keeper.args(["-c", &format!("{setting}={}", self.folder.path().join(file).display())]);
        }
        keeper.current_dir(self.folder.path()).stdin(Stdio::piped());
        let keeper = keeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.keeper = Some(keeper.expect("a shell starts"));
        poll("PostgreSQL to answer", async || self.answers().then_some(())).await;
    }

    fn answers(&self) -> bool {
        let port = self.address.port().to_string();
        let mut ready = program("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port]);
        ready.status().is_ok_and(|status| status.success())
    }

    /// Dies at once, as with its machine.
    pub fn die(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            // One that has ended is told nothing.
            let _told = keeper.stdin.take().map(|mut input| input.write_all(b"end\n"));
            let _ended = keeper.wait();
        }
    }

    /// A new database that is empty, by its URL, for its superuser.
    pub async fn database(&self) -> String {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
        self.tell("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        self.url(SUPERUSER, PASSWORD, &name)
    }

    /// A database of this server, by its URL, for any user.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@{}/{database}", self.address)
    }

    /// The file of its certificate, which is good for `127.0.0.1`.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    /// What `psql` prints of a statement that the superuser runs in a database, without decoration.
    ///
    /// # Panics
    /// When the statement fails.
    pub async fn tell(&self, database: &str, statement: &str) -> String {
        let mut psql = program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        psql.arg(self.url(SUPERUSER, PASSWORD, database));
        let told =
            tokio::task::spawn_blocking(move || psql.output()).await.expect("it ends").expect("psql runs");
        assert!(told.status.success(), "{statement}: {}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8(told.stdout).expect("text").trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.die();
    }
}

/// One of PostgreSQL's programs, run as somebody whom it does not refuse.
fn program(name: &str) -> Command {
    let folder = programs();
    let mut command = match unprivileged() {
        Some(user) if matches!(name, "initdb" | "postgres") => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", group(), "--clear-groups"]).arg(folder.join(name));
            command
        }
        _ => Command::new(folder.join(name)),
    };
    // Unpacked ones bring libraries with them: …/usr/lib/postgresql/15/bin lies beside …/usr/lib/x86_64-linux-gnu.
    if let Some(prefix) = folder.ancestors().nth(3).filter(|prefix| *prefix != Path::new("/usr/lib")) {
        command.env("LD_LIBRARY_PATH", prefix.join(format!("{}-linux-gnu", env::consts::ARCH)));
    }
    command
}

/// PostgreSQL refuses root; files belong to somebody with no rights then.
fn unprivileged() -> Option<&'static str> {
    static ROOT: OnceLock<bool> = OnceLock::new();
    let is_root = *ROOT.get_or_init(|| {
        let id = Command::new("id").arg("-u").output().expect("id runs");
        id.stdout.starts_with(b"0\n")
    });
    is_root.then_some("nobody")
}

fn group() -> &'static str {
    static GROUP: OnceLock<String> = OnceLock::new();
    GROUP.get_or_init(|| {
        let id = Command::new("id").args(["-gn", "nobody"]).output().expect("id runs");
        String::from_utf8_lossy(&id.stdout).trim().to_owned()
    })
}

/// The folder of its programs.
fn programs() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| installed().unwrap_or_else(unpacked))
}

/// On Debian the server's programs are in no folder of `PATH`.
fn installed() -> Option<PathBuf> {
    let releases = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = releases.map(|release| release.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let has_all = |folder: &PathBuf| {
        ["postgres", "initdb", "psql", "pg_isready"].iter().all(|name| folder.join(name).is_file())
    };
    folders.into_iter().find(has_all)
}

/// Unpacks it, with the script that does so for benchmarks.
fn unpacked() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(root.join("bench/debian.sh"))
        .args([OsString::from("postgres"), root.join("target/postgres").into(), "postgresql".into()])
        .stderr(Stdio::inherit())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "PostgreSQL is needed: please install it");
    let program = PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim());
    program.parent().expect("a folder").to_owned()
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
