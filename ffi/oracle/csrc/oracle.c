/*
 * ESP in transport mode by librte_ipsec, one packet after the other, with the cipher of a crypto device. A packet is an
 * IPv4 header without options and what follows it. Errors are negative errno.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cryptodev.h>
#include <rte_errno.h>
#include <rte_ip.h>
#include <rte_ipsec.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

#define IV_OFFSET (sizeof(struct rte_crypto_op) + sizeof(struct rte_crypto_sym_op))
#define GCM_IV_LEN 12
#define TAG_LEN 16
/* Of a crypto operation: librte_ipsec keeps a block of 16 there. */
#define IV_ROOM 16

struct oracle_device {
	uint8_t id;
	struct rte_mempool *mbufs, *ops, *sessions;
};

struct oracle_sa {
	const struct oracle_device *device;
	struct rte_ipsec_session session;
	struct rte_ipsec_sa *sa;
};

struct oracle_conf {
	const uint8_t *key;
	uint16_t key_len;
	uint8_t salt[4];
	uint32_t spi;
	uint64_t sequence;               /* outbound: the next one; inbound: the last one */
	uint32_t window;
	int esn, outbound;
};

int oracle_start(const char *name, struct oracle_device *device)
{
	struct rte_cryptodev_config conf = { .socket_id = SOCKET_ID_ANY, .nb_queue_pairs = 1 };
	struct rte_cryptodev_qp_conf qp = { .nb_descriptors = 64 };
	int id = rte_cryptodev_get_dev_id(name);
	int rc;

	if (id < 0)
		return -ENODEV;
	device->id = id;
	device->mbufs = rte_pktmbuf_pool_create("oracle mbufs", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	device->ops = rte_crypto_op_pool_create("oracle ops", RTE_CRYPTO_OP_TYPE_SYMMETRIC, 63, 0, IV_ROOM,
						SOCKET_ID_ANY);
	device->sessions = rte_cryptodev_sym_session_pool_create(
		"oracle sessions", 63, rte_cryptodev_sym_get_private_session_size(id), 0, 0, SOCKET_ID_ANY);
	if (device->mbufs == NULL || device->ops == NULL || device->sessions == NULL)
		return -rte_errno;
	conf.socket_id = rte_cryptodev_socket_id(id);
	rc = rte_cryptodev_configure(id, &conf);
	qp.mp_session = device->sessions;
	if (rc == 0)
		rc = rte_cryptodev_queue_pair_setup(id, 0, &qp, conf.socket_id);
	if (rc == 0)
		rc = rte_cryptodev_start(id);
	return rc;
}

static int sa_init(struct oracle_sa *oracle, const struct oracle_conf *conf, struct rte_crypto_sym_xform *xform)
{
	struct rte_ipsec_sa_prm prm = { 0 };
	int size;

	prm.ipsec_xform.spi = conf->spi;
	memcpy(&prm.ipsec_xform.salt, conf->salt, sizeof(conf->salt));
	prm.ipsec_xform.options.esn = conf->esn;
	prm.ipsec_xform.direction =
		conf->outbound ? RTE_SECURITY_IPSEC_SA_DIR_EGRESS : RTE_SECURITY_IPSEC_SA_DIR_INGRESS;
	prm.ipsec_xform.proto = RTE_SECURITY_IPSEC_SA_PROTO_ESP;
	prm.ipsec_xform.mode = RTE_SECURITY_IPSEC_SA_MODE_TRANSPORT;
	prm.ipsec_xform.replay_win_sz = conf->window;
	prm.ipsec_xform.esn.value = conf->sequence;
	prm.crypto_xform = xform;
	/* What librte_ipsec takes for "over IPv4". */
	prm.trs.proto = IPPROTO_IPIP;

	size = rte_ipsec_sa_size(&prm);
	if (size < 0)
		return size;
	oracle->sa = rte_zmalloc("oracle sa", size, RTE_CACHE_LINE_SIZE);
	if (oracle->sa == NULL)
		return -ENOMEM;
	size = rte_ipsec_sa_init(oracle->sa, &prm, size);
	return size < 0 ? size : 0;
}

void oracle_free(struct oracle_sa *oracle)
{
	if (oracle->session.crypto.ses != NULL)
		rte_cryptodev_sym_session_free(oracle->device->id, oracle->session.crypto.ses);
	rte_free(oracle->sa);
	rte_free(oracle);
}

int oracle_create(const struct oracle_device *device, const struct oracle_conf *conf, struct oracle_sa **created)
{
	struct rte_crypto_sym_xform xform = { .type = RTE_CRYPTO_SYM_XFORM_AEAD };
	struct oracle_sa *oracle = rte_zmalloc("oracle", sizeof(*oracle), RTE_CACHE_LINE_SIZE);
	int rc;

	if (oracle == NULL)
		return -ENOMEM;
	oracle->device = device;
	xform.aead.op = conf->outbound ? RTE_CRYPTO_AEAD_OP_ENCRYPT : RTE_CRYPTO_AEAD_OP_DECRYPT;
	xform.aead.algo = RTE_CRYPTO_AEAD_AES_GCM;
	xform.aead.key.data = conf->key;
	xform.aead.key.length = conf->key_len;
	xform.aead.iv.offset = IV_OFFSET;
	xform.aead.iv.length = GCM_IV_LEN;
	xform.aead.digest_length = TAG_LEN;
	xform.aead.aad_length = conf->esn ? 12 : 8;

	rc = sa_init(oracle, conf, &xform);
	if (rc == 0) {
		oracle->session.sa = oracle->sa;
		oracle->session.type = RTE_SECURITY_ACTION_TYPE_NONE;
		oracle->session.crypto.dev_id = device->id;
		oracle->session.crypto.ses = rte_cryptodev_sym_session_create(device->id, &xform, device->sessions);
		rc = oracle->session.crypto.ses == NULL ? -rte_errno : rte_ipsec_session_prepare(&oracle->session);
	}
	if (rc != 0)
		oracle_free(oracle);
	else
		*created = oracle;
	return rc;
}

/* Prepares, has the device compute, and finishes. */
static int run(struct oracle_sa *oracle, struct rte_mbuf *mbuf, struct rte_crypto_op *op)
{
	uint8_t id = oracle->device->id;

	rte_errno = 0;
	if (rte_ipsec_pkt_crypto_prepare(&oracle->session, &mbuf, &op, 1) != 1)
		return rte_errno != 0 ? -rte_errno : -EPROTO;
	if (rte_cryptodev_enqueue_burst(id, 0, &op, 1) != 1)
		return -EBUSY;
	while (rte_cryptodev_dequeue_burst(id, 0, &op, 1) != 1)
		;
	mbuf->ol_flags |= RTE_MBUF_F_RX_SEC_OFFLOAD;
	if (op->status != RTE_CRYPTO_OP_STATUS_SUCCESS)
		mbuf->ol_flags |= RTE_MBUF_F_RX_SEC_OFFLOAD_FAILED;
	if (rte_ipsec_pkt_process(&oracle->session, &mbuf, 1) != 1)
		return rte_errno != 0 ? -rte_errno : -EPROTO;
	return 0;
}

/* Seals or opens the packet in place; its length changes. */
int oracle_run(struct oracle_sa *oracle, uint8_t *packet, size_t *len, size_t room)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(oracle->device->mbufs);
	struct rte_crypto_op *op = rte_crypto_op_alloc(oracle->device->ops, RTE_CRYPTO_OP_TYPE_SYMMETRIC);
	char *data = mbuf == NULL || *len > UINT16_MAX ? NULL : rte_pktmbuf_append(mbuf, *len);
	int rc = data == NULL || op == NULL ? -ENOMEM : 0;

	if (rc == 0) {
		memcpy(data, packet, *len);
		mbuf->l2_len = 0;
		mbuf->l3_len = sizeof(struct rte_ipv4_hdr);
		rc = run(oracle, mbuf, op);
	}
	if (rc == 0 && mbuf->pkt_len > room)
		rc = -ENOSPC;
	if (rc == 0) {
		*len = mbuf->pkt_len;
		memcpy(packet, rte_pktmbuf_mtod(mbuf, void *), *len);
	}
	rte_crypto_op_free(op);
	rte_pktmbuf_free(mbuf);
	return rc;
}
