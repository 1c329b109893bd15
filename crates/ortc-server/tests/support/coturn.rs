//! coturn, a TURN server of others, as a process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Scratch;
use super::netns::{Namespace, in_namespace};

/// How long it may take to start on a busy machine.
const START: Duration = Duration::from_secs(20);

/// A binding request without attributes.
const REQUEST: [u8; 20] =
    [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// The ports that it relays on: below those that the system gives out.
pub const RELAY_PORTS: std::ops::Range<u64> = 20_000..32_000;

/// A running coturn with one user, `alice` with `secret`.
pub struct Coturn {
    process: Child,
    command: Command,
    scratch: Scratch,
    /// Over UDP and TCP.
    pub address: SocketAddr,
    /// Over TLS, by the certificate in [`Coturn::certificate`].
    pub tls: SocketAddr,
    /// That certificate.
    pub der: Vec<u8>,
}

impl Coturn {
    /// Starts it on a loopback address, on ports of the system's choice, with these options
    /// beside the usual ones.
    pub fn start(name: &str, ip: &str, options: &[&str]) -> Self {
        let ip: IpAddr = ip.parse().unwrap();
        let free = || UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let server = Self::spawn(name, None, (free(), free()), options);
        let deadline = Instant::now() + START;
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let answers = || {
            let asked = socket.send_to(&REQUEST, server.address);
            asked.is_ok() && socket.recv(&mut [0; 1500]).is_ok()
        };
        let listens =
            || TcpStream::connect(server.address).is_ok() && TcpStream::connect(server.tls).is_ok();
        while !answers() || !listens() {
            assert!(Instant::now() < deadline, "coturn does not answer");
        }
        server
    }

    /// Starts it in a namespace.
    pub fn start_in(namespace: &Namespace, address: SocketAddr) -> Self {
        let tls = SocketAddr::new(address.ip(), address.port() + 1);
        Self::spawn("namespace", Some(namespace), (address, tls), &[])
    }

    /// Starts it in a namespace on two addresses, so that it tells of NATs (RFC 5780): on the port
    /// of the first, and on the next one.
    pub fn start_on_two(namespace: &Namespace, address: SocketAddr, other: IpAddr) -> Self {
        let tls = SocketAddr::new(address.ip(), 5349);
        let option = format!("--listening-ip={other}");
        Self::spawn("two", Some(namespace), (address, tls), &[&option])
    }

    fn spawn(
        name: &str,
        within: Option<&Namespace>,
        (address, tls): (SocketAddr, SocketAddr),
        options: &[&str],
    ) -> Self {
        let scratch = Scratch::new(&format!("coturn-{name}"));
        let ip = address.ip();
        let made = rcgen::generate_simple_self_signed([ip.to_string()]).unwrap();
        let file = |name: &str| scratch.0.join(name).to_str().unwrap().to_owned();
        fs::write(file("cert.pem"), made.cert.pem()).unwrap();
        fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let mut command = in_namespace(within, "turnserver");
        command
            .args(["-n", "--lt-cred-mech", "--user=alice:secret", "--realm=example.test"])
            .args(["--no-dtls", "--no-cli", "--log-file=stdout", "--simple-log", "--fingerprint"])
            .arg("--allow-loopback-peers")
            .arg(format!("--min-port={}", RELAY_PORTS.start))
            .arg(format!("--max-port={}", RELAY_PORTS.end))
            .arg(format!("--listening-ip={ip}"))
            .arg(format!("--relay-ip={ip}"))
            .arg(format!("--listening-port={}", address.port()))
            .arg(format!("--tls-listening-port={}", tls.port()))
            .arg(format!("--cert={}", file("cert.pem")))
            .arg(format!("--pkey={}", file("key.pem")))
            .arg(format!("--pidfile={}", file("pid")))
            .arg(format!("--userdb={}", file("users")))
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let process = Self::run(&mut command);
        Self { process, command, scratch, address, tls, der: made.cert.der().to_vec() }
    }

    fn run(command: &mut Command) -> Child {
        let mut process = command.spawn().unwrap_or_else(|error| {
            panic!("this test needs coturn: apt-get install coturn, or cargo xtask ci ({error})")
        });
        // It listens when it has made its servers, and nobody reads what it says later.
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        while !lines.next().expect("coturn goes on").unwrap().contains("Total General servers") {}
        std::thread::spawn(move || lines.for_each(drop));
        process
    }

    /// Ends it, and starts it once more: it knows of no allocation then.
    pub fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::run(&mut self.command);
    }

    /// The file of the certificate that it has over TLS.
    pub fn certificate(&self) -> String {
        self.scratch.0.join("cert.pem").to_str().unwrap().to_owned()
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
