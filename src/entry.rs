// SPDX-License-Identifier: GPL-2.0-only
//! System-call entry: from an [`Op`] to the mirrored function that carries it out, and on its return to user mode.

use crate::delta::Delta;
use crate::errno::*;
use crate::event::Symptom;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::fault::{AccessResult, FAULT_FLAG_DEFAULT, resume_blocked_fault, user_access};
use crate::mm::uaccess::user_addr;
use crate::syscall::{Answer, Fd, MSG_SIZE, Op, Out, Outcome, UserBuf};
use crate::{mm, shmem, uffd, vfs};

/// How the kernel left a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The operation returned, with what is in its [`Answer`].
    Returned,
    /// A load or store sleeps in a userfault; the task says which one.
    Blocked,
    /// A fatal signal ended it; the process is to exit.
    Killed,
}

/// A load or a store, as user mode executes it.
pub fn access_of(op: &Op) -> Option<UserAccess> {
    match *op {
        Op::Load { addr } => Some(UserAccess { addr, store: None }),
        Op::Store { addr, value } => Some(UserAccess { addr, store: Some(value) }),
        _ => None,
    }
}

/// The operation that a blocked access belongs to.
pub fn op_of(access: UserAccess) -> Op {
    match access.store {
        None => Op::Load { addr: access.addr },
        Some(value) => Op::Store { addr: access.addr, value },
    }
}

/// Carry out one operation in the current task.
pub async fn run_op(k: &Kernel, op: &Op, answer: &Answer) -> End {
    k.run.rounds.set(0);
    k.task_mut(k.current()).in_syscall = true;
    if let Some(access) = access_of(op) {
        let result = user_access(k, access, FAULT_FLAG_DEFAULT | FAULT_FLAG_USER).await;
        return access_end(k, access, result, answer);
    }
    match fd_of(op) {
        Some(fd) => on_fd(k, fd, op, answer).await,
        None => answer.give(system_call(k, op).await),
    }
    if exit_to_user_mode(k) && !matches!(op, Op::Exit) {
        answer.take();
        return End::Killed;
    }
    End::Returned
}

/// Go on with a load or store whose userfault was woken.
pub async fn run_resumed(k: &Kernel, answer: &Answer) -> End {
    k.run.rounds.set(0);
    let Some(blocked) = k.task(k.current()).blocked else {
        return End::Killed;
    };
    k.task_mut(k.current()).in_syscall = true;
    let result = resume_blocked_fault(k).await;
    access_end(k, blocked.access, result, answer)
}

fn access_end(k: &Kernel, access: UserAccess, result: AccessResult, answer: &Answer) -> End {
    if result == AccessResult::Blocked {
        k.task_mut(k.current()).in_syscall = false;
    } else {
        exit_to_user_mode(k);
    }
    let outcome = match result {
        AccessResult::Done(cell) => Outcome::ok(0).with(if access.store.is_none() { Out::Byte(cell) } else { Out::None }),
        AccessResult::Signal(sig) => Outcome::err(EFAULT).with(Out::Signal { sig, addr: access.addr }),
        AccessResult::Blocked => return End::Blocked,
        AccessResult::Killed => return End::Killed,
    };
    answer.give(outcome);
    End::Returned
}

/// What must hold whenever a task goes back to user mode, and the delivery of a handled signal. True: a fatal one is pending.
fn exit_to_user_mode(k: &Kernel) -> bool {
    let task = k.current();
    if k.s().held.iter().any(|h| h.task == task) {
        report_held(k, task);
    }
    let mut t = k.task_mut(task);
    t.in_syscall = false;
    t.signal_pending = false;
    t.fatal_signal_pending
}

#[cold]
fn report_held(k: &Kernel, task: TaskId) {
    let held: Vec<_> = k.s().held.iter().filter(|h| h.task == task).map(|h| h.lock).collect();
    for lock in held {
        k.report(Symptom::LockHeldAtReturn, || format!("{lock:?} still held on return to user mode"));
    }
}

