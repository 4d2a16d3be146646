//! Open files handed from process to process.

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg,
    sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Two ends of a stream, of which a program started from here inherits the second; it must not outlive that start.
pub fn inheritable_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty())?;
    nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok((ours, theirs))
}

/// Hands `file` on through `socket`.
pub fn send(socket: &impl AsFd, file: BorrowedFd<'_>) -> io::Result<()> {
    let files = [file.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&files)];
    let bytes = [IoSlice::new(b"f")];
    sendmsg::<UnixAddr>(socket.as_fd().as_raw_fd(), &bytes, &message, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Takes a file that was handed on, waiting for it.
///
/// # Errors
/// What the system says; `UnexpectedEof` where something else came.
pub fn receive(socket: &impl AsFd) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let fd = socket.as_fd().as_raw_fd();
    let message = recvmsg::<UnixAddr>(fd, &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let received = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(files) => files.first().copied(),
        _ => None,
    });
    let file = received.ok_or(io::ErrorKind::UnexpectedEof)?;
    // SAFETY: the kernel made this descriptor for us just now; there was room for one alone.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}
