//! How a tunnel's socket is set up.

use std::{io, os::fd::AsFd};

/// What may wait in the kernel without having been sent, in bytes.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 * 1024;

/// Keeps little in the kernel that has not been sent: a ping waits behind it, and on a slow line the other
/// end would be taken for dead behind megabytes of somebody's download.
///
/// # Errors
/// As the system gives them.
#[cfg(any(target_os = "android", target_os = "linux"))]
pub fn keep_unsent_small(socket: &impl AsFd) -> io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT)
}

/// Keeps little in the kernel that has not been sent, where the system can do that.
///
/// # Errors
/// None.
#[cfg(not(any(target_os = "android", target_os = "linux")))]
pub fn keep_unsent_small(_: &impl AsFd) -> io::Result<()> {
    Ok(())
}