/// The descriptor that a call works on, if it is one of those that [`on_fd`] carries out.
pub(crate) fn fd_of(op: &Op) -> Option<Fd> {
    match *op {
        Op::Ftruncate { fd, .. }
        | Op::Fallocate { fd, .. }
        | Op::Pread { fd, .. }
        | Op::Pwrite { fd, .. }
        | Op::Lseek { fd, .. }
        | Op::AddSeals { fd, .. }
        | Op::Fstat { fd }
        | Op::Fstatfs { fd }
        | Op::UffdApi { fd, .. }
        | Op::UffdRegister { fd, .. }
        | Op::UffdUnregister { fd, .. }
        | Op::UffdWake { fd, .. }
        | Op::UffdCopy { fd, .. }
        | Op::UffdZeropage { fd, .. }
        | Op::UffdContinue { fd, .. }
        | Op::UffdPoison { fd, .. }
        | Op::UffdMove { fd, .. }
        | Op::UffdWriteprotect { fd, .. }
        | Op::UffdRead { fd }
        | Op::Poll { fd }
        | Op::Reclaim { fd, .. } => Some(fd),
        Op::Load { .. }
        | Op::Store { .. }
        | Op::MemfdCreate { .. }
        | Op::Mount { .. }
        | Op::Open { .. }
        | Op::Unlink { .. }
        | Op::Close { .. }
        | Op::Mmap { .. }
        | Op::Munmap { .. }
        | Op::Mprotect { .. }
        | Op::Mremap { .. }
        | Op::Madvise { .. }
        | Op::Mlock { .. }
        | Op::Munlock { .. }
        | Op::Mincore { .. }
        | Op::Userfaultfd { .. }
        | Op::Fork
        | Op::Exit
        | Op::Kill { .. }
        | Op::Swapon { .. }
        | Op::Swapoff => None,
    }
}

/// The calls that work on no descriptor, or on one as a number. The largest are boxed: every call would pay for the room that they
/// take.
async fn system_call(k: &Kernel, op: &Op) -> Outcome {
    match *op {
        Op::MemfdCreate { sealing } => install(k, shmem::file::sys_memfd_create(k, sealing).await).await,
        Op::Mount { size } => vfs::sys_mount(k, size).map(|()| 0).into(),
        Op::Open { path, read, write, creat } => install(k, vfs::sys_open(k, path, read, write, creat).await).await,
        Op::Unlink { name } => vfs::sys_unlink(k, name).await.map(|()| 0).into(),
        Op::Close { fd } => vfs::sys_close(k, fd).await.map(|()| 0).into(),
        Op::Mmap { addr, len, prot, flags, fd, offset } => {
            let file = match fd {
                Some(fd) if !flags.contains(MAP_ANONYMOUS) => match vfs::fget(k, fd) {
                    Ok(file) => Some(file),
                    Err(e) => return Outcome::err(e),
                },
                Some(_) => None,
                None if flags.contains(MAP_ANONYMOUS) => None,
                None => return Outcome::err(EBADF),
            };
            if let Some(file) = file {
                vfs::get_file(k, file);
            }
            let ret = Box::pin(mm::mmap::sys_mmap(k, addr, len, prot, flags, file, offset)).await;
            if let Some(file) = file {
                vfs::fput(k, file).await;
            }
            ret.into()
        }
        Op::Munmap { addr, len } => mm::mmap::sys_munmap(k, addr, len).await.map(|()| 0).into(),
        Op::Mprotect { addr, len, prot } => mm::mprotect::sys_mprotect(k, addr, len, prot).await.map(|()| 0).into(),
        Op::Mremap { old, old_len, new_len, new, dontunmap } => {
            Box::pin(mm::mremap::sys_mremap(k, old, old_len, new_len, new, dontunmap)).await.into()
        }
        Op::Madvise { addr, len, advice } => Box::pin(mm::madvise::sys_madvise(k, addr, len, advice)).await.map(|()| 0).into(),
        Op::Mlock { addr, len } => mm::mlock::sys_mlock(k, addr, len).await.map(|()| 0).into(),
        Op::Munlock { addr, len } => mm::mlock::sys_munlock(k, addr, len).await.map(|()| 0).into(),
        Op::Mincore { addr, len } => match mm::mincore::sys_mincore(k, addr, len).await {
            Ok(pages) => Outcome::ok(0).with(Out::Mincore(pages)),
            Err(e) => Outcome::err(e),
        },
        Op::Userfaultfd { nonblock, user_mode_only } => install(k, uffd::ctx::sys_userfaultfd(k, nonblock, user_mode_only)).await,
        Op::Fork => mm::fork::sys_fork(k).await.map(|task| task.number()).into(),
        Op::Exit => {
            mm::exit::sys_exit_group(k).await;
            Outcome::ok(0)
        }
        Op::Kill { task, fatal } => {
            let target = k.s().tasks.iter().map(|(id, _)| id).find(|id| id.number() == task as u16);
            match target {
                Some(id) if k.task(id).state != TaskState::Dead => {
                    uffd::handle::send_signal(k, id, fatal);
                    Outcome::ok(0)
                }
                _ => Outcome::err(ESRCH),
            }
        }
        Op::Swapon { slots } => mm::swapfile::swapon(k, slots).map(|()| 0).into(),
        Op::Swapoff => mm::swapfile::swapoff(k).await.map(|()| 0).into(),
        // On a descriptor: see on_fd. A load or a store is no call at all.
        _ => Outcome::err(ENOSYS),
    }
}

