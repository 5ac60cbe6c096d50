// SPDX-License-Identifier: GPL-2.0-only
//! Workers: processes that test, one on each CPU, each the first of a PID namespace, so that nothing it has started outlives it.

use super::observe::Frames;
use super::sys::{self, Forked};
use super::worker::Bench;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A worker that has said nothing for so long is killed.
const WATCHDOG: Duration = Duration::from_secs(30);

/// How a worker tells what it has found.
pub(super) struct Teller<T> {
    pipe: PipeWriter,
    /// What is told together with the next.
    later: Vec<u8>,
    of: PhantomData<T>,
}

impl<T: Serialize> Teller<T> {
    /// Tell, with all that was to be told later.
    pub fn tell(&mut self, what: &T) {
        self.tell_later(what);
        self.flush();
    }

    /// Tell what was to be told later. Whoever should hear it may be gone, and then the worker goes too.
    pub fn flush(&mut self) {
        if self.pipe.write_all(&self.later).is_err() {
            sys::exit(71);
        }
        self.later.clear();
    }

    /// Tell it together with what is told next.
    pub fn tell_later(&mut self, what: &T) {
        let begin = self.later.len();
        self.later.extend([0; 4]);
        let Ok(told) = postcard::to_extend(what, std::mem::take(&mut self.later)) else { sys::exit(71) };
        self.later = told;
        let len = (self.later.len() - begin - 4) as u32;
        self.later[begin..begin + 4].copy_from_slice(&len.to_ne_bytes());
    }
}

/// A running worker.
pub(super) struct Worker<T> {
    pid: u32,
    pipe: PipeReader,
    heard: Instant,
    buffer: Vec<u8>,
    /// It has ended, or was killed.
    pub over: bool,
    of: PhantomData<T>,
}

/// Start a worker on a CPU.
pub(super) fn start<T: Serialize>(cpu: usize, job: impl FnOnce(&Bench, &Frames, &mut Teller<T>)) -> io::Result<Worker<T>> {
    let (reader, writer) = io::pipe()?;
    let own = sys::new_pids()?;
    let forked = sys::fork();
    let pid = match forked {
        Err(e) => {
            sys::back_to_pids(&own)?;
            return Err(e);
        }
        Ok(Forked::Parent(pid)) => {
            sys::back_to_pids(&own)?;
            pid
        }
        Ok(Forked::Child) => {
            sys::die_with_parent();
            sys::leave_group();
            drop(reader);
            let ready = sys::keep_only(OwnedFd::from(writer)).and_then(|pipe| {
                sys::pin(cpu)?;
                // Tested processes inherit them. They are between the scenario's mappings and the program's: who reads smaps need not
                // read on.
                sys::map_helpers();
                sys::own_proc()?;
                Ok((Teller { pipe: pipe.into(), later: Vec::new(), of: PhantomData }, Bench::new()?, Frames::open()?))
            });
            match ready {
                Ok((mut teller, bench, frames)) => {
                    job(&bench, &frames, &mut teller);
                    sys::exit(0)
                }
                Err(e) => {
                    eprintln!("error: a worker could not start: {e}");
                    sys::exit(72)
                }
            }
        }
    };
    Ok(Worker { pid, pipe: reader, heard: Instant::now(), buffer: Vec::new(), over: false, of: PhantomData })
}

/// What was heard.
pub(super) enum Heard<T> {
    /// A worker, by its place, told this.
    Told(usize, T),
    /// A worker is over. Some says why, if that is not because it was done.
    Over(usize, Option<String>),
    /// Nothing yet.
    Nothing,
}

impl<T: DeserializeOwned> Worker<T> {
    fn next(&mut self) -> Option<T> {
        let len = u32::from_ne_bytes(self.buffer.get(..4)?.try_into().ok()?) as usize;
        let value = postcard::from_bytes(self.buffer.get(4..4 + len)?).ok()?;
        self.buffer.drain(..4 + len);
        Some(value)
    }

    /// Where it and what it has started sleep, by the kernel's functions.
    fn place(&self) -> String {
        let one = |pid: &str| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let stat = read("stat");
            let state = stat.rsplit(") ").next().and_then(|s| s.chars().next()).unwrap_or('?');
            format!("{state} in {}", read("wchan"))
        };
        let pid = self.pid.to_string();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let tested: Vec<String> = children.split_ascii_whitespace().map(one).collect();
        format!("worker {}; tested {}", one(&pid), tested.join(", "))
    }

    /// Kill it and all it has started.
    pub fn kill(&mut self) {
        if !self.over {
            sys::kill(self.pid as i32, libc::SIGKILL);
            sys::wait(self.pid as i32, true);
            self.over = true;
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        if !self.over {
            sys::kill(self.pid as i32, libc::SIGKILL);
            sys::wait(self.pid as i32, true);
        }
    }
}

/// Listen to some workers, but not longer than this.
pub(super) fn listen<T: DeserializeOwned>(workers: &mut [Worker<T>], timeout: Duration) -> Heard<T> {
    for (n, worker) in workers.iter_mut().enumerate() {
        if let Some(told) = worker.next() {
            return Heard::Told(n, told);
        }
    }
    let alive: Vec<usize> = (0..workers.len()).filter(|&n| !workers[n].over).collect();
    let fds: Vec<_> = alive.iter().map(|&n| workers[n].pipe.as_raw_fd()).collect();
    let ready = sys::readable(&fds, timeout.as_millis() as i32);
    for (&n, ready) in alive.iter().zip(ready) {
        let worker = &mut workers[n];
        if ready {
            let mut buffer = [0u8; 65536];
            match worker.pipe.read(&mut buffer) {
                Ok(0) | Err(_) => {
                    sys::wait(worker.pid as i32, true);
                    worker.over = true;
                    return Heard::Over(n, None);
                }
                Ok(got) => worker.buffer.extend_from_slice(&buffer[..got]),
            }
            worker.heard = Instant::now();
            if let Some(told) = worker.next() {
                return Heard::Told(n, told);
            }
        } else if worker.heard.elapsed() > WATCHDOG {
            let place = worker.place();
            worker.kill();
            return Heard::Over(n, Some(format!("it had said nothing for {} s, and was killed ({place})", WATCHDOG.as_secs())));
        }
    }
    Heard::Nothing
}
