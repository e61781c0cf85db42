/*
 * Stands in for drivers that have trouble. Preloaded into the appliance by the test `device_events`: it reports events as a
 * driver would, by the function that DPDK has for drivers, and makes DPDK's functions fail or take long.
 *
 * One command in each line of a connection to the Unix socket $STOPOVER_INJECT, each answered by one line:
 *   EVENT DEVICE       reset, removed, recovering, recovered or failed
 *   fail_resets N      the next N resets fail with EIO
 *   slow_resets MS     resets take so long, while the device is stopped
 *   missing 0|1        whether devices cannot be found again
 *   resets             how many resets were requested
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_ethdev.h>

static atomic_int resets, failing_resets, slow_ms, missing;

/* The function of this name in DPDK. */
static void *real(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (function == NULL)
		abort();
	return function;
}

int rte_eth_dev_reset(uint16_t port)
{
	int rc = ((int (*)(uint16_t))real("rte_eth_dev_reset"))(port);

	atomic_fetch_add(&resets, 1);
	usleep(1000 * atomic_load(&slow_ms));
	if (atomic_load(&failing_resets) > 0) {
		atomic_fetch_sub(&failing_resets, 1);
		return -EIO;
	}
	return rc;
}

int rte_dev_probe(const char *devargs)
{
	if (atomic_load(&missing))
		return -ENODEV;
	return ((int (*)(const char *))real("rte_dev_probe"))(devargs);
}

static const char *report(const char *word, const char *device)
{
	static const struct {
		const char *word;
		enum rte_eth_event_type event;
	} events[] = {
		{ "reset", RTE_ETH_EVENT_INTR_RESET },
		{ "removed", RTE_ETH_EVENT_INTR_RMV },
		{ "recovering", RTE_ETH_EVENT_ERR_RECOVERING },
		{ "recovered", RTE_ETH_EVENT_RECOVERY_SUCCESS },
		{ "failed", RTE_ETH_EVENT_RECOVERY_FAILED },
	};
	/* Of drivers' interface, which is not installed. */
	void *(*allocated)(const char *) = (void *(*)(const char *))real("rte_eth_dev_allocated");
	int (*process)(void *, enum rte_eth_event_type, void *) =
		(int (*)(void *, enum rte_eth_event_type, void *))real("rte_eth_dev_callback_process");
	void *dev = allocated(device);

	if (dev == NULL)
		return "no such device";
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (strcmp(word, events[i].word) == 0) {
			process(dev, events[i].event, NULL);
			return "ok";
		}
	}
	return "no such event";
}

static void serve(FILE *in, FILE *out)
{
	char line[256], word[32], value[200];

	while (fgets(line, sizeof(line), in) != NULL) {
		value[0] = 0;
		if (sscanf(line, "%31s %199s", word, value) < 1)
			continue;
		if (strcmp(word, "fail_resets") == 0)
			atomic_store(&failing_resets, atoi(value));
		else if (strcmp(word, "slow_resets") == 0)
			atomic_store(&slow_ms, atoi(value));
		else if (strcmp(word, "missing") == 0)
			atomic_store(&missing, atoi(value));
		else if (strcmp(word, "resets") == 0) {
			fprintf(out, "%d\n", atomic_load(&resets));
			fflush(out);
			continue;
		} else {
			fprintf(out, "%s\n", report(word, value));
			fflush(out);
			continue;
		}
		fprintf(out, "ok\n");
		fflush(out);
	}
}

static void *run(void *arg)
{
	int listener = *(int *)arg;

	for (;;) {
		int connection = accept(listener, NULL, NULL);
		FILE *in = fdopen(connection, "r"), *out = fdopen(dup(connection), "w");

		if (in != NULL && out != NULL)
			serve(in, out);
		if (in != NULL)
			fclose(in);
		if (out != NULL)
			fclose(out);
	}
	return NULL;
}

__attribute__((constructor)) static void start(void)
{
	static int listener;
	static pthread_t thread;
	const char *path = getenv("STOPOVER_INJECT");
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (path == NULL)
		return;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(listener, 4) != 0 ||
	    pthread_create(&thread, NULL, run, &listener) != 0)
		abort();
}
