//! The `ortc` program: see `ortc --help`.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use ortc_api::DtlsVersion;
use ortc_media::{Container, Law};
use ortc_server::call::{CallOptions, PlayOptions, RecordAs, StatsLines, call};
use ortc_server::cli::{
    CallArgs, Cli, Command, DoctorArgs, DtlsArg, RecordAsArg, ServeArgs, WavCodec,
};
use ortc_server::doctor;
use ortc_server::{AccessConfig, Authorities, ServeError, Server, ServerConfig, TlsFiles};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The work is not begun: a wrong option, a file that cannot be played, a port in use.
const NOT_BEGUN: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // The ICE engine logs passwords at debug level, and warns of whatever a stranger sends.
    let filter = filter.add_directive("is=error".parse().expect("a valid directive"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, NOT_BEGUN),
    };
    match cli.command {
        None => runtime.block_on(serve(cli.serve)),
        Some(Command::Serve(args)) => runtime.block_on(serve(args)),
        Some(Command::Call(args)) => runtime.block_on(make_call(args)),
        Some(Command::Doctor(args)) => runtime.block_on(examine(&args)),
    }
}

async fn serve(args: ServeArgs) -> ExitCode {
    let ServeArgs { listen, udp, threads, pin, priority, socket_buffer, padding, .. } = args;
    let ServeArgs { tcp, announce, ice_lite, ice_server, .. } = args;
    let ServeArgs { origins, token, tls_cert, tls_key, page_source, record_failures, .. } = args;
    let config = ServerConfig {
        listen,
        udp,
        announce,
        ice_lite,
        ice_servers: ice_server,
        tcp,
        threads: threads.into(),
        pin,
        priority,
        socket_buffer: socket_buffer.map(|bytes| bytes as usize),
        padding,
        record_failures,
        access: AccessConfig { origins, token },
        tls: tls_cert.zip(tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
        page_source,
        ..ServerConfig::default()
    };
    let result = async {
        let shutdown = interrupted()?;
        let server = Server::bind(config).await?;
        // Whoever started this waits for the first line; if nobody reads it, serving goes on.
        let _ = writeln!(io::stdout(), "{}\n{}", server.url(), server.services());
        server.run(shutdown).await
    };
    match result.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ ServeError::Serve(_)) => complain(&error, 1),
        Err(error) => complain(&error, NOT_BEGUN),
    }
}

async fn make_call(args: CallArgs) -> ExitCode {
    let CallArgs { signal, tls_ca, play, wav_codec, frame_rate, record, .. } = args;
    let CallArgs {
        dtmf, dtmf_in_band, duration, restart_ice, dtls, json, stats, redundancy, ..
    } = args;
    let (ice_servers, relay_only) = (args.ice_server, args.relay_only);
    let (tcp, mdns, link_local) = (args.tcp, args.mdns, args.link_local);
    let law = wav_codec.map(|codec| match codec {
        WavCodec::Alaw => Law::Alaw,
        WavCodec::Ulaw => Law::Ulaw,
    });
    let playing = PlayOptions { law, frame_rate };
    let record_as = match args.record_as {
        RecordAsArg::Tracks => RecordAs::Tracks,
        RecordAsArg::Webm => RecordAs::Streams(Container::WebM),
        RecordAsArg::Mkv => RecordAs::Streams(Container::Matroska),
    };
    let dtls = match dtls {
        Some(DtlsArg::V12) | None => DtlsVersion::V12,
        Some(DtlsArg::V13) => DtlsVersion::Auto,
    };
    let options = CallOptions {
        signal,
        authorities: tls_ca.map_or_else(Authorities::default, Authorities::File),
        play,
        playing,
        record,
        record_as,
        dtmf,
        ice_servers,
        relay_only,
        tcp,
        mdns,
        link_local,
        dtmf_in_band,
        duration,
        restart_ice,
        dtls,
        progress: !json,
        redundancy,
        stats: stats.map(|every| StatsLines { every, json }),
    };
    let interrupted = match interrupted() {
        Ok(interrupted) => interrupted,
        Err(error) => return complain(&error, NOT_BEGUN),
    };
    let summary = match call(options, interrupted).await {
        Ok(summary) => summary,
        Err(error) => return complain(&error, NOT_BEGUN),
    };
    let text = if json { summary.to_json() + "\n" } else { summary.to_string() };
    if io::stdout().write_all(text.as_bytes()).is_err() {
        return complain(&"the summary cannot be written to stdout", 1);
    }
    if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn examine(args: &DoctorArgs) -> ExitCode {
    let examination = match doctor::examine(&args.ice_server).await {
        Ok(examination) => examination,
        Err(error) => return complain(&error, NOT_BEGUN),
    };
    let text = if args.json { examination.to_json() + "\n" } else { examination.to_string() };
    if io::stdout().write_all(text.as_bytes()).is_err() {
        return complain(&"what was found out cannot be written to stdout", 1);
    }
    ExitCode::from(examination.exit_code())
}

/// Completes at the first SIGINT or SIGTERM.
fn interrupted() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    // There is nobody to tell if stderr is closed.
    let _ = writeln!(io::stderr(), "ortc: {error}");
    ExitCode::from(code)
}
