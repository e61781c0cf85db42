/*
 * What Rust sees of DPDK. Three things stand here: the headers whose exported functions are called directly;
 * constants and offsets that only a C compiler knows; and the shim's own functions, for what DPDK defines
 * static inline, as macros or per thread, and for structs whose shape changes between releases.
 * No decisions here: those are made in Rust.
 */
#ifndef STOPOVER_SHIM_H
#define STOPOVER_SHIM_H

#include <limits.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pdump.h>
#include <rte_version.h>
#include <rte_vhost.h>

/* Where the fields of struct rte_mbuf lie in the release this is compiled with. */
static const size_t SHIM_MBUF_SIZE = sizeof(struct rte_mbuf);
static const size_t SHIM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr);
static const size_t SHIM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off);
static const size_t SHIM_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt);
static const size_t SHIM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs);
static const size_t SHIM_MBUF_PORT = offsetof(struct rte_mbuf, port);
static const size_t SHIM_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags);
static const size_t SHIM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len);
static const size_t SHIM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len);
static const size_t SHIM_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci);
static const size_t SHIM_MBUF_RSS = offsetof(struct rte_mbuf, hash.rss);
static const size_t SHIM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len);
static const size_t SHIM_MBUF_POOL = offsetof(struct rte_mbuf, pool);
static const size_t SHIM_MBUF_NEXT = offsetof(struct rte_mbuf, next);
static const size_t SHIM_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload);

/* Bit positions within tx_offload. */
static const uint32_t SHIM_L2_LEN_SHIFT = RTE_MBUF_L2_LEN_OFS;
static const uint32_t SHIM_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS;
static const uint32_t SHIM_L3_LEN_SHIFT = RTE_MBUF_L3_LEN_OFS;
static const uint32_t SHIM_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS;
static const uint32_t SHIM_L4_LEN_SHIFT = RTE_MBUF_L4_LEN_OFS;
static const uint32_t SHIM_L4_LEN_BITS = RTE_MBUF_L4_LEN_BITS;
static const uint32_t SHIM_TSO_SEGSZ_SHIFT = RTE_MBUF_TSO_SEGSZ_OFS;
static const uint32_t SHIM_TSO_SEGSZ_BITS = RTE_MBUF_TSO_SEGSZ_BITS;

/* ol_flags */
static const uint64_t SHIM_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t SHIM_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t SHIM_RX_LRO = RTE_MBUF_F_RX_LRO;
static const uint64_t SHIM_RX_L4_CSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t SHIM_RX_L4_CSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t SHIM_RX_L4_CSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t SHIM_RX_L4_CSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t SHIM_RX_IP_CSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t SHIM_RX_IP_CSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t SHIM_RX_IP_CSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t SHIM_RX_IP_CSUM_NONE = RTE_MBUF_F_RX_IP_CKSUM_NONE;
static const uint64_t SHIM_TX_OFFLOAD_MASK = RTE_MBUF_F_TX_OFFLOAD_MASK;
static const uint64_t SHIM_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t SHIM_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t SHIM_TX_IP_CSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t SHIM_TX_TCP_CSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t SHIM_TX_UDP_CSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t SHIM_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;
static const uint64_t SHIM_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
/* How the data buffer is attached, and so how it is freed: it must outlive any other change to ol_flags. */
static const uint64_t SHIM_ATTACHED = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;

/* vhost-user: the front end requests a log of written pages, as it does for a live migration. */
static const uint64_t SHIM_VHOST_F_LOG_ALL = 1ULL << VHOST_F_LOG_ALL;

/* vhost-user: the guest reports how far it has emptied a ring, by the entry for which it wants the next notification. */
static const uint64_t SHIM_VIRTIO_F_EVENT_IDX = 1ULL << VIRTIO_RING_F_EVENT_IDX;
static const uint64_t SHIM_VIRTIO_F_RING_PACKED = 1ULL << VIRTIO_F_RING_PACKED;

/* vhost-user: offloads of received frames are given as flags of their own, not as flags for transmission. */
static const uint64_t SHIM_VHOST_COMPLIANT_OFFLOADS = RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS;

/* Device offload capabilities */
static const uint64_t SHIM_RXO_IPV4_CSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_RXO_UDP_CSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_RXO_TCP_CSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_RXO_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_RXO_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t SHIM_TXO_IPV4_CSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_TXO_UDP_CSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_TXO_TCP_CSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_TXO_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t SHIM_TXO_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t SHIM_RSS_WANTED =
	RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_SCTP;

