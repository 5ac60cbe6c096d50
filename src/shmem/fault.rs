// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: faults, mmap, and the getpage wrapper.

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{LockId, LockMode, acquire, mmap_read_unlock, release};
use crate::mm::memory::VmFaultCtx;
use crate::patch::{SGP_CACHE, SgpType, shmem_getpage_gfp};
use crate::point::{Touch, point, schedule};
use crate::shmem::file::shmem_kernel_file_setup;
use crate::shmem::inode::file_inode;
use crate::vfs::{fput, get_file};

/// `vmf_error`: what a fault answers for an errno.
pub(crate) fn vmf_error(err: Errno) -> VmFault {
    if err == ENOMEM { VM_FAULT_OOM } else { VM_FAULT_SIGBUS }
}

/// The page of a file at `index`, for whoever is not a fault: locked and with a reference, or None where the mode allows that.
///
/// Kernel:   mm/shmem.c:shmem_getpage @ v5.14
/// Fidelity: MIRROR
/// Locks:    none on entry; the page comes back locked
/// Errors:   those of shmem_getpage_gfp
pub async fn shmem_getpage(k: &Kernel, inode: InodeId, index: u64, pagep: &mut Option<PageId>, sgp: SgpType) -> KResult {
    // The kernel passes NULL.
    let mut fault_type = VmFault::empty();
    shmem_getpage_gfp(k, inode, index, pagep, sgp, None, None, &mut fault_type).await
}

/// Let go of mmap_lock before a wait, if this fault may be retried; the file is pinned in its place.
///
/// Kernel:   mm/internal.h:maybe_unlock_mmap_for_io @ v5.14
/// Fidelity: MIRROR
/// Locks:    drops mmap_lock if it returns a file
/// Errors:   none
fn maybe_unlock_mmap_for_io(k: &Kernel, vmf: &VmFaultCtx) -> Option<FileId> {
    let allow_retry_first = vmf.flags.contains(FAULT_FLAG_ALLOW_RETRY) && !vmf.flags.contains(FAULT_FLAG_TRIED);
    if !allow_retry_first || vmf.flags.contains(FAULT_FLAG_RETRY_NOWAIT) {
        return None;
    }
    let vma = k.vma(vmf.vma);
    if let Some(file) = vma.vm_file {
        get_file(k, file);
    }
    mmap_read_unlock(k, vma.vm_mm);
    vma.vm_file
}

/// A fault on a shmem mapping, shared or private, finds or makes the page of the file.
///
/// Kernel:   mm/shmem.c:shmem_fault @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    mmap_lock read held, dropped if RETRY is returned; the page comes back locked with LOCKED
/// Errors:   OOM; SIGBUS past i_size, mount full, I/O error; what handle_userfault answers
pub async fn shmem_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("shmem_fault", || format!("address={:#x} pgoff={} {:?}", vmf.address, vmf.pgoff, vmf.flags));
    let vma = vmf.vma;
    let Some(vm_file) = k.vma(vma).vm_file else {
        crate::BUG_ON!(k, true);
        return VM_FAULT_SIGBUS;
    };
    let inode = file_inode(k, vm_file);
    let mut ret = VM_FAULT_LOCKED;

    // A hole punch holds neither mmap_lock nor, between its passes, any page lock. A fault that refilled the hole behind it would
    // make it go on and on, so faults in the range sleep until it is over.
    point(k, Touch::ReadFalloc(inode)).await;
    if k.inode(inode).i_private.is_some() {
        acquire(k, LockId::ILock(inode), LockMode::Write).await;
        let punched = k.inode(inode).i_private.as_ref().is_some_and(|f| f.waitq && vmf.pgoff >= f.start && vmf.pgoff < f.next);
        if punched {
            k.branch("inside a hole punch that is going on");
            ret = VM_FAULT_NOPAGE;
            let fpin = maybe_unlock_mmap_for_io(k, vmf);
            if fpin.is_some() {
                ret = VM_FAULT_RETRY;
            }

            // prepare_to_wait()
            let current = k.current();
            if let Some(f) = &mut k.inode_mut(inode).i_private {
                f.waiters.push(current);
            }
            k.task_mut(current).state = TaskState::Uninterruptible;
            release(k, LockId::ILock(inode), LockMode::Write);
            schedule(k).await;

            // finish_wait(): the queue was on the puncher's stack and is gone; i_lock makes sure that the waker has left it.
            acquire(k, LockId::ILock(inode), LockMode::Write).await;
            release(k, LockId::ILock(inode), LockMode::Write);

            if let Some(fpin) = fpin {
                fput(k, fpin).await;
            }
            return ret;
        }
        release(k, LockId::ILock(inode), LockMode::Write);
    }

    let mut page = None;
    let pgoff = vmf.pgoff;
    let err = shmem_getpage_gfp(k, inode, pgoff, &mut page, SGP_CACHE, Some(vma), Some(vmf), &mut ret).await;
    vmf.page = page;
    if let Err(err) = err {
        return vmf_error(err);
    }
    ret
}

/// A file is being mapped.
///
/// Kernel:   mm/shmem.c:shmem_mmap, include/linux/mm.h:seal_check_future_write @ v5.14
/// Fidelity: TRIMMED(huge pages, memory tagging, times)
/// Locks:    mmap_lock write held
/// Errors:   EPERM a shared writable mapping under F_SEAL_FUTURE_WRITE
pub fn shmem_mmap(k: &Kernel, file: FileId, vma: VmaId) -> KResult {
    let _f = k.enter("shmem_mmap", || format!("{file} {vma}"));
    let inode = file_inode(k, file);

    if k.inode(inode).info.seals.contains(F_SEAL_FUTURE_WRITE) {
        let vm_flags = k.vma(vma).vm_flags;
        if vm_flags.contains(VM_SHARED | VM_WRITE) {
            k.branch("sealed against future writes");
            return Err(EPERM);
        }
        // A shared read-only mapping must not become writable by mprotect. A private one may: it is copied on write.
        if vm_flags.contains(VM_SHARED) {
            k.vma_mut(vma).vm_flags -= VM_MAYWRITE;
        }
    }

    k.vma_mut(vma).vm_ops = VmOps::Shmem;
    Ok(())
}

/// Give a shared anonymous mapping, or a shared mapping of /dev/zero, the file that its pages live in.
///
/// Kernel:   mm/shmem.c:shmem_zero_setup @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    mmap_lock write held
/// Errors:   ENOMEM over the commit limit
pub async fn shmem_zero_setup(k: &Kernel, vma: VmaId) -> KResult {
    let _f = k.enter("shmem_zero_setup", || format!("{vma}"));
    let v = k.vma(vma);
    let size = v.vm_end - v.vm_start;

    let file = match shmem_kernel_file_setup(k, size, v.vm_flags) {
        Ok(file) => file,
        Err(error) => return Err(error),
    };

    if let Some(old) = v.vm_file {
        fput(k, old).await;
    }
    {
        let mut v = k.vma_mut(vma);
        v.vm_file = Some(file);
        v.vm_ops = VmOps::Shmem;
    }
    Ok(())
}
