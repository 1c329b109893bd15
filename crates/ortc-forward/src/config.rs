use ortc_io::{FlightConfig, UdpConfig};
use ortc_rtp::SessionOptions;

/// How a packet forwarder is set up.
#[derive(Debug, Clone)]
pub struct ForwarderConfig {
    /// Name of the thread, `ortc-forward` unless set, to which its place is added as in
    /// `ortc-forward-0`; systems cut it at 15 bytes.
    pub name: String,
    /// The core to pin the thread to; several threads take it and those behind it. If the
    /// system refuses, that is logged once and the thread runs unpinned. `None`, the default,
    /// leaves it to the scheduler.
    pub core: Option<usize>,
    /// The niceness of the thread, -20 (first) to 19 (last). If the system refuses, as it does
    /// below 0 without the right to, that is logged once and the thread runs on as it was.
    /// `None`, the default, leaves it as that of the process.
    pub niceness: Option<i32>,
    /// The real-time priority of the thread, 1 to 99 (`SCHED_FIFO` of Linux): it then runs before
    /// all that is not real-time, and niceness means nothing. If the system refuses, as it does
    /// without the right to, that is logged once and the thread runs on as it was. `None`, the
    /// default, leaves it to the scheduler.
    pub priority: Option<u8>,
    /// Seeds sequence numbers, timestamps and report intervals; `None`, the default, draws
    /// from the system.
    pub seed: Option<u64>,
    /// Commands that may wait for the thread, 1,024 by default.
    pub command_capacity: usize,
    /// Events that may wait for the control plane, 4,096 by default. Datagrams take at most
    /// three quarters of it, so that they never crowd out what must not be lost.
    pub event_capacity: usize,
    /// Connections at a time, 16,384 by default; one more is refused and counted.
    pub max_connections: usize,
    /// Whether [`ForwarderStats::steps`](crate::ForwarderStats::steps) is measured: eight or so
    /// readings of the thread's CPU clock for each batch, 2 µs in all. Off by default.
    pub time_steps: bool,
    /// Most bytes of padding, within SRTP (RFC 3550 §5.1), that a forwarded packet gets to be of
    /// one size with those it is sent with, so that they go to the kernel in one run: 16 at most,
    /// 0, the default, is none. It is for subscribers that are known to take padding. A packet
    /// that was padded is sent again by RTX (RFC 4588) or not at all.
    pub padding: u8,
    /// How sockets are opened and used.
    pub udp: UdpConfig,
    /// Has the last seconds of every connection recorded; by default they are not.
    pub flight_recorder: Option<FlightConfig>,
    /// Timings of reports and time-outs; `ntp_at_start` is set per connection from the
    /// forwarder's clock.
    pub session: SessionOptions,
}

impl Default for ForwarderConfig {
    fn default() -> Self {
        Self {
            name: "ortc-forward".to_owned(),
            core: None,
            niceness: None,
            priority: None,
            seed: None,
            command_capacity: 1024,
            event_capacity: 4096,
            max_connections: 16 * 1024,
            time_steps: false,
            padding: 0,
            udp: UdpConfig::default(),
            flight_recorder: None,
            session: SessionOptions::default(),
        }
    }
}
