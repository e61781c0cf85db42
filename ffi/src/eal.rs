//! The process's one DPDK environment. Enters: EAL arguments, as the operator wrote them. Leaves: a running EAL
//! whose log goes to stderr, or an error with what the machine lacks. It is cleaned up when nothing made
//! from it is left, and never while an mbuf is still out.

use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, c_name};
use crate::lcore::{self, LcoreId, LcoreJob};
use crate::sys;

static STARTED: AtomicBool = AtomicBool::new(false);

/// The running environment, held by the thread that started it (DPDK's main lcore): launching and waiting for
/// lcores is that thread's alone, so this is neither `Send` nor `Sync`.
///
/// Dropping it waits for every lcore to finish.
pub struct Eal {
    runtime: Arc<Runtime>,
    _of_the_main_thread: PhantomData<*mut ()>,
}

impl Eal {
    /// Starts EAL with the given arguments (without a program name). Once per process, even after a failure.
    ///
    /// The calling thread becomes the main lcore and is pinned to its CPU; threads it starts later inherit
    /// that pinning. EAL's log goes to stderr or by [`crate::log`] to the program's log;
    /// `--log-level` among the arguments sets its level.
    pub fn init(args: &[String]) -> Result<Self, Error> {
        let mut argv = vec![c"stopover".to_owned()];
        for arg in args {
            argv.push(c_name(arg)?);
        }
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::AlreadyStarted, "EAL was already started in this process"));
        }
        // EAL permutes argv and keeps pointers into it, so it is left to the process for good.
        let count = i32::try_from(argv.len()).unwrap_or(i32::MAX);
        let mut pointers: Vec<_> = argv.into_iter().map(CString::into_raw).collect();
        pointers.push(std::ptr::null_mut());
        let argv = Vec::leak(pointers).as_mut_ptr();
        // SAFETY: argv holds `count` NUL-terminated strings and a null pointer, all leaked; STARTED makes this
        // the only call in the process.
        if unsafe { sys::shim_eal_init(count, argv) } < 0 {
            let what = format!("EAL did not start ({})", args.join(" "));
            // The errno of a machine without hugepages is "permission denied": the state of the machine explains more.
            return Err(match hint(args, &Machine::read()) {
                Some(hint) => Error::new(ErrorKind::Eal, what).with_log().hint(hint),
                None => Error::from_errno(ErrorKind::Eal, what).with_log(),
            });
        }
        Ok(Self {
            runtime: Arc::new(Runtime { pools: Mutex::new(Vec::new()) }),
            _of_the_main_thread: PhantomData,
        })
    }

    pub(crate) fn runtime(&self) -> Arc<Runtime> {
        self.runtime.clone()
    }

    /// The lcore of the thread that started EAL.
    pub fn main_lcore(&self) -> LcoreId {
        // SAFETY: reads EAL's configuration, which exists while self does.
        LcoreId::new(unsafe { sys::rte_get_main_lcore() })
    }

    /// Every lcore that waits for work, in ascending order; the main lcore is not among them.
    pub fn worker_lcores(&self) -> Vec<LcoreId> {
        let mut found = Vec::new();
        // SAFETY: as above; -1 (as the function wants it) starts before lcore 0, and RTE_MAX_LCORE ends.
        let mut next = unsafe { sys::rte_get_next_lcore(u32::MAX, 1, 0) };
        while next < sys::RTE_MAX_LCORE {
            found.push(LcoreId::new(next));
            // SAFETY: as above.
            next = unsafe { sys::rte_get_next_lcore(next, 1, 0) };
        }
        found
    }

    /// Runs `f` on a worker lcore. A panic in it is caught and becomes the error of [`LcoreJob::join`].
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while the lcore still runs something; [`ErrorKind::Invalid`] for one that is no worker.
    pub fn launch<T, F>(&self, lcore: LcoreId, f: F) -> Result<LcoreJob<T>, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if !self.worker_lcores().contains(&lcore) {
            let workers: Vec<_> = self.worker_lcores().iter().map(ToString::to_string).collect();
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("lcore {lcore} is not a worker lcore of this EAL"),
            )
            .hint(format!(
                "name one of [{}], or add it to the EAL argument -l or --lcores",
                workers.join(", ")
            )));
        }
        lcore::launch(lcore, f)
    }

    /// How many ports DPDK has now.
    pub fn port_count(&self) -> usize {
        // SAFETY: EAL is up.
        usize::from(unsafe { sys::rte_eth_dev_count_avail() })
    }

    /// The release of the DPDK this process runs with, such as `DPDK 22.11.11`.
    pub fn version(&self) -> String {
        // SAFETY: returns a static NUL-terminated string.
        unsafe { std::ffi::CStr::from_ptr(sys::rte_version()) }.to_string_lossy().into_owned()
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // SAFETY: EAL is up and this is the main lcore's thread, since Eal cannot leave it.
        unsafe { sys::rte_eal_mp_wait_lcore() };
    }
}

/// Held by everything made from the EAL, so that the EAL outlives it.
pub(crate) struct Runtime {
    pools: Mutex<Vec<Pool>>,
}

struct Pool(NonNull<sys::rte_mempool>);
// SAFETY: a mempool is made for use from any thread; this pointer is only counted through.
unsafe impl Send for Pool {}

