//! What DPDK is to be told to find a device again. Enters: the device of a port. Leaves: the text by which it was created or
//! allowed, with the arguments of its driver.

use super::{Appliance, Device};

impl Appliance {
    /// A vdev string or a PCI address, each with the arguments that `vdevs` and `eal` have for it.
    #[must_use]
    pub fn devargs(&self, device: &Device) -> String {
        let found = match device {
            Device::Vdev(name) => {
                let of_eal = options(&self.eal, &["--vdev"]);
                self.vdevs.iter().map(String::as_str).chain(of_eal).find(|args| name_of(args) == name)
            }
            Device::Pci(address) => options(&self.eal, &["-a", "--allow"]).find(|args| {
                address == name_of(args) || address.split_once(':').map(|a| a.1) == Some(name_of(args))
            }),
        };
        match (found.and_then(|args| args.split_once(',')), device) {
            (Some((_, arguments)), device) => format!("{},{arguments}", device.as_str()),
            (None, device) => device.as_str().to_owned(),
        }
    }
}

fn name_of(args: &str) -> &str {
    args.split_once(',').map_or(args, |(name, _)| name).trim()
}

/// The values of EAL options, which take them after `=`, as the next word, or, if they have one letter, behind it.
fn options<'a>(eal: &'a [String], names: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    eal.iter().enumerate().filter_map(move |(at, word)| {
        names.iter().find_map(|name| {
            let rest = word.strip_prefix(name)?;
            if rest.is_empty() {
                return eal.get(at + 1).map(String::as_str);
            }
            if name.starts_with("--") { rest.strip_prefix('=') } else { Some(rest) }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devargs(vdevs: &[&str], eal: &[&str], device: Device) -> String {
        let quoted = |words: &[&str]| words.iter().map(|word| format!("{word:?}, ")).collect::<String>();
        let text = format!(
            r#"(name: "gw", vdevs: [{}"net_null99"], eal: [{}], ctl: "/tmp/ctl.sock", declared: (), ports: [
                (name: "ul0", device: "net_null99", role: underlay(addresses: ["10.0.0.1/24"]))])"#,
            quoted(vdevs),
            quoted(eal)
        );
        crate::appliance::parse(&text, std::path::Path::new("gw.ron")).unwrap().devargs(&device)
    }

    #[test]
    fn a_vdev_is_found_where_it_is_created() {
        let of = |name: &str| {
            let eal = ["--vdev=net_null1,size=64", "--vdev", "net_ring0"];
            devargs(&["net_null10", "net_tap0,iface=t0,mac=fixed"], &eal, Device::Vdev(name.into()))
        };
        assert_eq!(of("net_tap0"), "net_tap0,iface=t0,mac=fixed");
        assert_eq!(of("net_null1"), "net_null1,size=64");
        assert_eq!(of("net_ring0"), "net_ring0");
        assert_eq!(of("net_null10"), "net_null10");
    }

    #[test]
    fn a_pci_device_keeps_the_arguments_of_its_driver() {
        let of = |eal: &[&str]| devargs(&[], eal, Device::Pci("0000:03:00.0".into()));
        assert_eq!(of(&[]), "0000:03:00.0");
        assert_eq!(of(&["-a", "03:00.0,representor=[0-1]"]), "0000:03:00.0,representor=[0-1]");
        assert_eq!(of(&["-a0000:03:00.0,rx=1", "-a", "0000:03:00.1,rx=2"]), "0000:03:00.0,rx=1");
        assert_eq!(of(&["--allow=0000:03:00.1,rx=2", "--allow=03:00.0,rx=3"]), "0000:03:00.0,rx=3");
    }
}
