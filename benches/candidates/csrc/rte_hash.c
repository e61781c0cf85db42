/*
 * rte_hash as the packet path would use it: 8-byte keys, data in place of positions, readers without a lock.
 * One call for a burst, so that what it costs to come here from Rust is paid once.
 */
#include <stdint.h>
#include <string.h>

#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_malloc.h>

struct rte_hash *candidate_create(const char *name, uint32_t entries)
{
	struct rte_hash_parameters parameters = {
		.name = name,
		.entries = entries,
		.key_len = sizeof(uint64_t),
		.hash_func = rte_hash_crc,
		.socket_id = SOCKET_ID_ANY,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};
	return rte_hash_create(&parameters);
}

/* 0, or negative errno. */
int candidate_insert(struct rte_hash *table, uint64_t key, uint64_t word)
{
	return rte_hash_add_key_data(table, &key, (void *)(uintptr_t)word);
}

static void point(const uint64_t *keys, uint32_t n, const void **pointers)
{
	for (uint32_t i = 0; i < n; i++)
		pointers[i] = &keys[i];
}

/* At most RTE_HASH_LOOKUP_BULK_MAX keys. Words of keys that are not there become 0. Bit i: keys[i] is there. */
uint64_t candidate_lookup(const struct rte_hash *table, const uint64_t *keys, uint32_t n, void **words)
{
	const void *pointers[RTE_HASH_LOOKUP_BULK_MAX];
	uint64_t hits = 0;

	point(keys, n, pointers);
	memset(words, 0, n * sizeof(*words));
	rte_hash_lookup_bulk_data(table, pointers, n, &hits, words);
	return hits;
}

/* The same, with the keys hashed here, inline, instead of through rte_hash's function pointer. */
uint64_t candidate_lookup_hashed(const struct rte_hash *table, const uint64_t *keys, uint32_t n, void **words)
{
	const void *pointers[RTE_HASH_LOOKUP_BULK_MAX];
	hash_sig_t hashes[RTE_HASH_LOOKUP_BULK_MAX];
	uint64_t hits = 0;

	point(keys, n, pointers);
	for (uint32_t i = 0; i < n; i++)
		hashes[i] = rte_hash_crc_8byte(keys[i], 0);
	memset(words, 0, n * sizeof(*words));
	rte_hash_lookup_with_hash_bulk_data(table, pointers, hashes, n, &hits, words);
	return hits;
}

/* What DPDK's heaps have handed out. */
uint64_t candidate_heap_bytes(void)
{
	uint64_t bytes = 0;

	for (int socket = 0; socket < RTE_MAX_NUMA_NODES; socket++) {
		struct rte_malloc_socket_stats stats;

		if (rte_malloc_get_socket_stats(socket, &stats) == 0)
			bytes += stats.heap_allocsz_bytes;
	}
	return bytes;
}