impl Runtime {
    /// Pools are never freed one by one: DPDK frees all when EAL is cleaned up, which waits for their mbufs.
    pub(crate) fn keep(&self, pool: NonNull<sys::rte_mempool>) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(Pool(pool));
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // SAFETY: read-only questions to a running EAL.
        let on_main = unsafe { sys::shim_lcore_id() == sys::rte_get_main_lcore() };
        if !on_main {
            // Only from the main lcore is it certain that no lcore, itself included, is about to return an mbuf.
            return;
        }
        // SAFETY: on the main lcore's thread. After this no worker touches a pool's per-lcore cache.
        unsafe { sys::rte_eal_mp_wait_lcore() };
        let pools = self.pools.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the pools were created by this EAL and are not freed before its end.
        let out: u32 = pools.iter().map(|p| unsafe { sys::rte_mempool_in_use_count(p.0.as_ptr()) }).sum();
        if out > 0 {
            // Cleaning up unmaps the memory of mbufs that still have an owner. The end of the process frees it too.
            return;
        }
        // SAFETY: no queue, port or pool handle is left (they hold an Arc of self), no lcore runs and no mbuf
        // is out: nothing refers to the memory that is unmapped.
        unsafe { sys::rte_eal_cleanup() };
    }
}

/// The properties of the machine that explain most failures of EAL.
struct Machine {
    meminfo: String,
    mounts: String,
    cpus_online: String,
}

impl Machine {
    fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            meminfo: read("/proc/meminfo"),
            mounts: read("/proc/mounts"),
            cpus_online: read("/sys/devices/system/cpu/online").trim().to_owned(),
        }
    }

    fn meminfo(&self, key: &str) -> Option<u64> {
        let line = self.meminfo.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

/// A hint for a failed start, if the machine or the arguments show it.
fn hint(args: &[String], machine: &Machine) -> Option<String> {
    let given = |option: &str| args.iter().any(|a| a == option || a.starts_with(&format!("{option}=")));
    if given("--no-huge") && given("--in-memory") {
        return Some("--no-huge and --in-memory exclude each other: use --no-huge --no-shconf".into());
    }
    if !given("--no-huge") {
        match (machine.meminfo("HugePages_Total"), machine.meminfo("HugePages_Free")) {
            (Some(0), _) => {
                return Some(
                    "no hugepages are reserved: echo 1024 > /proc/sys/vm/nr_hugepages (or use --no-huge)"
                        .into(),
                );
            }
            (Some(total), Some(0)) => {
                return Some(format!(
                    "all {total} hugepages are in use: stop who holds them, or echo {} > /proc/sys/vm/nr_hugepages",
                    total + 1024
                ));
            }
            _ => {}
        }
        if !given("--in-memory")
            && !machine.mounts.lines().any(|l| l.split_whitespace().nth(2) == Some("hugetlbfs"))
        {
            return Some(
                "hugetlbfs is not mounted: mkdir -p /dev/hugepages && mount -t hugetlbfs nodev /dev/hugepages \
                 (or use --in-memory)"
                    .into(),
            );
        }
    }
    let lcores_given = args.iter().any(|a| a.starts_with("-l") || a.starts_with("-c")) || given("--lcores");
    let cpus = format!("the CPUs here are {}", machine.cpus_online);
    let vdevs = "each --vdev must name a driver and what it needs";
    match (lcores_given, given("--vdev")) {
        (true, true) => Some(format!("{cpus}, and {vdevs}")),
        (true, false) => Some(cpus),
        (false, true) => Some(vdevs.to_owned()),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(total: u64, free: u64, mounts: &str) -> Machine {
        Machine {
            meminfo: format!("MemTotal:  1 kB\nHugePages_Total:  {total}\nHugePages_Free:   {free}\n"),
            mounts: mounts.into(),
            cpus_online: "0-1".into(),
        }
    }

    fn hint_for(args: &[&str], machine: &Machine) -> String {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        hint(&args, machine).unwrap_or_default()
    }

    const MOUNTED: &str = "nodev /dev/hugepages hugetlbfs rw 0 0\n";

    #[test]
    fn missing_hugepages_have_a_hint() {
        assert!(
            hint_for(&["--no-pci"], &machine(0, 0, MOUNTED))
                .contains("echo 1024 > /proc/sys/vm/nr_hugepages")
        );
        assert!(hint_for(&["--no-pci"], &machine(512, 0, MOUNTED)).contains("all 512 hugepages are in use"));
        assert!(
            hint_for(&["--no-pci"], &machine(512, 9, "proc /proc proc rw 0 0\n"))
                .contains("mount -t hugetlbfs")
        );
        assert_eq!(hint_for(&["--in-memory"], &machine(512, 9, "")), "");
    }

    #[test]
    fn no_hugepage_hint_without_hugepages() {
        assert_eq!(hint_for(&["--no-huge"], &machine(0, 0, "")), "");
        assert!(hint_for(&["--no-huge", "--in-memory"], &machine(0, 0, "")).contains("--no-shconf"));
        assert!(hint_for(&["--no-huge", "-l", "0-9"], &machine(0, 0, "")).contains("the CPUs here are 0-1"));
        assert!(
            hint_for(&["--no-huge", "--vdev=net_nul0"], &machine(0, 0, "")).contains("each --vdev must name")
        );
    }
}
