/*
 * DPDK's log goes to stderr unchanged, or to the function of shim_log_to. Its errors are kept until they are read: a
 * driver logs the reason why it refuses, and returns only an errno.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <rte_log.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char kept[2048];
static size_t kept_len;
static shim_log_sink sink;

static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	if (sink != NULL)
		sink((uint32_t)rte_log_cur_msg_loglevel(), text, len);
	else
		fwrite(text, 1, len, stderr);
	if (rte_log_cur_msg_loglevel() > (int)RTE_LOG_ERR)
		return (ssize_t)len;
	pthread_mutex_lock(&lock);
	/* The first words explain the most: later ones that do not fit are left out. */
	if (len <= sizeof(kept) - kept_len) {
		memcpy(kept + kept_len, text, len);
		kept_len += len;
	}
	pthread_mutex_unlock(&lock);
	return (ssize_t)len;
}

void shim_log_to(shim_log_sink to)
{
	sink = to;
}

size_t shim_log_take_errors(char *out, size_t size)
{
	size_t len;

	pthread_mutex_lock(&lock);
	len = kept_len < size ? kept_len : size;
	memcpy(out, kept, len);
	kept_len = 0;
	pthread_mutex_unlock(&lock);
	return len;
}

int shim_eal_init(int argc, char **argv)
{
	cookie_io_functions_t io = {.write = log_write};
	FILE *out = stdout, *null = fopen("/dev/null", "w"), *log = fopencookie(NULL, "w", io);
	int rc;

	rte_openlog_stream(log != NULL ? log : stderr);
	/* A wrong argument makes EAL print a hundred lines of usage, which would bury the message that matters. */
	if (null != NULL)
		stdout = null;
	rc = rte_eal_init(argc, argv);
	stdout = out;
	if (null != NULL)
		fclose(null);
	return rc;
}
