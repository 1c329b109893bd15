//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use ortc_api::RTCIceServer;

use crate::call::{PlaySource, SignalUrl};

/// Object RTC without SDP: a server for pairs and rooms, and a headless peer.
///
/// Without a command, it serves.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "ortc", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve, if no command is given.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What the program does.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Serve rooms, in which everybody's streams are forwarded to everybody else, signalling for
    /// pairs of peers who connect directly, and a page for calls in a browser.
    Serve(ServeArgs),
    /// Call a room, or the other peer of a pair: play files, record what comes.
    Call(CallArgs),
    /// Explain what the network lets through: which addresses this host has, whether UDP works,
    /// what the NATs do, what each server answers, and whether a TURN server is needed.
    Doctor(DoctorArgs),
}

/// Options of `ortc serve`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ServeArgs {
    /// Where to listen for HTTP and WebSockets; port 0 lets the system choose.
    ///
    /// Whoever reaches this port may use the server, so it is only this host by default.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// Take the media of all rooms on this UDP address, and with several threads on the ports
    /// behind it, too. Without it each member has sockets on ports that the system chooses.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub udp: Option<SocketAddr>,
    /// Tell this address in place of that of --udp: the outer one of a NAT that maps one address to
    /// one and leaves ports alone, as clouds have.
    #[arg(long, value_name = "ADDR", requires = "udp", value_parser = ip)]
    pub announce: Option<IpAddr>,
    /// Wait for members to find the server: for one that all of them reach, as by --udp on a public
    /// address. Their own addresses are not tried.
    #[arg(long)]
    pub ice_lite: bool,
    /// Ask this server for candidates of the server's own, as for a call; a TURN server relays over
    /// UDP only without --udp.
    #[arg(long, value_name = "URI", value_parser = ice_server)]
    pub ice_server: Vec<RTCIceServer>,
    /// Take media over TCP on this address as well, from members in networks without UDP. It
    /// may be the port of --udp.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub tcp: Option<SocketAddr>,
    /// Media threads. A room spans all of them.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Pin the media threads to this core and those behind it.
    #[arg(long, value_name = "CORE")]
    pub pin: Option<usize>,
    /// Run the media threads in real time (SCHED_FIFO), with this priority from 1 to 99. Where
    /// the system refuses, that is logged once and they run on.
    #[arg(long, value_name = "PRIORITY", value_parser = clap::value_parser!(u8).range(1..=99))]
    pub priority: Option<u8>,
    /// Have each UDP socket buffer so many bytes each way; 2097152 without it. Where the system
    /// grants less, that is logged once and all goes on.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(4096..=1 << 30))]
    pub socket_buffer: Option<u32>,
    /// Give forwarded packets up to so many bytes of padding, 16 at most, where that makes packets
    /// of one picture equally long: those are sent together, which takes less CPU time.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=16))]
    pub padding: u8,
    /// Keep the last seconds of each connection in memory, 256 kB, and write them to a file in
    /// this directory when it fails: pcapng, for Wireshark. At most 100 are written.
    #[arg(long, value_name = "DIR")]
    pub record_failures: Option<PathBuf>,
    /// Let pages of this origin use the server, such as https://meet.example.org: its own, if it
    /// is reached by a name. Pages at its IP address or at localhost may in any case.
    #[allow(rustdoc::bare_urls, reason = "it is the text of --help, too")]
    #[arg(long = "origin", value_name = "ORIGIN", value_parser = origin)]
    pub origins: Vec<String>,
    /// Let only those join who give this, as `?token=` of a WebSocket or in the link of the page.
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    pub token: Option<String>,
    /// Serve https and wss with this certificate chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve the page from the sources of this crate, in this directory: for work on it.
    #[arg(long, value_name = "DIR", hide = true)]
    pub page_source: Option<PathBuf>,
}

/// The law of G.711.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WavCodec {
    /// A-law, of Europe.
    Alaw,
    /// µ-law, of North America and Japan.
    Ulaw,
}

/// In which files what comes in is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RecordAsArg {
    /// One for each track, by its codec.
    Tracks,
    /// One WebM file for each stream.
    Webm,
    /// One Matroska file for each stream.
    Mkv,
}

/// A version of DTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtlsArg {
    /// DTLS 1.2.
    #[value(name = "1.2")]
    V12,
    /// DTLS 1.3, or 1.2 with a peer that does not have it.
    #[value(name = "1.3")]
    V13,
}