/// `fd_install` of what a call opened.
async fn install(k: &Kernel, file: KResult<FileId>) -> Outcome {
    match file {
        Ok(file) => match vfs::fd_install(k, file) {
            Ok(fd) => Outcome::ok(fd as i64),
            Err(e) => {
                vfs::fput(k, file).await;
                Outcome::err(e)
            }
        },
        Err(e) => Outcome::err(e),
    }
}

/// A call that works on a descriptor: the file is held while it runs, so that a close by another thread does not end it.
async fn on_fd(k: &Kernel, fd: Fd, op: &Op, answer: &Answer) {
    // ksys_pread64, ksys_pwrite64: a negative position, before the descriptor is looked at.
    if let Op::Pread { offset, .. } | Op::Pwrite { offset, .. } = *op
        && offset > MAX_LFS_FILESIZE
    {
        return answer.ret(Err(EINVAL));
    }
    let file = match vfs::fget(k, fd) {
        Ok(file) => file,
        Err(e) => return answer.ret(Err(e)),
    };
    let kind = vfs::get_file(k, file).kind;
    match kind {
        FileKind::Userfaultfd(ctx) if fills(op) => answer.ret(fill(k, ctx, op, answer).await.map(|()| 0)),
        _ => answer.give(on_file(k, file, kind, op).await),
    }
    vfs::fput(k, file).await;
}

async fn on_file(k: &Kernel, file: FileId, kind: FileKind, op: &Op) -> Outcome {
    // read(2) of a file that has a position: there, and on from there.
    let read = match *op {
        Op::UffdRead { fd } if !matches!(kind, FileKind::Userfaultfd(_)) => {
            Some(Op::Pread { fd, buf: UserBuf::Fill(0), count: MSG_SIZE, offset: k.file_ref(file).f_pos })
        }
        _ => None,
    };
    let op = read.as_ref().unwrap_or(op);
    if let Err(e) = vfs::may_transfer(k, file, op) {
        return Outcome::err(e);
    }
    let outcome = match kind {
        FileKind::Inode(inode) if k.inode(inode).kind == InodeKind::Shmem => on_shmem(k, file, inode, op).await,
        FileKind::Inode(_) => on_dev_zero(k, file, op).await,
        FileKind::Userfaultfd(ctx) => on_userfaultfd(k, file, ctx, op).await,
        FileKind::ProcMem(mm) => on_proc_mem(k, file, mm, op).await,
    };
    if read.is_none() {
        return outcome;
    }
    // What was read is nobody's business: how much, that is.
    if let Ok(n) = outcome.ret {
        k.file_mut(file).f_pos += n as u64;
    }
    Outcome { out: Out::None, ..outcome }
}

