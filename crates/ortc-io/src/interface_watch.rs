//! Notices that the addresses of this host change.

use std::io;

/// Waits for changes of the addresses and links of this host.
///
/// On Linux the kernel tells (rtnetlink); elsewhere the addresses are looked at every two
/// seconds. It says that something has changed, not what: who wants to know enumerates them.
#[derive(Debug)]
pub struct InterfaceWatch {
    source: imp::Source,
}

impl InterfaceWatch {
    /// Begins to watch; to be called on a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses the socket.
    pub fn new() -> io::Result<Self> {
        Ok(Self { source: imp::Source::new()? })
    }

    /// Waits for the next change. One that comes between two calls is not missed, several are
    /// one. To be called again after an error would fail again.
    ///
    /// # Errors
    /// When the system has ended the socket.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.source.changed().await
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::io::Errno;
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
    use tokio::io::unix::AsyncFd;

    /// RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of rtnetlink(7).
    const GROUPS: u32 = 0x1 | 0x10 | 0x100;

    #[derive(Debug)]
    pub(super) struct Source(AsyncFd<OwnedFd>);

    impl Source {
        pub(super) fn new() -> io::Result<Self> {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let family = AddressFamily::NETLINK;
            // Of this family, NETLINK_ROUTE is the default protocol.
            let socket = rustix::net::socket_with(family, SocketType::RAW, flags, None)?;
            rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            #[allow(
                unsafe_code,
                reason = "tokio has no other way to wait for a socket of this kind"
            )]
            // SAFETY: an `OwnedFd` has its descriptor for itself, and what it is registered with
            // owns it from here on.
            let socket = unsafe { AsyncFd::register(socket) };
            Ok(Self(socket?))
        }

        pub(super) async fn changed(&mut self) -> io::Result<()> {
            loop {
                let mut ready = self.0.readable().await?;
                if take_all(ready.get_inner())? {
                    return Ok(());
                }
                ready.clear_ready();
            }
        }
    }

    /// Empties the socket; whether anything was there.
    fn take_all(socket: &OwnedFd) -> io::Result<bool> {
        let mut any = false;
        // What it says does not matter, so a message that is cut off says as much.
        let mut buffer = [0_u8; 256];
        loop {
            match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
                Ok(_) => any = true,
                // More came than the kernel keeps.
                Err(Errno::NOBUFS) => any = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(any),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::time::Duration;

    use crate::InterfaceAddress;

    const INTERVAL: Duration = Duration::from_secs(2);

    #[derive(Debug)]
    pub(super) struct Source(Vec<InterfaceAddress>);

    impl Source {
        pub(super) fn new() -> io::Result<Self> {
            crate::interfaces::enumerate_interfaces().map(Self)
        }

        pub(super) async fn changed(&mut self) -> io::Result<()> {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let found = crate::interfaces::enumerate_interfaces()?;
                if found != self.0 {
                    self.0 = found;
                    return Ok(());
                }
            }
        }
    }
}
