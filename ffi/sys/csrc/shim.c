/* See shim.h. One call per burst; nothing here keeps state. */
#include "shim.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

/* DPDK 23.11 has another name for it. */
#ifdef RTE_ETH_DEV_BONDING_MEMBER
#define SHIM_BOND_MEMBER RTE_ETH_DEV_BONDING_MEMBER
#else
#define SHIM_BOND_MEMBER RTE_ETH_DEV_BONDED_SLAVE
#endif

int shim_errno(void) { return rte_errno; }

uint32_t shim_lcore_id(void) { return rte_lcore_id(); }

uint64_t shim_tsc(void) { return rte_rdtsc(); }

int shim_set_thread_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }

int shim_set_timer_slack(unsigned long ns) { return prctl(PR_SET_TIMERSLACK, ns, 0, 0, 0); }

static int kernel_interface(uint32_t if_index, unsigned long request, struct ifreq *ifr)
{
	int fd, rc;

	if (if_indextoname(if_index, ifr->ifr_name) == NULL)
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	rc = ioctl(fd, request, ifr) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

int shim_kernel_mtu(uint32_t if_index)
{
	struct ifreq ifr;
	int rc;

	memset(&ifr, 0, sizeof(ifr));
	rc = kernel_interface(if_index, SIOCGIFMTU, &ifr);
	return rc < 0 ? rc : ifr.ifr_mtu;
}

int shim_set_kernel_mtu(uint32_t if_index, uint16_t mtu)
{
	struct ifreq ifr;

	memset(&ifr, 0, sizeof(ifr));
	ifr.ifr_mtu = mtu;
	return kernel_interface(if_index, SIOCSIFMTU, &ifr);
}

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool) { return rte_pktmbuf_alloc(pool); }

int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t n)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

void shim_pktmbuf_free(struct rte_mbuf *m) { rte_pktmbuf_free(m); }

uint16_t shim_pool_data_room(struct rte_mempool *pool) { return rte_pktmbuf_data_room_size(pool); }

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, mbufs, n);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, mbufs, n);
}

uint16_t shim_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_prepare(port, queue, mbufs, n);
}

int shim_dev_info(uint16_t port, struct shim_dev_info *out)
{
	struct rte_eth_dev_info info;
	int rc = rte_eth_dev_info_get(port, &info);

	memset(out, 0, sizeof(*out));
	if (rc != 0)
		return rc;
	snprintf(out->driver, sizeof(out->driver), "%s", info.driver_name != NULL ? info.driver_name : "");
	out->max_rxq = info.max_rx_queues;
	out->max_txq = info.max_tx_queues;
	out->min_mtu = info.min_mtu;
	out->max_mtu = info.max_mtu;
	out->max_rx_pktlen = info.max_rx_pktlen;
	out->rx_offloads = info.rx_offload_capa;
	out->tx_offloads = info.tx_offload_capa;
	out->rxq_offloads = info.rx_queue_offload_capa;
	out->txq_offloads = info.tx_queue_offload_capa;
	out->rss = info.flow_type_rss_offloads;
	out->link_interrupt = info.dev_flags != NULL && (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
	out->bonded = info.dev_flags != NULL && (*info.dev_flags & SHIM_BOND_MEMBER) != 0;
	out->if_index = info.if_index;
	return 0;
}

int shim_dev_configure(uint16_t port, const struct shim_dev_conf *conf)
{
	struct rte_eth_conf eth;

	memset(&eth, 0, sizeof(eth));
	eth.rxmode.mtu = conf->mtu;
	eth.rxmode.offloads = conf->rx_offloads;
	eth.txmode.offloads = conf->tx_offloads;
	eth.intr_conf.lsc = conf->link_interrupt != 0;
	if (conf->rss != 0) {
		eth.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		eth.rx_adv_conf.rss_conf.rss_hf = conf->rss;
	}
	return rte_eth_dev_configure(port, conf->rxq, conf->txq, &eth);
}

int shim_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, int socket, uint64_t offloads,
			struct rte_mempool *pool)
{
	struct rte_eth_dev_info info;
	struct rte_eth_rxconf conf;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc != 0)
		return rc;
	conf = info.default_rxconf;
	conf.offloads = offloads;
	return rte_eth_rx_queue_setup(port, queue, desc, (unsigned int)socket, &conf, pool);
}

int shim_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, int socket, uint64_t offloads)
{
	struct rte_eth_dev_info info;
	struct rte_eth_txconf conf;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc != 0)
		return rc;
	conf = info.default_txconf;
	conf.offloads = offloads;
	return rte_eth_tx_queue_setup(port, queue, desc, (unsigned int)socket, &conf);
}

int shim_mac(uint16_t port, uint8_t mac[6])
{
	struct rte_ether_addr addr;
	int rc = rte_eth_macaddr_get(port, &addr);

	if (rc == 0)
		memcpy(mac, addr.addr_bytes, sizeof(addr.addr_bytes));
	return rc;
}

int shim_set_mac(uint16_t port, const uint8_t mac[6])
{
	struct rte_ether_addr addr;

	memcpy(addr.addr_bytes, mac, sizeof(addr.addr_bytes));
	return rte_eth_dev_default_mac_addr_set(port, &addr);
}

int shim_link(uint16_t port, struct shim_link *out)
{
	struct rte_eth_link link;
	int rc;

	memset(&link, 0, sizeof(link));
	rc = rte_eth_link_get_nowait(port, &link);
	if (rc != 0)
		return rc;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	out->speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	return 0;
}