async fn on_shmem(k: &Kernel, file: FileId, inode: InodeId, op: &Op) -> Outcome {
    let f = k.file(file);
    match *op {
        Op::Ftruncate { length, .. } if !f.f_mode_write || length > MAX_LFS_FILESIZE => Outcome::err(EINVAL),
        Op::Ftruncate { length, .. } => {
            mm::locking::inode_lock(k, inode).await;
            let ret = Box::pin(shmem::inode::shmem_setattr(k, inode, length)).await;
            mm::locking::inode_unlock(k, inode);
            ret.map(|()| 0).into()
        }
        Op::Fallocate { offset, len, .. } if len == 0 || offset > MAX_LFS_FILESIZE || len > MAX_LFS_FILESIZE => {
            Outcome::err(EINVAL)
        }
        Op::Fallocate { .. } if !f.f_mode_write => Outcome::err(EBADF),
        Op::Fallocate { offset, len, .. } if offset + len > MAX_LFS_FILESIZE => Outcome::err(EFBIG),
        Op::Fallocate { mode, offset, len, .. } => {
            Box::pin(shmem::truncate::shmem_fallocate(k, file, mode, offset, len)).await.map(|()| 0).into()
        }
        Op::Pread { buf, count, offset, .. } => {
            let mut data = [None; CELLS];
            match shmem::file::shmem_file_read_iter(k, file, user_addr(buf), count, offset, &mut data).await {
                Ok(n) => Outcome::ok(n).with(Out::Data(data)),
                Err(e) => Outcome::err(e),
            }
        }
        Op::Pwrite { buf, count, offset, .. } => {
            shmem::file::shmem_file_write_iter(k, file, user_addr(buf), count, offset).await.into()
        }
        Op::Lseek { offset, data, .. } => shmem::file::shmem_file_llseek(k, file, offset, data).await.into(),
        Op::AddSeals { seals, .. } => shmem::file::memfd_add_seals(k, file, seals).await.map(|()| 0).into(),
        Op::Fstat { .. } => {
            let (size, blocks) = shmem::file::shmem_getattr(k, inode).await;
            Outcome::ok(0).with(Out::Stat { size, blocks })
        }
        Op::Fstatfs { .. } => {
            let (blocks, bfree) = shmem::file::shmem_statfs(k, inode);
            Outcome::ok(0).with(Out::Statfs { blocks, bfree })
        }
        Op::Reclaim { offset, .. } => Outcome::ok(mm::vmscan::reclaim_one(k, inode, offset >> PAGE_SHIFT).await as i64),
        _ => other(k, file, op),
    }
}

/// What a file answers to that has no method for the operation, or one that does nothing.
///
/// Kernel:   fs/open.c:do_sys_ftruncate, vfs_fallocate; fs/read_write.c:vfs_llseek; mm/memfd.c:memfd_add_seals; fs/stat.c:vfs_fstat;
///           fs/statfs.c:vfs_statfs; fs/select.c:vfs_poll; fs/ioctl.c:vfs_ioctl @ v5.14
/// Fidelity: MODEL(by the kind of the file; what the machine's own devtmpfs holds is not known)
/// Locks:    none
/// Errors:   those of the operation
fn other(k: &Kernel, file: FileId, op: &Op) -> Outcome {
    let f = k.file(file);
    match *op {
        Op::Ftruncate { length, .. } => match f.kind {
            // A regular file as far as its inode goes.
            FileKind::ProcMem(_) if f.f_mode_write && length <= MAX_LFS_FILESIZE => {
                if length > MAX_NON_LFS {
                    Outcome::err(EFBIG)
                } else {
                    Outcome::ok(0)
                }
            }
            _ => Outcome::err(EINVAL),
        },
        Op::Fallocate { offset, len, .. } if len == 0 || offset > MAX_LFS_FILESIZE || len > MAX_LFS_FILESIZE => {
            Outcome::err(EINVAL)
        }
        Op::Fallocate { .. } if !f.f_mode_write => Outcome::err(EBADF),
        Op::Fallocate { offset, len, .. } => match f.kind {
            FileKind::ProcMem(_) if offset + len > MAX_NON_LFS => Outcome::err(EFBIG),
            FileKind::ProcMem(_) => Outcome::err(EOPNOTSUPP),
            _ => Outcome::err(ENODEV),
        },
        Op::Lseek { .. } => match f.kind {
            // null_lseek, noop_llseek.
            FileKind::Inode(_) => Outcome::ok(0),
            FileKind::Userfaultfd(_) if k.has(Delta::FMODE_LSEEK_BY_METHOD) => Outcome::ok(0),
            FileKind::Userfaultfd(_) => Outcome::err(ESPIPE),
            FileKind::ProcMem(_) => Outcome::err(EINVAL),
        },
        Op::AddSeals { .. } => Outcome::err(if f.f_mode_write { EINVAL } else { EPERM }),
        Op::Fstat { .. } => Outcome::ok(0).with(Out::Stat { size: 0, blocks: 0 }),
        Op::Fstatfs { .. } => Outcome::ok(0).with(Out::Statfs { blocks: 0, bfree: 0 }),
        // DEFAULT_POLLMASK
        Op::Poll { .. } => Outcome::ok(1).with(Out::Poll { pollin: true, pollerr: false }),
        ref op if is_uffdio(op) => Outcome::err(ENOTTY),
        _ => Outcome::err(EINVAL),
    }
}