/// Options of `ortc call`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
What --play takes:
  FILE                    Ogg/Opus, WAV, IVF (VP8, VP9, AV1), WebM or Matroska (of these codecs,
                          each track as one) or an H.264 byte stream (Annex B); its content says
                          which
  tone, tone:HZ           a tone of 440 Hz, or HZ, as G.711; it does not end by itself
  bars, bars:WxH@RATE     moving colour bars as VP8, 640x360@30 or as given; nor do they
  ./tone:1                a file whose name looks like one of these

What --record writes; video from its first key frame on:
  --record-as tracks      for each track that comes, STREAM-audio or STREAM-video:
                          .ogg (opus), .wav (alaw, ulaw), .ivf (vp8, vp9, av1), .h264
  --record-as webm        for each stream, STREAM.webm; .mkv where WebM does not have the codec
  --record-as mkv         for each stream, STREAM.mkv

Exit status:
  0  it connected and did all it was told
  1  the call failed or ended early; the last line says why
  2  it was not begun: a wrong option, or a file that cannot be played")]
pub struct CallArgs {
    /// Whom to call: ws://HOST:PORT/rooms/NAME is a room, where the server forwards what everybody
    /// sends; ws://HOST:PORT/pairs/NAME is the other peer who gives the same name. wss:// is over
    /// TLS.
    #[arg(long, value_name = "URL")]
    pub signal: SignalUrl,
    /// Trust a server at wss:// by the certificates in this file, in PEM, in place of those that
    /// this system trusts.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Play this, in real time. Each one is a track, all are one stream and
    /// begin together. See below.
    #[arg(long, value_name = "FILE")]
    pub play: Vec<PlaySource>,
    /// How to send a tone and the sound of a WAV file. Without it as the file has it, and as
    /// ulaw if it is PCM.
    #[arg(long, value_name = "CODEC")]
    pub wav_codec: Option<WavCodec>,
    /// Frames in a second of the H.264 files, which do not say.
    #[arg(long, value_name = "RATE", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=240))]
    pub frame_rate: u32,
    /// Record what comes in as files in this directory, which is made if need be.
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Record each track in a file of its own, or the sound and pictures of each stream together, in
    /// step. See below.
    #[arg(long, value_name = "FILES", default_value = "tracks", requires = "record")]
    pub record_as: RecordAsArg,
    /// Press these keys once connected, 100 ms each: 0 to 9, A to D, * and #; a comma is a pause
    /// of 2 s. They go out with the first sound that is played, or with a track of their own.
    #[arg(long, value_name = "TONES", value_parser = tones)]
    pub dtmf: Option<String>,
    /// Ask this server for candidates beyond the addresses of this host: stun:HOST:PORT, or
    /// turn:USER:SECRET@HOST:PORT, with ?transport=tcp over TCP; turns:… is over TLS. Ports may
    /// be left out.
    #[arg(long, value_name = "URI", value_parser = ice_server)]
    pub ice_server: Vec<RTCIceServer>,
    /// Go through a TURN server in any case, and tell the other peer no address of this host.
    #[arg(long)]
    pub relay_only: bool,
    /// Let the other peer connect over TCP as well, for networks without UDP: each of the two may
    /// be the one who can be reached. Without it, this program only connects to peers who let it.
    #[arg(long)]
    pub tcp: bool,
    /// Tell the other peer random names of the link (UUID.local) in place of the addresses of this
    /// host, as browsers do.
    #[arg(long)]
    pub mdns: bool,
    /// Use addresses of a single link (169.254.0.0/16, fe80::/10) as well, for peers on the same
    /// link where there is nothing else: two devices and a cable.
    #[arg(long)]
    pub link_local: bool,
    /// Press and hear keys in the sound of tracks of A-law and µ-law: for peers that know no
    /// telephone events. Other tracks have those, as ever.
    #[arg(long)]
    pub dtmf_in_band: bool,
    /// Hang up this long after connecting. Without it, the call lasts until all files have
    /// been played to their end and all keys been pressed or, if there is neither, until the
    /// other peer leaves (in a room, until this program is interrupted).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Restart ICE this often: new credentials in the middle of the call, which the other peer is
    /// told and has to follow. The call goes on meanwhile.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub restart_ice: Option<Duration>,
    /// The newest DTLS that is spoken: 1.3 falls back to 1.2 with a peer that does not have it.
    /// 1.2 by default.
    #[arg(long, value_name = "VERSION")]
    pub dtls: Option<DtlsArg>,
    /// Have each packet of sound repeat so many of those before it (RFC 2198), at most 3: lost ones
    /// are heard all the same. For peers that know it, as this program, its rooms and Chromium do.
    #[arg(long, value_name = "PACKETS", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub redundancy: u8,
    /// Tell how it goes, each second or this often: rates, losses, round trip, each track. On
    /// stderr; with --json one object a line on stdout, in the names of webrtc-stats.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    pub stats: Option<Duration>,
    /// Print the summary as one JSON object, the last line on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `ortc doctor`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Two STUN servers tell more than one, and one with two addresses (RFC 5780) tells all.

Exit status:
  0  calls get through: directly, or by a TURN server that works
  1  they do, and some server does not do what it should
  2  it was not begun: a wrong option
  3  they do not get through to all peers: a TURN server is needed and none works, or there is
     no network
  4  it cannot be told: no server was named that tells, or none answers")]
pub struct DoctorArgs {
    /// Ask this server: stun:HOST:PORT, or turn:USER:SECRET@HOST:PORT, with ?transport=tcp over
    /// TCP; turns:… is over TLS. Ports may be left out.
    #[arg(long, value_name = "URI", value_parser = ice_server)]
    pub ice_server: Vec<RTCIceServer>,
    /// Print what was found out as one JSON object.
    #[arg(long)]
    pub json: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "an IP address and a port are needed, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080"
            .to_owned()
    })
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "an IP address is needed, such as 203.0.113.5, without a port".to_owned())
}

