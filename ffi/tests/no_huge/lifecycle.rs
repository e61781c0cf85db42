//! Devices that are reset, repaired by their driver, removed and found again. Their drivers report nothing of that here,
//! so the test reports it in their place, as they would: by the function that DPDK has for drivers.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex};

use dpdk::*;
use dpdk_sys as sys;

unsafe extern "C" {
    fn rte_eth_dev_allocated(name: *const c_char) -> *mut c_void;
    fn rte_eth_dev_callback_process(dev: *mut c_void, event: u32, ret: *mut c_void) -> c_int;
    fn rte_dev_event_callback_process(name: *const c_char, event: u32);
}

/// As the driver of this device would report it.
fn report(device: &str, event: u32) {
    let name = CString::new(device).unwrap();
    // SAFETY: EAL is up; the device exists.
    unsafe {
        rte_eth_dev_callback_process(rte_eth_dev_allocated(name.as_ptr()), event, std::ptr::null_mut())
    };
}

fn port(eal: &Eal, pool: &Mempool) -> Port {
    let wanted = PortConfig { rxq: 2, txq: 2, promiscuous: true, ..PortConfig::default() };
    Device::find(eal, "net_null1").unwrap().configure(&wanted, pool).unwrap()
}

/// Sends 32 frames through each queue.
fn send(queues: &mut Queues, pool: &Mempool) {
    let mut burst = Burst::new();
    for queue in &mut queues.tx {
        assert!(pool.alloc_bulk(&mut burst, 32));
        assert_eq!((queue.burst(&mut burst), burst.len()), (32, 0));
        queue.keep_alive();
    }
}

pub fn reset_and_recovery(eal: &Eal, pool: &Mempool) {
    let port = port(eal, pool);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    port.on_event(move |event| log.lock().unwrap().push(event)).unwrap();
    let take = || std::mem::take(&mut *seen.lock().unwrap());

    let mac = port.mac().unwrap();
    let mut queues = port.start().unwrap();
    send(&mut queues, pool);
    report("net_null1", sys::rte_eth_event_type_RTE_ETH_EVENT_INTR_RESET);
    report("net_null1", sys::rte_eth_event_type_RTE_ETH_EVENT_INTR_LSC);
    assert_eq!(take(), [PortEvent::Reset, PortEvent::Link]);
    assert_eq!(port.reset().unwrap_err().kind(), ErrorKind::Busy, "queues are out");
    drop(queues);
    for _ in 0..3 {
        port.reset().unwrap();
        let mut queues = port.start().unwrap();
        assert_eq!((queues.rx.len(), queues.tx.len()), (2, 2));
        send(&mut queues, pool);
    }
    assert_eq!(port.mac().unwrap(), mac, "it keeps its address");

    // The driver repairs it: what it cannot be asked then has an answer.
    assert!(port.link().up);
    let stats = port.stats().unwrap();
    assert!(stats.tx_packets > 0);
    report("net_null1", sys::rte_eth_event_type_RTE_ETH_EVENT_ERR_RECOVERING);
    assert_eq!((port.link().up, port.stats().unwrap(), port.mac().unwrap()), (false, stats, mac));
    report("net_null1", sys::rte_eth_event_type_RTE_ETH_EVENT_RECOVERY_SUCCESS);
    assert!(port.link().up);
    report("net_null1", sys::rte_eth_event_type_RTE_ETH_EVENT_ERR_RECOVERING);
    report("net_null1", sys::rte_eth_event_type_RTE_ETH_EVENT_RECOVERY_FAILED);
    report("net_null1", sys::rte_eth_event_type_RTE_ETH_EVENT_INTR_RMV);
    assert_eq!(
        take(),
        [
            PortEvent::Recovering,
            PortEvent::Recovered,
            PortEvent::Recovering,
            PortEvent::RecoveryFailed,
            PortEvent::Removed
        ]
    );
    assert!(!port.is_removed(), "this driver does not know");
    port.close().unwrap();
    assert_eq!(Arc::strong_count(&seen), 1, "the handler is dropped with the device");
}