/// Fill user memory with zeroes.
///
/// Kernel:   drivers/char/mem.c:read_zero @ v5.14
/// Fidelity: TRIMMED(MAX_RW_COUNT)
/// Locks:    none; may sleep
/// Errors:   EFAULT nothing could be written
async fn read_zero(k: &Kernel, buf: u64, count: u64) -> KResult<u64> {
    let mut cleared = 0;
    while cleared < count {
        let chunk = (count - cleared).min(PAGE_SIZE);
        let left = mm::uaccess::copy_to_user(k, buf.wrapping_add(cleared), None, 0, chunk).await;
        cleared += chunk - left;
        if left != 0 {
            if cleared == 0 {
                return Err(EFAULT);
            }
            break;
        }
        if k.task(k.current()).signal_pending {
            break;
        }
    }
    Ok(cleared)
}

/// One of the ioctls of userfaultfd, which other files do not know.
fn is_uffdio(op: &Op) -> bool {
    matches!(
        op,
        Op::UffdApi { .. }
            | Op::UffdRegister { .. }
            | Op::UffdUnregister { .. }
            | Op::UffdWake { .. }
            | Op::UffdCopy { .. }
            | Op::UffdZeropage { .. }
            | Op::UffdContinue { .. }
            | Op::UffdPoison { .. }
            | Op::UffdMove { .. }
            | Op::UffdWriteprotect { .. }
    )
}

async fn on_dev_zero(k: &Kernel, file: FileId, op: &Op) -> Outcome {
    match *op {
        Op::Pread { buf, count, .. } => match read_zero(k, user_addr(buf), count).await {
            Ok(n) => {
                let data = CELL_AT.map(|at| (at < n).then_some(Cell::new(0)));
                Outcome::ok(n as i64).with(Out::Data(data))
            }
            Err(e) => Outcome::err(e),
        },
        Op::Pwrite { count, .. } => Outcome::ok(count as i64),
        _ => other(k, file, op),
    }
}

/// The ioctls that fill memory, and write an out field.
fn fills(op: &Op) -> bool {
    matches!(
        op,
        Op::UffdCopy { .. } | Op::UffdZeropage { .. } | Op::UffdContinue { .. } | Op::UffdPoison { .. } | Op::UffdMove { .. }
    )
}

async fn fill(k: &Kernel, ctx: CtxId, op: &Op, out: &Answer) -> KResult {
    use uffd::ctx::*;
    match *op {
        Op::UffdCopy { dst, src, len, mode, .. } => userfaultfd_copy(k, ctx, dst, user_addr(src), len, mode, out).await,
        Op::UffdZeropage { start, len, mode, .. } => userfaultfd_zeropage(k, ctx, start, len, mode, out).await,
        Op::UffdContinue { start, len, mode, .. } => userfaultfd_continue(k, ctx, start, len, mode, out).await,
        Op::UffdPoison { start, len, mode, .. } => userfaultfd_poison(k, ctx, start, len, mode, out).await,
        Op::UffdMove { dst, src, len, mode, .. } => uffd::move_pages::userfaultfd_move(k, ctx, dst, src, len, mode, out).await,
        _ => Err(EINVAL),
    }
}

