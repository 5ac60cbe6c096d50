// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: contexts, the API handshake, registration, the ioctls, read and poll.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::syscall::{Msg, Out, Outcome};

pub fn userfaultfd_ctx_get(k: &Kernel, ctx: CtxId) {
    todo!()
}
pub fn userfaultfd_ctx_put(k: &Kernel, ctx: CtxId) {
    todo!()
}
pub fn sys_userfaultfd(k: &Kernel, nonblock: bool, user_mode_only: bool) -> KResult<FileId> {
    todo!()
}
pub async fn userfaultfd_release(k: &Kernel, ctx: CtxId) {
    todo!()
}
pub async fn userfaultfd_api(k: &Kernel, ctx: CtxId, api: u64, features: u64) -> Outcome {
    todo!()
}
pub async fn userfaultfd_register(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64) -> Outcome {
    todo!()
}
pub async fn userfaultfd_unregister(k: &Kernel, ctx: CtxId, start: u64, len: u64) -> Outcome {
    todo!()
}
pub async fn userfaultfd_wake(k: &Kernel, ctx: CtxId, start: u64, len: u64) -> Outcome {
    todo!()
}
pub async fn userfaultfd_copy(k: &Kernel, ctx: CtxId, dst: u64, src: u64, len: u64, mode: u64) -> Outcome {
    todo!()
}
pub async fn userfaultfd_zeropage(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64) -> Outcome {
    todo!()
}
pub async fn userfaultfd_continue(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64) -> Outcome {
    todo!()
}
pub async fn userfaultfd_writeprotect(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64) -> Outcome {
    todo!()
}
pub async fn userfaultfd_ctx_read(k: &Kernel, ctx: CtxId, nonblock: bool) -> KResult<Msg> {
    todo!()
}
pub fn userfaultfd_poll(k: &Kernel, ctx: CtxId, nonblock: bool) -> (bool, bool) {
    todo!()
}