/// The port before has closed the device.
pub fn gone_and_back(eal: &Eal, pool: &Mempool) {
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mac = [2, 0, 0, 0, 0, 7];
    let mut ids = Vec::new();
    let mut open = 0;
    for round in 0..20 {
        let gone = Device::find(eal, "net_null1").err().unwrap();
        assert_eq!(gone.kind(), ErrorKind::NoSuchDevice);
        Device::probe(eal, "net_null1,no-rx=1").unwrap();
        Device::probe(eal, "net_null1,no-rx=1").expect("nothing happens if it is there");
        let port = port(eal, pool);
        port.set_mac(mac).unwrap();
        let mut queues = port.start().unwrap();
        send(&mut queues, pool);
        let stats = port.stats().unwrap();
        assert_eq!(port.close().unwrap_err().kind(), ErrorKind::Busy, "queues are out");
        ids.push(port.id());
        drop(queues);
        port.close().unwrap();
        port.close().unwrap();
        assert_eq!((port.link().up, port.mac().unwrap(), port.stats().unwrap()), (false, mac, stats));
        assert_eq!(port.start().err().unwrap().kind(), ErrorKind::NoSuchDevice);
        assert_eq!(port.reset().unwrap_err().kind(), ErrorKind::NoSuchDevice);
        assert!(port.mtu().is_err() && port.xstats().unwrap().is_empty());
        port.stop().unwrap();
        if round == 2 {
            open = files();
        }
    }
    assert_eq!(files(), open, "no file is left open");
    assert!(ids.windows(2).all(|ids| ids[0] == ids[1]), "numbers are used again: {ids:?}");

    let missing = Device::probe(eal, "0fff:03:00.0").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NoSuchDevice);
    assert!(missing.to_string().contains("no such PCI device"), "{missing}");
    assert!(Device::probe(eal, "net_nothing0").is_err());
}

/// Devices of other drivers, and those that a port could not be made of.
pub fn created_and_removed(eal: &Eal, pool: &Mempool, folder: &Path) {
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let kind = |done: Result<(), Error>| done.err().map(|e| e.kind());
    let pcap = format!("net_pcap8,tx_pcap={}", folder.join("8.pcap").display());
    let devices =
        [("net_null8", "net_null8,no-rx=1"), ("net_ring8", "net_ring8"), ("net_pcap8", pcap.as_str())];
    let (mut open, mut used) = (0, 0);
    for round in 0..12 {
        for (name, devargs) in devices {
            Device::remove(eal, name).expect("nothing happens if there is none");
            Device::probe(eal, devargs).unwrap();
            let device = Device::find(eal, name).unwrap();
            assert_eq!(kind(Device::remove(eal, name)), Some(ErrorKind::Busy), "{name} has an owner");
            if round % 2 == 0 {
                let port = device.configure(&PortConfig::default(), pool).unwrap();
                drop(port.start().unwrap());
                assert_eq!(kind(Device::remove(eal, name)), Some(ErrorKind::Busy), "{name} is a port's");
                port.close().unwrap();
            } else {
                // It is closed, and still on its bus.
                let nothing = PortConfig { rxq: 0, ..PortConfig::default() };
                assert!(device.configure(&nothing, pool).is_err());
                Device::remove(eal, name).unwrap();
            }
            assert!(Device::find(eal, name).is_err());
        }
        if round == 3 {
            (open, used) = (files(), pool.in_use());
        }
    }
    assert_eq!((files(), pool.in_use()), (open, used), "nothing is left of them");

    Device::probe(eal, "net_null8").unwrap();
    Device::probe(eal, "net_null9").unwrap();
    Device::probe(eal, "net_bonding8,mode=1,slave=net_null8,slave=net_null9").unwrap();
    // The driver takes its members when it is configured.
    let bond = Device::find(eal, "net_bonding8").unwrap().configure(&PortConfig::default(), pool).unwrap();
    assert_eq!(kind(Device::remove(eal, "net_null8")), Some(ErrorKind::Busy));
    assert!(Device::find(eal, "net_null9").err().unwrap().to_string().contains("a member of a bond"));
    bond.close().unwrap();
    for name in ["net_null8", "net_null9", "net_bonding8"] {
        Device::remove(eal, name).unwrap();
    }
}

pub fn hotplug(eal: &Eal) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let watch = Hotplug::watch(eal, move |name, event| log.lock().unwrap().push((name.to_owned(), event)));
    let watch = watch.unwrap();
    let report = |event| {
        // SAFETY: EAL is up; the name is NUL-terminated.
        unsafe { rte_dev_event_callback_process(c"0000:03:00.0".as_ptr(), event) }
    };
    report(sys::rte_dev_event_type_RTE_DEV_EVENT_REMOVE);
    report(sys::rte_dev_event_type_RTE_DEV_EVENT_ADD);
    let name = "0000:03:00.0".to_owned();
    assert_eq!(*seen.lock().unwrap(), [(name.clone(), HotplugEvent::Removed), (name, HotplugEvent::Added)]);
    drop(watch);
    report(sys::rte_dev_event_type_RTE_DEV_EVENT_ADD);
    assert_eq!(seen.lock().unwrap().len(), 2, "it is called until it is dropped");
    assert_eq!(Arc::strong_count(&seen), 1);
}
