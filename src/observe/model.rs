// SPDX-License-Identifier: GPL-2.0-only
//! What user space would see of the model's kernel.
//!
//! Looking changes nothing: what takes references or locks on a kernel (fstat's recount of the blocks, mincore, SEEK_DATA) runs
//! on a copy of it. Where somebody holds a lock that this needs, nothing is seen ([`Envelope::Unseen`]).

use super::*;
use crate::delta::Delta;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::mincore::{mincore_page, sys_mincore};
use crate::mm::page::page_evictable;
use crate::mm::pgtable::{pte_dirty, pte_protnone, pte_uffd_wp, vm_normal_page};
use crate::rules::view::{View, live_page, shmem_inode};
use crate::shmem::file::{shmem_file_llseek, shmem_getattr};
use crate::spec::visible::{file_cells, pte_cells, pte_of};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A process that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// How it is called in the observation.
    pub who: Who,
    /// One of its tasks that has not exited.
    pub task: TaskId,
}

/// Looks at a kernel, step after step: it remembers which file was opened under which descriptor, and which anonymous pages have
/// come back from swap.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    files: BTreeMap<Fd, InodeId>,
    /// Swap entries at the last look.
    out: BTreeSet<(Who, u64)>,
    /// Pages mapped where such an entry was.
    swapped_in: BTreeSet<PageId>,
}

/// Whose turn it is to be looked at, with what must not change.
struct Look<'a> {
    k: &'a Kernel,
    copy: Kernel,
    view: View,
    observer: &'a Observer,
}

