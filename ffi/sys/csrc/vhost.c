/* Finds the functions of the net_vhost driver. EAL loads drivers as plugins with local scope, so
 * that their symbols are neither linked nor in the global scope. */
#include "shim.h"

#include <dlfcn.h>
#include <stdio.h>

shim_vid_of_port shim_find_vid_of_port(void)
{
	static const char symbol[] = "rte_eth_vhost_get_vid_from_port_id";
	char file[64];
	void *plugin, *found;

	/* A DPDK that was built with its drivers inside. */
	plugin = dlopen(NULL, RTLD_NOW);
	found = plugin != NULL ? dlsym(plugin, symbol) : NULL;
	if (found == NULL) {
		/* The soname ends in the ABI version: the year of the last November release (DPDK's ABI policy). It is
		 * not loaded by this, and if it is there already, it stays for good. */
		snprintf(file, sizeof(file), "librte_net_vhost.so.%d", RTE_VER_YEAR + (RTE_VER_MONTH >= 11));
		plugin = dlopen(file, RTLD_NOW | RTLD_NOLOAD);
		found = plugin != NULL ? dlsym(plugin, symbol) : NULL;
	}
	return (shim_vid_of_port)found;
}