/// A STUN or TURN URI (RFC 7064, RFC 7065) with the user and the secret in it.
fn ice_server(text: &str) -> Result<RTCIceServer, String> {
    let parts = text.split_once(':').and_then(|(scheme, rest)| {
        let (login, host) = rest.rsplit_once('@')?;
        let (user, secret) = login.split_once(':')?;
        Some((format!("{scheme}:{host}"), user, secret))
    });
    let server = match parts {
        Some((url, user, secret)) => RTCIceServer::new(url).with_credential(user, secret),
        None => RTCIceServer::new(text),
    };
    let form = "stun:HOST:PORT or turn:USER:SECRET@HOST:PORT?transport=udp is needed";
    // What is wrong is said of the URI without its secret.
    server.uris().map_err(|error| format!("{error}; {form}"))?;
    Ok(server)
}

fn origin(text: &str) -> Result<String, String> {
    let parts = text.split_once("://");
    match parts {
        Some(("http" | "https", host)) if !host.is_empty() && !host.contains(['/', '?', '#']) => {
            Ok(text.to_owned())
        }
        _ => {
            Err("an origin is needed, such as https://meet.example.org, without a path".to_owned())
        }
    }
}

fn token(text: &str) -> Result<String, String> {
    let is_token = crate::access::is_token(text);
    is_token
        .then(|| text.to_owned())
        .ok_or_else(|| "1 to 128 of the characters A-Z a-z 0-9 . _ ~ - are needed".to_owned())
}

fn tones(text: &str) -> Result<String, String> {
    let is_key =
        |c: char| c.is_ascii_digit() || matches!(c.to_ascii_uppercase(), 'A'..='D' | '*' | '#');
    match text.chars().find(|c| !is_key(*c) && *c != ',') {
        Some(other) => Err(format!("'{other}' is no key: 0 to 9, A to D, *, # and , are taken")),
        None if !text.contains(is_key) => Err("a key is needed".to_owned()),
        None if text.len() > MAX_KEYS => Err(format!("at most {MAX_KEYS} keys are taken")),
        None => Ok(text.to_owned()),
    }
}

/// Keys that wait at the most.
const MAX_KEYS: usize = 1_024;

