//! Asking the kernel for `struct taskstats` as a client without the interface does: one task after the other.

use anyhow::Context;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// A socket of generic netlink.
pub struct Kernel {
    socket: OwnedFd,
    /// Number of the family TASKSTATS.
    family: u16,
    answer: Vec<u8>,
}

impl Kernel {
    pub fn new() -> anyhow::Result<Kernel> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkGeneric)?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // The family that finds others by name (GENL_ID_CTRL) answers with the name, then the number.
        let mut kernel = Kernel { socket, family: 16, answer: vec![0; 8192] };
        let answer = kernel.ask(3, 2, b"TASKSTATS\0\0\0")?;
        let number = answer.get(40..42).context("the kernel has no TASKSTATS")?;
        kernel.family = u16::from_ne_bytes(number.try_into()?);
        anyhow::ensure!(kernel.process(std::process::id())? > 100, "TASKSTATS take CAP_NET_ADMIN");
        Ok(kernel)
    }

    /// Bytes of the answer about a process (TASKSTATS_CMD_ATTR_TGID).
    pub fn process(&mut self, pid: u32) -> anyhow::Result<usize> {
        Ok(self.ask(1, 2, &pid.to_ne_bytes())?.len())
    }

    fn ask(&mut self, command: u8, attribute: u16, value: &[u8]) -> anyhow::Result<&[u8]> {
        let mut message = [0; 40];
        let len = 24 + value.len();
        message[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&self.family.to_ne_bytes());
        message[6] = 1;
        (message[16], message[17]) = (command, 1);
        message[20..22].copy_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        message[22..24].copy_from_slice(&attribute.to_ne_bytes());
        message[24..len].copy_from_slice(value);
        send(self.socket.as_raw_fd(), &message[..len], MsgFlags::empty())?;
        let n = recv(self.socket.as_raw_fd(), &mut self.answer, MsgFlags::empty())?;
        Ok(&self.answer[..n])
    }
}
