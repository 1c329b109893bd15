//! One invitation, three answers: connections of one local side, each to a peer of its own.
//!
//! `cargo run -p ortc-api --example forking`

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;

use ortc_api::{RTCConnection, RTCConnectionOptions, RTCEvent, RTCEvents};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = || RTCConnectionOptions::new().with_loopback(true);
    let host = RTCConnection::new(options())?;

    // The invitation: who we are, and where we can be reached. It is the same for all guests.
    let socket = host.local_socket()?;
    let mut candidates = Vec::new();
    let mut events = host.events();
    while let Some(event) = events.recv().await {
        match event {
            RTCEvent::Candidate(candidate) => candidates.push(candidate),
            RTCEvent::EndOfCandidates => break,
            _ => {}
        }
    }
    println!("{} candidates", candidates.len());

    let mut guests = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        // The guest has read the invitation, and begins to check at once.
        let guest = RTCConnection::new(options())?;
        let of_guest = guest.events();
        guest.set_remote_ice(host.local().ice)?;
        for candidate in &candidates {
            guest.set_remote_candidate(candidate)?;
        }
        take_part(&guest);
        guest.connect()?;

        // Its answer names it; a fork of ours takes it. Its checks have waited for that.
        let fork = RTCConnection::new(RTCConnectionOptions::new().with_socket(socket.clone()))?;
        let of_fork = fork.events();
        take_part(&fork);
        fork.set_remote_ice(guest.local().ice)?;
        fork.connect()?;
        connected(of_fork).await?;
        connected(of_guest).await?;
        println!("{name} is connected to {}", fork.local().ice.username_frag);
        guests.push((fork, guest));
    }

    // The others stay when one leaves, the first one included.
    host.close();
    for (fork, guest) in guests {
        fork.close();
        fork.closed().await;
        guest.closed().await;
    }
    println!("closed");
    Ok(())
}

/// Has all candidates of a connection take part.
fn take_part(connection: &RTCConnection) {
    connection.on_candidate(Some(|connection: &RTCConnection, candidate| {
        // It is refused only when the connection has been closed meanwhile.
        let _ = connection.set_local_candidate(&candidate);
    }));
}

async fn connected(mut events: RTCEvents) -> Result<(), Box<dyn Error>> {
    while let Some(event) = events.recv().await {
        match event {
            RTCEvent::Connected => return Ok(()),
            RTCEvent::Disconnected(reason) => return Err(reason.into()),
            _ => {}
        }
    }
    Err("closed before it was connected".into())
}