/// Longest duration: a week, which no call lasts.
const MAX_SECONDS: f64 = 7.0 * 24.0 * 3600.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MAX_SECONDS => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err("a number of seconds is needed, above 0 and up to 604800".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        let words = std::iter::once("ortc").chain(line.split_whitespace());
        Cli::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_means_serve() {
        let cli = parse("").unwrap();
        assert_eq!(cli.command, None);
        assert_eq!(cli.serve.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(parse("--listen [::1]:0").unwrap().serve.listen.to_string(), "[::1]:0");
        let cli = parse("serve --listen 0.0.0.0:9000").unwrap();
        let Some(Command::Serve(serve)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(serve.listen.to_string(), "0.0.0.0:9000");
        let line = "--udp 10.0.0.5:5000 --announce 203.0.113.5 --ice-lite --ice-server stun:h";
        let serve = parse(line).unwrap().serve;
        assert_eq!(serve.announce, Some([203, 0, 113, 5].into()));
        assert_eq!((serve.ice_lite, serve.ice_server), (true, vec![RTCIceServer::new("stun:h")]));
    }

    #[test]
    fn a_call_takes_several_files() {
        let line = "call --signal ws://localhost:1/pairs/x --play a.ogg --play bars --record out \
                    --record-as webm --duration 2.5 --wav-codec alaw --frame-rate 25 --dtmf 1,2# --dtmf-in-band --dtls 1.2 --json \
                    --redundancy 2 --stats 0.5 --restart-ice 7 --ice-server stun:stun.example.net --relay-only --tls-ca ca.pem --tcp --mdns --link-local \
                    --ice-server turn:alice:se@cret@[::1]:3478?transport=tcp";
        let cli = parse(line).unwrap();
        let expected = CallArgs {
            signal: "ws://localhost:1/pairs/x".parse().unwrap(),
            tls_ca: Some("ca.pem".into()),
            play: vec![
                PlaySource::File("a.ogg".into()),
                PlaySource::Bars { width: 640, height: 360, rate: 30 },
            ],
            wav_codec: Some(WavCodec::Alaw),
            frame_rate: 25,
            record: Some("out".into()),
            record_as: RecordAsArg::Webm,
            dtmf: Some("1,2#".into()),
            ice_server: vec![
                RTCIceServer::new("stun:stun.example.net"),
                RTCIceServer::new("turn:[::1]:3478?transport=tcp")
                    .with_credential("alice", "se@cret"),
            ],
            relay_only: true,
            tcp: true,
            mdns: true,
            link_local: true,
            dtmf_in_band: true,
            dtls: Some(DtlsArg::V12),
            duration: Some(Duration::from_millis(2500)),
            restart_ice: Some(Duration::from_secs(7)),
            redundancy: 2,
            stats: Some(Duration::from_millis(500)),
            json: true,
        };
        assert_eq!(cli.command, Some(Command::Call(expected)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let says = |line: &str, text: &str| {
            let error = parse(line).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        says("--listen 8080", "such as 127.0.0.1:8080");
        says("serve --udp 5000", "such as 127.0.0.1:8080");
        says("serve --announce 203.0.113.5", "--udp <ADDR:PORT>");
        says("call --signal ws://h:1/rooms/x --record-as mkv", "--record <DIR>");
        says("serve --udp 0.0.0.0:5000 --announce 203.0.113.5:5000", "without a port");
        says("serve --ice-server turn:h", "needs a username");
        says("serve --tcp 5000", "such as 127.0.0.1:8080");
        says("serve --origin meet.example.org", "without a path");
        says("serve --origin https://meet.example.org/", "without a path");
        says("serve --token a&b", "A-Z a-z 0-9");
        says("serve --tls-cert c.pem", "--tls-key");
        says("serve --threads 0", "0 is not in 1..=64");
        says("serve --priority 0", "0 is not in 1..=99");
        says("serve --socket-buffer 1k", "invalid digit");
        says("serve --padding 17", "17 is not in 0..=16");
        says("call", "--signal <URL>");
        says("call --signal ws://h/pairs/x --redundancy 4", "4 is not in 0..=3");
        says("call --signal ws://h/pairs/x --stats 0", "above 0 and up to 604800");
        let every_second = parse("call --signal ws://h/pairs/x --stats --json").unwrap();
        let Some(Command::Call(call)) = every_second.command else { panic!() };
        assert_eq!((call.stats, call.redundancy), (Some(Duration::from_secs(1)), 0));
        says("call --signal ws://h/pairs/x --duration 0", "above 0 and up to 604800");
        says("call --signal ws://h/pairs/x --duration nan", "above 0 and up to 604800");
        says("call --signal ws://h/pairs/x --play bars:1x1", "of 64 to 4096 pixels");
        says("call --signal ws://h/pairs/x --frame-rate 0", "0 is not in 1..=240");
        says("call --signal ws://h/pairs/x --dtmf 1E", "'E' is no key");
        says("call --signal ws://h/pairs/x --dtmf ,", "a key is needed");
        says("call --signal ws://h/pairs/x --ice-server turn:h", "needs a username");
        says("call --signal ws://h/pairs/x --ice-server h:3478", "stun:HOST:PORT");
        says("doctor --ice-server turn:h", "needs a username");
        says("call --signal http://h/pairs/x", "ws://HOST:PORT/pairs/NAME");
    }
}