/// Run a mirrored function to its end, as a task. None if it would have to wait.
fn at_once<T>(k: &Kernel, task: TaskId, future: impl Future<Output = T>) -> Option<T> {
    k.run.current.set(Some(task));
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    k.run.current.set(None);
    match polled {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn seen<T>(value: Option<T>) -> Envelope<T> {
    value.map_or(Envelope::Unseen, Envelope::Is)
}

impl Observer {
    /// Look. `subjects` are the processes that are alive, the first process of the scenario first (if it is).
    pub fn look(&mut self, k: &Kernel, subjects: &[Subject]) -> Observation {
        let mut seen = Vec::new();
        let first = subjects.first().filter(|s| s.who == 0);
        self.remember_files(k, first.map(|s| s.task));
        let mut view = View::default();
        view.read(&k.s());
        self.remember_swapped(&k.s(), &view, subjects);
        let look = Look { k, copy: k.clone(), view, observer: self };
        if let Some(first) = first {
            for (&fd, &inode) in &self.files {
                look.file(first.task, fd, inode, &mut seen);
            }
        }
        for subject in subjects {
            look.process(*subject, &mut seen);
        }
        Observation(seen.into_iter().collect())
    }

    /// A file keeps the descriptor under which it was opened first. It is looked at as long as the first process has it open or
    /// mapped; a new file takes the descriptor of an old one that is only mapped.
    fn remember_files(&mut self, k: &Kernel, first: Option<TaskId>) {
        let s = k.s();
        let process = first.and_then(|t| s.procs.get(s.tasks.get(t)?.group));
        let Some(process) = process else {
            self.files.clear();
            return;
        };
        let shmem = |file: FileId| match s.files.get(file)?.kind {
            FileKind::Inode(inode) if s.inodes.get(inode)?.kind == InodeKind::Shmem => Some(inode),
            _ => None,
        };
        let open: Vec<(Fd, InodeId)> =
            (FIRST_FD..).zip(&process.fds).filter_map(|(fd, file)| Some((fd, shmem((*file)?)?))).collect();
        let mapped: Vec<InodeId> = process
            .mm
            .and_then(|mm| s.mms.get(mm))
            .into_iter()
            .flat_map(|mm| &mm.mmap)
            .filter_map(|&v| shmem_inode(&s, s.vmas.get(v)?))
            .collect();
        self.files.retain(|_, inode| mapped.contains(inode) || open.iter().any(|(_, o)| o == inode));
        for (fd, inode) in open {
            if !self.files.values().any(|known| *known == inode) {
                self.files.insert(fd, inode);
            }
        }
    }

    fn remember_swapped(&mut self, s: &State, view: &View, subjects: &[Subject]) {
        self.swapped_in.retain(|&page| live_page(s, page).is_some());
        let mut out = BTreeSet::new();
        for subject in subjects {
            let Some(mm) = mm_of(s, subject.task) else { continue };
            for line in view.lines.iter().filter(|l| l.mm == mm) {
                match line.pte {
                    PteVal::Swap { .. } => {
                        out.insert((subject.who, line.addr));
                    }
                    PteVal::Present { page, .. } if self.out.contains(&(subject.who, line.addr)) => {
                        self.swapped_in.insert(page);
                    }
                    _ => {}
                }
            }
        }
        self.out = out;
    }
}

fn mm_of(s: &State, task: TaskId) -> Option<MmId> {
    s.procs.get(s.tasks.get(task)?.group)?.mm
}

impl Look<'_> {
    fn file(&self, task: TaskId, fd: Fd, inode: InodeId, seen_all: &mut Vec<(Key, Seen)>) {
        let Some((size, blocks)) = at_once(&self.copy, task, shmem_getattr(&self.copy, inode)) else { return };
        let s = self.k.s();
        let Some(i) = s.inodes.get(inode) else { return };
        let file = FileSeen { size, blocks: Envelope::Is(blocks), swapped: Envelope::Is(i.info.swapped as u64) };
        seen_all.push((Key::File(fd), Seen::File(file)));
        let file = s.files.iter().find(|(_, f)| f.kind == FileKind::Inode(inode)).map(|(id, _)| id);
        for index in looked_at(0..max_off(size)) {
            let slot = i.i_pages.get(index as u32);
            let cached = match slot {
                None => Cached::Hole,
                Some(SlotVal::Page(_)) => Cached::Cached,
                Some(SlotVal::Swap(_)) => Cached::Swapped,
            };
            let data = file.and_then(|file| {
                let found = at_once(&self.copy, task, shmem_file_llseek(&self.copy, file, index * PAGE_SIZE, true))?;
                Some(found == Ok((index * PAGE_SIZE) as i64))
            });
            let mincore = at_once(&self.copy, task, mincore_page(&self.copy, inode, index));
            let bytes = (cached == Cached::Cached).then(|| Bytes::of(file_cells(&s, inode, index)));
            let page = FilePageSeen {
                cached: if self.k.has(Delta::CACHESTAT) { Envelope::Is(cached) } else { Envelope::Unseen },
                data: seen(data),
                mincore: seen(mincore),
                bytes: seen(bytes),
            };
            seen_all.push((Key::FilePage(fd, index), Seen::FilePage(page)));
        }
    }

    fn process(&self, subject: Subject, seen_all: &mut Vec<(Key, Seen)>) {
        let Subject { who, task } = subject;
        let s = self.k.s();
        let Some(mm) = mm_of(&s, task) else { return };
        let Some(m) = s.mms.get(mm) else { return };
        let vmas: Vec<&Vma> = m.mmap.iter().filter_map(|&v| s.vmas.get(v)).collect();
        seen_all.push((Key::Vmas(who), Seen::Vmas(vmas.iter().map(|v| self.vma(&s, v)).collect())));
        let count = |c: MmCounter| match self.k.has(Delta::RSS_SUMMED) {
            true => Envelope::Is(i64::from(m.rss_stat[c as usize])),
            false => Envelope::Any,
        };
        let rss = RssSeen {
            anon: count(MmCounter::MM_ANONPAGES),
            shmem: count(MmCounter::MM_SHMEMPAGES),
            swap: count(MmCounter::MM_SWAPENTS),
        };
        seen_all.push((Key::Rss(who), Seen::Rss(rss)));
        for vma in vmas {
            let pages = vma.vm_start / PAGE_SIZE..vma.vm_end / PAGE_SIZE;
            let incore = |addr, len| at_once(&self.copy, task, sys_mincore(&self.copy, addr, len))?.ok();
            let all = (pages.end - pages.start <= 2 * EDGE).then(|| incore(vma.vm_start, vma.vm_end - vma.vm_start));
            for page in looked_at(pages.clone()) {
                let addr = page * PAGE_SIZE;
                let incore = match &all {
                    Some(all) => all.as_ref().and_then(|all| all.get((page - pages.start) as usize).copied()),
                    None => incore(addr, PAGE_SIZE).and_then(|one| one.first().copied()),
                };
                let page = PageSeen { mincore: seen(incore), ..self.page(&s, vma, pte_of(&s, mm, addr)) };
                seen_all.push((Key::Page(who, addr), Seen::Page(page)));
            }
        }
    }

    /// `/proc/PID/pagemap`, `/proc/kpageflags`, `/proc/kpagecount` and a load.
    fn page(&self, s: &State, vma: &Vma, pte: PteVal) -> PageSeen {
        let mut seen = PageSeen::default();
        match pte {
            PteVal::None => {}
            PteVal::Marker(marker) => {
                seen.swap = true;
                seen.uffd_wp = marker.contains(PTE_MARKER_UFFD_WP);
                seen.guard = marker.contains(PTE_MARKER_GUARD);
            }
            PteVal::Swap { .. } => {
                seen.swap = true;
                seen.uffd_wp = pte_uffd_wp(pte);
            }
            PteVal::Present { .. } => {
                seen.present = true;
                seen.uffd_wp = pte_uffd_wp(pte);
                let page = vm_normal_page(pte);
                let frame = page.and_then(|p| live_page(s, p));
                seen.file = frame.is_some_and(|f| !matches!(f.mapping, PageMapping::Anon(_)));
                seen.exclusive = frame.is_some_and(|f| f.mapcount == 1);
                seen.frame = Some(match (page, frame) {
                    (Some(page), Some(frame)) => self.frame(page, frame),
                    _ => FrameSeen {
                        zero_page: true,
                        dirty: Envelope::Is(false),
                        swapcache: Envelope::Is(false),
                        unevictable: Envelope::Is(false),
                        mlocked: Envelope::Is(false),
                        ..FrameSeen::default()
                    },
                });
                if vma.vm_flags.contains(VM_READ) && !pte_protnone(pte) {
                    seen.bytes = pte_cells(s, pte).map_or(Envelope::Unseen, |cells| Envelope::Is(Bytes::of(cells)));
                }
            }
        }
        seen
    }

    fn frame(&self, page: PageId, frame: &Page) -> FrameSeen {
        let has = |flag: PageFlags| frame.flags.contains(flag);
        let anon = matches!(frame.mapping, PageMapping::Anon(_));
        let backend = self.backend_decides(page, frame);
        let of_backend = |value: bool| if backend { Envelope::Any } else { Envelope::Is(value) };
        // On its way to the LRU it has the flag of before, and may get it there.
        let unevictable = match self.k.s().lru_pvec.contains(&page) {
            true if page_evictable(self.k, page) => Envelope::Is(false),
            true => Envelope::Any,
            false => Envelope::Is(has(PG_unevictable)),
        };
        FrameSeen {
            uptodate: has(PG_uptodate),
            dirty: of_backend(has(PG_dirty)),
            mmap: frame.mapcount > 0,
            anon,
            swapcache: of_backend(has(PG_swapcache)),
            swapbacked: has(PG_swapbacked),
            unevictable,
            mlocked: Envelope::Is(has(PG_mlocked)),
            zero_page: false,
            mapcount: frame.mapcount as u64,
        }
    }

    /// An anonymous page that came back from swap: whether it is still in the swap cache, and clean because it is, depends on
    /// the swap backend.
    fn backend_decides(&self, page: PageId, frame: &Page) -> bool {
        matches!(frame.mapping, PageMapping::Anon(_))
            && (frame.flags.contains(PG_swapcache) || self.observer.swapped_in.contains(&page))
    }

    /// An entry of `/proc/PID/smaps`.
    fn vma(&self, s: &State, vma: &Vma) -> VmaSeen {
        let has = |flag: VmFlags| vma.vm_flags.contains(flag);
        let mut prot = Prot::empty();
        for (flag, right) in [(VM_READ, PROT_READ), (VM_WRITE, PROT_WRITE), (VM_EXEC, PROT_EXEC)] {
            prot.set(right, has(flag));
        }
        let (mut rss, mut anonymous, mut swap) = (0, 0, 0);
        let (mut kinds, mut backend) = ([0; 4], false);
        let lines = || self.view.lines.iter().filter(|l| l.mm == vma.vm_mm && (vma.vm_start..vma.vm_end).contains(&l.addr));
        for line in lines() {
            swap += u64::from(matches!(line.pte, PteVal::Swap { .. }));
            let Some(page) = vm_normal_page(line.pte) else { continue };
            let Some(frame) = live_page(s, page) else { continue };
            rss += 1;
            anonymous += u64::from(matches!(frame.mapping, PageMapping::Anon(_)));
            backend |= self.backend_decides(page, frame);
            let dirty = pte_dirty(line.pte) || frame.flags.contains(PG_dirty);
            kinds[usize::from(frame.mapcount < 2) * 2 + usize::from(dirty)] += 1;
        }
        // Shared memory in swap, which no entry tells of: counted by the file's slots; in a private mapping that can be written
        // only those where nothing is mapped.
        if let Some(file) = shmem_inode(s, vma).and_then(|i| s.inodes.get(i)) {
            let by_slot = has(VM_SHARED) || !has(VM_WRITE);
            let pages = (vma.vm_end - vma.vm_start) / PAGE_SIZE;
            let swapped = file.i_pages.iter().filter(|(_, slot)| matches!(slot, SlotVal::Swap(_)));
            let here = swapped.filter_map(|(index, _)| u64::from(index).checked_sub(vma.vm_pgoff).filter(|&at| at < pages));
            swap += here.filter(|at| by_slot || !lines().any(|l| l.addr == vma.vm_start + at * PAGE_SIZE)).count() as u64;
        }
        let smaps = SmapsSeen {
            missing: has(VM_UFFD_MISSING),
            wp: has(VM_UFFD_WP),
            minor: has(VM_UFFD_MINOR),
            locked: has(VM_LOCKED),
            accounted: has(VM_ACCOUNT),
            rss,
            anonymous,
            kinds: if backend { Envelope::Any } else { Envelope::Is(kinds) },
            swap,
        };
        let shared = has(VM_MAYSHARE);
        VmaSeen { start: vma.vm_start, end: vma.vm_end, prot, shared, smaps: Envelope::Is(smaps) }
    }
}