static const int SHIM_SOCKET_ANY = SOCKET_ID_ANY;
static const uint32_t SHIM_LCORE_NONE = LCORE_ID_ANY;
static const uint32_t SHIM_LOG_ERR = RTE_LOG_ERR;
static const uint32_t SHIM_LOG_WARNING = RTE_LOG_WARNING;
static const uint32_t SHIM_LOG_INFO = RTE_LOG_INFO;
static const size_t SHIM_NAME_MAX = RTE_ETH_NAME_MAX_LEN;

struct shim_dev_info {
	char driver[64];
	uint16_t max_rxq, max_txq;
	uint16_t min_mtu, max_mtu;
	uint32_t max_rx_pktlen;
	uint64_t rx_offloads, tx_offloads;       /* of the port */
	uint64_t rxq_offloads, txq_offloads;     /* settable per queue */
	uint64_t rss;
	int link_interrupt;
	int bonded;                              /* a member of a bond, whose driver uses it */
	uint32_t if_index;                       /* kernel interface behind it; 0: none */
};

struct shim_dev_conf {
	uint16_t rxq, txq;
	uint32_t mtu;
	uint64_t rx_offloads, tx_offloads;
	uint64_t rss;
	int link_interrupt;
};

struct shim_link {
	int up;
	int full_duplex;
	uint32_t speed_mbps;                     /* 0: unknown */
};

struct shim_stats {
	uint64_t rx_packets, rx_bytes, rx_missed, rx_errors, rx_nombuf;
	uint64_t tx_packets, tx_bytes, tx_errors;
};

int shim_errno(void);
uint32_t shim_lcore_id(void);
int shim_eal_init(int argc, char **argv);

/* The last errors DPDK logged (what fits of them, newline-terminated lines), which are forgotten then. */
size_t shim_log_take_errors(char *out, size_t size);

/* Has what DPDK logs given to `sink` instead of stderr. Before EAL starts; `sink` may be called from any thread. */
typedef void (*shim_log_sink)(uint32_t level, const char *text, size_t len);
void shim_log_to(shim_log_sink sink);
uint64_t shim_tsc(void);

int shim_set_thread_name(const char *name);
int shim_set_timer_slack(unsigned long ns);

/* MTU of a kernel interface in bytes, or negative errno. */
int shim_kernel_mtu(uint32_t if_index);
int shim_set_kernel_mtu(uint32_t if_index, uint16_t mtu);

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool);
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t n);
void shim_pktmbuf_free(struct rte_mbuf *m);
uint16_t shim_pool_data_room(struct rte_mempool *pool);

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
uint16_t shim_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);

int shim_dev_info(uint16_t port, struct shim_dev_info *info);
int shim_dev_configure(uint16_t port, const struct shim_dev_conf *conf);
int shim_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, int socket, uint64_t offloads,
			struct rte_mempool *pool);
int shim_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, int socket, uint64_t offloads);
int shim_mac(uint16_t port, uint8_t mac[6]);
int shim_set_mac(uint16_t port, const uint8_t mac[6]);
int shim_link(uint16_t port, struct shim_link *link);
int shim_stats(uint16_t port, struct shim_stats *stats);

/* Computes the TCP or UDP checksum that a frame's offload requests, by its l2_len and l3_len. 0, or -1 if the frame is
 * too short for its headers. */
int shim_finish_checksum(struct rte_mbuf *m);

/* For the layout test: the same mbuf written and read by the other language. */
struct shim_mbuf_view {
	void *buf_addr;
	uint16_t data_off, refcnt, nb_segs, port;
	uint64_t ol_flags;
	uint32_t pkt_len;
	uint16_t data_len, vlan_tci, buf_len;
	uint32_t rss;
	struct rte_mempool *pool;
	struct rte_mbuf *next;
	uint32_t l2_len, l3_len, l4_len, tso_segsz;
};
void shim_mbuf_read(const struct rte_mbuf *m, struct shim_mbuf_view *view);
void shim_mbuf_write(struct rte_mbuf *m, const struct shim_mbuf_view *view);

/* Of a split ring: how many entries were given to the guest so far, for which it wants the next notification, and how
   many buffers it has offered so far, each modulo 2^16; how many entries it has. Returns 0 if the device has the ring. */
struct shim_ring_state {
	uint16_t given, wanted, offered, size;
};
int shim_vhost_ring_state(int vid, uint16_t ring, struct shim_ring_state *state);

#endif