async fn on_userfaultfd(k: &Kernel, file: FileId, ctx: CtxId, op: &Op) -> Outcome {
    use uffd::ctx::*;
    match *op {
        Op::UffdApi { api, features, .. } => userfaultfd_api(k, ctx, api, features).await,
        Op::UffdRegister { start, len, mode, .. } => userfaultfd_register(k, ctx, start, len, mode).await,
        Op::UffdUnregister { start, len, .. } => userfaultfd_unregister(k, ctx, start, len).await,
        Op::UffdWake { start, len, .. } => userfaultfd_wake(k, ctx, start, len).await,
        Op::UffdWriteprotect { start, len, mode, .. } => userfaultfd_writeprotect(k, ctx, start, len, mode).await,
        Op::UffdRead { .. } => match userfaultfd_ctx_read(k, ctx, k.file(file).nonblock).await {
            Ok(msg) => Outcome::ok(MSG_SIZE as i64).with(Out::Msg(msg)),
            Err(ERESTARTSYS) => Outcome::err(EINTR),
            Err(e) => Outcome::err(e),
        },
        Op::Poll { .. } => {
            let (pollin, pollerr) = userfaultfd_poll(k, ctx, k.file(file).nonblock);
            Outcome::ok((pollin || pollerr) as i64).with(Out::Poll { pollin, pollerr })
        }
        _ => other(k, file, op),
    }
}

/// Read or write another address space through `/proc/PID/mem`.
///
/// Kernel:   fs/proc/base.c:mem_rw @ v5.14
/// Fidelity: MIRROR (of what was read, the first page's bytes are reported)
/// Locks:    none on entry
/// Errors:   EIO nothing could be transferred; EFAULT the caller's buffer
async fn on_proc_mem(k: &Kernel, file: FileId, mm: MmId, op: &Op) -> Outcome {
    let (write, buf, count, addr) = match *op {
        Op::Pread { buf, count, offset, .. } => (false, buf, count, offset),
        Op::Pwrite { buf, count, offset, .. } => (true, buf, count, offset),
        _ => return other(k, file, op),
    };
    if !mm::exit::mmget_not_zero(k, mm) {
        return Outcome::ok(0);
    }
    let Some(page) = mm::page_alloc::alloc_page(k, "mem_rw").await else {
        mm::exit::mmput(k, mm).await;
        return Outcome::err(ENOMEM);
    };
    let mut ret = Ok(0);
    let mut first = [None; CELLS];
    let mut copied = 0;
    while copied < count {
        let this_len = (count - copied).min(PAGE_SIZE);
        let at = user_addr(buf).wrapping_add(copied);
        let there = addr.wrapping_add(copied);
        // The buffer is kept in step with the memory: a byte lies in it where it lies in its page there.
        let begin = there & (PAGE_SIZE - 1);
        let mut cells = [None; CELLS];
        if write {
            if mm::uaccess::copy_from_user(k, page, begin, at, this_len).await != 0 {
                ret = Err(EFAULT);
                break;
            }
            cells = k.page(page).cells.map(Some);
        }
        let this_len = mm::gup::access_remote_vm(k, mm, there, &mut cells, this_len, write).await;
        if this_len == 0 {
            if copied == 0 {
                ret = Err(EIO);
            }
            break;
        }
        if !write {
            for (i, cell) in cells.iter().enumerate() {
                if let Some(cell) = cell {
                    k.page_mut(page).cells[i] = *cell;
                }
            }
            if mm::uaccess::copy_to_user(k, at, Some(page), begin, this_len).await != 0 {
                ret = Err(EFAULT);
                break;
            }
            if copied == 0 {
                first = CELL_AT
                    .map(|at| if at < this_len { cells[mm::uaccess::cell_before((begin + at) % PAGE_SIZE)] } else { None });
            }
        }
        copied += this_len;
        ret = Ok(copied as i64);
    }
    mm::page::put_page(k, page);
    mm::exit::mmput(k, mm).await;
    match ret {
        Ok(n) if !write => Outcome::ok(n).with(Out::Data(first)),
        other => other.into(),
    }
}
