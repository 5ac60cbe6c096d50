// SPDX-License-Identifier: GPL-2.0-only
//! `fs/`: open files and descriptors.
//!
//! A [`File`] is shared by descriptors, VMAs and system calls that use it; the last reference closes it. Descriptor numbers start
//! at 3: entry `i` of a process's table is descriptor `i + 3`.

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::exit::{mmdrop, mmgrab};
use crate::mm::locking::{inode_lock, inode_unlock};
use crate::mm::uaccess::{access_ok, user_addr};
use crate::point::if_any;
use crate::shmem::inode::{iput, shmem_get_inode, shmem_kernel_mount};
use crate::syscall::{Op, Path};
use crate::uffd::ctx::userfaultfd_release;
use std::future::Future;
use std::pin::Pin;

/// How many descriptors a process may have (`RLIMIT_NOFILE`).
const NR_OPEN: usize = 64;

/// `file->f_mapping->host`: the inode whose pages a mapping of the file shows. None for files without one of their own.
pub(crate) fn f_mapping(k: &Kernel, file: FileId) -> Option<InodeId> {
    match k.file(file).kind {
        FileKind::Inode(inode) => Some(inode),
        _ => None,
    }
}

/// One more reference. What the file is.
///
/// Kernel:   include/linux/fs.h:get_file @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
#[inline]
pub fn get_file(k: &Kernel, file: FileId) -> File {
    let mut f = k.file_mut(file);
    f.f_count += 1;
    *f
}

