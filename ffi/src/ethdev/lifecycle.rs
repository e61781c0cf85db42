//! A port whose device is reset, or goes away while the program runs. Enters: a port without queues. Leaves: a device as
//! it was configured, to be started again, or none.

use std::sync::PoisonError;

use super::{ENOTSUP, Ethdev, Life};
use crate::device::{forget, has_ports_of, pci_address};
use crate::error::{Error, ErrorKind, clear_log};
use crate::sys;

impl Ethdev {
    /// See [`Driver::reset`](crate::port::Driver::reset).
    pub(super) fn reset_device(&self, has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut life = self.lock();
        self.without_queues(&life, has_queues)?;
        self.open(&life)?;
        clear_log();
        self.stop_device(&mut life)?;
        life.is_configured = false;
        // SAFETY: stopped, and no queue handle exists: no thread polls. The caller is the only one in control functions.
        match unsafe { sys::rte_eth_dev_reset(self.id) } {
            // Configuring it again is all there is then; other programs on DPDK do the same.
            ENOTSUP => {}
            rc => self.check("reset", rc)?,
        }
        self.set_up()?;
        self.restore_mac()?;
        life.is_configured = true;
        Ok(())
    }

    /// See [`Driver::close`](crate::port::Driver::close).
    pub(super) fn close_device(&self, has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut life = self.lock();
        self.without_queues(&life, has_queues)?;
        if life.claim.is_none() {
            return Ok(());
        }
        clear_log();
        // A device that is gone may refuse; `rte_eth_dev_close` tells.
        let stopped = self.stop_device(&mut life);
        drop(self.handler.lock().unwrap_or_else(PoisonError::into_inner).take());
        // SAFETY: without queue handle: no thread polls or calls.
        let rc = unsafe { sys::rte_eth_dev_close(self.id) };
        // SAFETY: any id may be asked for.
        if unsafe { sys::rte_eth_dev_is_valid_port(self.id) } != 0 {
            stopped?;
            return self.check("close", rc);
        }
        life.claim = None;
        self.forget();
        Ok(())
    }

    /// An error while queues exist. For the time of `life` there will be no new ones: `start` waits for it.
    pub(super) fn without_queues(&self, _life: &Life, has_queues: &dyn Fn() -> bool) -> Result<(), Error> {
        if has_queues() {
            let what = format!("port {}: its queues are still in use", self.name);
            return Err(Error::new(ErrorKind::Busy, what));
        }
        Ok(())
    }

    /// An error if the device is closed.
    fn open(&self, life: &Life) -> Result<(), Error> {
        if life.claim.is_none() {
            let what = format!("port {}: its device is closed", self.name);
            return Err(Error::new(ErrorKind::NoSuchDevice, what));
        }
        Ok(())
    }

    /// An error if the device is closed, or must be reset first.
    pub(super) fn usable(&self, life: &Life) -> Result<(), Error> {
        self.open(life)?;
        if !life.is_configured {
            let what = format!("port {}: the last reset of its device has failed", self.name);
            return Err(Error::new(ErrorKind::Refused, what).hint("reset it again, or close it"));
        }
        Ok(())
    }

    /// The caller knows that no queue handle exists.
    pub(super) fn stop_device(&self, life: &mut Life) -> Result<(), Error> {
        if life.is_started {
            // SAFETY: no thread polls (see above).
            self.check("stop", unsafe { sys::rte_eth_dev_stop(self.id) })?;
            life.is_started = false;
        }
        Ok(())
    }

    /// A VF may have another address after a reset of its PF.
    fn restore_mac(&self) -> Result<(), Error> {
        let wanted = *self.mac.lock().unwrap_or_else(PoisonError::into_inner);
        if self.read_mac()? == wanted {
            return Ok(());
        }
        self.write_mac(wanted)
    }

    pub(super) fn read_mac(&self) -> Result<[u8; 6], Error> {
        let mut mac = [0; 6];
        // SAFETY: an open device; six bytes are written.
        self.check("MAC address", unsafe { sys::shim_mac(self.id, mac.as_mut_ptr()) })?;
        Ok(mac)
    }

    pub(super) fn write_mac(&self, mac: [u8; 6]) -> Result<(), Error> {
        let [a, b, c, d, e, f] = mac;
        let what = format!("MAC address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        // SAFETY: an open device; six bytes are read.
        self.check(&what, unsafe { sys::shim_set_mac(self.id, mac.as_ptr()) }).map_err(|e| {
            e.hint(
                "a VF has the address that the host's driver allows: `ip link set PF vf N mac ADDRESS` there",
            )
        })
    }

    /// Has the bus forget a device whose port is closed, so that it can be probed again. A device with further ports stays.
    fn forget(&self) {
        if pci_address(&self.name).is_some() && has_ports_of(&self.name) {
            return;
        }
        let rc = forget(&self.name);
        if rc < 0 {
            log::debug!("device {}: its bus keeps it ({rc})", self.name);
        }
    }
}