int shim_stats(uint16_t port, struct shim_stats *out)
{
	struct rte_eth_stats stats;
	int rc;

	memset(&stats, 0, sizeof(stats));
	rc = rte_eth_stats_get(port, &stats);
	if (rc != 0)
		return rc;
	out->rx_packets = stats.ipackets;
	out->rx_bytes = stats.ibytes;
	out->rx_missed = stats.imissed;
	out->rx_errors = stats.ierrors;
	out->rx_nombuf = stats.rx_nombuf;
	out->tx_packets = stats.opackets;
	out->tx_bytes = stats.obytes;
	out->tx_errors = stats.oerrors;
	return 0;
}

int shim_finish_checksum(struct rte_mbuf *m)
{
	bool udp = (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
	uint32_t l4_off = m->l2_len + m->l3_len, l4_len;
	uint32_t field = udp ? offsetof(struct rte_udp_hdr, dgram_cksum) : offsetof(struct rte_tcp_hdr, cksum);
	uint16_t payload, value = 0;
	uint8_t *l3, *at;
	uint32_t sum;

	if (rte_pktmbuf_data_len(m) < l4_off + field + sizeof(value))
		return -1;
	l3 = rte_pktmbuf_mtod_offset(m, uint8_t *, m->l2_len);
	at = rte_pktmbuf_mtod_offset(m, uint8_t *, l4_off + field);
	memcpy(at, &value, sizeof(value));
	/* The length is by the IP header, because padding may follow; pseudo headers: RFC 9293 section 3.1, RFC 8200
	 * section 8.1. */
	if (m->ol_flags & RTE_MBUF_F_TX_IPV4) {
		const struct rte_ipv4_hdr *ip = (const void *)l3;

		l4_len = rte_be_to_cpu_16(ip->total_length) - m->l3_len;
		sum = rte_raw_cksum(&ip->src_addr, 2 * sizeof(ip->src_addr));
	} else {
		const struct rte_ipv6_hdr *ip = (const void *)l3;

		l4_len = rte_be_to_cpu_16(ip->payload_len) + sizeof(*ip) - m->l3_len;
		sum = rte_raw_cksum(ip->src_addr, sizeof(ip->src_addr) + sizeof(ip->dst_addr));
	}
	if (l4_len > rte_pktmbuf_pkt_len(m) - l4_off || rte_raw_cksum_mbuf(m, l4_off, l4_len, &payload) != 0)
		return -1;
	sum += rte_cpu_to_be_16(udp ? IPPROTO_UDP : IPPROTO_TCP);
	sum += rte_cpu_to_be_16(l4_len);
	sum += payload;
	sum = (sum >> 16) + (sum & 0xffff);
	value = ~(uint16_t)((sum >> 16) + sum);
	if (udp && value == 0)
		value = 0xffff;
	memcpy(at, &value, sizeof(value));
	m->ol_flags &= ~RTE_MBUF_F_TX_L4_MASK;
	return 0;
}

void shim_mbuf_read(const struct rte_mbuf *m, struct shim_mbuf_view *v)
{
	memset(v, 0, sizeof(*v));
	v->buf_addr = m->buf_addr;
	v->data_off = m->data_off;
	v->refcnt = rte_mbuf_refcnt_read(m);
	v->nb_segs = m->nb_segs;
	v->port = m->port;
	v->ol_flags = m->ol_flags;
	v->pkt_len = m->pkt_len;
	v->data_len = m->data_len;
	v->vlan_tci = m->vlan_tci;
	v->buf_len = m->buf_len;
	v->rss = m->hash.rss;
	v->pool = m->pool;
	v->next = m->next;
	v->l2_len = m->l2_len;
	v->l3_len = m->l3_len;
	v->l4_len = m->l4_len;
	v->tso_segsz = m->tso_segsz;
}

void shim_mbuf_write(struct rte_mbuf *m, const struct shim_mbuf_view *v)
{
	m->buf_addr = v->buf_addr;
	m->data_off = v->data_off;
	rte_mbuf_refcnt_set(m, v->refcnt);
	m->nb_segs = v->nb_segs;
	m->port = v->port;
	m->ol_flags = v->ol_flags;
	m->pkt_len = v->pkt_len;
	m->data_len = v->data_len;
	m->vlan_tci = v->vlan_tci;
	m->buf_len = v->buf_len;
	m->hash.rss = v->rss;
	m->pool = v->pool;
	m->next = v->next;
	m->l2_len = v->l2_len;
	m->l3_len = v->l3_len;
	m->l4_len = v->l4_len;
	m->tso_segsz = v->tso_segsz;
}

int shim_vhost_ring_state(int vid, uint16_t ring, struct shim_ring_state *state)
{
	struct rte_vhost_vring at;

	if (rte_vhost_get_vhost_vring(vid, ring, &at) != 0 || !at.used || !at.avail)
		return -1;
	/* The guest writes to it at any time; struct vring_used and vring_avail of virtio 1.2 sections 2.7.6 and 2.7.8. */
	state->given = __atomic_load_n(&at.used->idx, __ATOMIC_ACQUIRE);
	state->wanted = __atomic_load_n(&at.avail->ring[at.size], __ATOMIC_ACQUIRE);
	state->offered = __atomic_load_n(&at.avail->idx, __ATOMIC_ACQUIRE);
	state->size = at.size;
	return 0;
}