/// One reference less; the last one closes the file.
///
/// Kernel:   fs/file_table.c:fput @ v5.14
/// Fidelity: MODEL (the kernel puts the closing off until the task is on its way back to user mode)
/// Locks:    none needed; see __fput
/// Errors:   none
#[inline]
pub fn fput(k: &Kernel, file: FileId) -> impl Future<Output = ()> {
    let now = {
        let mut f = k.file_mut(file);
        f.f_count -= 1;
        f.f_count
    };
    crate::VM_BUG_ON!(k, now < 0);
    // Boxed: closing is rare and large, and this is part of every call on a descriptor. Closing a userfaultfd merges VMAs, and a
    // merge drops a file reference (never the last one of a userfaultfd).
    if_any((now == 0).then(|| Box::pin(__fput(k, file)) as Pin<Box<dyn Future<Output = ()> + '_>>))
}

/// Close a file that nobody has open any more.
///
/// Kernel:   fs/file_table.c:__fput @ v5.14
/// Fidelity: TRIMMED(epoll, fsnotify, leases)
/// Locks:    closing a userfaultfd takes mmap_lock, evicting an inode page locks
/// Errors:   none
async fn __fput(k: &Kernel, file: FileId) {
    let kind = k.file(file).kind;
    match kind {
        FileKind::Inode(inode) if k.inode(inode).kind == InodeKind::DevZero => iput_dev_zero(k, inode),
        FileKind::Inode(inode) => iput(k, inode).await,
        FileKind::Userfaultfd(ctx) => userfaultfd_release(k, ctx).await,
        FileKind::ProcMem(mm) => mmdrop(k, mm),
    }
    k.sm().files.remove(file);
}

/// `iput` of /dev/zero, whose inode has no pages and no mount: it lives as long as the open file.
fn iput_dev_zero(k: &Kernel, inode: InodeId) {
    let now = {
        let mut i = k.inode_mut(inode);
        i.i_count -= 1;
        i.i_count
    };
    if now == 0 {
        k.sm().inodes.remove(inode);
    }
}

/// A new open file with one reference, which is the caller's.
///
/// Kernel:   fs/file_table.c:alloc_empty_file @ v5.14
/// Fidelity: TRIMMED(limits)
/// Locks:    none
/// Errors:   none
pub(crate) fn alloc_file(k: &Kernel, kind: FileKind, f_mode_read: bool, f_mode_write: bool) -> FileId {
    k.sm().files.insert(File { kind, f_count: 1, f_mode_read, f_mode_write, ..File::default() })
}

#[inline]
fn current_process(k: &Kernel) -> ProcId {
    k.task(k.current()).group
}

/// Give a file the lowest free descriptor of the current process, which takes over the caller's reference.
///
/// Kernel:   fs/file.c:get_unused_fd_flags, fd_install @ v5.14
/// Fidelity: MIRROR (both in one)
/// Locks:    none
/// Errors:   EMFILE; the reference is still the caller's then
pub fn fd_install(k: &Kernel, file: FileId) -> KResult<u8> {
    let mut process = k.process_mut(current_process(k));
    let fd = process.fds.iter().position(|fd| fd.is_none()).unwrap_or(process.fds.len());
    if fd >= NR_OPEN {
        return Err(EMFILE);
    }
    if fd == process.fds.len() {
        process.fds.push(None);
    }
    process.fds[fd] = Some(file);
    Ok(fd as u8 + FIRST_FD)
}

/// The file behind a descriptor. No reference is taken: whoever goes on using it across a preemption point takes one with
/// [`get_file`], or another thread's close would free it.
///
/// Kernel:   fs/file.c:__fdget @ v5.14
/// Fidelity: MODEL (a lookup; the reference is the caller's business, as for a table with one user)
/// Locks:    none
/// Errors:   EBADF
#[inline]
pub fn fget(k: &Kernel, fd: u8) -> KResult<FileId> {
    k.process(current_process(k)).file(fd).ok_or(EBADF)
}

/// What read(2), pread64(2) and pwrite64(2) ask for before the file is asked. Other operations pass.
///
/// Kernel:   fs/read_write.c:ksys_pread64, ksys_pwrite64, vfs_read, vfs_write, rw_verify_area @ v5.14
/// Fidelity: TRIMMED(file locks, security; the position itself was looked at before)
/// Locks:    none
/// Errors:   ESPIPE a userfaultfd has no positions; EBADF not open for it; EFAULT the buffer is not in user space; EINVAL the range
///           goes past the largest position
pub fn may_transfer(k: &Kernel, file: FileId, op: &Op) -> KResult {
    let (Op::Pread { buf, count, offset, .. } | Op::Pwrite { buf, count, offset, .. }) = *op else {
        return Ok(());
    };
    let f = k.file(file);
    if matches!(f.kind, FileKind::Userfaultfd(_)) {
        return Err(ESPIPE);
    }
    if !(if matches!(op, Op::Pread { .. }) { f.f_mode_read } else { f.f_mode_write }) {
        return Err(EBADF);
    }
    if !access_ok(user_addr(buf), count) {
        return Err(EFAULT);
    }
    // Of /proc/PID/mem a position is an address.
    if offset.wrapping_add(count) > MAX_LFS_FILESIZE && !matches!(f.kind, FileKind::ProcMem(_)) {
        return Err(EINVAL);
    }
    Ok(())
}

/// close(2).
///
/// Kernel:   fs/file.c:close_fd @ v5.14
/// Fidelity: MIRROR
/// Locks:    see fput
/// Errors:   EBADF
pub async fn sys_close(k: &Kernel, fd: u8) -> KResult {
    let file = match fget(k, fd) {
        Ok(file) => file,
        Err(error) => return Err(error),
    };
    {
        let mut process = k.process_mut(current_process(k));
        process.fds[(fd - FIRST_FD) as usize] = None;
        // A table that ends in free entries is the same as a shorter one.
        while process.fds.last() == Some(&None) {
            process.fds.pop();
        }
    }
    fput(k, file).await;
    Ok(())
}

/// `mount("tmpfs", "/mnt", "tmpfs", 0, "size=...")`.
///
/// Kernel:   mm/shmem.c:shmem_parse_one (Opt_size), shmem_fill_super @ v5.14
/// Fidelity: MODEL (one mount point, no stacking; whoever sets the scene up may mount)
/// Locks:    none
/// Errors:   EBUSY something is mounted there
pub fn sys_mount(k: &Kernel, size: u64) -> KResult {
    if k.s().mnt.is_some() {
        return Err(EBUSY);
    }
    // The kernel's own mount exists since boot, and is the first.
    shmem_kernel_mount(k);
    let sb = SuperBlock { max_blocks: size.div_ceil(PAGE_SIZE) as i64, ..SuperBlock::default() };
    let mut s = k.sm();
    let mnt = s.sbs.insert(sb);
    s.mnt = Some(mnt);
    Ok(())
}

fn lookup_name(k: &Kernel, sb: SbId, name: u8) -> Option<InodeId> {
    k.sb(sb).names.iter().find(|entry| entry.0 == name).map(|entry| entry.1)
}

/// open(2). The file's one reference is the caller's, who hands it to [`fd_install`].
///
/// Kernel:   fs/namei.c:path_openat; mm/shmem.c:shmem_create; drivers/char/mem.c; fs/proc/base.c:mem_open @ v5.14
/// Fidelity: MODEL (a handful of names; permissions are root's)
/// Locks:    none
/// Errors:   ENOENT no such name; ESRCH no address space; EBADF no such descriptor; ENXIO a userfaultfd can't be opened again
pub async fn sys_open(k: &Kernel, path: Path, read: bool, write: bool, creat: bool) -> KResult<FileId> {
    match path {
        Path::Mnt(name) => {
            let Some(sb) = k.s().mnt else {
                return Err(ENOENT);
            };
            let inode = match lookup_name(k, sb, name) {
                Some(inode) => {
                    k.inode_mut(inode).i_count += 1;
                    inode
                }
                None if creat => {
                    let inode = shmem_get_inode(k, sb, VM_NORESERVE);
                    {
                        let mut i = k.inode_mut(inode);
                        i.i_count = 1;
                        i.i_nlink = 1;
                    }
                    k.sb_mut(sb).names.push((name, inode));
                    inode
                }
                None => return Err(ENOENT),
            };
            Ok(alloc_file(k, FileKind::Inode(inode), read, write))
        }
        Path::DevZero => {
            let inode = k.sm().inodes.insert(Inode { kind: InodeKind::DevZero, i_count: 1, i_nlink: 0, ..Inode::default() });
            Ok(alloc_file(k, FileKind::Inode(inode), read, write))
        }
        Path::ProcSelfMem => {
            let Some(mm) = k.current_mm() else {
                return Err(ESRCH);
            };
            mmgrab(k, mm);
            Ok(alloc_file(k, FileKind::ProcMem(mm), read, write))
        }
        Path::ProcSelfFd(fd) => {
            let old = match fget(k, fd) {
                Ok(old) => k.file(old),
                // readlink finds nothing there.
                Err(_) => return Err(ENOENT),
            };
            match old.kind {
                FileKind::Inode(inode) => k.inode_mut(inode).i_count += 1,
                FileKind::ProcMem(mm) => mmgrab(k, mm),
                // An anonymous inode has no open method.
                FileKind::Userfaultfd(_) => return Err(ENXIO),
            }
            let file = alloc_file(k, old.kind, read, write);
            k.file_mut(file).sealable = old.sealable;
            Ok(file)
        }
    }
}

/// unlink(2) in /mnt.
///
/// Kernel:   fs/namei.c:do_unlinkat, vfs_unlink; mm/shmem.c:shmem_unlink @ v5.14
/// Fidelity: TRIMMED(the directory's lock)
/// Locks:    takes and drops the inode lock; evicting takes page locks
/// Errors:   ENOENT
pub async fn sys_unlink(k: &Kernel, name: u8) -> KResult {
    let mnt = k.s().mnt;
    let Some(sb) = mnt else {
        return Err(ENOENT);
    };
    let Some(inode) = lookup_name(k, sb, name) else {
        return Err(ENOENT);
    };
    // The file is truncated by our own iput, after the locks are dropped, if nobody else has it.
    k.inode_mut(inode).i_count += 1;
    inode_lock(k, inode).await;
    let found = lookup_name(k, sb, name) == Some(inode);
    if found {
        k.sb_mut(sb).names.retain(|entry| entry.0 != name);
        k.inode_mut(inode).i_nlink -= 1;
    }
    inode_unlock(k, inode);
    Box::pin(iput(k, inode)).await;
    if found { Ok(()) } else { Err(ENOENT) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::run_through as run;

    fn kernel() -> Kernel {
        let mut s = State::default();
        let mm = s.mms.insert(MmStruct { mm_users: 1, mm_count: 1, ..MmStruct::default() });
        let group = s.procs.insert(Process { mm: Some(mm), ..Process::default() });
        let task = s.tasks.insert(Task { group, ..Task::default() });
        let k = Kernel::new(s);
        k.run.current.set(Some(task));
        k
    }

    fn open(k: &Kernel, path: Path) -> KResult<u8> {
        run(sys_open(k, path, true, true, false)).and_then(|file| fd_install(k, file))
    }

    #[test]
    fn descriptors_are_given_lowest_first() {
        let k = kernel();
        for fd in 3..6 {
            assert_eq!(open(&k, Path::DevZero), Ok(fd));
        }
        assert_eq!(run(sys_close(&k, 4)), Ok(()));
        assert_eq!(run(sys_close(&k, 4)), Err(EBADF));
        assert_eq!(open(&k, Path::DevZero), Ok(4));
        for fd in 3..6 {
            assert_eq!(run(sys_close(&k, fd)), Ok(()));
        }
        // Nothing is left, and a used table is the same as a new one.
        assert!(k.s().files.is_empty() && k.s().inodes.is_empty());
        assert_eq!(k.s().procs, kernel().s().procs.clone());
        for fd in [0, 2, 3, 255] {
            assert_eq!(fget(&k, fd), Err(EBADF));
        }
    }

    #[test]
    fn no_more_than_64_descriptors() {
        let k = kernel();
        for fd in 3..67 {
            assert_eq!(open(&k, Path::DevZero), Ok(fd));
        }
        assert_eq!(open(&k, Path::DevZero), Err(EMFILE));
    }

    #[test]
    fn proc_files_hold_what_they_show() {
        let k = kernel();
        let Some(mm) = k.current_mm() else { panic!("no mm") };
        assert_eq!(open(&k, Path::ProcSelfMem), Ok(3));
        assert_eq!(open(&k, Path::ProcSelfFd(3)), Ok(4));
        assert_eq!(k.mm(mm).mm_count, 3);
        assert_eq!(open(&k, Path::ProcSelfFd(9)), Err(ENOENT));
        assert_eq!(run(sys_close(&k, 3)).and(run(sys_close(&k, 4))), Ok(()));
        assert_eq!(k.mm(mm).mm_count, 1);
        assert_eq!(open(&k, Path::Mnt(b'a')), Err(ENOENT));
    }
}
